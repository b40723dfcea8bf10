-- name: egress_caller
-- Who holds a step's token, while that step runs, and where its pool lets it go. One row or none.
SELECT n.token_hash, p.egress
  FROM workflow_runs r
  JOIN runners n ON n.id = r.runner_id AND n.state = 'claimed'
  JOIN pools p ON p.name = r.pool
  JOIN workflow_steps s ON s.run_id = r.id AND s.attempt = r.attempt AND s.name = %(step)s
 WHERE r.id = %(run)s AND r.attempt = %(attempt)s AND r.state = 'running'
   AND r.cancel_requested_at IS NULL AND s.state IN ('running', 'waiting');

-- name: record_refusal
-- Say in a step's log what it was refused, as long as its attempt runs. One row or none.
WITH moved AS (
    UPDATE workflow_runs r SET last_event = r.last_event + 1
     WHERE r.id = %(run)s AND r.attempt = %(attempt)s AND (r.state = 'running') IS TRUE
    RETURNING r.id, r.last_event, r.log_day, now() AS time
)
INSERT INTO workflow_logs (log_day, run_id, n, type, step, time, body)
SELECT log_day, id, last_event, 'egress_refused', %(step)s, time, %(body)s FROM moved
RETURNING n, time;
