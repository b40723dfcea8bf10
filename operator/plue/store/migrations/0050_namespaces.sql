-- Which namespace a run belongs to: in a cluster that of its WorkflowRun. Who may see and change a
-- run is decided by it. The default is a constant, so that no row is written.
ALTER TABLE workflow_runs ADD COLUMN namespace text NOT NULL DEFAULT '_local';
COMMENT ON COLUMN workflow_runs.namespace IS
    'Of the WorkflowRun; ''_local'' where there is no cluster, as domain/run.py names it.';

-- Who may read some namespaces asks for each of them, newest first. Runs of local mode are all of
-- one namespace, so its lists need none of these, and its runs do not write them. What has the
-- state is written at the end only; runs that have not ended are few and have workflow_runs_active.
-- A workflow's trigger is in its index, to be filtered by without reading the rows.
CREATE INDEX workflow_runs_by_namespace ON workflow_runs (namespace, number DESC)
    WHERE namespace <> '_local';
CREATE INDEX workflow_runs_by_namespace_and_workflow
    ON workflow_runs (namespace, workflow, number DESC) INCLUDE (trigger)
    WHERE namespace <> '_local';
CREATE INDEX workflow_runs_by_namespace_and_trigger
    ON workflow_runs (namespace, trigger, number DESC) WHERE namespace <> '_local';
CREATE INDEX workflow_runs_by_namespace_and_state ON workflow_runs (namespace, state, number DESC)
    WHERE namespace <> '_local' AND state IN ('succeeded', 'failed', 'cancelled', 'timed_out');
CREATE INDEX workflow_runs_by_namespace_and_outcome
    ON workflow_runs (namespace, state, trigger, number DESC)
    WHERE namespace <> '_local' AND state IN ('succeeded', 'failed', 'cancelled', 'timed_out');
