-- Runs of one outcome and one trigger: each frequent, together perhaps rare or none. Without an
-- index of its own the planner reads all runs, newest first, until it has a page.
-- Partial, so that a run on its way to its end does not write it.
CREATE INDEX workflow_runs_by_outcome ON workflow_runs (state, trigger, number DESC)
    WHERE state IN ('succeeded', 'failed', 'cancelled', 'timed_out');
