-- name: server_time
-- The store's clock. One row: (now).
SELECT now() AS now;

-- name: record_schedule
-- Add a schedule; one that is there keeps its next time. No rows.
INSERT INTO schedules (scope, workflow, cron, next_at)
VALUES (%(scope)s, %(workflow)s, %(cron)s, %(next_at)s) ON CONFLICT DO NOTHING;

-- name: forget_schedules
-- Drop the schedules of a scope that are not among the given pairs. A row for each.
DELETE FROM schedules s
 WHERE s.scope = %(scope)s
   AND NOT EXISTS (SELECT FROM unnest(%(workflows)s::text[], %(crons)s::text[]) AS k(workflow, cron)
                    WHERE k.workflow = s.workflow AND k.cron = s.cron)
RETURNING s.workflow, s.cron;

-- name: due_schedules
-- The schedules of a scope whose time has come, oldest first.
SELECT workflow, cron, next_at, now() AS now FROM schedules
 WHERE scope = %(scope)s AND next_at <= now() ORDER BY next_at, workflow LIMIT %(limit)s;

-- name: advance_schedule
-- Move a schedule to its next time, unless somebody else did. One row or none.
UPDATE schedules
   SET next_at = %(next_at)s, last_at = COALESCE(%(last_at)s, last_at),
       last_run = COALESCE(%(run)s, last_run)
 WHERE scope = %(scope)s AND workflow = %(workflow)s AND cron = %(cron)s AND next_at = %(seen)s
RETURNING workflow;
