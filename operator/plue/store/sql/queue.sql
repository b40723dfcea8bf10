-- name: pools_with_work
-- Pools that have both a run to claim and a runner to claim it.
SELECT p.name FROM pools p
 WHERE EXISTS (SELECT FROM workflow_runs r
                WHERE r.state = 'queued' AND r.pool = p.name
                  AND (r.not_before IS NULL OR r.not_before <= now()))
   AND EXISTS (SELECT FROM runners n
                WHERE n.state = 'idle' AND n.pool = p.name
                  AND n.gateway IS NOT NULL AND n.lease_until > now());

-- name: claim_runs
-- Bind queued runs of one pool, by priority then age, to its idle runners, oldest first.
-- Two callers never get the same run or the same runner. A row per claim.
WITH idle AS (
    SELECT id, gateway, row_number() OVER (ORDER BY connected_at, id) AS rank
      FROM (SELECT id, gateway, connected_at FROM runners
             WHERE state = 'idle' AND pool = %(pool)s
               AND gateway IS NOT NULL AND lease_until > now()
             ORDER BY connected_at, id LIMIT %(limit)s
               FOR UPDATE SKIP LOCKED) AS free
), waiting AS (
    SELECT id, row_number() OVER (ORDER BY priority DESC, queued_at, number) AS rank
      FROM (SELECT id, priority, queued_at, number FROM workflow_runs
             WHERE state = 'queued' AND pool = %(pool)s
               AND (not_before IS NULL OR not_before <= now())
             ORDER BY priority DESC, queued_at, number
             LIMIT (SELECT count(*) FROM idle)
               FOR UPDATE SKIP LOCKED) AS next
), claimed AS (
    UPDATE workflow_runs r
       SET state = 'claimed', runner_id = idle.id, claimed_at = now(), not_before = NULL,
           waiting_reason = 'Claimed', waiting_since = now(),
           last_event = r.last_event + 1, acked = 0
      FROM waiting JOIN idle USING (rank)
     WHERE r.id = waiting.id
    RETURNING r.id, r.attempt, r.runner_id, idle.gateway, r.last_event, r.log_day, r.queued_at,
              now() AS time
), bound AS (
    UPDATE runners n
       SET state = 'claimed', run_id = c.id, attempt = c.attempt, claimed_at = now()
      FROM claimed c WHERE n.id = c.runner_id
), attempts AS (
    UPDATE workflow_attempts a SET runner_id = c.runner_id
      FROM claimed c WHERE a.run_id = c.id AND a.attempt = c.attempt
), events AS (
    INSERT INTO workflow_logs (log_day, run_id, n, type, time, body)
    SELECT c.log_day, c.id, c.last_event, 'run_claimed', c.time,
           json_build_object('attempt', c.attempt, 'runner', c.runner_id)::text
      FROM claimed c
    RETURNING run_id, body
)
SELECT c.id AS run_id, c.attempt, c.runner_id, c.gateway, c.last_event, c.time, e.body,
       extract(epoch FROM c.time - c.queued_at)::float8 AS queue_seconds
  FROM claimed c JOIN events e ON e.run_id = c.id;

-- name: assignments
-- What runners that are claimed, and sit at this gateway, are to be told. A row per assignment.
SELECT r.id AS run_id, r.name, r.workflow, r.number, r.attempt, r.runner_id, r.state, r.acked,
       r.trigger, r.cleanup_timeout, a.plan, s.inputs, s.event, s.workspace, s.env,
       s.secrets_from,
       COALESCE(p.egress, '{}') <> '{}' AS egress
  FROM workflow_runs r
  JOIN workflow_attempts a ON a.run_id = r.id AND a.attempt = r.attempt
  JOIN workflow_run_specs s ON s.run_id = r.id
  LEFT JOIN pools p ON p.name = r.pool
 WHERE r.state IN ('claimed', 'running') AND r.runner_id = ANY(%(runners)s);

-- name: open_claims
-- Runners at this gateway whose claim is not accepted yet.
SELECT n.id FROM runners n
  JOIN workflow_runs r ON r.id = n.run_id AND r.runner_id = n.id AND r.state = 'claimed'
 WHERE n.gateway = %(gateway)s AND n.state = 'claimed';

-- name: accept_runs
-- Record `accepted`, the second phase of the claim: only now may `start` be sent.
-- A row per run that this runner may start, also when it was recorded before (a repeat).
WITH given AS (
    SELECT * FROM unnest(%(runs)s::uuid[], %(attempts)s::integer[], %(runners)s::text[])
        AS g (run_id, attempt, runner_id)
), accepted AS (
    UPDATE workflow_runs r
       SET state = 'running', started_at = COALESCE(r.started_at, now()),
           run_deadline = COALESCE(r.run_deadline, now() + r.run_timeout),
           waiting_reason = NULL, waiting_since = NULL, last_event = r.last_event + 1
      FROM given g
     WHERE r.id = g.run_id AND r.attempt = g.attempt AND r.runner_id = g.runner_id
       AND (r.state = 'claimed') IS TRUE
    RETURNING r.id, r.attempt, r.runner_id, r.last_event, r.log_day, now() AS time,
              extract(epoch FROM now() - r.claimed_at)::float8 AS claim_seconds
), attempts AS (
    UPDATE workflow_attempts a SET accepted_at = c.time
      FROM accepted c WHERE a.run_id = c.id AND a.attempt = c.attempt
), events AS (
    INSERT INTO workflow_logs (log_day, run_id, n, type, time, body)
    SELECT c.log_day, c.id, c.last_event, 'run_started', c.time,
           json_build_object('attempt', c.attempt, 'runner', c.runner_id)::text
      FROM accepted c
    RETURNING run_id, body
)
SELECT c.id AS run_id, c.attempt, c.runner_id, c.last_event, c.time, e.body, c.claim_seconds
  FROM accepted c JOIN events e ON e.run_id = c.id;

-- name: running_of
-- Which of these (run, attempt, runner) are running: a repeated `accepted` is answered again.
SELECT r.id AS run_id, r.attempt, r.runner_id, r.acked, r.state
  FROM workflow_runs r
  JOIN unnest(%(runs)s::uuid[], %(attempts)s::integer[], %(runners)s::text[])
        AS g (run_id, attempt, runner_id)
    ON r.id = g.run_id AND r.attempt = g.attempt AND r.runner_id = g.runner_id;

-- name: return_unaccepted
-- Claims without `accepted` for too long: the run goes back to the queue with the same attempt,
-- the runner is retired and can never start it. A row per run.
WITH late AS (
    SELECT id, runner_id FROM workflow_runs
     WHERE state = 'claimed' AND claimed_at < now() - %(accept_timeout)s::interval
     ORDER BY number LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), returned AS (
    UPDATE workflow_runs r
       SET state = 'queued', runner_id = NULL, claimed_at = NULL,
           waiting_reason = 'RunnerDidNotAccept', waiting_since = now(),
           last_event = r.last_event + 1
      FROM late WHERE r.id = late.id
    RETURNING r.id, r.attempt, r.pool, r.priority, r.last_event, r.log_day, late.runner_id
), retired AS (
    UPDATE runners n
       SET state = 'retired', retired_at = now(), reason = 'RunnerDidNotAccept'
      FROM returned c WHERE n.id = c.runner_id AND n.state = 'claimed'
), events AS (
    INSERT INTO workflow_logs (log_day, run_id, n, type, body)
    SELECT c.log_day, c.id, c.last_event, 'run_queued',
           json_build_object('attempt', c.attempt, 'pool', c.pool, 'priority', c.priority,
                             'reason', 'RunnerDidNotAccept')::text
      FROM returned c
)
SELECT id AS run_id, runner_id, last_event FROM returned;

-- name: queue_reasons
-- Say for every queued run why it waits; only rows whose reason changes are written.
-- What holds for a whole pool is found once a pool. A pool that turns runners over at its maximum
-- is below it for moments: until a tenth of it is free, what was said of it stays.
WITH waiting AS MATERIALIZED (
    SELECT id, pool, waiting_reason, not_before > now() IS TRUE AS leased
      FROM workflow_runs WHERE state = 'queued' ORDER BY number LIMIT 1000
), places AS MATERIALIZED (
    SELECT w.pool, p.name IS NOT NULL AS known, p.maximum,
           (SELECT count(*) FROM runners n
             WHERE n.pool = w.pool AND n.state <> 'gone') AS present,
           (SELECT count(*) FROM runners n
             WHERE n.pool = w.pool AND n.state = 'gone' AND n.connected_at IS NULL
               AND n.gone_at > now() - interval '2 minutes') AS failed
      FROM (SELECT DISTINCT pool FROM waiting) AS w LEFT JOIN pools p ON p.name = w.pool
), said AS MATERIALIZED (
    SELECT w.id, w.waiting_reason AS before,
           CASE WHEN w.leased THEN 'Lease'
                WHEN NOT p.known THEN 'NoSuchPool'
                WHEN p.present >= p.maximum
                  OR (w.waiting_reason = 'PoolAtMaximum' AND p.present > 0.9 * p.maximum)
                THEN 'PoolAtMaximum'
                WHEN p.failed > 2 THEN 'RunnersDoNotStart'
                ELSE 'NoIdleRunner' END AS reason
      FROM waiting w JOIN places p USING (pool)
), changed AS MATERIALIZED (
    SELECT id, reason FROM said WHERE before IS DISTINCT FROM reason
)
-- Queued is what has neither a runner nor an end. Asked for by its state, the planner takes the
-- index of active runs for a handful of rows, and compares each with each.
UPDATE workflow_runs r SET waiting_reason = c.reason
  FROM changed c
 WHERE r.id = c.id AND r.runner_id IS NULL AND r.ended_at IS NULL
RETURNING r.id AS run_id;

-- name: queue_depths
-- Queued runs by pool.
SELECT pool, count(*) AS depth FROM workflow_runs WHERE state = 'queued' GROUP BY pool;
