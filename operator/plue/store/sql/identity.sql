-- name: store_incarnation
-- Which database this is: a new one, and one that was emptied, has another name. One row, with the
-- place where it was named, NULL when it was not told yet, and where it lies.
SELECT i.incarnation, i.place,
       concat_ws('/', c.system_identifier::text,
                 (SELECT oid::text FROM pg_database WHERE datname = current_database()),
                 'server_identity'::regclass::oid::text) AS here
  FROM server_identity i, pg_control_system() c;

-- name: settle_store
-- Give a restored copy, which lies `here`, a name of its own. What it says of runs that had not
-- ended is old: they may have gone on elsewhere, or ended, so they are forgotten, as an emptied
-- database has forgotten them, and the cluster tells what they are; no runner of then is given
-- anything. One row: (restored, forgotten). A dump restored elsewhere, over this database or into this schema has
-- another number; a volume that is put back has not, and is told by `SET place = ''`.
WITH first AS (
    UPDATE server_identity SET place = %(here)s WHERE place IS NULL
), restored AS (
    UPDATE server_identity SET place = %(here)s, incarnation = gen_random_uuid()
     WHERE place <> %(here)s
    RETURNING incarnation
), forgotten AS (
    DELETE FROM workflow_runs WHERE ended_at IS NULL AND EXISTS (SELECT FROM restored)
    RETURNING id
), untold AS (
    DELETE FROM workflow_logs l USING forgotten f WHERE l.run_id = f.id
), retired AS (
    UPDATE runners
       SET state = 'retired', retired_at = COALESCE(retired_at, now()),
           reason = COALESCE(reason, 'StoreLost')
     WHERE state IN ('starting', 'idle', 'claimed') AND EXISTS (SELECT FROM restored)
)
SELECT EXISTS (SELECT FROM restored) AS restored, (SELECT count(*) FROM forgotten) AS forgotten;
