-- name: insert_run
-- Make a run with its first attempt, its steps and its first two events, all or nothing.
-- One row (id, last_event, log_day); none when the id or the idempotency key exists already.
WITH run AS (
    INSERT INTO workflow_runs (id, workflow, revision, trigger, pool, priority, run_timeout,
                               queue_deadline, cleanup_timeout, waiting_reason, waiting_since,
                               last_event)
    SELECT %(id)s, %(workflow)s, %(revision)s, %(trigger)s, %(pool)s, %(priority)s,
           %(run_timeout)s, now() + %(queue_timeout)s, %(cleanup_timeout)s,
           'NoIdleRunner', now(), 2
     WHERE NOT EXISTS (SELECT FROM workflow_run_specs
                        WHERE idempotency_key = %(idempotency_key)s)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, last_event, log_day
), spec AS (
    INSERT INTO workflow_run_specs (run_id, inputs, event, workspace, env, attempts, rerun_of,
                                    idempotency_key)
    SELECT id, %(inputs)s, %(event)s, %(workspace)s, %(env)s, %(attempts)s, %(rerun_of)s,
           %(idempotency_key)s
      FROM run
), attempt AS (
    INSERT INTO workflow_attempts (run_id, attempt, plan)
    SELECT id, 1, %(plan)s FROM run
), steps AS (
    INSERT INTO workflow_steps (run_id, attempt, name, ordinal, kind, needs, branch, cleanup,
                                once, shown, shown_under)
    SELECT run.id, 1, s.name, s.ordinal, s.kind, s.needs, s.branch, s.cleanup, s.once, s.shown,
           s.shown_under
      FROM run,
           unnest(%(step_names)s::text[], %(step_kinds)s::text[], %(step_needs)s::json[],
                  %(step_branches)s::json[], %(step_cleanups)s::boolean[],
                  %(step_onces)s::boolean[], %(step_shown)s::text[], %(step_groups)s::json[])
               WITH ORDINALITY AS s (name, kind, needs, branch, cleanup, once, shown, shown_under,
                                     ordinal)
), stage AS (
    INSERT INTO workflow_stages (run_id, attempt, stage, digest, awaits, awaited, body)
    SELECT id, 1, 1, %(digest)s, %(awaits)s, %(awaited)s, %(plan_body)s
      FROM run WHERE cardinality(%(awaited)s::text[]) > 0
), events AS (
    INSERT INTO workflow_logs (log_day, run_id, n, type, body)
    SELECT run.log_day, run.id, e.n, e.type, e.body
      FROM run,
           (VALUES (1, 'run_queued', %(queued_body)s), (2, 'plan_extended', %(plan_body)s))
               AS e (n, type, body)
)
SELECT id, last_event, log_day FROM run;

-- name: run_by_key
-- The run that an idempotency key made; one row or none.
SELECT run_id FROM workflow_run_specs WHERE idempotency_key = %(key)s;

-- name: find_run
-- The id of the run that a reference names; number, name and id cannot be mistaken for another.
SELECT id FROM workflow_runs
 WHERE id = %(id)s OR number = %(number)s OR (number = %(name_number)s AND name = %(name)s)
 LIMIT 1;

-- name: latest_run
SELECT id FROM workflow_runs ORDER BY number DESC LIMIT 1;

-- name: get_run
SELECT r.id, r.number, r.name, r.workflow, r.revision, r.state, r.reason, r.message, r.trigger,
       r.pool, r.priority, r.attempt, r.created_at, r.queued_at, r.started_at, r.ended_at,
       r.cancel_requested_at, r.waiting_reason, r.waiting_since, r.last_event
  FROM workflow_runs r WHERE r.id = %(id)s;

-- name: get_spec
SELECT s.inputs, s.event, s.workspace, s.outputs, s.attempts, s.rerun_of, r.runner_id,
       r.revision, r.workflow, r.trigger, r.priority, r.run_timeout, r.log_day, r.last_event
  FROM workflow_run_specs s JOIN workflow_runs r ON r.id = s.run_id
 WHERE s.run_id = %(id)s;

-- name: get_steps
-- The steps of one attempt, in the order of the plan.
SELECT name, kind, state, reason, message, needs, branch, cleanup, shown, exit_code, tries,
       started_at, ended_at, duration_ms, outputs, stage, why, shown_under
  FROM workflow_steps WHERE run_id = %(id)s AND attempt = %(attempt)s ORDER BY ordinal;

-- name: list_runs
-- One page, newest first, by keyset; planned for the filters that are there (database.py).
-- Of one state: of `= ANY` the planner does not know that an index is in order.
SELECT r.id, r.number, r.name, r.workflow, r.revision, r.state, r.reason, r.message, r.trigger,
       r.pool, r.priority, r.attempt, r.created_at, r.queued_at, r.started_at, r.ended_at,
       r.cancel_requested_at, r.waiting_reason, r.waiting_since, r.last_event
  FROM workflow_runs r
 WHERE (%(before)s::bigint IS NULL OR r.number < %(before)s)
   AND (%(workflow)s::text IS NULL OR r.workflow = %(workflow)s)
   AND (%(trigger)s::text IS NULL OR r.trigger = %(trigger)s)
   AND (%(state)s::text IS NULL OR r.state = %(state)s)
 ORDER BY r.number DESC LIMIT %(limit)s;
