-- name: insert_runs
-- Make runs with their first attempts, their steps and their first two events, all or nothing.
-- A row (id) per run that is new; none where the id or the idempotency key exists already.
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(runs)s::json) AS g (
        id uuid, namespace text, workflow text, revision text, trigger text, pool text,
        priority integer, run_timeout interval, queue_timeout interval, cleanup_timeout interval, inputs json,
        event json, workspace json, env json, attempts integer, rerun_of uuid,
        idempotency_key text, secrets_from json, plan json, steps json, digest text, awaits json, awaited text[],
        queued_body text, plan_body text)
), run AS (
    INSERT INTO workflow_runs (id, namespace, workflow, revision, trigger, pool, priority,
                               run_timeout, queue_deadline, cleanup_timeout, waiting_reason,
                               waiting_since, last_event)
    SELECT id, namespace, workflow, revision, trigger, pool, priority, run_timeout,
           now() + queue_timeout, cleanup_timeout, 'NoIdleRunner', now(), 2
      FROM given g
     WHERE NOT EXISTS (SELECT FROM workflow_run_specs s
                        WHERE s.idempotency_key = g.idempotency_key)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, log_day
), spec AS (
    INSERT INTO workflow_run_specs (run_id, inputs, event, workspace, env, attempts, rerun_of,
                                    idempotency_key, secrets_from)
    SELECT id, inputs, event, workspace, env, attempts, rerun_of, idempotency_key, secrets_from
      FROM run JOIN given USING (id)
), attempt AS (
    INSERT INTO workflow_attempts (run_id, attempt, plan)
    SELECT id, 1, plan FROM run JOIN given USING (id)
), steps AS (
    INSERT INTO workflow_steps (run_id, attempt, name, ordinal, kind, needs, branch, cleanup,
                                once, shown, shown_under)
    SELECT run.id, 1, s.name, s.ordinal, s.kind, s.needs, s.branch, s.cleanup, s.once, s.shown,
           s.shown_under
      FROM run JOIN given USING (id),
           json_to_recordset(given.steps) AS s (
               name text, ordinal integer, kind text, needs json, branch json, cleanup boolean,
               once boolean, shown text, shown_under json)
), stage AS (
    INSERT INTO workflow_stages (run_id, attempt, stage, digest, awaits, awaited, body)
    SELECT id, 1, 1, digest, awaits, awaited, plan_body
      FROM run JOIN given USING (id) WHERE cardinality(awaited) > 0
), events AS (
    INSERT INTO workflow_logs (log_day, run_id, n, type, body)
    SELECT run.log_day, run.id, e.n, e.type, e.body
      FROM run JOIN given USING (id),
           LATERAL (VALUES (1, 'run_queued', queued_body), (2, 'plan_extended', plan_body))
               AS e (n, type, body)
)
SELECT id FROM run;

-- name: run_by_key
-- The run that an idempotency key made; one row or none.
SELECT run_id FROM workflow_run_specs WHERE idempotency_key = %(key)s;

-- name: find_run
-- The id of the run that a reference names; number, name and id cannot be mistaken for another.
SELECT id FROM workflow_runs
 WHERE id = %(id)s OR number = %(number)s OR (number = %(name_number)s AND name = %(name)s)
 LIMIT 1;

-- name: get_run
SELECT r.id, r.number, r.name, r.namespace, r.workflow, r.revision, r.state, r.reason, r.message, r.trigger,
       r.pool, r.priority, r.attempt, r.created_at, r.queued_at, r.started_at, r.ended_at,
       r.cancel_requested_at, r.waiting_reason, r.waiting_since, r.last_event
  FROM workflow_runs r WHERE r.id = %(id)s;

-- name: get_spec
SELECT s.inputs, s.event, s.workspace, s.outputs, s.attempts, s.rerun_of, s.secrets_from, r.runner_id,
       r.revision, r.namespace, r.workflow, r.trigger, r.priority, r.run_timeout, r.log_day,
       r.last_event
  FROM workflow_run_specs s JOIN workflow_runs r ON r.id = s.run_id
 WHERE s.run_id = %(id)s;

-- name: get_secrets_from
SELECT secrets_from FROM workflow_run_specs WHERE run_id = %(id)s;

-- name: get_secrets_from_at
SELECT s.secrets_from FROM workflow_run_specs s JOIN workflow_runs r ON r.id = s.run_id
 WHERE r.state IN ('claimed', 'running') AND r.runner_id = %(runner)s;

-- name: get_steps
-- The steps of one attempt, in the order of the plan.
SELECT name, kind, state, reason, message, needs, branch, cleanup, shown, exit_code, tries,
       started_at, ended_at, duration_ms, outputs, stage, why, shown_under
  FROM workflow_steps WHERE run_id = %(id)s AND attempt = %(attempt)s ORDER BY ordinal;

-- name: list_runs
-- One page, newest first, by keyset; planned for the filters that are there (database.py).
-- Of one state and one namespace: of `= ANY` the planner does not know that an index is in order.
SELECT r.id, r.number, r.name, r.namespace, r.workflow, r.revision, r.state, r.reason, r.message, r.trigger,
       r.pool, r.priority, r.attempt, r.created_at, r.queued_at, r.started_at, r.ended_at,
       r.cancel_requested_at, r.waiting_reason, r.waiting_since, r.last_event
  FROM workflow_runs r
 WHERE (%(before)s::bigint IS NULL OR r.number < %(before)s)
   AND (%(namespace)s::text IS NULL OR r.namespace = %(namespace)s)
   AND (%(workflow)s::text IS NULL OR r.workflow = %(workflow)s)
   AND (%(trigger)s::text IS NULL OR r.trigger = %(trigger)s)
   AND (%(state)s::text IS NULL OR r.state = %(state)s)
 ORDER BY r.number DESC LIMIT %(limit)s;

-- name: list_runs_of_namespaces
-- The same for several namespaces: the newest of each by its own index, then the rows of the page.
SELECT r.id, r.number, r.name, r.namespace, r.workflow, r.revision, r.state, r.reason, r.message,
       r.trigger, r.pool, r.priority, r.attempt, r.created_at, r.queued_at, r.started_at,
       r.ended_at, r.cancel_requested_at, r.waiting_reason, r.waiting_since, r.last_event
  FROM (SELECT one.number
          FROM unnest(%(namespaces)s::text[]) AS n (namespace),
               LATERAL (SELECT r.number FROM workflow_runs r
                         WHERE r.namespace = n.namespace AND r.namespace <> '_local'
                           AND (%(before)s::bigint IS NULL OR r.number < %(before)s)
                           AND (%(workflow)s::text IS NULL OR r.workflow = %(workflow)s)
                           AND (%(trigger)s::text IS NULL OR r.trigger = %(trigger)s)
                           AND (%(state)s::text IS NULL OR r.state = %(state)s)
                         ORDER BY r.number DESC LIMIT %(limit)s) AS one
         ORDER BY one.number DESC LIMIT %(limit)s) AS page
  JOIN workflow_runs r ON r.number = page.number
 ORDER BY r.number DESC;

-- name: namespaces
-- The namespaces of a cluster that have runs, by name; a jump in the index for each.
WITH RECURSIVE found AS (
    SELECT min(namespace) AS namespace FROM workflow_runs WHERE namespace <> '_local'
     UNION ALL
    SELECT (SELECT min(r.namespace) FROM workflow_runs r
             WHERE r.namespace <> '_local' AND r.namespace > found.namespace)
      FROM found WHERE found.namespace IS NOT NULL
)
SELECT namespace FROM found WHERE namespace IS NOT NULL;
