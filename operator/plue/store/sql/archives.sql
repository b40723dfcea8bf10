-- name: use_archive
-- Say that the archive is used; one row when it is there, whole.
UPDATE archives SET used_at = now() WHERE blob = %(blob)s RETURNING pieces;

-- name: keep_archive_piece
-- A piece of an archive, once or again: the same name has the same bytes.
INSERT INTO archive_pieces (blob, n, data) VALUES (%(blob)s, %(n)s, %(data)b)
ON CONFLICT (blob, n) DO UPDATE SET made_at = now();

-- name: keep_archive
-- Make the archive whole; one row, or none when some of its pieces were removed meanwhile.
INSERT INTO archives (blob, bytes, pieces)
SELECT %(blob)s::text, %(bytes)s::bigint, %(pieces)s::integer
 WHERE (SELECT count(*) FROM archive_pieces WHERE blob = %(blob)s::text) = %(pieces)s::integer
ON CONFLICT (blob) DO UPDATE SET used_at = now() RETURNING blob;

-- name: read_archive_piece
SELECT data FROM archive_pieces WHERE blob = %(blob)s AND n = %(n)s;

-- name: forget_archives
-- Those that no run uses and nobody has looked at for so long, and what was never finished.
-- One row: how many.
WITH gone AS (
    DELETE FROM archives a
     WHERE a.used_at < now() - %(unused)s::interval
       AND NOT EXISTS (SELECT FROM workflow_run_specs s WHERE s.workspace ->> 'blob' = a.blob)
    RETURNING a.blob
), pieces AS (
    DELETE FROM archive_pieces p
     WHERE p.made_at < now() - %(unused)s::interval
       AND (p.blob IN (SELECT blob FROM gone)
            OR NOT EXISTS (SELECT FROM archives a WHERE a.blob = p.blob))
)
SELECT count(*) AS archives FROM gone;
