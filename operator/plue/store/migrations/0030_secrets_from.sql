-- Where a run's secrets may come from: names and places, never values. Empty: the server's own.

ALTER TABLE workflow_run_specs ADD COLUMN secrets_from json NOT NULL DEFAULT '{}';
