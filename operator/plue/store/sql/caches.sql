-- name: cache_owner
-- The run whose attempt the runner with this token holds, for what its caches belong to.
SELECT r.namespace, s.event FROM runners n
  JOIN workflow_runs r ON r.id = n.run_id AND r.attempt = n.attempt AND r.runner_id = n.id
  JOIN workflow_run_specs s ON s.run_id = r.id
 WHERE n.id = %(id)s AND n.token_hash = %(token_hash)s AND n.state = 'claimed';

-- name: find_cache
-- The best cache that a run sees: of the first ref that has any; there, its key, else the newest
-- whose key begins with the first restore key that has any. That counts as a use of it.
WITH found AS (
    SELECT c.namespace, c.repository, c.ref, c.version, c.key, c.blob
      FROM unnest(%(refs)s::text[]) WITH ORDINALITY AS r (ref, rank)
      JOIN caches c ON c.namespace = %(namespace)s AND c.repository = %(repository)s
                   AND c.ref = r.ref AND c.version = %(version)s
      CROSS JOIN LATERAL (
          SELECT CASE WHEN c.key = %(key)s THEN 0 ELSE (
              SELECT min(p.rank) FROM unnest(%(prefixes)s::text[]) WITH ORDINALITY AS p (prefix, rank)
               WHERE starts_with(c.key, p.prefix)) END AS rank) AS k
     WHERE k.rank IS NOT NULL
     ORDER BY r.rank, k.rank, c.created_at DESC LIMIT 1
)
UPDATE caches c SET used_at = now() FROM found f
 WHERE c.namespace = f.namespace AND c.repository = f.repository AND c.ref = f.ref
   AND c.version = f.version AND c.key = f.key
RETURNING c.ref, c.key, c.blob;

-- name: insert_cache
-- The first of a key stays: one row, or none when there is one already.
INSERT INTO caches (namespace, repository, ref, version, key, blob, bytes)
VALUES (%(namespace)s, %(repository)s, %(ref)s, %(version)s, %(key)s, %(blob)s, %(bytes)s)
ON CONFLICT DO NOTHING RETURNING key;

-- name: forget_lost_cache
-- Its archive is not there any more.
DELETE FROM caches WHERE blob = %(blob)s;

-- name: forget_caches
-- What was not used for some days, and of each repository, and of all, the least used beyond their
-- bytes. A row per cache.
WITH ranked AS (
    SELECT namespace, repository, ref, version, key, used_at,
           sum(bytes) OVER (PARTITION BY namespace, repository
                            ORDER BY used_at DESC, created_at DESC, ref, version, key) AS total,
           sum(bytes) OVER (ORDER BY used_at DESC, created_at DESC, namespace, repository, ref,
                                     version, key) AS whole
      FROM caches
)
DELETE FROM caches c USING ranked r
 WHERE c.namespace = r.namespace AND c.repository = r.repository AND c.ref = r.ref
   AND c.version = r.version AND c.key = r.key
   AND (r.total > %(most)s OR r.whole > %(most_of_all)s
        OR r.used_at < now() - %(days)s * interval '1 day')
RETURNING c.blob;

-- name: unreferenced_blobs
-- Those of these archives that no run and no cache uses; of copies, that no cache uses.
SELECT b.blob FROM unnest(%(blobs)s::text[]) AS b (blob)
 WHERE (%(copies)s OR NOT EXISTS (
         SELECT FROM workflow_run_specs s WHERE s.workspace ->> 'blob' = b.blob))
   AND NOT EXISTS (SELECT FROM caches c WHERE c.blob = b.blob);
