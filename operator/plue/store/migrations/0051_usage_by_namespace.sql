-- Usage is kept longer than the runs, so it must know by itself who may see it.
ALTER TABLE llm_usage ADD COLUMN namespace text NOT NULL DEFAULT '_local';
COMMENT ON COLUMN llm_usage.namespace IS 'Of the run.';
