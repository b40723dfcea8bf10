"""The embedded server: real clusters, real kills."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from plue.errors import UnavailableError
from plue.local.pidfd import ended_within
from plue.local.postgres import EmbeddedPostgres, binaries, socket_folder
from plue.local.unprivileged import choose_launch, launch_as_account

_FAST = {"fsync": "off"}
_PATIENCE = timedelta(seconds=30)


def _server(folder: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder, settings=_FAST)


async def _ask(server: EmbeddedPostgres, statement: str) -> object:
    async with await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True) as connection:
        cursor = await connection.execute(statement)
        row = await cursor.fetchone() if cursor.description else None
        return row[0] if row else None


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with an initialised cluster, to be copied: initdb takes half a second."""
    folder = tmp_path_factory.mktemp("cluster")
    cluster = folder / "postgres18"
    cluster.mkdir()
    words = [str(binaries() / "initdb"), "-D", str(cluster), "-A", "trust", "-E", "UTF8"]
    launch = choose_launch(binaries() / "postgres", folder)
    subprocess.run(
        launch.command([*words, "--locale=C.UTF-8", "-U", "postgres", "--no-sync"]),
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
async def server(cluster: Path, tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """Give a running server of this test's own."""
    shutil.copytree(cluster, tmp_path / "d")
    server = _server(tmp_path / "d")
    await server.start()
    yield server
    await server.close()


async def test_data_outlives_a_restart(tmp_path: Path) -> None:
    """What was committed before a close is there after the next start, in the same folder."""
    for expected in (None, 1):
        server = _server(tmp_path)
        await server.start()
        try:
            assert expected == await _ask(server, "SELECT 1 FROM pg_class WHERE relname = 'kept'")
            await _ask(server, "CREATE TABLE IF NOT EXISTS kept (a int)")
        finally:
            await server.close()
    assert not (tmp_path / "postgres18" / "postmaster.pid").exists()


async def test_there_is_no_network_port(server: EmbeddedPostgres) -> None:
    """The server listens on its Unix socket only, and that belongs to the user alone."""
    assert await _ask(server, "SHOW listen_addresses") == ""
    assert await _ask(server, "SHOW unix_socket_permissions") == "0700"
    assert await _ask(server, "SHOW jit") == "off"


async def test_two_servers_run_side_by_side(cluster: Path, tmp_path: Path) -> None:
    """Two data folders give two servers that know nothing of each other."""
    servers = []
    try:
        for name in ("one", "two"):
            shutil.copytree(cluster, tmp_path / name)
            servers.append(_server(tmp_path / name))
            await servers[-1].start()
        await _ask(servers[0], "CREATE TABLE mine (a int)")
        found = await _ask(servers[1], "SELECT count(*) FROM pg_class WHERE relname = 'mine'")
        assert found == 0
    finally:
        for server in servers:
            await server.close()


async def test_long_folder_gets_a_short_socket(cluster: Path, tmp_path: Path) -> None:
    """A data folder whose path is too long for a socket works, by a private folder elsewhere."""
    folder = tmp_path / ("long" * 30) / "d e"
    shutil.copytree(cluster, folder)
    server = _server(folder)
    await server.start()
    try:
        assert await _ask(server, "SELECT 7") == 7
    finally:
        await server.close()
    short = socket_folder(folder)
    assert not short.is_relative_to(folder)
    assert short.stat().st_mode & 0o777 == 0o700
    short.rmdir()


async def test_a_server_that_dies_is_started_again(server: EmbeddedPostgres) -> None:
    """Killing Postgres costs its connections, and nothing else."""
    await _ask(server, "CREATE TABLE kept (a int)")
    first = server.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await ended_within(first, _PATIENCE)
    assert await _ask_patiently(server, "SELECT count(*) FROM kept") == 0
    assert server.pid != first
    # It answers a moment before who started it has seen that it does.
    async with asyncio.timeout(_PATIENCE.total_seconds()):
        while server.restarts != 1:  # noqa: ASYNC110 - a count, which nothing waits for elsewhere
            await asyncio.sleep(0.01)


async def _ask_patiently(server: EmbeddedPostgres, statement: str) -> object:
    """Ask until the server is back, as the store's pool does."""
    async with asyncio.timeout(_PATIENCE.total_seconds()):
        while True:
            try:
                return await _ask(server, statement)
            except psycopg.OperationalError:
                await asyncio.sleep(0.02)


_PREDECESSOR = """
import asyncio, sys
from pathlib import Path
from plue.local.postgres import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"})
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def predecessor(cluster: Path, tmp_path: Path) -> tuple[Path, int]:
    """Give a folder and the Postgres in it that belongs to another, killed Plue."""
    folder = tmp_path / "d"
    shutil.copytree(cluster, folder)
    with subprocess.Popen(
        [sys.executable, "-c", _PREDECESSOR, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            assert process.stdout is not None
            postgres = int(process.stdout.readline())
        finally:
            process.kill()
    return folder, postgres


async def test_a_killed_owner_takes_its_server_along(predecessor: tuple[Path, int]) -> None:
    """When we are killed, Postgres ends by itself."""
    _, postgres = predecessor
    assert await ended_within(postgres, _PATIENCE)


async def test_start_follows_a_killed_predecessor(predecessor: tuple[Path, int]) -> None:
    """A start right after a kill waits for the old server instead of failing."""
    folder, _ = predecessor
    server = _server(folder)
    await server.start()
    try:
        assert await _ask(server, "SELECT 7") == 7
    finally:
        await server.close()


async def test_start_ends_a_server_that_was_left_running(cluster: Path, tmp_path: Path) -> None:
    """A server that missed our predecessor's end is ended before another one starts."""
    folder = tmp_path / "d"
    shutil.copytree(cluster, folder)
    left = _server(folder)
    await left.start()
    pid = left.pid
    assert pid is not None
    assert left._supervisor is not None
    left._supervisor.cancel()  # its owner is gone as far as anybody can see
    server = _server(folder)
    await server.start()
    try:
        assert server.pid != pid
        assert await ended_within(pid, _PATIENCE)
    finally:
        await server.close()
        await left.close()


async def test_a_foreign_pid_in_the_pid_file_is_no_obstacle(cluster: Path, tmp_path: Path) -> None:
    """After a reboot the old pid is somebody else's; that somebody is left alone."""
    folder = tmp_path / "d"
    shutil.copytree(cluster, folder)
    (folder / "postgres18" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    server = _server(folder)
    await server.start()
    try:
        assert await _ask(server, "SELECT 7") == 7
    finally:
        await server.close()


async def test_a_broken_cluster_is_an_error_with_the_servers_words(
    cluster: Path, tmp_path: Path
) -> None:
    """What Postgres said is in the message, and the log's place in the remedy."""
    folder = tmp_path / "d"
    shutil.copytree(cluster, folder)
    (folder / "postgres18" / "PG_VERSION").write_text("11\n")
    with pytest.raises(UnavailableError) as caught:
        await _server(folder).start()
    assert "did not start" in caught.value.message
    assert "11" in caught.value.message
    assert str(folder / "postgres.log") in (caught.value.remedy or "")


async def test_a_file_in_the_way_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """A data folder that cannot be made is named, together with what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="file/data cannot be used") as caught:
        await _server(tmp_path / "file" / "data").start()
    assert "--data" in (caught.value.remedy or "")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give up being root")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that any account can reach; pytest's own are private."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@needs_root
async def test_an_existing_account_stands_in_for_namespaces(
    monkeypatch: pytest.MonkeyPatch, open_folder: Path
) -> None:
    """Where user namespaces are refused, an unprivileged account runs the server."""
    monkeypatch.setattr("plue.local.unprivileged.launch_in_namespace", lambda _: None)
    server = _server(open_folder)
    await server.start()
    try:
        assert await _ask(server, "SELECT 7") == 7
        assert (open_folder / "postgres18").stat().st_uid != 0
    finally:
        await server.close()


@needs_root
def test_an_unreachable_folder_is_refused_with_a_remedy() -> None:
    """An account that cannot enter the folder is no way out, and the message says so."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        inner = Path(name) / "inner"
        inner.mkdir()
        with pytest.raises(UnavailableError, match="refuses to run as root") as caught:
            launch_as_account(binaries() / "postgres", inner)
    assert "--database DSN" in (caught.value.remedy or "")
