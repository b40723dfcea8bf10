-- The first schema. Applied in one transaction; never edited after a release.

CREATE TABLE server_identity (
    only_row    boolean     PRIMARY KEY DEFAULT true,
    incarnation uuid        NOT NULL DEFAULT gen_random_uuid(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT there_is_one_identity CHECK (only_row)
);
COMMENT ON TABLE server_identity IS
    'Names this database: part of every fencing token, so that a restored copy fences old runners.';
INSERT INTO server_identity DEFAULT VALUES;

CREATE TABLE pools (
    name       text        PRIMARY KEY,
    host       text        NOT NULL,
    warm       integer     NOT NULL,
    maximum    integer     NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT warm_is_within_the_maximum CHECK (warm >= 0 AND maximum >= 1 AND warm <= maximum)
);
COMMENT ON COLUMN pools.host IS 'Which host makes the runners of this pool; see engine/ports.py.';

CREATE TABLE workflow_definitions (
    revision   text        NOT NULL,
    name       text        NOT NULL,
    file       text        NOT NULL,
    files      json        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (revision, name)
);
COMMENT ON COLUMN workflow_definitions.files IS
    'Path to text of every file that the revision covers: enough to evaluate it again.';

-- Narrow on purpose: the run list, the queue and the hot path read and write only this table.
CREATE TABLE workflow_runs (
    id                  uuid        PRIMARY KEY,
    number              bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    workflow            text        NOT NULL,
    revision            text        NOT NULL,
    name                text        NOT NULL GENERATED ALWAYS AS (workflow || '-' || number) STORED,
    state               text        NOT NULL DEFAULT 'queued',
    reason              text,
    message             text,
    trigger             text        NOT NULL,
    pool                text        NOT NULL,
    priority            integer     NOT NULL DEFAULT 0,
    attempt             integer     NOT NULL DEFAULT 1,
    runner_id           text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    queued_at           timestamptz NOT NULL DEFAULT now(),
    not_before          timestamptz,
    queue_deadline      timestamptz,
    claimed_at          timestamptz,
    started_at          timestamptz,
    run_timeout         interval,
    run_deadline        timestamptz,
    ended_at            timestamptz,
    waiting_reason      text,
    waiting_since       timestamptz,
    cancel_requested_at timestamptz,
    cancel_state        text,
    cancel_reason       text,
    cancel_message      text,
    cancel_now          boolean     NOT NULL DEFAULT false,
    cancel_overdue_at   timestamptz,
    cleanup_timeout     interval    NOT NULL DEFAULT '60 s',
    last_event          bigint      NOT NULL DEFAULT 0,
    acked               bigint      NOT NULL DEFAULT 0,
    log_day             date        NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date,
    CONSTRAINT numbers_are_unique UNIQUE (number),
    CONSTRAINT the_state_is_known CHECK (state IN
        ('queued', 'claimed', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out')),
    CONSTRAINT an_end_has_a_time_and_a_reason CHECK (
        (state IN ('succeeded', 'failed', 'cancelled', 'timed_out'))
        = (ended_at IS NOT NULL AND reason IS NOT NULL)),
    CONSTRAINT a_bound_run_has_its_runner CHECK (
        state NOT IN ('claimed', 'running') OR (runner_id IS NOT NULL AND claimed_at IS NOT NULL)),
    CONSTRAINT a_queued_run_has_no_runner CHECK (state <> 'queued' OR runner_id IS NULL),
    CONSTRAINT a_running_run_has_started CHECK (state <> 'running' OR started_at IS NOT NULL),
    CONSTRAINT a_queued_or_claimed_run_says_why_it_waits CHECK (
        (state IN ('queued', 'claimed'))
        = (waiting_reason IS NOT NULL AND waiting_since IS NOT NULL)),
    CONSTRAINT a_cancel_says_what_it_ends_as CHECK (
        (cancel_requested_at IS NULL) = (cancel_state IS NULL)
        AND (cancel_state IS NULL OR cancel_state IN ('cancelled', 'timed_out'))),
    CONSTRAINT attempts_count_from_one CHECK (attempt >= 1),
    CONSTRAINT events_count_up CHECK (last_event >= 0 AND acked >= 0)
) WITH (fillfactor = 80);
COMMENT ON COLUMN workflow_runs.acked IS
    'The last number of the present attempt''s runner that is stored; fences together with
     (attempt, runner_id): a batch is stored only when it goes on exactly there.';
COMMENT ON COLUMN workflow_runs.log_day IS 'The partition of workflow_logs that holds its events.';

CREATE INDEX workflow_runs_queue ON workflow_runs (pool, priority DESC, queued_at, number)
    WHERE state = 'queued';
CREATE INDEX workflow_runs_active ON workflow_runs (state, number)
    WHERE state IN ('queued', 'claimed', 'running');
CREATE INDEX workflow_runs_of_runner ON workflow_runs (runner_id)
    WHERE state IN ('claimed', 'running');
CREATE INDEX workflow_runs_by_workflow ON workflow_runs (workflow, number DESC);
CREATE INDEX workflow_runs_by_state ON workflow_runs (state, number DESC);
CREATE INDEX workflow_runs_by_trigger ON workflow_runs (trigger, number DESC);
CREATE INDEX workflow_runs_by_day ON workflow_runs (log_day, number);

-- What only one page of one run needs.
CREATE TABLE workflow_run_specs (
    run_id          uuid    PRIMARY KEY REFERENCES workflow_runs ON DELETE CASCADE,
    inputs          json    NOT NULL,
    event           json    NOT NULL,
    workspace       json    NOT NULL,
    env             json    NOT NULL,
    outputs         json,
    attempts        integer NOT NULL DEFAULT 1,
    rerun_of        uuid,
    idempotency_key text,
    CONSTRAINT idempotency_keys_are_unique UNIQUE (idempotency_key),
    CONSTRAINT there_is_at_least_one_attempt CHECK (attempts >= 1)
);

CREATE TABLE workflow_attempts (
    run_id      uuid        NOT NULL REFERENCES workflow_runs ON DELETE CASCADE,
    attempt     integer     NOT NULL,
    plan        json        NOT NULL,
    runner_id   text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    accepted_at timestamptz,
    ended_at    timestamptz,
    outcome     text,
    PRIMARY KEY (run_id, attempt),
    CONSTRAINT an_ended_attempt_has_an_outcome CHECK ((ended_at IS NULL) = (outcome IS NULL))
);

CREATE TABLE workflow_steps (
    run_id      uuid        NOT NULL REFERENCES workflow_runs ON DELETE CASCADE,
    attempt     integer     NOT NULL,
    name        text        NOT NULL,
    ordinal     integer     NOT NULL,
    kind        text        NOT NULL,
    needs       json        NOT NULL,
    branch      json        NOT NULL,
    cleanup     boolean     NOT NULL,
    once        boolean     NOT NULL,
    shown       text        NOT NULL,
    state       text        NOT NULL DEFAULT 'pending',
    reason      text,
    message     text,
    exit_code   integer,
    tries       integer     NOT NULL DEFAULT 0,
    started_at  timestamptz,
    ended_at    timestamptz,
    duration_ms bigint,
    outputs     json,
    PRIMARY KEY (run_id, attempt, name),
    CONSTRAINT the_state_is_known CHECK (state IN
        ('pending', 'running', 'waiting', 'succeeded', 'failed', 'skipped', 'cancelled')),
    CONSTRAINT an_end_has_a_time CHECK (
        (state IN ('succeeded', 'failed', 'skipped', 'cancelled')) = (ended_at IS NOT NULL)),
    CONSTRAINT a_running_step_has_started CHECK (state <> 'running' OR started_at IS NOT NULL)
) WITH (fillfactor = 80);

-- The event log. No foreign key: a day is dropped whole, never deleted row by row.
CREATE TABLE workflow_logs (
    log_day date        NOT NULL,
    run_id  uuid        NOT NULL,
    n       bigint      NOT NULL,
    type    text        NOT NULL,
    step    text,
    time    timestamptz NOT NULL DEFAULT now(),
    body    text        NOT NULL,
    PRIMARY KEY (run_id, n, log_day)
) PARTITION BY RANGE (log_day);

CREATE FUNCTION ensure_log_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF workflow_logs FOR VALUES FROM (%L) TO (%L)',
        'workflow_logs_' || to_char(day, 'YYYYMMDD'), day, day + 1);
EXCEPTION WHEN duplicate_table OR unique_violation THEN
    NULL;  -- somebody else made it at the same moment
END $$;

CREATE TABLE runners (
    id           text        PRIMARY KEY,
    pool         text        NOT NULL,
    host         text        NOT NULL,
    state        text        NOT NULL DEFAULT 'starting',
    token_hash   bytea       NOT NULL,
    gateway      text,
    epoch        bigint      NOT NULL DEFAULT 0,
    lease_until  timestamptz,
    run_id       uuid,
    attempt      integer,
    created_at   timestamptz NOT NULL DEFAULT now(),
    connected_at timestamptz,
    claimed_at   timestamptz,
    retired_at   timestamptz,
    gone_at      timestamptz,
    reason       text,
    message      text,
    CONSTRAINT the_state_is_known CHECK (state IN
        ('starting', 'idle', 'claimed', 'retired', 'gone')),
    CONSTRAINT a_claimed_runner_has_its_attempt CHECK (
        state <> 'claimed'
        OR (run_id IS NOT NULL AND attempt IS NOT NULL AND claimed_at IS NOT NULL)),
    CONSTRAINT an_unclaimed_runner_has_none CHECK (
        state NOT IN ('starting', 'idle') OR run_id IS NULL),
    CONSTRAINT a_retired_runner_has_a_time CHECK (state <> 'retired' OR retired_at IS NOT NULL),
    CONSTRAINT a_gone_runner_has_a_time CHECK ((state = 'gone') = (gone_at IS NOT NULL))
) WITH (fillfactor = 80);
COMMENT ON COLUMN runners.state IS
    'starting → idle → claimed → retired → gone. Never backwards: a runner is used once.';

CREATE INDEX runners_idle ON runners (pool, connected_at, id) WHERE state = 'idle';
CREATE INDEX runners_present ON runners (host, pool, state) WHERE state <> 'gone';
CREATE INDEX runners_failed ON runners (pool, gone_at)
    WHERE state = 'gone' AND connected_at IS NULL;
CREATE INDEX runners_of_run ON runners (run_id, attempt) WHERE run_id IS NOT NULL;
