-- name: append_events
-- Store batches of runners' events, each only when (run, attempt, runner) is current and the
-- batch goes on exactly where the last one ended: that is the fence and the filter of doubles.
-- The runs' own numbers follow from the runners' by one addition, under the run rows' locks.
-- A row per batch that was stored: (run_id, last_event, time).
WITH batch AS (
    SELECT * FROM unnest(%(runs)s::uuid[], %(attempts)s::integer[], %(runners)s::text[],
                         %(firsts)s::bigint[], %(lasts)s::bigint[])
             WITH ORDINALITY AS b (run_id, attempt, runner_id, first, last, place)
), moved AS (
    UPDATE workflow_runs r
       SET last_event = r.last_event + (b.last - b.first + 1), acked = b.last
      FROM batch b
     WHERE r.id = b.run_id AND r.attempt = b.attempt AND r.runner_id = b.runner_id
       -- IS TRUE, here and elsewhere: found by id. The planner believes that hardly a run is active
       -- at any time, and would compare each batch with every active run.
       AND (r.state = 'running') IS TRUE AND r.acked = b.first - 1
    RETURNING r.id, r.attempt, r.last_event, r.log_day, b.last, b.place, now() AS time
), logged AS (
    INSERT INTO workflow_logs (log_day, run_id, n, type, step, time, body)
    SELECT m.log_day, m.id, e.n + m.last_event - m.last, e.type, e.step, m.time, e.body
      FROM unnest(%(event_places)s::bigint[], %(event_ns)s::bigint[], %(event_types)s::text[],
                  %(event_steps)s::text[], %(event_bodies)s::text[])
               AS e (place, n, type, step, body)
      JOIN moved m ON m.place = e.place
), steps AS (
    UPDATE workflow_steps s
       SET state = c.state,
           tries = GREATEST(s.tries, c.tries),
           started_at = CASE WHEN c.started THEN COALESCE(s.started_at, m.time)
                             ELSE s.started_at END,
           ended_at = CASE WHEN c.ended THEN m.time END,
           reason = c.reason, message = c.message, exit_code = c.exit_code,
           duration_ms = c.duration_ms, outputs = c.outputs
      FROM unnest(%(step_runs)s::uuid[], %(step_names)s::text[], %(step_states)s::text[],
                  %(step_tries)s::integer[], %(step_starteds)s::boolean[],
                  %(step_endeds)s::boolean[], %(step_reasons)s::text[],
                  %(step_messages)s::text[], %(step_exit_codes)s::integer[],
                  %(step_durations)s::bigint[], %(step_outputs)s::json[])
               AS c (run_id, name, state, tries, started, ended, reason, message, exit_code,
                     duration_ms, outputs)
      JOIN moved m ON m.id = c.run_id
     WHERE s.run_id = c.run_id AND s.attempt = m.attempt AND s.name = c.name
       AND s.ended_at IS NULL
), kept AS (
    INSERT INTO workflow_values (run_id, attempt, step, field, tail, value, error)
    SELECT m.id, m.attempt, v.step, v.field, v.tail, v.value, v.error
      FROM unnest(%(value_runs)s::uuid[], %(value_steps)s::text[], %(value_fields)s::text[],
                  %(value_tails)s::integer[], %(value_texts)s::text[], %(value_errors)s::text[])
               AS v (run_id, step, field, tail, value, error)
      JOIN moved m ON m.id = v.run_id
    ON CONFLICT DO NOTHING
)
SELECT id AS run_id, last_event, time FROM moved;

-- name: end_runs
-- The one conditional end: the first wins, its event is the last. `acked` NULL means that the
-- engine ends the run whatever the runner sent; else every event up to it must be stored.
-- A row per run that this call ended.
WITH given AS (
    SELECT * FROM unnest(%(runs)s::uuid[], %(attempts)s::integer[], %(acked)s::bigint[],
                         %(states)s::text[], %(reasons)s::text[], %(messages)s::text[],
                         %(outputs)s::json[])
        AS g (run_id, attempt, acked, state, reason, message, outputs)
), ended AS (
    UPDATE workflow_runs r
       SET state = g.state, reason = g.reason, message = g.message, ended_at = now(),
           waiting_reason = NULL, waiting_since = NULL, last_event = r.last_event + 1
      FROM given g
     WHERE r.id = g.run_id AND r.attempt = g.attempt
       AND r.ended_at IS NULL AND (g.acked IS NULL OR r.acked = g.acked)
    RETURNING r.id, r.attempt, r.runner_id, r.state, r.reason, r.message, r.last_event, r.log_day,
              r.ended_at, g.outputs,
              (extract(epoch FROM r.ended_at - r.started_at) * 1000)::bigint AS duration_ms,
              r.workflow, r.pool
), specs AS (
    UPDATE workflow_run_specs s SET outputs = c.outputs
      FROM ended c WHERE s.run_id = c.id AND c.outputs IS NOT NULL
), attempts AS (
    UPDATE workflow_attempts a SET ended_at = c.ended_at, outcome = c.reason
      FROM ended c WHERE a.run_id = c.id AND a.attempt = c.attempt
), steps AS (
    UPDATE workflow_steps s
       SET state = 'cancelled', ended_at = c.ended_at, reason = c.reason
      FROM ended c
     WHERE s.run_id = c.id AND s.attempt = c.attempt AND s.ended_at IS NULL
), runners AS (
    UPDATE runners n SET state = 'retired', retired_at = now(), reason = c.reason
      FROM ended c WHERE n.id = c.runner_id AND n.state = 'claimed' AND n.run_id = c.id
), events AS (
    INSERT INTO workflow_logs (log_day, run_id, n, type, time, body)
    SELECT c.log_day, c.id, c.last_event, 'run_completed', c.ended_at,
           json_build_object('attempt', c.attempt, 'state', c.state, 'reason', c.reason,
                             'message', c.message, 'outputs', COALESCE(c.outputs, '{}'::json),
                             'duration_ms', c.duration_ms)::text
      FROM ended c
    RETURNING run_id, body
)
SELECT c.id AS run_id, c.attempt, c.runner_id, c.state, c.reason, c.last_event,
       c.ended_at AS time, e.body, c.duration_ms, c.workflow, c.pool
  FROM ended c JOIN events e ON e.run_id = c.id;

-- name: read_events
SELECT run_id, n, time, type, step, body FROM workflow_logs
 WHERE run_id = %(run)s AND log_day = %(day)s AND n > %(after)s ORDER BY n LIMIT %(limit)s;

-- name: log_place
-- Where a run's events are, and whether they are still there.
SELECT r.log_day, r.last_event, r.ended_at IS NOT NULL AS ended,
       to_regclass('workflow_logs_' || to_char(r.log_day, 'YYYYMMDD')) IS NOT NULL AS kept
  FROM workflow_runs r WHERE r.id = %(run)s;
