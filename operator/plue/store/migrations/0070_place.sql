-- A copy that was restored has the name of the database that it was dumped from; its place differs.
ALTER TABLE server_identity ADD COLUMN place text;
COMMENT ON COLUMN server_identity.place IS
    'Where this name was given or taken over: the Postgres, the database and the table, as Postgres numbers them. NULL: not yet.';
