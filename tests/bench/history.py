"""A store with a past: finished runs by the million, made by the database itself in seconds.

Every run has its row. One in ten has the rest too (spec, attempt, step, five events): the log is
read by run and dropped by day, so its size matters less than the number of runs.
"""

import psycopg
from psycopg import sql

__all__ = ["RARE", "fill"]

RARE = "seldom"
"""A workflow that had one run in 50,000: what a filter has to search for.

Failed runs and manual runs are frequent, one in twelve each, and no manual run has failed: a
filter for both searches all of one of them. Half of the runs are in the namespace `main`, the
others in `team-0` to `team-30`; none of theirs has failed.
"""

_DAYS = 28

_RUNS = """
INSERT INTO workflow_runs (id, namespace, workflow, revision, state, reason, message, trigger, pool,
       runner_id, created_at, queued_at, claimed_at, started_at, ended_at, last_event, acked,
       log_day)
SELECT gen_random_uuid(),
       CASE WHEN g %% 2 = 0 THEN 'main' ELSE 'team-' || (sqrt((g * 6101) %% 900))::int END,
       CASE WHEN g %% 50000 = 17 THEN 'seldom'
            ELSE 'workflow-' || (sqrt((g * 7919) %% 1600))::int END,
       md5((g %% 100)::text), s.state, s.reason,
       CASE WHEN s.state = 'failed' THEN '''unit'' failed: exit code 1' END,
       CASE WHEN g %% 12 = 1 THEN 'manual'
            ELSE (ARRAY['push', 'push', 'push', 'pull_request', 'schedule'])[1 + g %% 5] END,
       'default', 'default-' || g, t, t, t, t, t + interval '42 s', 8, 5,
       (t AT TIME ZONE 'UTC')::date
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS g,
       LATERAL (SELECT now() - interval '26 days' * (1 - g::float8 / %(last)s)
                             - interval '1 hour' AS t) AS at,
       LATERAL (SELECT CASE WHEN g %% 997 = 0 THEN 'timed_out' WHEN g %% 83 = 0 THEN 'cancelled'
                            WHEN g %% 12 = 0 THEN 'failed' ELSE 'succeeded' END AS state) AS e,
       LATERAL (SELECT e.state, CASE e.state WHEN 'timed_out' THEN 'RunTimeout'
                            WHEN 'cancelled' THEN 'Cancelled' WHEN 'failed' THEN 'StepFailed'
                            ELSE 'Succeeded' END AS reason) AS s
 ORDER BY g
"""

_REST = (
    """INSERT INTO workflow_run_specs (run_id, inputs, event, workspace, env)
       SELECT id, '{}', '{}', '{"kind":"none"}', '{}' FROM fresh""",
    """INSERT INTO workflow_attempts (run_id, attempt, plan, runner_id, accepted_at, ended_at,
              outcome)
       SELECT id, 1, json_build_object('workflow', workflow, 'pad', repeat('x', 800)), runner_id,
              started_at, ended_at, reason FROM fresh""",
    """INSERT INTO workflow_steps (run_id, attempt, name, ordinal, kind, needs, branch, cleanup,
              once, shown, state, started_at, ended_at, exit_code, tries)
       SELECT id, 1, 'unit', 1, 'shell', '[]', '[]', false, false, 'make unit', 'succeeded',
              started_at, ended_at, 0, 1 FROM fresh""",
    """INSERT INTO workflow_logs (log_day, run_id, n, type, step, time, body)
       SELECT log_day, id, n, (ARRAY['run_queued', 'plan_extended', 'run_claimed', 'run_started',
              'step_started', 'step_output', 'step_completed', 'run_completed'])[n], 'unit',
              started_at, '{"attempt":1,"text":"' || repeat('some output ', 12) || '"}'
         FROM fresh, generate_series(1, 8) AS n""",
    """INSERT INTO runners (id, pool, host, state, token_hash, run_id, attempt, created_at,
              connected_at, claimed_at, retired_at, gone_at, reason)
       SELECT runner_id, 'default', 'process', 'gone', '\\x00', id, 1, created_at, created_at,
              claimed_at, ended_at, now(), 'Succeeded' FROM fresh""",
)


def fill(dsn: str, present: int, wanted: int) -> None:
    """Make runs until there are *wanted*, given that there are *present*."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(
            "SELECT ensure_log_partition((now() AT TIME ZONE 'UTC')::date - d)"
            " FROM generate_series(0, %s) AS d",
            (_DAYS,),
        )
        row = connection.execute("SELECT coalesce(max(number), 0) FROM workflow_runs").fetchone()
        before = row[0] if row else 0
        connection.execute(_RUNS, {"first": present + 1, "last": wanted})
        fresh = (
            "CREATE TEMP TABLE fresh AS SELECT * FROM workflow_runs"
            " WHERE number > {} AND number % 10 = 0"
        )
        connection.execute(sql.SQL(fresh).format(sql.Literal(before)))
        for statement in _REST:
            connection.execute(statement)
        connection.execute("DROP TABLE fresh")
        # What autovacuum would have done in the days that this took in truth.
        connection.execute("VACUUM (ANALYZE)")
