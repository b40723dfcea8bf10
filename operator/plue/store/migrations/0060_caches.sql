-- Caches of steps: which archive stands for which key, and who sees it.
CREATE TABLE caches (
    namespace  text        NOT NULL,
    repository text        NOT NULL,
    ref        text        NOT NULL,
    version    text        NOT NULL,
    key        text        NOT NULL,
    blob       text        NOT NULL,
    bytes      bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, repository, ref, version, key),
    CONSTRAINT an_archive_has_a_size CHECK (bytes >= 0)
);
COMMENT ON COLUMN caches.ref IS
    'Whose runs made it: only runs of that ref, and those that start from it, are given it.';
COMMENT ON COLUMN caches.version IS 'A hash of the paths: other paths are another cache.';
CREATE INDEX caches_of_blob ON caches (blob);
