"""Git sources: what is fetched, what is refused, and what a fetch can never reach."""

import ipaddress
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from git_host import GitHost, git_host

from plue.authoring.fetching import Fetched, fetch
from plue.authoring.remotes import GitRequest, Reach
from plue.errors import RejectedError, UnavailableError

LOCAL = Reach(loopback=True)
MAIN = "refs/heads/main"
WORKFLOW = "from plue import manual, workflow\n"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncGenerator[GitHost, None]:
    """Give a git host on loopback."""
    async with git_host(tmp_path) as host:
        yield host


def asking(host: GitHost, **fields: object) -> GitRequest:
    """Return a request for the host's repository."""
    request = GitRequest(host.url, credentials={"ca.crt": host.ca, "password": "secret"})
    return replace(request, **fields)  # type: ignore[arg-type]


async def test_the_files_of_a_commit_are_fetched(host: GitHost) -> None:
    """Text below `.plue`, by path; nothing else of the repository, and nothing hidden."""
    host.commit(
        {
            ".plue/workflows/ci.py": WORKFLOW,
            ".plue/lib/shared.py": "x = 1\n",
            ".plue/.secrets": "no\n",
            "src/main.py": "y = 2\n",
        }
    )
    commit = host.git("rev-parse", "HEAD")
    assert await fetch(asking(host), reach=LOCAL) == Fetched(
        commit, {".plue/lib/shared.py": "x = 1\n", ".plue/workflows/ci.py": WORKFLOW}, MAIN
    )


async def test_a_known_commit_is_not_fetched_again(host: GitHost) -> None:
    """Only its name is asked for."""
    commit = host.commit({".plue/workflows/ci.py": WORKFLOW})
    assert await fetch(asking(host, known=commit), reach=LOCAL) == Fetched(commit, None, MAIN)
    assert not [path for path in host.requests if path.startswith("/work.git/git-upload-pack?")]
    newer = host.commit({".plue/workflows/ci.py": "# newer\n"})
    found = await fetch(asking(host, known=commit), reach=LOCAL)
    assert found == Fetched(newer, {".plue/workflows/ci.py": "# newer\n"}, MAIN)


async def test_branches_tags_and_commits_are_refs(host: GitHost) -> None:
    """As git understands them; an annotated tag is the commit that it names."""
    first = host.commit({".plue/workflows/ci.py": "# first\n"})
    host.git("tag", "--annotate", "v1", "--message=one")
    host.git("branch", "old")
    second = host.commit({".plue/workflows/ci.py": "# second\n"})
    for ref, commit, full in (
        ("HEAD", second, "refs/heads/main"),
        ("main", second, "refs/heads/main"),
        ("refs/heads/old", first, "refs/heads/old"),
        ("old", first, "refs/heads/old"),
        ("v1", first, "refs/tags/v1"),
        (first, first, None),
    ):
        found = await fetch(asking(host, ref=ref), reach=LOCAL)
        assert (found.commit, found.ref) == (commit, full), ref


async def test_a_folder_of_the_repository(host: GitHost) -> None:
    """`path` names the folder that holds `.plue/`; what is fetched has no trace of it."""
    host.commit({"parts/a/.plue/workflows/ci.py": "# a\n", ".plue/workflows/ci.py": "# top\n"})
    found = await fetch(asking(host, path="./parts/a/"), reach=LOCAL)
    assert found.files == {".plue/workflows/ci.py": "# a\n"}


async def test_credentials_open_what_is_private(host: GitHost) -> None:
    """With the password it is fetched; without it the message says what is missing."""
    host.private = True
    host.commit({".plue/workflows/ci.py": WORKFLOW})
    assert (await fetch(asking(host), reach=LOCAL)).files
    without = asking(host, credentials={"ca.crt": host.ca})
    with pytest.raises(RejectedError, match="localhost: it wants credentials"):
        await fetch(without, reach=LOCAL)
    with pytest.raises(RejectedError, match="localhost: it wants credentials, or others"):
        await fetch(asking(host, credentials={"ca.crt": host.ca, "password": "no"}), reach=LOCAL)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"ref": "nonesuch"}, "no branch, tag or commit 'nonesuch'", id="ref"),
        pytest.param({"ref": "0" * 40}, "there is no such commit", id="commit"),
        pytest.param({"path": "parts/b"}, "no file in parts/b/.plue/", id="path"),
        pytest.param({"path": "../other"}, "leaves the repository", id="out"),
        pytest.param({"credentials": {}}, "its certificate is signed by nobody", id="certificate"),
    ],
)
async def test_what_its_author_must_mend(
    host: GitHost, fields: dict[str, object], message: str
) -> None:
    """Each is refused with what is wrong, and is no fault of the network."""
    host.commit({".plue/workflows/ci.py": WORKFLOW})
    with pytest.raises(RejectedError, match=message):
        await fetch(asking(host, **fields), reach=LOCAL)


async def test_a_repository_that_is_not_there(host: GitHost) -> None:
    """The host's own word for it is passed on."""
    with pytest.raises(RejectedError, match="no such repository"):
        await fetch(asking(host, url=host.url.replace("work", "other")), reach=LOCAL)


async def test_links_and_data_are_no_source(host: GitHost) -> None:
    """A link among the sources could lead anywhere; what is no text is left where it is."""
    host.commit({".plue/workflows/ci.py": WORKFLOW})
    (host.work / ".plue" / "data.bin").write_bytes(b"\xff\x00")
    host.commit({})
    assert set((await fetch(asking(host), reach=LOCAL)).files or ()) == {".plue/workflows/ci.py"}
    (host.work / ".plue" / "workflows" / "link.py").symlink_to("/etc/passwd")
    host.commit({})
    with pytest.raises(RejectedError, match=r"link\.py is a symbolic link"):
        await fetch(asking(host), reach=LOCAL)


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost:1/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://169.254.169.254/latest",
        "https://0.0.0.0/x",
        "https://10.96.0.1/x",
        "https://2130706433/x",
        "git@127.0.0.1:work.git",
        "ssh://git@169.254.169.254/work.git",
    ],
)
async def test_addresses_of_the_cluster_are_not_reached(url: str) -> None:
    """Neither this machine, nor its link with the metadata server, nor the networks refused."""
    reach = Reach(refused=[ipaddress.ip_network("10.96.0.0/12")])
    with pytest.raises(RejectedError, match="an address inside of the cluster"):
        await fetch(GitRequest(url), reach=reach)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "file:///etc",
        "ext::sh -c id",
        "git://example.org/x",
        "https://user:word@example.org/x",
        "https://token@example.org/x",
        "ssh://-oProxyCommand=id/x",
        "ssh://-oProxyCommand=id@example.org/x",
        "https://exa mple.org/x",
        "https://example.org:99999/x",
        "/etc",
        "",
    ],
)
async def test_other_addresses_are_refused(url: str) -> None:
    """Nothing but https and ssh, and no password where everybody can read it."""
    with pytest.raises(RejectedError):
        await fetch(GitRequest(url), reach=LOCAL)


async def test_fetching_can_be_switched_off() -> None:
    """An installation whose evaluator reaches nothing says so, and what to write instead."""
    with pytest.raises(RejectedError, match="no git sources are fetched here") as caught:
        await fetch(GitRequest("https://example.org/x"), reach=Reach(nowhere=True))
    assert "spec.source.inline" in (caught.value.remedy or "")


async def test_ssh_wants_its_keys() -> None:
    """Who a host is must be known before it is given anything."""
    with pytest.raises(RejectedError, match="needs the key ssh-privatekey"):
        await fetch(GitRequest("git@localhost:work.git"), reach=LOCAL)
    key = {"ssh-privatekey": "k"}
    with pytest.raises(RejectedError, match="needs the key known_hosts"):
        await fetch(GitRequest("git@localhost:work.git", credentials=key), reach=LOCAL)


async def test_a_host_that_is_away_is_no_fault_of_the_author(host: GitHost) -> None:
    """It is tried again."""
    with pytest.raises(UnavailableError):
        await fetch(asking(host, url="https://localhost:1/work.git"), reach=LOCAL)
    with pytest.raises(UnavailableError, match=r"nowhere\.invalid has no address"):
        await fetch(asking(host, url="https://nowhere.invalid/work.git"), reach=LOCAL)
