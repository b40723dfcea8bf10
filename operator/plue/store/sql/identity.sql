-- name: store_incarnation
-- Which database this is: a new one, and one that was emptied, has another name. One row.
SELECT incarnation FROM server_identity;
