-- Archives of workspaces, where the processes of one engine have no folder in common.
CREATE TABLE archives (
    blob    text        NOT NULL PRIMARY KEY,
    bytes   bigint      NOT NULL,
    pieces  integer     NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT an_archive_is_something CHECK (bytes > 0 AND pieces > 0)
);
COMMENT ON TABLE archives IS 'Those that are whole; a piece whose archive is not here is of one that is being sent.';

CREATE TABLE archive_pieces (
    blob    text        NOT NULL,
    n       integer     NOT NULL,
    data    bytea       NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (blob, n)
);
-- What is worth it is compressed before it comes here.
ALTER TABLE archive_pieces ALTER COLUMN data SET STORAGE EXTERNAL;
