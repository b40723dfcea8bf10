-- name: model_callers
-- Who holds these steps' tokens, while those steps run: its run is running on a runner of that
-- token's hash, in that attempt. A row for each that does, with its place in the list.
SELECT a.place, n.token_hash, n.pool, r.workflow, r.run_deadline,
       COALESCE(p.event #>> '{repository,full_name}', p.event #>> '{repository,name}',
                p.event #>> '{repository,url}', '') AS repository
  FROM unnest(%(runs)s::uuid[], %(attempts)s::integer[], %(steps)s::text[])
       WITH ORDINALITY AS a (run, attempt, step, place)
  JOIN workflow_runs r ON r.id = a.run AND r.attempt = a.attempt AND r.state = 'running'
                      AND r.cancel_requested_at IS NULL
  JOIN workflow_run_specs p ON p.run_id = r.id
  JOIN runners n ON n.id = r.runner_id AND n.state = 'claimed'
  JOIN workflow_steps s ON s.run_id = r.id AND s.attempt = r.attempt AND s.name = a.step
                       AND s.state IN ('running', 'waiting');

-- name: lock_budgets
-- These counters, made when new, locked until the transaction ends. In one order, so that two
-- transactions never wait for each other. The limits are written for those who show them. A row
-- per counter.
INSERT INTO model_budgets AS b (scope, name, limit_usd, limit_tokens, limit_calls, limit_seconds)
SELECT * FROM unnest(%(scopes)s::text[], %(names)s::text[], %(limit_usd)s::numeric[],
                     %(limit_tokens)s::bigint[], %(limit_calls)s::bigint[],
                     %(limit_seconds)s::numeric[])
           AS s (scope, name, usd, tokens, calls, seconds)
 ORDER BY s.scope, s.name
    ON CONFLICT (scope, name) DO UPDATE
   SET limit_usd = excluded.limit_usd, limit_tokens = excluded.limit_tokens,
       limit_calls = excluded.limit_calls, limit_seconds = excluded.limit_seconds
RETURNING scope, name, usd, tokens, calls, seconds,
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

-- name: reserve_calls
-- Write calls with the most that each can use, and add that to their counters, which are locked.
WITH asked AS (
    SELECT * FROM jsonb_to_recordset(%(calls)s::jsonb)
             AS c (id uuid, run_id uuid, attempt integer, step text, turn integer, workflow text,
                   repository text, day date, client text, model text, usd numeric, tokens bigint,
                   calls bigint, seconds numeric)
), added AS (
    SELECT n.scope, n.name, sum(a.usd) AS usd, sum(a.tokens) AS tokens, sum(a.calls) AS calls,
           sum(a.seconds) AS seconds
      FROM asked a,
           LATERAL (VALUES ('step', a.run_id || '/' || a.step), ('run', a.run_id::text),
                           ('workflow', a.day || '/' || a.workflow), ('day', a.day::text))
                   AS n (scope, name)
     GROUP BY n.scope, n.name
), counted AS (
    UPDATE model_budgets b
       SET usd = b.usd + n.usd, tokens = b.tokens + n.tokens, calls = b.calls + n.calls,
           seconds = b.seconds + n.seconds
      FROM added n WHERE b.scope = n.scope AND b.name = n.name
)
INSERT INTO llm_usage (id, run_id, attempt, step, turn, workflow, repository, day, client, model,
                       reserved_usd, reserved_tokens, reserved_seconds, namespace)
SELECT id, run_id, attempt, step, turn, workflow, repository, day, client, model, usd, tokens,
       seconds, COALESCE((SELECT r.namespace FROM workflow_runs r WHERE r.id = asked.run_id), '_local')
  FROM asked;

-- name: settle_calls
-- Write what calls used in the place of what was reserved, each once. The counters follow by the
-- difference. Calls are locked in the order of their ids, then counters in the order in which
-- reserving locks them, or two of these would wait for each other. A call that was ended at its
-- time is some milliseconds late, which are not counted. A row for each that this was the first to
-- settle.
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%(calls)s::jsonb)
             AS c (id uuid, outcome text, estimated boolean, input_tokens bigint,
                   output_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint,
                   cache_write_1h_tokens bigint, web_searches integer, tokens bigint, usd numeric,
                   first_token_ms integer, total_ms integer, seconds numeric)
), due AS MATERIALIZED (
    SELECT u.id FROM llm_usage u
     WHERE u.id IN (SELECT g.id FROM given g) AND u.state = 'reserved'
     ORDER BY u.id FOR UPDATE OF u
), settled AS (
    UPDATE llm_usage u
       SET state = 'settled', settled_at = now(), outcome = g.outcome, estimated = g.estimated,
           input_tokens = g.input_tokens, output_tokens = g.output_tokens,
           cache_read_tokens = g.cache_read_tokens, cache_write_tokens = g.cache_write_tokens,
           cache_write_1h_tokens = g.cache_write_1h_tokens, web_searches = g.web_searches,
           cost_usd = g.usd, first_token_ms = g.first_token_ms, total_ms = g.total_ms
      FROM due o JOIN given g ON g.id = o.id
     WHERE u.id = o.id AND u.state = 'reserved'
    RETURNING u.id, u.run_id, u.step, u.workflow, u.day, g.usd - u.reserved_usd AS usd,
              g.tokens - u.reserved_tokens AS tokens,
              LEAST(g.seconds, u.reserved_seconds) - u.reserved_seconds AS seconds
), changed AS (
    SELECT n.scope, n.name, sum(s.usd) AS usd, sum(s.tokens) AS tokens, sum(s.seconds) AS seconds
      FROM settled s,
           LATERAL (VALUES ('step', s.run_id || '/' || s.step), ('run', s.run_id::text),
                           ('workflow', s.day || '/' || s.workflow), ('day', s.day::text))
                   AS n (scope, name)
     GROUP BY n.scope, n.name
), locked AS MATERIALIZED (
    SELECT b.scope, b.name, c.usd, c.tokens, c.seconds
      FROM model_budgets b JOIN changed c ON b.scope = c.scope AND b.name = c.name
     ORDER BY b.scope, b.name FOR UPDATE OF b
), counted AS (
    UPDATE model_budgets b
       SET usd = GREATEST(0, b.usd + l.usd), tokens = GREATEST(0, b.tokens + l.tokens),
           seconds = GREATEST(0, b.seconds + l.seconds)
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
