-- name: model_caller
-- Who holds a step's token, while that step runs: its run is running on a runner of that token's
-- hash, in that attempt. One row or none.
SELECT n.token_hash, n.pool, r.workflow, r.run_deadline,
       COALESCE(p.event #>> '{repository,full_name}', p.event #>> '{repository,name}',
                p.event #>> '{repository,url}', '') AS repository
  FROM workflow_runs r
  JOIN workflow_run_specs p ON p.run_id = r.id
  JOIN runners n ON n.id = r.runner_id AND n.state = 'claimed'
  JOIN workflow_steps s ON s.run_id = r.id AND s.attempt = r.attempt AND s.name = %(step)s
 WHERE r.id = %(run)s AND r.attempt = %(attempt)s AND r.state = 'running'
   AND r.cancel_requested_at IS NULL AND s.state IN ('running', 'waiting');

-- name: lock_budgets
-- The counters of these scopes, made when new, locked until the transaction ends. In one order, so
-- that two calls never wait for each other. The limits are written for those who show them. A row
-- per scope.
INSERT INTO model_budgets AS b (scope, name, limit_usd, limit_tokens, limit_calls, limit_seconds)
SELECT * FROM unnest(%(scopes)s::text[], %(names)s::text[], %(limit_usd)s::numeric[],
                     %(limit_tokens)s::bigint[], %(limit_calls)s::bigint[],
                     %(limit_seconds)s::numeric[])
           AS s (scope, name, usd, tokens, calls, seconds)
 ORDER BY s.scope, s.name
    ON CONFLICT (scope, name) DO UPDATE
   SET limit_usd = excluded.limit_usd, limit_tokens = excluded.limit_tokens,
       limit_calls = excluded.limit_calls, limit_seconds = excluded.limit_seconds
RETURNING scope, usd, tokens, calls, seconds,
          extra_usd, extra_tokens, extra_calls, extra_seconds;

-- name: extend_budget
-- Allow more in a scope. One row: the counter.
INSERT INTO model_budgets AS b (scope, name, extra_usd, extra_tokens, extra_calls, extra_seconds)
VALUES (%(scope)s, %(name)s, %(usd)s, %(tokens)s, %(calls)s, %(seconds)s)
    ON CONFLICT (scope, name) DO UPDATE
   SET extra_usd = b.extra_usd + excluded.extra_usd,
       extra_tokens = b.extra_tokens + excluded.extra_tokens,
       extra_calls = b.extra_calls + excluded.extra_calls,
       extra_seconds = b.extra_seconds + excluded.extra_seconds
RETURNING scope;

-- name: budgets_of_run
-- The counters of these scopes and of the run's steps, with what open calls have reserved in each.
WITH named AS (
    SELECT scope, name, '' AS step FROM unnest(%(scopes)s::text[], %(names)s::text[]) AS s (scope, name)
     UNION
    SELECT 'step', run_id || '/' || name, name FROM workflow_steps WHERE run_id = %(run)s
), reserved AS (
    SELECT n.scope, n.name, sum(u.reserved_usd) AS usd, sum(u.reserved_tokens)::bigint AS tokens,
           count(*) AS calls, sum(u.reserved_seconds) AS seconds
      FROM llm_usage u,
           LATERAL (VALUES ('step', u.run_id || '/' || u.step), ('run', u.run_id::text),
                           ('workflow', u.day || '/' || u.workflow), ('day', u.day::text))
                   AS n (scope, name)
     WHERE u.state = 'reserved'
     GROUP BY n.scope, n.name
)
SELECT b.scope, n.step, b.usd, b.tokens, b.calls, b.seconds,
       COALESCE(r.usd, 0) AS reserved_usd, COALESCE(r.tokens, 0) AS reserved_tokens,
       COALESCE(r.calls, 0) AS reserved_calls, COALESCE(r.seconds, 0) AS reserved_seconds,
       b.limit_usd, b.limit_tokens, b.limit_calls, b.limit_seconds,
       b.extra_usd, b.extra_tokens, b.extra_calls, b.extra_seconds
  FROM named n
  JOIN model_budgets b ON b.scope = n.scope AND b.name = n.name
  LEFT JOIN reserved r ON r.scope = n.scope AND r.name = n.name
 ORDER BY array_position(ARRAY['step', 'run', 'workflow', 'day'], b.scope), b.name;

-- name: reserve_call
-- Write a call with the most that it can use, and add that to the counters, which are locked.
WITH added AS (
    UPDATE model_budgets b
       SET usd = b.usd + %(usd)s, tokens = b.tokens + %(tokens)s, calls = b.calls + %(calls)s,
           seconds = b.seconds + %(seconds)s
      FROM unnest(%(scopes)s::text[], %(names)s::text[]) AS s (scope, name)
     WHERE b.scope = s.scope AND b.name = s.name
)
INSERT INTO llm_usage (id, run_id, attempt, step, turn, workflow, repository, day, client, model,
                       reserved_usd, reserved_tokens, reserved_seconds, namespace)
VALUES (%(id)s, %(run)s, %(attempt)s, %(step)s, %(turn)s, %(workflow)s, %(repository)s, %(day)s,
        %(client)s, %(model)s, %(usd)s, %(tokens)s, %(seconds)s,
        COALESCE((SELECT namespace FROM workflow_runs WHERE id = %(run)s), '_local'));

-- name: settle_call
-- Write what a call used in the place of what was reserved, once. The counters follow by the
-- difference; they are locked in the order in which reserving locks them, or each would wait for
-- the other. A call that was ended at its time is some milliseconds late, which are not counted.
-- One row when this was the first to settle it.
WITH settled AS (
    UPDATE llm_usage u
       SET state = 'settled', settled_at = now(), outcome = %(outcome)s,
           estimated = %(estimated)s, input_tokens = %(input)s, output_tokens = %(output)s,
           cache_read_tokens = %(cache_read)s, cache_write_tokens = %(cache_write)s,
           cache_write_1h_tokens = %(cache_write_1h)s, web_searches = %(web_searches)s,
           cost_usd = %(usd)s, first_token_ms = %(first_token_ms)s, total_ms = %(total_ms)s
     WHERE u.id = %(id)s AND u.state = 'reserved'
    RETURNING u.id, u.run_id, u.step, u.workflow, u.day, u.reserved_usd, u.reserved_tokens,
              u.reserved_seconds
), named AS (
    SELECT n.scope, n.name, s.reserved_usd, s.reserved_tokens, s.reserved_seconds
      FROM settled s,
           LATERAL (VALUES ('step', s.run_id || '/' || s.step), ('run', s.run_id::text),
                           ('workflow', s.day || '/' || s.workflow), ('day', s.day::text))
                   AS n (scope, name)
), locked AS (
    SELECT b.scope, b.name, n.reserved_usd, n.reserved_tokens, n.reserved_seconds
      FROM model_budgets b JOIN named n ON b.scope = n.scope AND b.name = n.name
     ORDER BY b.scope, b.name FOR UPDATE OF b
), counted AS (
    UPDATE model_budgets b
       SET usd = GREATEST(0, b.usd + %(usd)s - l.reserved_usd),
           tokens = GREATEST(0, b.tokens + %(tokens)s - l.reserved_tokens),
           seconds = GREATEST(0, b.seconds - l.reserved_seconds
                                 + LEAST(%(seconds)s::numeric, l.reserved_seconds))
      FROM locked l WHERE b.scope = l.scope AND b.name = l.name
)
SELECT id FROM settled;

-- name: abandoned_calls
-- Calls that are open for so long beyond their time that their gateway has died: nobody will settle
-- them any more. What was reserved stands for them.
SELECT id, reserved_usd, reserved_tokens, reserved_seconds FROM llm_usage
 WHERE state = 'reserved'
   AND created_at < now() - %(older)s::interval - reserved_seconds * interval '1 s'
 ORDER BY created_at LIMIT %(limit)s;

-- name: usage_of_run
-- What a run's steps used so far, by step and model. Open calls are left out.
SELECT step, model, count(*) AS calls, sum(input_tokens)::bigint AS input_tokens,
       sum(output_tokens)::bigint AS output_tokens,
       sum(cache_read_tokens)::bigint AS cache_read_tokens,
       sum(cache_write_tokens + cache_write_1h_tokens)::bigint AS cache_write_tokens,
       sum(web_searches)::bigint AS web_searches, sum(cost_usd) AS cost_usd,
       bool_or(estimated) AS estimated
  FROM llm_usage WHERE run_id = %(run)s AND state = 'settled'
 GROUP BY step, model ORDER BY min(created_at);

-- name: usage_totals
-- What was used between two days, both included, by the columns asked for. Newest day first.
SELECT CASE WHEN %(by_day)s THEN day END AS day,
       CASE WHEN %(by_workflow)s THEN workflow END AS workflow,
       CASE WHEN %(by_repository)s THEN repository END AS repository,
       CASE WHEN %(by_model)s THEN model END AS model,
       count(*) AS calls, sum(input_tokens)::bigint AS input_tokens,
       sum(output_tokens)::bigint AS output_tokens,
       sum(cache_read_tokens)::bigint AS cache_read_tokens,
       sum(cache_write_tokens + cache_write_1h_tokens)::bigint AS cache_write_tokens,
       sum(web_searches)::bigint AS web_searches, sum(cost_usd) AS cost_usd,
       bool_or(estimated) AS estimated
  FROM llm_usage
 WHERE state = 'settled' AND day BETWEEN %(since)s AND %(until)s
   AND (%(workflow)s::text IS NULL OR workflow = %(workflow)s)
   AND (%(namespaces)s::text[] IS NULL OR namespace = ANY (%(namespaces)s))
 GROUP BY 1, 2, 3, 4
 ORDER BY 1 DESC NULLS LAST, cost_usd DESC, 2, 3, 4
 LIMIT 1000;

-- name: delete_old_budgets
-- Counters of runs, steps and days that are long over.
DELETE FROM model_budgets WHERE day < (now() AT TIME ZONE 'UTC')::date - %(days)s::integer;
