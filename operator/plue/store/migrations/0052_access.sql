-- Who may call the API of a cluster beside its own callers, and what callers have changed.

CREATE TABLE api_tokens (
    id           text        PRIMARY KEY,
    name         text        NOT NULL,
    hash         bytea       NOT NULL,
    owner        text        NOT NULL,
    role         text        NOT NULL,
    namespaces   text[],
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    revoked_by   text,
    CONSTRAINT the_role_is_known CHECK (role IN ('viewer', 'editor')),
    CONSTRAINT a_scope_is_not_empty CHECK (namespaces IS NULL OR cardinality(namespaces) > 0),
    CONSTRAINT who_revoked_is_known CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);
COMMENT ON COLUMN api_tokens.hash IS
    'SHA-256 of the secret, which is 256 random bits and shown once: there is nothing to guess.';
COMMENT ON COLUMN api_tokens.namespaces IS 'Null: all of them.';

CREATE TABLE api_sessions (
    hash       bytea       PRIMARY KEY,
    who        text        NOT NULL,
    groups     text[]      NOT NULL,
    csrf       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX api_sessions_by_end ON api_sessions (expires_at);

-- A browser on its way to the issuer and back; minutes at most.
CREATE TABLE api_logins (
    hash       bytea       PRIMARY KEY,
    state      text        NOT NULL,
    nonce      text        NOT NULL,
    verifier   text        NOT NULL,
    return_to  text        NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX api_logins_by_end ON api_logins (expires_at);

CREATE TABLE audit_log (
    id        bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at        timestamptz NOT NULL DEFAULT now(),
    who       text        NOT NULL,
    how       text        NOT NULL,
    address   text        NOT NULL,
    action    text        NOT NULL,
    namespace text,
    target    text        NOT NULL,
    details   json        NOT NULL DEFAULT '{}',
    status    integer
);
COMMENT ON TABLE audit_log IS 'Written before a change is made, and completed after it.';
COMMENT ON COLUMN audit_log.status IS
    'What the caller was answered; null: the process ended before that was known.';
CREATE INDEX audit_log_by_namespace ON audit_log (namespace, id DESC);
CREATE INDEX audit_log_by_who ON audit_log (who, id DESC);
