"""Sides of different versions, as during an upgrade: an operator, and a newer or older evaluator.

Newer is who says more than the other knows. The sockets and the evaluations are real.
"""

import contextlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from apart import asking
from stages.cluster import FILE, workflow_of
from typing_extensions import override

from plue.authoring.evaluator import Evaluator
from plue.authoring.fetching import Fetched
from plue.authoring.remotes import GitRequest
from plue.errors import RejectedError, UnavailableError
from plue.kube.evaluating import RemoteEvaluator
from plue.wire.plan import Step

PROMPT = ".plue/prompts/greet.prompt.md"
FILES = {
    FILE: workflow_of('ctx.run("one", "echo one")'),
    PROMPT: "---\nname: Greet\ntype: llm\ninputs:\n  who: string\n---\nHi {{ who }}\n",
}
BROKEN = {FILE: workflow_of('ctx.run("one", no_such_name)')}


@dataclass(frozen=True, slots=True)
class NewerFetched(Fetched):
    """A fetch that tells more."""

    later: str = "more"


@dataclass(frozen=True, slots=True)
class NewerRequest(GitRequest):
    """A request that asks for more."""

    later: str = "more"


class Newer(Evaluator):
    """Says more than this version knows: of what it found, or of what a step does."""

    def __init__(self, *, plans: bool = False) -> None:
        """Say it in plans, or in all but those."""
        super().__init__()
        self._plans = plans

    @override
    async def ask(
        self, request: Mapping[str, object], recorded: Sequence[Step] = ()
    ) -> tuple[str, bytes]:
        """Answer, and say more."""
        kind, body = await super().ask(request, recorded)
        answer: dict[str, Any] = json.loads(body)
        if self._plans:
            answer["plan"]["steps"][0]["later"] = "more"
        else:
            answer["later"] = "more"
            single = [answer[key] for key in ("info", "prompt") if answer.get(key)]
            many = [answer.get(key, []) for key in ("workflows", "prompts", "diagnostics")]
            for item in (*single, *(one for found in many for one in found)):
                item["later"] = "more"
        return kind, json.dumps(answer).encode()

    @override
    async def fetch(self, request: GitRequest) -> Fetched:
        """Return a commit, and more; or what is wrong with the request."""
        return NewerFetched("0" * 40, {FILE: "x = 1\n"}, "refs/heads/main")


@contextlib.asynccontextmanager
async def evaluating(evaluator: Evaluator) -> AsyncGenerator[RemoteEvaluator, None]:
    """Start *evaluator*, and give who asks it."""
    await evaluator.start()
    try:
        async with asking(evaluator) as remote:
            yield remote
    finally:
        await evaluator.close()


async def test_what_a_newer_evaluator_tells_beyond_is_left_out() -> None:
    """Descriptions, plans, prompts, diagnostics and commits are those of one's own version."""
    home = Evaluator()
    await home.start()
    async with evaluating(Newer()) as remote:
        for files in (FILES, BROKEN):
            assert await home.describe(files) == await remote.describe(files)
            planned = await home.plan(files, "ci", inputs={}, event={})
            assert planned == await remote.plan(files, "ci", inputs={}, event={})
        rendered = await home.render(FILES, "Greet", inputs={"who": "you"})
        assert rendered.text is not None
        assert rendered == await remote.render(FILES, "Greet", inputs={"who": "you"})
        found = await remote.fetch(GitRequest("https://example.org/x"))
        assert found == Fetched("0" * 40, {FILE: "x = 1\n"}, "refs/heads/main")
    await home.close()


async def test_what_a_newer_plan_would_do_is_waited_for() -> None:
    """A step that does more than is known here is not run with less; the error says what to do."""
    async with evaluating(Newer(plans=True)) as remote:
        with pytest.raises(UnavailableError, match=r"newer version.*steps\.0\.later") as caught:
            await remote.plan(FILES, "ci", inputs={}, event={})
    assert "evaluator's version" in str(caught.value.remedy)


async def test_what_an_older_evaluator_cannot_do_is_waited_for() -> None:
    """A request that asks for more is not answered with less, and is not wrong."""
    assert "later" in asdict(NewerRequest("https://example.org/x"))
    async with evaluating(Newer()) as remote:
        with pytest.raises(UnavailableError, match="answered 400"):
            await remote.fetch(NewerRequest("https://example.org/x"))


class Refusing(Evaluator):
    """Finds something wrong with each request."""

    @override
    async def fetch(self, request: GitRequest) -> Fetched:
        """Refuse."""
        raise RejectedError("it is wrong", field="ref", remedy="mend it")


async def test_what_is_wrong_is_told_whole() -> None:
    """Message, field and remedy; an answer without the latter two is one as well."""
    async with evaluating(Refusing()) as remote:
        with pytest.raises(RejectedError, match="it is wrong") as caught:
            await remote.fetch(GitRequest("https://example.org/x"))
    assert (caught.value.field, caught.value.remedy) == ("ref", "mend it")
