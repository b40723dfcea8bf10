-- Hosts that runs of a pool may reach through the gateway; each gateway must know them per run.
ALTER TABLE pools ADD COLUMN egress text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN pools.egress IS 'Host names, as domain/egress.py has them.';
