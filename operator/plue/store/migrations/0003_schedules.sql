-- When workflows run by the clock. A scope is one project: its tree's path, or where a resource is.
CREATE TABLE schedules (
    scope    text        NOT NULL,
    workflow text        NOT NULL,
    cron     text        NOT NULL,
    next_at  timestamptz NOT NULL,
    last_at  timestamptz,
    last_run uuid,
    PRIMARY KEY (scope, workflow, cron),
    CONSTRAINT a_run_has_its_time CHECK (last_run IS NULL OR last_at IS NOT NULL)
);
COMMENT ON COLUMN schedules.next_at IS
    'Moved on only by who saw it, so that of many engines one moves it; the run itself is made
     once because its idempotency key names workflow and time.';
