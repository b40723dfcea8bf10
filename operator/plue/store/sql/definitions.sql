-- name: insert_definition
-- Record a revision's source; the same revision twice is one row, and is seen again.
INSERT INTO workflow_definitions AS d (revision, name, file, files)
VALUES (%(revision)s, %(name)s, %(file)s, %(files)s)
ON CONFLICT (revision, name) DO UPDATE SET seen_at = now()
 WHERE d.seen_at < now() - interval '1 day';

-- name: definition_files
-- One row, or none when the revision is unknown.
SELECT file, files FROM workflow_definitions WHERE revision = %(revision)s AND name = %(name)s;

-- name: insert_prompt_definition
-- Record a version of a prompt; the same version twice is one row, and is seen again.
INSERT INTO prompt_definitions AS d (digest, name, file, kind, definition, files)
VALUES (%(digest)s, %(name)s, %(file)s, %(kind)s, %(definition)s, %(files)s)
ON CONFLICT (digest, name) DO UPDATE SET seen_at = now()
 WHERE d.seen_at < now() - interval '1 day';

-- name: delete_old_definitions
-- Versions that nobody has met for longer than runs are kept. One row: (workflows, prompts).
WITH workflows AS (
    DELETE FROM workflow_definitions
     WHERE seen_at < now() - make_interval(days => %(days)s::integer) RETURNING revision
), prompts AS (
    DELETE FROM prompt_definitions
     WHERE seen_at < now() - make_interval(days => %(days)s::integer) RETURNING digest
)
SELECT (SELECT count(*) FROM workflows) AS workflows, (SELECT count(*) FROM prompts) AS prompts;
