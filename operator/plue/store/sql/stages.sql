-- name: stage_head
-- How far a run is. One row or none.
SELECT r.id AS run_id, r.state, r.attempt, r.stage, r.workflow, r.revision, r.runner_id,
       r.cancel_requested_at IS NOT NULL AS cancelling
  FROM workflow_runs r WHERE r.id = %(run)s;

-- name: stage_origin
-- What every stage of the present attempt is evaluated from. One row or none.
SELECT s.inputs, s.event, a.plan, a.attempt
  FROM workflow_runs r
  JOIN workflow_run_specs s ON s.run_id = r.id
  JOIN workflow_attempts a ON a.run_id = r.id AND a.attempt = r.attempt
 WHERE r.id = %(run)s;

-- name: stages_of_run
-- The stages of the present attempt above one, in order.
SELECT s.attempt, s.stage, s.digest, s.awaits, s.extension, s.created_at
  FROM workflow_stages s JOIN workflow_runs r ON r.id = s.run_id AND r.attempt = s.attempt
 WHERE s.run_id = %(run)s AND s.stage > %(after)s ORDER BY s.stage;

-- name: stage_results
-- How the steps of the present attempt ended, as far as they have.
SELECT t.attempt, t.name, t.state, t.reason, t.exit_code, t.outputs
  FROM workflow_steps t JOIN workflow_runs r ON r.id = t.run_id AND r.attempt = t.attempt
 WHERE t.run_id = %(run)s AND t.ended_at IS NOT NULL;

-- name: stage_values
-- What steps of the present attempt printed and code asked for.
SELECT v.step, v.field, v.tail, v.value, v.error
  FROM workflow_values v JOIN workflow_runs r ON r.id = v.run_id AND r.attempt = v.attempt
 WHERE v.run_id = %(run)s;

-- name: runs_with_answers
-- Running runs whose code awaits a value of a step that has ended: perhaps it is to be evaluated.
SELECT r.id AS run_id
  FROM workflow_runs r
  JOIN workflow_stages s ON s.run_id = r.id AND s.attempt = r.attempt AND s.stage = r.stage
 WHERE r.state = 'running' AND r.cancel_requested_at IS NULL
   AND EXISTS (SELECT FROM workflow_steps t
                WHERE t.run_id = r.id AND t.attempt = r.attempt AND t.name = ANY(s.awaited)
                  AND t.ended_at IS NOT NULL)
 ORDER BY r.number LIMIT %(limit)s;

-- name: record_stage
-- Record the next stage of a running attempt, with its steps and its event. Of any number of
-- evaluations one is recorded: who moves `stage`. One row, or none when somebody else was first
-- or the attempt is over.
WITH moved AS (
    UPDATE workflow_runs r
       SET stage = %(stage)s, last_event = r.last_event + 1,
           waiting_reason = NULL, waiting_since = NULL
     WHERE r.id = %(run)s AND r.attempt = %(attempt)s AND r.stage = %(stage)s - 1
       AND r.state = 'running'
    RETURNING r.id, r.attempt, r.stage, r.last_event, r.log_day, r.runner_id, now() AS time
), stages AS (
    INSERT INTO workflow_stages (run_id, attempt, stage, digest, awaits, awaited, extension, body)
    SELECT m.id, m.attempt, m.stage, %(digest)s, %(awaits)s, %(awaited)s, %(extension)s, %(body)s
      FROM moved m
), steps AS (
    INSERT INTO workflow_steps (run_id, attempt, name, ordinal, kind, needs, branch, cleanup,
                                once, shown, shown_under, stage, why)
    SELECT m.id, m.attempt, s.name, s.ordinal, s.kind, s.needs, s.branch, s.cleanup, s.once,
           s.shown, s.shown_under, m.stage, s.why
      FROM moved m,
           unnest(%(step_names)s::text[], %(step_ordinals)s::integer[], %(step_kinds)s::text[],
                  %(step_needs)s::json[], %(step_branches)s::json[], %(step_cleanups)s::boolean[],
                  %(step_onces)s::boolean[], %(step_shown)s::text[], %(step_groups)s::json[],
                  %(step_why)s::json[])
               AS s (name, ordinal, kind, needs, branch, cleanup, once, shown, shown_under, why)
), shifted AS (
    UPDATE workflow_steps t SET ordinal = s.ordinal
      FROM moved m,
           unnest(%(shifted_names)s::text[], %(shifted_ordinals)s::integer[]) AS s (name, ordinal)
     WHERE t.run_id = m.id AND t.attempt = m.attempt AND t.name = s.name
), events AS (
    INSERT INTO workflow_logs (log_day, run_id, n, type, time, body)
    SELECT m.log_day, m.id, m.last_event, 'plan_extended', m.time, %(body)s FROM moved m
)
SELECT m.id AS run_id, m.attempt, m.runner_id, m.last_event, m.time, n.gateway
  FROM moved m LEFT JOIN runners n ON n.id = m.runner_id;

-- name: wait_for_evaluation
-- Say that a run waits for its code's evaluation, unless it is said already or over by now.
UPDATE workflow_runs SET waiting_reason = 'Evaluation', waiting_since = now()
 WHERE id = %(run)s AND attempt = %(attempt)s AND stage = %(stage)s AND state = 'running'
   AND waiting_reason IS NULL
RETURNING id;

-- name: stages_after
-- The stages that runners at a gateway do not have yet, in order.
SELECT r.id AS run_id, r.attempt, r.runner_id, s.stage, s.extension
  FROM unnest(%(runners)s::text[], %(stages)s::integer[]) AS k (runner_id, stage)
  JOIN workflow_runs r ON r.runner_id = k.runner_id AND r.state = 'running'
  JOIN workflow_stages s ON s.run_id = r.id AND s.attempt = r.attempt AND s.stage > k.stage
 WHERE s.extension IS NOT NULL
 ORDER BY s.stage;
