-- name: request_cancel
-- Ask for a run's end. A running run keeps going until its runner has ended it, or until
-- `cancel_overdue_at`. A second request can only make it more urgent. One row, or none when the
-- run has ended or does not exist: (state, attempt, runner_id).
UPDATE workflow_runs r
   SET cancel_requested_at = COALESCE(r.cancel_requested_at, now()),
       cancel_state = COALESCE(r.cancel_state, %(state)s),
       cancel_reason = COALESCE(r.cancel_reason, %(reason)s),
       cancel_message = COALESCE(r.cancel_message, %(message)s),
       cancel_now = r.cancel_now OR %(now)s,
       cancel_overdue_at = LEAST(r.cancel_overdue_at,
           now() + CASE WHEN %(now)s THEN %(margin)s::interval
                        ELSE %(grace)s::interval + r.cleanup_timeout + %(margin)s::interval END)
 WHERE r.id = %(run)s AND r.ended_at IS NULL
RETURNING r.state, r.attempt, r.runner_id;

-- name: cancels_of
-- The cancels that runners at a gateway must be told of.
SELECT r.id AS run_id, r.attempt, r.runner_id, r.cancel_state, r.cancel_reason, r.cancel_message,
       r.cancel_now
  FROM workflow_runs r
 WHERE r.state = 'running' AND r.cancel_requested_at IS NOT NULL
   AND r.runner_id = ANY(%(runners)s);

-- name: runs_overdue
-- Runs that a clock ends: queued too long, running too long, or not ended by their cancel.
SELECT id AS run_id, attempt, state, cancel_state, cancel_reason, cancel_message,
       cancel_requested_at IS NOT NULL AS cancelling,
       (cancel_overdue_at < now()) IS TRUE AS cancel_overdue,
       (state = 'queued' AND queue_deadline < now()) IS TRUE AS queue_overdue,
       (state = 'running' AND run_deadline < now()) IS TRUE AS run_overdue
  FROM workflow_runs
 WHERE state IN ('queued', 'claimed', 'running')
   AND ((state = 'queued' AND queue_deadline < now())
        OR (state = 'running' AND run_deadline < now() AND cancel_requested_at IS NULL)
        OR cancel_overdue_at < now()
        OR (cancel_requested_at IS NOT NULL AND state <> 'running'))
 ORDER BY number LIMIT %(limit)s;

-- name: store_clock
SELECT now() AS now;

-- name: correct_times
-- After the store's clock went back, what was due soon would be due an hour later. None of these
-- times is ever further away than this; so that repeating it changes nothing.
WITH leases AS (
    UPDATE runners SET lease_until = now() + %(lease)s::interval
     WHERE state <> 'gone' AND lease_until > now() + %(lease)s::interval + interval '1 s'
), retirements AS (
    UPDATE runners SET retired_at = now()
     WHERE state = 'retired' AND retired_at > now() + interval '1 s'
)
UPDATE workflow_runs
   SET claimed_at = LEAST(claimed_at, now()),
       run_deadline = LEAST(run_deadline, now() + run_timeout),
       cancel_overdue_at = LEAST(cancel_overdue_at,
           now() + %(grace)s::interval + cleanup_timeout + %(margin)s::interval)
 WHERE state IN ('queued', 'claimed', 'running')
   AND (claimed_at > now() + interval '1 s'
        OR run_deadline > now() + run_timeout + interval '1 s'
        OR cancel_overdue_at > now() + %(grace)s::interval + cleanup_timeout
                               + %(margin)s::interval + interval '1 s');

-- name: runs_lost
-- Runs whose runner is gone, or whose lease ran out (%(lease_counts)s: only when the store was
-- reachable for a whole lease, so that silence means something). %(not_after)s: the store's clock
-- has jumped when it shows more; NULL: it is not known yet.
SELECT r.id AS run_id, r.attempt, r.state, r.runner_id, r.cancel_state, r.cancel_reason,
       r.cancel_message, s.attempts AS attempts_allowed, n.state AS runner_state,
       n.reason AS runner_reason, n.message AS runner_message,
       EXISTS (SELECT FROM workflow_steps t
                WHERE t.run_id = r.id AND t.attempt = r.attempt AND t.started_at IS NOT NULL
                  AND t.kind <> ALL (%(harmless)s::text[])) AS a_step_started,
       EXISTS (SELECT FROM workflow_steps t
                WHERE t.run_id = r.id AND t.attempt = r.attempt AND t.started_at IS NOT NULL
                  AND t.once) AS a_once_step_started
  FROM workflow_runs r
  JOIN workflow_run_specs s ON s.run_id = r.id
  LEFT JOIN runners n ON n.id = r.runner_id
 WHERE r.state IN ('claimed', 'running')
   AND (n.id IS NULL OR n.state = 'gone'
        OR (%(lease_counts)s AND now() <= %(not_after)s::timestamptz
            AND n.lease_until < now() - %(margin)s::interval))
 ORDER BY r.number LIMIT %(limit)s;

-- name: lock_runs
-- Before what ends an attempt: a statement sees the steps that were there when it began, and one
-- that had to wait for a run's row would not see what a stage added meanwhile. The next one does.
SELECT id FROM workflow_runs WHERE id = ANY(%(runs)s::uuid[]) ORDER BY id FOR UPDATE;

-- name: next_attempt
-- Start the run over with a fresh attempt: the first stage again, nothing known. What later
-- stages had added belongs to the attempt that is over.
-- One row, or none when somebody else was first.
WITH again AS (
    UPDATE workflow_runs r
       SET state = 'queued', attempt = r.attempt + 1, runner_id = NULL, claimed_at = NULL,
           acked = 0, stage = 1, waiting_reason = 'NoIdleRunner', waiting_since = now(),
           last_event = r.last_event + 1 + (SELECT count(*) FROM workflow_stages s
                                             WHERE s.run_id = r.id AND s.attempt = r.attempt
                                               AND s.stage = 1)
     WHERE r.id = %(run)s AND r.attempt = %(attempt)s AND r.state IN ('claimed', 'running')
    RETURNING r.id, r.attempt, r.pool, r.priority, r.last_event, r.log_day
), old AS (
    UPDATE workflow_attempts a SET ended_at = now(), outcome = %(reason)s
      FROM again g WHERE a.run_id = g.id AND a.attempt = g.attempt - 1
    RETURNING a.run_id, a.plan, a.attempt
), fresh AS (
    INSERT INTO workflow_attempts (run_id, attempt, plan)
    SELECT run_id, attempt + 1, plan FROM old
), old_steps AS (
    UPDATE workflow_steps s SET state = 'cancelled', ended_at = now(), reason = %(reason)s
      FROM again g
     WHERE s.run_id = g.id AND s.attempt = g.attempt - 1 AND s.ended_at IS NULL
), steps AS (
    INSERT INTO workflow_steps (run_id, attempt, name, ordinal, kind, needs, branch, cleanup,
                                once, shown, shown_under)
    SELECT s.run_id, g.attempt, s.name, s.ordinal, s.kind, s.needs, s.branch, s.cleanup, s.once,
           s.shown, s.shown_under
      FROM workflow_steps s JOIN again g ON s.run_id = g.id AND s.attempt = g.attempt - 1
     WHERE s.stage = 1
), stages AS (
    INSERT INTO workflow_stages (run_id, attempt, stage, digest, awaits, awaited, body)
    SELECT s.run_id, g.attempt, 1, s.digest, s.awaits, s.awaited,
           jsonb_set(s.body::jsonb, '{attempt}', to_jsonb(g.attempt))::text
      FROM workflow_stages s JOIN again g ON s.run_id = g.id AND s.attempt = g.attempt - 1
     WHERE s.stage = 1
    RETURNING run_id, body
), plans AS (
    INSERT INTO workflow_logs (log_day, run_id, n, type, body)
    SELECT g.log_day, g.id, g.last_event, 'plan_extended', s.body
      FROM again g JOIN stages s ON s.run_id = g.id
), runner AS (
    UPDATE runners n SET state = 'retired', retired_at = now(), reason = %(reason)s
      FROM again g WHERE n.run_id = g.id AND n.attempt = g.attempt - 1 AND n.state = 'claimed'
), events AS (
    INSERT INTO workflow_logs (log_day, run_id, n, type, body)
    SELECT g.log_day, g.id,
           g.last_event - (SELECT count(*) FROM stages s WHERE s.run_id = g.id), 'run_queued',
           json_build_object('attempt', g.attempt, 'pool', g.pool, 'priority', g.priority,
                             'reason', %(reason)s::text)::text
      FROM again g
)
SELECT id AS run_id, attempt, last_event FROM again;

-- name: requeue_same_attempt
-- A claimed run whose runner went before `accepted`: back to the queue, no attempt used up.
WITH again AS (
    UPDATE workflow_runs r
       SET state = 'queued', runner_id = NULL, claimed_at = NULL,
           waiting_reason = 'RunnerDidNotAccept', waiting_since = now(),
           last_event = r.last_event + 1
     WHERE r.id = %(run)s AND r.attempt = %(attempt)s AND r.state = 'claimed'
       AND r.runner_id = %(runner)s
    RETURNING r.id, r.attempt, r.pool, r.priority, r.last_event, r.log_day
), runner AS (
    UPDATE runners n SET state = 'retired', retired_at = now(), reason = %(reason)s
      FROM again g WHERE n.id = %(runner)s AND n.state = 'claimed'
), events AS (
    INSERT INTO workflow_logs (log_day, run_id, n, type, body)
    SELECT g.log_day, g.id, g.last_event, 'run_queued',
           json_build_object('attempt', g.attempt, 'pool', g.pool, 'priority', g.priority,
                             'reason', %(reason)s::text)::text
      FROM again g
)
SELECT id AS run_id, attempt, last_event FROM again;

-- name: active_runs
-- Runs that have not ended, oldest first.
SELECT id AS run_id, name, state FROM workflow_runs
 WHERE state IN ('queued', 'claimed', 'running') ORDER BY number LIMIT %(limit)s;

-- name: active_runs_by_key
-- Runs that have not ended and whose idempotency key begins so.
SELECT r.id FROM workflow_runs r JOIN workflow_run_specs s ON s.run_id = r.id
 WHERE r.state IN ('queued', 'claimed', 'running')
   AND starts_with(s.idempotency_key, %(prefix)s::text);

-- name: ensure_partitions
-- Partitions for today and the days after it; repeated calls change nothing.
SELECT ensure_log_partition((now() AT TIME ZONE 'UTC')::date + d) FROM generate_series(-1, 2) AS d;

-- name: droppable_partitions
-- Days older than the retention whose runs have all ended. A row per day.
-- MATERIALIZED: else the planner may read a day out of the name of any table there is.
WITH kept AS MATERIALIZED (
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'workflow_logs'::regclass
), days AS MATERIALIZED (
    SELECT relname AS name, to_date(right(relname, 8), 'YYYYMMDD') AS day FROM kept
)
SELECT name, day FROM days
 WHERE day < (now() AT TIME ZONE 'UTC')::date - %(days)s::integer
   AND NOT EXISTS (SELECT FROM workflow_runs r WHERE r.log_day = day AND r.ended_at IS NULL)
 ORDER BY day;

-- name: delete_old_runs
-- Finished runs older than the retention, in batches. A row per run.
DELETE FROM workflow_runs WHERE id IN (
    SELECT id FROM workflow_runs
     WHERE ended_at IS NOT NULL AND log_day < (now() AT TIME ZONE 'UTC')::date - %(days)s::integer
     ORDER BY log_day, number LIMIT %(limit)s)
RETURNING id;

-- name: delete_gone_runners
-- Rows of runners that went more than a day ago.
DELETE FROM runners WHERE state = 'gone' AND gone_at < now() - interval '1 day' RETURNING id;
