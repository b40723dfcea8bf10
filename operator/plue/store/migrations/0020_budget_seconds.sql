-- Time is a budget too, and a scope's books know its limits: who shows them has no settings of models.
ALTER TABLE model_budgets
    ADD COLUMN seconds       numeric(14,3) NOT NULL DEFAULT 0,
    ADD COLUMN extra_seconds numeric(14,3) NOT NULL DEFAULT 0,
    ADD COLUMN limit_usd     numeric(20,10),
    ADD COLUMN limit_tokens  bigint,
    ADD COLUMN limit_calls   bigint,
    ADD COLUMN limit_seconds numeric(14,3);
COMMENT ON COLUMN model_budgets.limit_usd IS
    'Without what it was extended by, as the last call was checked; null: without a limit.';

ALTER TABLE llm_usage ADD COLUMN reserved_seconds numeric(14,3) NOT NULL DEFAULT 0;
COMMENT ON COLUMN llm_usage.reserved_seconds IS 'After so long the gateway ends the call.';
