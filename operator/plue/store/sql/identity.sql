-- name: store_incarnation
-- Which database this is: a new one, and one that was emptied, has another name. One row; `moved`
-- when it does not lie where it was named, or has not been told where it lies.
SELECT i.incarnation, i.place IS DISTINCT FROM
       concat_ws('/', c.system_identifier::text,
                 (SELECT oid::text FROM pg_database WHERE datname = current_database()),
                 'server_identity'::regclass::oid::text) AS moved
  FROM server_identity i, pg_control_system() c;

-- name: settle_store
-- Give a restored copy a name of its own. What it says of runs that had not ended is old: they may
-- have gone on elsewhere, or ended, so they are forgotten, as an emptied database has forgotten
-- them, and the cluster tells what they are; no runner of then is given anything. One row:
-- (restored, forgotten). A dump restored elsewhere, over this database or into this schema has
-- another number; a volume that is put back has not, and is told by `SET place = ''`.
WITH here AS (
    SELECT concat_ws('/', system_identifier::text,
                     (SELECT oid::text FROM pg_database WHERE datname = current_database()),
                     'server_identity'::regclass::oid::text) AS place
      FROM pg_control_system()
), first AS (
    UPDATE server_identity i SET place = h.place FROM here h WHERE i.place IS NULL
), restored AS (
    UPDATE server_identity i SET place = h.place, incarnation = gen_random_uuid()
      FROM here h WHERE i.place <> h.place
    RETURNING i.incarnation
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
