"""A running evaluator that tests without a loop of their own can ask."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from plue.authoring.evaluator import Evaluator
from plue.authoring.results import Description, Diagnostic, Planned
from plue.wire.plan import Ref, Step

T = TypeVar("T")
FILE = ".plue/workflows/ci.py"


class Sandbox:
    """An evaluator in a thread of its own, for tests that are not asynchronous."""

    def __init__(self, **limits: Any) -> None:
        """Start it."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.evaluator = Evaluator(**limits)
        self.call(self.evaluator.start())

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for *work*."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        """End it."""
        self.call(self.evaluator.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def describe(self, *sources: str, files: Mapping[str, str] | None = None) -> Description:
        """Describe *sources*, which are called a.py, b.py … in order, or *files*."""
        named = {f".plue/workflows/{'abcdef'[i]}.py": text for i, text in enumerate(sources)}
        return self.call(self.evaluator.describe(files or named))

    def plan(
        self,
        source: str,
        workflow: str = "ci",
        *,
        inputs: Mapping[str, Any] | None = None,
        event: Mapping[str, Any] | None = None,
        text_inputs: bool = False,
        known: Mapping[str, Mapping[str, Any]] | None = None,
        recorded: Sequence[Step] = (),
        asked: Sequence[Ref] = (),
        files: Mapping[str, str] | None = None,
    ) -> Planned:
        """Plan one file, with other *files* beside it."""
        return self.call(
            self.evaluator.plan(
                {FILE: source, **(files or {})},
                workflow,
                inputs=inputs or {},
                event=event or {},
                text_inputs=text_inputs,
                known=known,
                recorded=recorded,
                asked=asked,
            )
        )

    def steps(self, body: str, **given: Any) -> dict[str, Step]:
        """Return the steps that the body of a workflow records, by name."""
        planned = self.plan(workflow_of(body), **given)
        assert planned.plan is not None, planned.diagnostics
        return {step.name: step for step in planned.plan.steps}

    def problems(self, body: str, **given: Any) -> Sequence[Diagnostic]:
        """Return what is wrong with the body of a workflow."""
        return self.plan(workflow_of(body), **given).diagnostics


def workflow_of(body: str, options: str = "triggers=[push()]") -> str:
    """Return a file with one workflow; its body begins in line 4."""
    lines = "\n".join(f"    {line}" if line else "" for line in body.strip("\n").split("\n"))
    head = "from plue import workflow, push, pull_request, schedule, manual, enum, optional, schema"
    return f"{head}\n@workflow({options})\ndef ci(ctx):\n{lines}\n"
