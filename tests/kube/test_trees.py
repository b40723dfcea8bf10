"""Clones for runs: when one is made, whom it is given to, and what a failure leaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from plue.authoring.cloning import Clone
from plue.authoring.remotes import GitRequest
from plue.errors import RejectedError, UnavailableError
from plue.kube.trees import Made, Opener, Tree, Trees
from plue.store.archives import Archives
from plue.store.blobs import Blobs

COMMIT, NEWER = "a" * 40, "b" * 40
URL = "https://example.org/x"


class Host:
    """Answers what trees ask for; ``commit`` is what every ref names now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[GitRequest] = []
        self.commit = COMMIT
        self.problem: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.trees = self.make(patience=30)

    def make(self, *, patience: float) -> Trees:
        """Return trees that ask this host."""
        archives = Archives(Blobs(self.folder))
        return Trees(self.clone, archives, self.credentials, patience=patience)

    @contextlib.asynccontextmanager
    async def clone(self, request: GitRequest) -> AsyncIterator[Clone]:
        """Give a clone whose archive is the commit's name."""
        self.asked.append(request)
        await self.go_on.wait()
        if self.problem is not None:
            raise self.problem
        commit = request.ref if request.ref in {COMMIT, NEWER} else self.commit

        async def chunks() -> AsyncIterator[bytes]:
            yield commit.encode()

        ref = "refs/heads/main" if request.ref == "main" else None
        yield Clone(commit, None if commit == request.known else chunks(), ref)

    async def credentials(self, namespace: str, workflow: str, secret: str) -> Mapping[str, str]:
        """Return a password that says whose it is."""
        return {"password": f"{namespace}/{workflow}/{secret}"}

    def content(self, made: Made | None) -> str:
        """Return what is in the archive of a clone."""
        assert made is not None
        return (self.folder / made.blob).read_text()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """Give a host that has the commit."""
    host = Host(tmp_path / "archives")
    yield host
    await host.trees.close()


async def test_a_commit_is_cloned_once(host: Host) -> None:
    """For many at once, for those that come later, and under whatever name it was found first."""
    tree = Tree(URL, "main")
    first, second = await asyncio.gather(host.trees.get(tree), host.trees.get(tree))
    assert first == second
    assert host.content(first) == COMMIT
    assert len(host.asked) == 1
    assert first is not None
    assert first.ref == "refs/heads/main"
    assert await host.trees.get(Tree(URL, COMMIT)) == Made(COMMIT, first.blob)
    assert len(host.asked) == 1


async def test_a_branch_is_asked_for_each_time(host: Host) -> None:
    """What it names may have changed; only then is there another clone."""
    tree = Tree(URL, "main")
    first = await host.trees.get(tree)
    assert await host.trees.get(tree) == first
    assert [request.known for request in host.asked] == [None, COMMIT]
    host.commit = NEWER
    assert host.content(await host.trees.get(tree)) == NEWER


async def test_a_clone_is_for_whom_it_was_opened(host: Host) -> None:
    """Who has no credentials must ask the host, also for a commit that is here already."""
    opener = Opener("default", "ci", "git")
    await host.trees.get(Tree(URL, COMMIT, opener))
    assert host.asked[-1].credentials == {"password": "default/ci/git"}
    host.problem = RejectedError("it wants credentials")
    with pytest.raises(RejectedError):
        await host.trees.get(Tree(URL, COMMIT))
    assert host.asked[-1].credentials == {}


async def test_a_removed_archive_is_made_again(host: Host) -> None:
    """Archives go when nothing used them for long; what is remembered of them is no promise."""
    made = await host.trees.get(Tree(URL, COMMIT))
    assert made is not None
    (host.folder / made.blob).unlink()
    assert host.content(await host.trees.get(Tree(URL, COMMIT))) == COMMIT
    assert len(host.asked) == 2


async def test_a_failure_is_not_remembered(host: Host) -> None:
    """It is told to who asks, and the next one has it tried again."""
    host.problem = UnavailableError("the host is away")
    with pytest.raises(UnavailableError):
        await host.trees.get(Tree(URL, "main"))
    host.problem = None
    assert host.content(await host.trees.get(Tree(URL, "main"))) == COMMIT


async def test_a_long_clone_holds_nobody(host: Host) -> None:
    """It is made meanwhile, and had by who asks again."""
    trees = host.make(patience=0)
    host.go_on.clear()
    assert await trees.get(Tree(URL, "main")) is None
    host.go_on.set()
    async with asyncio.timeout(10):
        made = None
        while made is None:
            made = await trees.get(Tree(URL, "main"))
    assert host.content(made) == COMMIT
    assert len(host.asked) == 1
    await trees.close()
