-- What model calls use: one row a call, and the counters that budgets are checked against.

CREATE TABLE llm_usage (
    id                    uuid           PRIMARY KEY,
    run_id                uuid           NOT NULL,
    attempt               integer        NOT NULL,
    step                  text           NOT NULL,
    turn                  integer        NOT NULL,
    workflow              text           NOT NULL,
    repository            text           NOT NULL DEFAULT '',
    day                   date           NOT NULL,
    client                text           NOT NULL,
    model                 text           NOT NULL,
    state                 text           NOT NULL DEFAULT 'reserved',
    outcome               text,
    estimated             boolean        NOT NULL DEFAULT false,
    reserved_usd          numeric(20,10) NOT NULL,
    reserved_tokens       bigint         NOT NULL,
    input_tokens          bigint         NOT NULL DEFAULT 0,
    output_tokens         bigint         NOT NULL DEFAULT 0,
    cache_read_tokens     bigint         NOT NULL DEFAULT 0,
    cache_write_tokens    bigint         NOT NULL DEFAULT 0,
    cache_write_1h_tokens bigint         NOT NULL DEFAULT 0,
    web_searches          integer        NOT NULL DEFAULT 0,
    cost_usd              numeric(20,10) NOT NULL DEFAULT 0,
    first_token_ms        integer,
    total_ms              integer,
    created_at            timestamptz    NOT NULL DEFAULT now(),
    settled_at            timestamptz,
    CONSTRAINT the_state_is_known CHECK (state IN ('reserved', 'settled')),
    CONSTRAINT a_settled_call_has_an_outcome CHECK (
        (state = 'settled') = (settled_at IS NOT NULL AND outcome IS NOT NULL)),
    CONSTRAINT nothing_is_negative CHECK (
        LEAST(input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
              cache_write_1h_tokens, web_searches, reserved_tokens) >= 0
        AND LEAST(cost_usd, reserved_usd) >= 0)
);
COMMENT ON TABLE llm_usage IS
    'Kept longer than the runs it belongs to: it is what was paid.';
COMMENT ON COLUMN llm_usage.input_tokens IS 'Without what the cache read and wrote.';

CREATE INDEX llm_usage_of_run ON llm_usage (run_id, attempt, step);
CREATE INDEX llm_usage_by_day ON llm_usage (day, workflow);
CREATE INDEX llm_usage_open ON llm_usage (created_at) WHERE state = 'reserved';

-- Each call is counted in up to four scopes; a scope's row is locked while a call is decided.
CREATE TABLE model_budgets (
    scope        text           NOT NULL,
    name         text           NOT NULL,
    day          date           NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date,
    usd          numeric(20,10) NOT NULL DEFAULT 0,
    tokens       bigint         NOT NULL DEFAULT 0,
    calls        bigint         NOT NULL DEFAULT 0,
    extra_usd    numeric(20,10) NOT NULL DEFAULT 0,
    extra_tokens bigint         NOT NULL DEFAULT 0,
    extra_calls  bigint         NOT NULL DEFAULT 0,
    PRIMARY KEY (scope, name),
    CONSTRAINT the_scope_is_known CHECK (scope IN ('step', 'run', 'workflow', 'day'))
);
