-- Plans that grow: a run's later stages, and the values that its workflow's code asked for.

ALTER TABLE workflow_runs ADD COLUMN stage integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN workflow_runs.stage IS
    'The newest stage of the present attempt: only who moves it may record the next one.';

-- A running run may wait too: for the evaluation of its workflow's code.
ALTER TABLE workflow_runs
    DROP CONSTRAINT a_queued_or_claimed_run_says_why_it_waits,
    ADD CONSTRAINT a_queued_or_claimed_run_says_why_it_waits CHECK (
        state NOT IN ('queued', 'claimed')
        OR (waiting_reason IS NOT NULL AND waiting_since IS NOT NULL)),
    ADD CONSTRAINT only_what_has_not_ended_waits CHECK (
        (waiting_reason IS NULL) = (waiting_since IS NULL)
        AND (waiting_reason IS NULL OR state IN ('queued', 'claimed', 'running')));

ALTER TABLE workflow_steps
    ADD COLUMN stage integer NOT NULL DEFAULT 1,
    ADD COLUMN why   json;
COMMENT ON COLUMN workflow_steps.why IS 'The answers that led to the step: [{value, is, file, line}].';

COMMENT ON COLUMN workflow_attempts.plan IS
    'The plan of stage 1; what later stages add is in workflow_stages.';

-- Only runs whose code asks for values have rows here; a stage never changes.
CREATE TABLE workflow_stages (
    run_id     uuid        NOT NULL REFERENCES workflow_runs ON DELETE CASCADE,
    attempt    integer     NOT NULL,
    stage      integer     NOT NULL,
    digest     text        NOT NULL,
    awaits     json        NOT NULL,
    awaited    text[]      NOT NULL,
    extension  json,
    body       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, attempt, stage),
    CONSTRAINT every_stage_but_the_first_extends CHECK ((stage = 1) = (extension IS NULL)),
    CONSTRAINT stages_count_from_one CHECK (stage >= 1)
);
COMMENT ON COLUMN workflow_stages.awaited IS 'The names of the steps in awaits.';
COMMENT ON COLUMN workflow_stages.body IS 'The body of its plan_extended event.';

-- What steps printed and code asked for: input of evaluations, kept apart from the log.
CREATE TABLE workflow_values (
    run_id  uuid    NOT NULL REFERENCES workflow_runs ON DELETE CASCADE,
    attempt integer NOT NULL,
    step    text    NOT NULL,
    field   text    NOT NULL,
    tail    integer NOT NULL,
    value   text,
    error   text,
    PRIMARY KEY (run_id, attempt, step, field, tail),
    CONSTRAINT only_streams_are_sent CHECK (field IN ('stdout', 'stderr', 'log')),
    CONSTRAINT a_value_or_why_there_is_none CHECK ((value IS NULL) <> (error IS NULL))
);
COMMENT ON COLUMN workflow_values.tail IS 'How many lines of the end; 0 is all of it.';
