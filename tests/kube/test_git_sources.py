"""Git sources beside the passes: when they are fetched, and what a failure leaves."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from plue.authoring.fetching import Fetched
from plue.authoring.remotes import GitRequest
from plue.errors import RejectedError, UnavailableError
from plue.kube.git_sources import GitSources, Held
from plue.kube.objects import Known
from plue.resources.workflow import GitSource

SOURCE = GitSource(url="https://example.org/x")
KNOWN = Known("default", "ci", "uid-1", 1, "1", "", {}, {})


class Host:
    """Answers fetches; the loop's clock is moved on by hand, since intervals are minutes."""

    def __init__(self) -> None:
        self.asked: list[GitRequest] = []
        self.answer: Fetched | Exception = Fetched("c1", {"a": "1"})
        self.changes = 0
        self.sources = GitSources(self.fetch, self.credentials)
        self.sources.on_change = self.changed
        self._ahead = 0.0
        loop = asyncio.get_running_loop()
        real = loop.time
        loop.time = lambda: real() + self._ahead  # type: ignore[method-assign]

    def changed(self, _known: Known) -> None:
        self.changes += 1

    async def fetch(self, request: GitRequest) -> Fetched:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def credentials(self, namespace: str, workflow: str, secret: str) -> Mapping[str, str]:
        return {"password": f"{namespace}/{workflow}/{secret}"}

    async def look(self, source: GitSource = SOURCE) -> Held | None:
        """Look as a pass does, and return what is known when all that is due was done."""
        self.sources.get(KNOWN, source)
        for _ in range(50):
            await asyncio.sleep(0)
        return self.sources.get(KNOWN, source)

    async def later(self, seconds: float) -> Held | None:
        """Let so much time go by, and return what is known then."""
        await self.pass_by(seconds)
        return self.sources.get(KNOWN, SOURCE)

    async def pass_by(self, seconds: float) -> None:
        """Let so much time go by, while nobody asks."""
        self._ahead += seconds
        for _ in range(50):
            await asyncio.sleep(0)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """Give a host whose sources are being fetched."""
    host = Host()
    host.sources.start()
    yield host
    await host.sources.close()


async def test_a_source_is_fetched_once_an_interval(host: Host) -> None:
    """Passes come far more often."""
    await host.look()
    await host.later(2)
    await host.later(290)
    assert (len(host.asked), host.changes) == (1, 1)
    host.answer = Fetched("c1", None)
    held = await host.later(10)
    assert (host.asked[1].known, host.changes, len(host.asked)) == ("c1", 1, 2)
    assert held is not None
    assert held.files == {"a": "1"}


async def test_a_failure_takes_nothing_away(host: Host) -> None:
    """Runs go on with what is known; it is tried again soon, and told once."""
    await host.look()
    host.answer = UnavailableError("away")
    for seconds in (301, 10, 21):
        held = await host.later(seconds)
    assert (len(host.asked), host.changes) == (3, 2)
    assert held is not None
    assert (held.commit, held.files, held.problem) == ("c1", {"a": "1"}, ("FetchFailed", "away"))
    host.answer = Fetched("c2", {"a": "2"})
    held = await host.later(31)
    assert held is not None
    assert (held.commit, held.problem, host.changes) == ("c2", None, 3)


async def test_another_source_begins_anew(host: Host) -> None:
    """What was fetched from elsewhere is never taken for it."""
    await host.look()
    other = GitSource(url="https://example.org/y", ref="dev")
    host.answer = RejectedError("no such ref", remedy="name one")
    assert host.sources.get(KNOWN, other) is None
    held = await host.look(other)
    assert held is not None
    assert (held.files, held.problem) == (None, ("InvalidSource", "no such ref; name one"))
    assert (host.asked[1].url, host.asked[1].known) == (other.url, None)


async def test_a_forgotten_source_is_not_fetched_again(host: Host) -> None:
    """A Workflow that is gone, or has its text inline now, asks no host."""
    await host.look()
    host.sources.forget(KNOWN.uid)
    await host.pass_by(600)
    assert len(host.asked) == 1


async def test_a_fetch_that_crashes_is_tried_again(host: Host) -> None:
    """A mistake of ours is said where a user looks, and does not end the fetches."""
    host.answer = ZeroDivisionError()
    held = await host.look()
    assert held is not None
    assert held.problem == ("FetchFailed", "the fetch crashed; see the log")
    host.answer = Fetched("c1", {"a": "1"})
    held = await host.later(31)
    assert held is not None
    assert held.problem is None


async def test_credentials_are_read_for_each_fetch(host: Host) -> None:
    """They are the Workflow's own, and kept nowhere."""
    await host.look(GitSource.model_validate({"url": SOURCE.url, "secretRef": {"name": "git"}}))
    assert host.asked[0].credentials == {"password": "default/ci/git"}
    assert "default/ci/git" not in repr(host.asked[0])


async def test_ends_with_its_fetches(host: Host) -> None:
    """A fetch that hangs does not hold up the operator's end."""

    async def hang(_: GitRequest) -> Fetched:
        await asyncio.Event().wait()
        raise AssertionError

    sources = GitSources(hang, host.credentials)
    sources.start()
    sources.get(KNOWN, SOURCE)
    for _ in range(50):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await sources.close()
