-- name: upsert_pool
INSERT INTO pools (name, host, warm, maximum, egress)
VALUES (%(name)s, %(host)s, %(warm)s, %(maximum)s, %(egress)s)
ON CONFLICT (name) DO UPDATE
   SET host = EXCLUDED.host, warm = EXCLUDED.warm, maximum = EXCLUDED.maximum,
       egress = EXCLUDED.egress, updated_at = now();

-- name: pools_of_host
SELECT name, warm, maximum FROM pools WHERE host = %(host)s ORDER BY name;

-- name: delete_pool
DELETE FROM pools WHERE name = %(name)s;

-- name: lock_pool
-- Hold the pool while its runners are counted and rows inserted: two passes never exceed the
-- maximum together.
SELECT name, warm, maximum FROM pools WHERE name = %(pool)s FOR UPDATE;

-- name: runners_of_pool
-- Every runner that counts: a row counts until its runner was seen gone.
SELECT id, state, gateway IS NOT NULL AS connected,
       extract(epoch FROM now() - created_at)::float8 AS age_seconds,
       extract(epoch FROM now() - retired_at)::float8 AS retired_seconds
  FROM runners WHERE pool = %(pool)s AND state <> 'gone' ORDER BY created_at, id;

-- name: failures_in_pool
-- Runners that went in the last two minutes without ever having connected.
SELECT count(*) AS failures,
       COALESCE(extract(epoch FROM now() - max(gone_at)), 0)::float8 AS last_age_seconds
  FROM runners
 WHERE pool = %(pool)s AND state = 'gone' AND connected_at IS NULL
   AND gone_at > now() - interval '2 minutes';

-- name: queued_in_pool
SELECT count(*) AS queued FROM (
    SELECT 1 FROM workflow_runs WHERE state = 'queued' AND pool = %(pool)s
       AND (not_before IS NULL OR not_before <= now()) LIMIT 1000) AS waiting;

-- name: insert_runners
INSERT INTO runners (id, pool, host, token_hash)
SELECT n.id, %(pool)s, %(host)s, n.token_hash
  FROM unnest(%(ids)s::text[], %(token_hashes)s::bytea[]) AS n (id, token_hash);

-- name: runners_of_host
SELECT id, state, extract(epoch FROM now() - created_at)::float8 AS age_seconds
  FROM runners WHERE host = %(host)s AND state <> 'gone';

-- name: claimed_until
-- Runners that execute a run, and when that has surely ended.
SELECT n.id, r.id AS run_id, r.run_deadline + r.cleanup_timeout AS until
  FROM runners n
  JOIN workflow_runs r ON r.id = n.run_id AND r.attempt = n.attempt AND r.runner_id = n.id
 WHERE n.host = %(host)s AND n.state = 'claimed' AND r.run_deadline IS NOT NULL;

-- name: retire_runner
-- Only a runner without a run can be retired by a pool.
UPDATE runners SET state = 'retired', retired_at = now(), reason = %(reason)s
 WHERE id = %(id)s AND state IN ('starting', 'idle') RETURNING id;

-- name: runners_gone
-- Record that nothing of these runners executes any more. A row per runner this call recorded.
UPDATE runners n
   SET state = 'gone', gone_at = now(), gateway = NULL,
       reason = COALESCE(n.reason, g.reason), message = COALESCE(n.message, g.message)
  FROM unnest(%(ids)s::text[], %(reasons)s::text[], %(messages)s::text[]) AS g (id, reason, message)
 WHERE n.id = g.id AND n.state <> 'gone'
RETURNING n.id, n.run_id;

-- name: runner_hellos
-- Runners connect: the newer session revokes the older. A row per runner, none for a wrong token,
-- a runner that nobody made, or one that is gone. No runner may be named twice.
UPDATE runners n
   SET gateway = g.gateway, epoch = n.epoch + 1, connected_at = COALESCE(n.connected_at, now()),
       lease_until = now() + g.lease,
       state = CASE n.state WHEN 'starting' THEN 'idle' ELSE n.state END
  FROM unnest(%(ids)s::text[], %(token_hashes)s::bytea[], %(gateways)s::text[],
              %(leases)s::interval[]) AS g (id, token_hash, gateway, lease)
 WHERE n.id = g.id AND n.token_hash = g.token_hash AND n.state <> 'gone'
RETURNING n.id, n.state, n.epoch, n.pool, n.run_id, n.attempt;

-- name: admit_runner
-- A runner proved by its host who it is: from here on this token stands for it. Once.
UPDATE runners SET token_hash = %(token_hash)s
 WHERE id = %(id)s AND state = 'starting' AND connected_at IS NULL RETURNING id;

-- name: session_closed
UPDATE runners SET gateway = NULL
 WHERE id = %(id)s AND gateway = %(gateway)s AND epoch = %(epoch)s;

-- name: renew_leases
-- A row per runner whose lease runs anew.
UPDATE runners SET lease_until = now() + %(lease)s::interval
 WHERE id = ANY(%(ids)s) AND gateway = %(gateway)s AND state <> 'gone' RETURNING id;

-- name: runner_may_read_blob
-- Whether the runner with this token holds an attempt whose workspace is this blob.
SELECT 1 FROM runners n
  JOIN workflow_runs r ON r.id = n.run_id AND r.attempt = n.attempt AND r.runner_id = n.id
  JOIN workflow_run_specs s ON s.run_id = r.id
 WHERE n.id = %(id)s AND n.token_hash = %(token_hash)s AND n.state = 'claimed'
   AND s.workspace ->> 'blob' = %(blob)s;

-- name: runner_counts
SELECT pool, state, count(*) AS runners FROM runners WHERE state <> 'gone' GROUP BY pool, state;

-- name: retired_at_gateway
-- Runners whose session is at this gateway but that are needed no more.
SELECT id FROM runners WHERE gateway = %(gateway)s AND state = 'retired';
