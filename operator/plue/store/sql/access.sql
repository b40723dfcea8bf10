-- name: insert_token
-- One row: the token, without its hash.
INSERT INTO api_tokens (id, name, hash, owner, role, namespaces, expires_at)
VALUES (%(id)s, %(name)s, %(hash)s, %(owner)s, %(role)s, %(namespaces)s::text[],
        now() + %(lasts)s::interval)
RETURNING id, name, owner, role, namespaces, created_at, expires_at, last_used_at, revoked_at,
          revoked_by;

-- name: use_token
-- The token of this id and hash, if it is good now. That it was used is written once a minute.
WITH used AS (
    UPDATE api_tokens SET last_used_at = now()
     WHERE id = %(id)s AND hash = %(hash)s AND revoked_at IS NULL AND expires_at > now()
       AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
)
SELECT id, name, owner, role, namespaces, created_at, expires_at, last_used_at, revoked_at,
       revoked_by
  FROM api_tokens
 WHERE id = %(id)s AND hash = %(hash)s AND revoked_at IS NULL AND expires_at > now();

-- name: list_tokens
-- The tokens that reach into any of these namespaces, newest first; null: all tokens.
SELECT id, name, owner, role, namespaces, created_at, expires_at, last_used_at, revoked_at,
       revoked_by
  FROM api_tokens
 WHERE %(within)s::text[] IS NULL OR namespaces && %(within)s::text[]
 ORDER BY created_at DESC, id LIMIT 1000;

-- name: get_token
SELECT id, name, owner, role, namespaces, created_at, expires_at, last_used_at, revoked_at,
       revoked_by
  FROM api_tokens WHERE id = %(id)s;

-- name: revoke_token
-- One row: the token. Who revoked it first stays.
UPDATE api_tokens
   SET revoked_at = COALESCE(revoked_at, now()), revoked_by = COALESCE(revoked_by, %(by)s)
 WHERE id = %(id)s
RETURNING id, name, owner, role, namespaces, created_at, expires_at, last_used_at, revoked_at,
          revoked_by;

-- name: insert_login
-- Remember a browser on its way to the issuer; those that never came back are forgotten.
WITH old AS (
    DELETE FROM api_logins WHERE expires_at < now()
)
INSERT INTO api_logins (hash, state, nonce, verifier, return_to, expires_at)
VALUES (%(hash)s, %(state)s, %(nonce)s, %(verifier)s, %(return_to)s,
        now() + %(lasts)s::interval);

-- name: take_login
-- A login that has come back; each can be taken once. One row or none.
DELETE FROM api_logins WHERE hash = %(hash)s
RETURNING state, nonce, verifier, return_to, expires_at > now() AS is_good;

-- name: insert_session
WITH old AS (
    DELETE FROM api_sessions WHERE expires_at < now()
)
INSERT INTO api_sessions (hash, who, groups, csrf, expires_at)
VALUES (%(hash)s, %(who)s, %(groups)s, %(csrf)s, now() + %(lasts)s::interval);

-- name: get_session
SELECT who, groups, csrf, expires_at FROM api_sessions
 WHERE hash = %(hash)s AND expires_at > now();

-- name: end_session
DELETE FROM api_sessions WHERE hash = %(hash)s;

-- name: begin_audit
-- One row: (id).
INSERT INTO audit_log (who, how, address, action, target)
VALUES (%(who)s, %(how)s, %(address)s, %(action)s, %(target)s)
RETURNING id;

-- name: finish_audit
UPDATE audit_log
   SET status = %(status)s, namespace = %(namespace)s, target = %(target)s, details = %(details)s
 WHERE id = %(id)s;

-- name: list_audit
-- One page, newest first, by keyset; planned for the filters that are there (database.py).
SELECT id, at, who, how, address, action, namespace, target, details, status FROM audit_log
 WHERE (%(before)s::bigint IS NULL OR id < %(before)s)
   AND (%(namespaces)s::text[] IS NULL OR namespace = ANY (%(namespaces)s))
   AND (%(who)s::text IS NULL OR who = %(who)s)
   AND (%(action)s::text IS NULL OR action = %(action)s)
   AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
 ORDER BY id DESC LIMIT %(limit)s;
