"""One server per folder: real locks between real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plue.errors import UnavailableError, UsageError
from plue.local.instance import (
    ClientLock,
    InstanceLock,
    Running,
    data_folder,
    find_running,
    own_mark,
    write_private,
)


def _running() -> Running:
    mark = own_mark()
    return Running(
        url="http://127.0.0.1:1",
        token="t",
        pid=mark.pid,
        started=mark.started,
        root="/r",
        private=False,
        version="1",
    )


_HOLDER = """
import sys
from pathlib import Path
from plue.local.instance import InstanceLock
lock = InstanceLock.acquire(Path(sys.argv[1]), kind="plue up")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_server_is_told_who_is_first(tmp_path: Path) -> None:
    """The message names the other's pid and kind; its end frees the folder, however it comes."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=rf"pid {holder.pid}, plue up") as caught:
            InstanceLock.acquire(tmp_path, kind="plue up")
        assert "--data" in (caught.value.remedy or "")
        holder.kill()
    InstanceLock.acquire(tmp_path, kind="plue up").release()


def test_a_released_folder_can_be_taken_again(tmp_path: Path) -> None:
    """A clean end leaves no lock."""
    InstanceLock.acquire(tmp_path / "new" / "folder", kind="a").release()
    InstanceLock.acquire(tmp_path / "new" / "folder", kind="b").release()


def test_clients_keep_a_private_server(tmp_path: Path) -> None:
    """A server may end alone only, and from then on nobody comes."""
    first, second = ClientLock.share(tmp_path), ClientLock.share(tmp_path)
    assert first is not None
    assert second is not None
    assert ClientLock.alone(tmp_path) is None
    first.release()
    assert ClientLock.alone(tmp_path) is None
    second.release()
    alone = ClientLock.alone(tmp_path)
    assert alone is not None
    assert ClientLock.share(tmp_path) is None
    alone.release()


def test_a_server_is_found_while_its_process_lives(tmp_path: Path) -> None:
    """What is recorded is found, and forgotten when it ends."""
    assert find_running(tmp_path) is None
    _running().record(tmp_path)
    assert find_running(tmp_path) == _running()
    Running.forget(tmp_path)
    assert find_running(tmp_path) is None


@pytest.mark.parametrize(
    "record",
    [
        pytest.param('{"url": "x"}', id="fields-are-missing"),
        pytest.param("{", id="half-written"),
        pytest.param(
            '{"url":"u","token":"t","pid":1,"started":5.0,"root":"r","private":false,'
            '"version":"1"}',
            id="somebody-elses-pid",
        ),
    ],
)
def test_a_stale_record_is_nobody(tmp_path: Path, record: str) -> None:
    """What a killed server left does not lead commands astray."""
    (tmp_path / "server.json").write_text(record)
    assert find_running(tmp_path) is None


def test_the_token_is_for_this_user_alone(tmp_path: Path) -> None:
    """The file is private from its first moment, also when an open one was there."""
    (tmp_path / "server.json").write_text("")
    (tmp_path / "server.json").chmod(0o644)
    write_private(tmp_path / "server.json", "secret")
    assert (tmp_path / "server.json").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_made_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """The folder is named, and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match=r"file/data cannot be used: Not a dir") as caught:
        InstanceLock.acquire(tmp_path / "file" / "data", kind="plue up")
    assert "--data" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({"XDG_STATE_HOME": "/s"}, r"/s/plue/my-project-[0-9a-f]{10}", id="xdg"),
        pytest.param({"PLUE_DATA": "/d", "XDG_STATE_HOME": "/s"}, "/d", id="given"),
    ],
)
def test_the_folder_is_named_after_the_tree(environment: dict[str, str], expected: str) -> None:
    """A name that people recognise, and that no other tree has."""
    import re

    assert re.fullmatch(expected, str(data_folder(Path("/home/a/my project"), environment)))
    other = data_folder(Path("/home/b/my project"), environment)
    assert (str(other) == "/d") == ("PLUE_DATA" in environment)
