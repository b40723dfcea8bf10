"""A gateway that is not well: what it says out of order or out of form changes nothing."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from fuzzing import LONG
from runner.conftest import Run
from runner.scripted import ScriptedGateway, an_assignment, sh
from typing_extensions import override

from plue.wire.events import EventType
from plue.wire.frames import FromRunner

OTHER = "00000000-0000-4000-8000-00000000beef"
STRANGE = [
    None, True, -1, 0, 1.5, 2**31, 2**63, 10**400, "", "x", "a\0b", [], [1], {}, {"a": 1}, OTHER,
]  # fmt: skip
RAW = [
    "", "{", "null", "[]", "1", '"x"', "{}", '{"type":null}', '{"type":"nonsense"}',
    '{"type":"assign"}', '{"type":"extend","extension":{}}', "[" * 100_000, "{" * 100_000,
    '{"type":"assign","assignment":' + "[" * 50_000, '{"type":"renewed","sent":"x"}',
    '{"type":"renewed","sent":1e999}', '{"type":"start","run":"' + "x" * 1_000_000 + '"}',
    '{"type":"assign","assignment":{"plan":' * 1000,
]  # fmt: skip


@dataclass
class Mangling(ScriptedGateway):
    """Says three mangled frames before each proper answer, as the seed has it."""

    seed: int = 0
    told: int = field(default=0)

    def mangled(self, dice: random.Random) -> Iterator[str]:
        """Yield texts that no gateway says, or not at this moment."""
        run, plan = self._run.run, self._run.plan.model_dump(mode="json")
        other = {"run": OTHER, "run_name": "x", "attempt": 1, "plan": plan}
        valid: list[dict[str, Any]] = [
            {"type": "start", "run": OTHER, "attempt": 1},
            {"type": "start", "run": run, "attempt": 2},
            {"type": "ack", "run": OTHER, "attempt": 1, "through": 10**6},
            {"type": "fenced", "run": OTHER, "attempt": 1},
            {"type": "fenced", "run": run, "attempt": 7},
            {"type": "done", "run": OTHER, "attempt": 1},
            {
                "type": "cancel",
                "run": OTHER,
                "attempt": 1,
                "state": "cancelled",
                "reason": "Cancelled",
            },
            {"type": "renewed", "sent": 1.0},
            {"type": "extend", "run": OTHER, "attempt": 1, "extension": {"stage": 2, "steps": []}},
            {"type": "assign", "assignment": other},
        ]
        for _ in range(3):
            frame = dict(dice.choice(valid))
            how = dice.randrange(4)
            if how == 0:
                yield dice.choice(RAW)
            elif how == 1:
                frame.pop(dice.choice([name for name in frame if name != "type"]))
                yield json.dumps(frame)
            elif how == 2:
                frame[dice.choice([*(n for n in frame if n not in {"type", "run"}), "more"])] = (
                    dice.choice(STRANGE)
                )
                yield json.dumps(frame)
            elif frame["type"] != "assign" or self.accepted:
                yield json.dumps(frame)

    @override
    async def _handle(self, socket: web.WebSocketResponse, frame: FromRunner) -> None:
        dice = random.Random(f"{self.seed} {self.told}")  # noqa: S311 - repeatable, no secret
        self.told += 1
        if self.accepted:
            for text in self.mangled(dice):
                if not socket.closed:
                    await socket.send_str(text)
        await super()._handle(socket, frame)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(LONG or 3))
async def test_mangled_frames_change_nothing(run: Run, seed: int) -> None:
    """The steps run once each, all output arrives, and the end is as it should be."""
    steps = (
        sh("one", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.05; done"),
        sh("two", "echo two", needs=("one",)),
    )
    gateway = await run(Mangling(an_assignment(*steps), seed=seed))
    assert gateway.text("one") == "1\n2\n3\n4\n5\n6\n"
    assert gateway.text("two") == "two\n"
    assert len(gateway.of(EventType.STEP_STARTED)) == 2
    assert gateway.finished is not None
    assert gateway.finished.state == "succeeded"


@pytest.mark.parametrize("raw", range(len(RAW)))
async def test_a_single_strange_text_is_ignored(run: Run, raw: int) -> None:
    """Each of the table, right after the welcome: the run goes on in the same session."""

    @dataclass
    class Once(ScriptedGateway):
        @override
        async def _handle(self, socket: web.WebSocketResponse, frame: FromRunner) -> None:
            await super()._handle(socket, frame)
            if self.connections == 1 and len(self.frames) == 1:
                await socket.send_str(RAW[raw])

    gateway = await run(Once(an_assignment(sh("a", "echo fine"))))
    assert gateway.text("a") == "fine\n"
    assert gateway.connections == 1
