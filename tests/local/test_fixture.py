"""The fixture that other suites build on."""

import psycopg


def test_each_test_has_an_empty_database(postgres_dsn: str) -> None:
    """A database of one's own is empty at first."""
    with psycopg.connect(postgres_dsn) as connection:
        found = connection.execute("SELECT count(*) FROM pg_class WHERE relname = 'mark'")
        assert found.fetchone() == (0,)
        connection.execute("CREATE TABLE mark (a int)")


def test_nothing_of_another_test_is_seen(postgres_dsn: str) -> None:
    """What another test made is not there, in whatever order they run."""
    with psycopg.connect(postgres_dsn) as connection:
        found = connection.execute("SELECT count(*) FROM pg_class WHERE relname = 'mark'")
        assert found.fetchone() == (0,)
        connection.execute("CREATE TABLE mark (a int)")
