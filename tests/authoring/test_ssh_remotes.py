"""Git over ssh, from a real ssh server: what opens a repository, and how each refusal reads."""

import asyncio
import shutil
import subprocess
import tarfile
from collections.abc import AsyncGenerator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from lacking import cannot
from ssh_host import SshHost, new_key, private_text, ssh_host

from plue.authoring.cloning import clone
from plue.authoring.fetching import Fetched, fetch
from plue.authoring.remotes import GitRequest, Reach
from plue.errors import PlueError, RejectedError, UnavailableError

LOCAL = Reach(loopback=True)
MAIN = "refs/heads/main"
FILES = {".plue/workflows/ci.py": "from plue import manual, workflow\n", "src/a": "1\n"}


@pytest.fixture
async def host(tmp_path: Path) -> AsyncGenerator[SshHost, None]:
    """Give a git host on loopback that speaks ssh."""
    if shutil.which("ssh") is None:
        cannot("there is no ssh: install openssh-client")
    folder = tmp_path / "host"
    folder.mkdir()
    async with ssh_host(folder) as host:
        yield host


def asking(host: SshHost, **fields: object) -> GitRequest:
    """Return a request for the host's repository."""
    request = GitRequest(host.url, credentials=host.credentials())
    return replace(request, **fields)  # type: ignore[arg-type]


async def refusal(request: GitRequest) -> PlueError:
    """Return what fetching and cloning both say; it is the same for both."""
    with pytest.raises(PlueError) as fetched:
        await fetch(request, reach=LOCAL)
    with pytest.raises(PlueError) as cloned:
        async with clone(request, reach=LOCAL):
            pass
    assert type(fetched.value) is type(cloned.value)
    # In brackets is what git or the host said, whoever was first.
    meanings = [said.value.message.split(" (")[0] for said in (fetched, cloned)]
    assert meanings[0] == meanings[1]
    return fetched.value


@pytest.mark.parametrize("is_old", [False, True], ids=["v2", "v0"])
async def test_a_secrets_keys_open_it_for_both(host: SshHost, tmp_path: Path, is_old: bool) -> None:
    """Files for the evaluator and a clone for runs, whichever of git's protocols the host has."""
    host.is_old = is_old
    commit = host.repository.commit(FILES)
    found = await fetch(asking(host), reach=LOCAL)
    workflows = {".plue/workflows/ci.py": FILES[".plue/workflows/ci.py"]}
    assert found == Fetched(commit, workflows, MAIN)
    async with clone(asking(host, ref="main"), reach=LOCAL) as made:
        assert (made.commit, made.ref) == (commit, MAIN)
        assert made.chunks is not None
        archive = BytesIO(b"".join([chunk async for chunk in made.chunks]))
    with tarfile.open(fileobj=archive) as tar:
        tar.extractall(tmp_path / "tree", filter="data")
    assert (tmp_path / "tree" / "src" / "a").read_text() == "1\n"
    assert f"url = {host.url}" in (tmp_path / "tree" / ".git" / "config").read_text()
    key = host.credentials()["ssh-privatekey"].encode().splitlines()[2]
    kept = [path for path in (tmp_path / "tree").rglob("*") if path.is_file()]
    assert not any(key in path.read_bytes() for path in kept)


async def test_a_known_commit_is_only_asked_for(host: SshHost) -> None:
    """One connection that lists names, and none that fetches."""
    commit = host.repository.commit(FILES)
    assert await fetch(asking(host, known=commit), reach=LOCAL) == Fetched(commit, None, MAIN)
    assert host.commands == ["git-upload-pack '/work.git'"]


async def test_the_address_as_scp_writes_it(host: SshHost) -> None:
    """`git@host:path` goes to the port of ssh; only that the form leads to the host is tested."""
    found = await refusal(asking(host, url="git@localhost:work.git"))
    assert found.message.startswith("localhost: ")


async def test_a_key_file_without_its_last_line_end(host: SshHost) -> None:
    """What people paste into a Secret often lacks it; ssh would call the file broken."""
    host.repository.commit(FILES)
    credentials = {name: text.strip() for name, text in host.credentials().items()}
    assert (await fetch(asking(host, credentials=credentials), reach=LOCAL)).files


async def test_another_host_key_is_refused(host: SshHost) -> None:
    """Whoever answers under the host's name is given nothing, not even a question."""
    host.repository.commit(FILES)
    other = host.credentials() | {"known_hosts": host.known_hosts(new_key())}
    found = await refusal(asking(host, credentials=other))
    assert isinstance(found, RejectedError)
    assert found.message == (
        "localhost: its host key is not the one in known_hosts (Host key verification failed.)"
    )
    unknown = host.credentials() | {"known_hosts": "elsewhere.example " + "x"}
    found = await refusal(asking(host, credentials=unknown))
    assert "its host key is not the one in known_hosts" in found.message
    assert host.commands == []


@pytest.mark.parametrize("kind", ["other", "broken", "locked"])
async def test_a_key_that_opens_nothing(host: SshHost, tmp_path: Path, kind: str) -> None:
    """Another's, no key at all, or one with a passphrase: nobody is asked for anything."""
    host.repository.commit(FILES)
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(private_text(host.client_key if kind == "locked" else new_key()))
    if kind == "locked":
        words = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "passphrase", "-f", str(file)]
        await asyncio.to_thread(subprocess.run, words, check=True, stdout=subprocess.DEVNULL)
    text = "no key" if kind == "broken" else file.read_text()
    wrong = host.credentials() | {"ssh-privatekey": text}
    found = await refusal(asking(host, credentials=wrong))
    assert isinstance(found, RejectedError)
    assert found.message.startswith("localhost: it refuses the key (git@")
    assert "Permission denied" in found.message
    assert host.commands == []


async def test_a_repository_that_is_not_there(host: SshHost) -> None:
    """The host's own word for it is passed on, not git's guess at the end."""
    found = await refusal(asking(host, url=host.url.replace("work", "other")))
    assert isinstance(found, RejectedError)
    assert found.message.startswith("localhost: there is no such repository (")
    assert "other.git' does not appear to be a git repository" in found.message


async def test_commits_that_the_host_does_not_give(host: SshHost) -> None:
    """One that is nowhere, and one inside of a branch at a host of git's first protocol."""
    first = host.repository.commit(FILES)
    host.repository.commit({"src/a": "2\n"})
    assert (await fetch(asking(host, ref=first), reach=LOCAL)).commit == first
    found = await refusal(asking(host, ref="0" * 40))
    assert isinstance(found, RejectedError)
    assert "there is no such commit" in found.message
    host.is_old = True
    found = await refusal(asking(host, ref=first))
    assert isinstance(found, RejectedError)
    assert "it gives only what a branch or a tag names" in found.message


async def test_a_host_that_does_not_answer_may_come_back(host: SshHost) -> None:
    """It is nobody's to mend: the message is ssh's, which says what happened."""
    request = asking(host)
    gone = request.url.replace(str(host.port), "1")
    found = await refusal(replace(request, url=gone))
    assert isinstance(found, UnavailableError)
    assert found.message.startswith("localhost: ssh: connect to host ")
    assert found.message.endswith(" port 1: Connection refused")
