"""Git sources beside the passes: when they are fetched, and what a failure leaves."""

import asyncio
from collections.abc import Mapping

from plue.authoring.fetching import Fetched, GitRequest
from plue.errors import RejectedError, UnavailableError
from plue.kube.git_sources import GitSources
from plue.kube.objects import Known
from plue.resources.workflow import GitSource

SOURCE = GitSource(url="https://example.org/x")
KNOWN = Known("default", "ci", "uid-1", 1, "1", "", {}, {})


class Host:
    """Answers fetches, and counts time by hand."""

    def __init__(self) -> None:
        self.time = 0.0
        self.asked: list[GitRequest] = []
        self.answer: Fetched | Exception = Fetched("c1", {"a": "1"})
        self.changes = 0
        self.sources = GitSources(self.fetch, self.credentials, now=lambda: self.time)
        self.sources.on_change = self.changed

    def changed(self, _known: Known) -> None:
        self.changes += 1

    async def fetch(self, request: GitRequest) -> Fetched:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def credentials(self, namespace: str, workflow: str, secret: str) -> Mapping[str, str]:
        return {"password": f"{namespace}/{workflow}/{secret}"}

    async def look(self, source: GitSource = SOURCE) -> None:
        """Look as a pass does, and let what it began end."""
        self.sources.look(KNOWN, source)
        while tasks := [t for t in asyncio.all_tasks() if t.get_name() == "fetch"]:
            await asyncio.gather(*tasks)
            await asyncio.sleep(0)


async def test_a_source_is_fetched_once_an_interval() -> None:
    """Passes come far more often."""
    host = Host()
    for time in (0.0, 2.0, 299.0):
        host.time = time
        await host.look()
    assert (len(host.asked), host.changes) == (1, 1)
    host.time = 300.0
    host.answer = Fetched("c1", None)
    await host.look()
    assert (host.asked[1].known, host.changes) == ("c1", 1)
    held = host.sources.get(KNOWN, SOURCE)
    assert held is not None
    assert held.files == {"a": "1"}


async def test_a_failure_takes_nothing_away() -> None:
    """Runs go on with what is known; it is tried again soon, and told once."""
    host = Host()
    await host.look()
    host.answer = UnavailableError("away")
    for host.time in (300.0, 310.0, 330.0):
        await host.look()
    assert (len(host.asked), host.changes) == (3, 2)
    held = host.sources.get(KNOWN, SOURCE)
    assert held is not None
    assert (held.commit, held.files, held.problem) == ("c1", {"a": "1"}, ("FetchFailed", "away"))
    host.time, host.answer = 360.0, Fetched("c2", {"a": "2"})
    await host.look()
    held = host.sources.get(KNOWN, SOURCE)
    assert held is not None
    assert (held.commit, held.problem, host.changes) == ("c2", None, 3)


async def test_another_source_begins_anew() -> None:
    """What was fetched from elsewhere is never taken for it."""
    host = Host()
    await host.look()
    other = GitSource(url="https://example.org/y", ref="dev")
    assert host.sources.get(KNOWN, other) is None
    host.answer = RejectedError("no such ref", remedy="name one")
    await host.look(other)
    held = host.sources.get(KNOWN, other)
    assert held is not None
    assert (held.files, held.problem) == (None, ("InvalidSource", "no such ref; name one"))
    assert (host.asked[1].url, host.asked[1].known) == (other.url, None)


async def test_credentials_are_read_for_each_fetch() -> None:
    """They are the Workflow's own, and kept nowhere."""
    host = Host()
    await host.look(GitSource.model_validate({"url": SOURCE.url, "secretRef": {"name": "git"}}))
    assert host.asked[0].credentials == {"password": "default/ci/git"}
    assert "default/ci/git" not in repr(host.asked[0])


async def test_ends_with_its_fetches() -> None:
    """A fetch that hangs does not hold up the operator's end."""
    host = Host()

    async def hang(_: GitRequest) -> Fetched:
        await asyncio.Event().wait()
        raise AssertionError

    sources = GitSources(hang, host.credentials)
    sources.look(KNOWN, SOURCE)
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await sources.close()
