"""Clones across the network: what the evaluator's server makes arrives whole, or not at all."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
from apart import asking
from git_host import GitHost, git_host
from typing_extensions import override

from plue.authoring.cloning import Clone, clone
from plue.authoring.evaluator import Evaluator
from plue.authoring.remotes import GitRequest, Reach
from plue.errors import RejectedError, UnavailableError

LOCAL = Reach(loopback=True)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncGenerator[GitHost, None]:
    """Give a git host on loopback with a file of more than one chunk."""
    async with git_host(tmp_path) as host:
        host.commit({"a": "1", "large": "0123456789abcdef" * 200_000})
        yield host


class Breaking(Evaluator):
    """Breaks off while an archive is on its way."""

    @override
    @contextlib.asynccontextmanager
    async def clone(self, request: GitRequest) -> AsyncIterator[Clone]:
        """Give half of a clone."""

        async def half() -> AsyncIterator[bytes]:
            yield bytes(100_000)
            raise OSError("the disk is gone")

        yield Clone("0" * 40, half())


async def _read(made: Clone) -> bytes:
    assert made.chunks is not None
    return b"".join([chunk async for chunk in made.chunks])


async def test_a_clone_comes_whole(host: GitHost) -> None:
    """As large as one at home, of the same commit; a known one does not come again."""
    request = GitRequest(host.url, credentials={"ca.crt": host.ca})
    async with clone(request, reach=LOCAL) as at_home:
        size = len(await _read(at_home))
    async with asking(Evaluator(reach=LOCAL)) as remote:
        async with remote.clone(request) as made:
            assert (made.commit, made.ref) == (at_home.commit, "refs/heads/main")
            assert len(await _read(made)) == size
        known = GitRequest(host.url, known=made.commit, credentials={"ca.crt": host.ca})
        async with remote.clone(known) as made:
            assert made == Clone(at_home.commit, None, at_home.ref)


async def test_what_is_wrong_keeps_its_field(host: GitHost) -> None:
    """Who asks learns the same across the network."""
    request = GitRequest(host.url, ref="nonesuch", credentials={"ca.crt": host.ca})
    async with asking(Evaluator(reach=LOCAL)) as remote:
        with pytest.raises(RejectedError, match="no branch, tag or commit 'nonesuch'") as caught:
            async with remote.clone(request):
                pass
        assert caught.value.field == "ref"
        with pytest.raises(UnavailableError, match="has no address"):
            async with remote.clone(GitRequest("https://nowhere.invalid/work.git")):
                pass


async def test_half_a_clone_is_none() -> None:
    """What breaks off on its way is tried again, and never taken for an archive."""
    async with asking(Breaking()) as remote:
        with pytest.raises(UnavailableError):
            async with remote.clone(GitRequest("https://localhost/work.git")) as made:
                await _read(made)
