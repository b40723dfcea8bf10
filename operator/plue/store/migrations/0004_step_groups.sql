-- What steps are shown under: calls, and names with holes such as test-{p}, outermost first.

ALTER TABLE workflow_steps ADD COLUMN shown_under json NOT NULL DEFAULT '[]';
