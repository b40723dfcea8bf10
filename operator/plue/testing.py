"""For authors' own tests: plan a workflow with assumed results, in plain pytest.

::

    from plue.testing import plan

    def test_red_tests_are_fixed() -> None:
        planned = plan("ci", assume={"unit.ok": False})
        assert "fix" in planned
        assert planned.why("fix") == ["unit.ok == False, ci.py:14"]

No server, no runner and no network are needed; nothing is run.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from plue.authoring.assume import known_of
from plue.authoring.evaluator import Evaluator
from plue.authoring.results import Planned
from plue.domain.growth import shown_ref
from plue.errors import RejectedError
from plue.local.reading import source_files
from plue.local.root import find_root
from plue.wire.plan import Plan, Step

__all__ = ["PlanUnderTest", "plan"]


@dataclass(frozen=True, slots=True)
class PlanUnderTest:
    """A planned run: a sequence of its steps, by position and by name."""

    plan: Plan
    planned: Planned

    @property
    def names(self) -> list[str]:
        """The names of the steps, in their order."""
        return [step.name for step in self.plan.steps]

    @property
    def waits_for(self) -> list[str]:
        """The values that the code asks for and that were not assumed: ``unit.ok``."""
        return list(dict.fromkeys(map(shown_ref, self.plan.awaits)))

    @property
    def is_complete(self) -> bool:
        """Whether the function reached its end."""
        return self.plan.end is not None

    @property
    def fails(self) -> bool:
        """Whether ``ctx.fail`` was reached."""
        return bool(self.plan.fails)

    @property
    def printed(self) -> str:
        """What the workflow's code printed."""
        return self.planned.printed

    def why(self, step: str) -> list[str]:
        """Return the answers that led to *step*."""
        return [answer.text for answer in self.planned.why.get(step, ())]

    def __contains__(self, step: object) -> bool:
        """Whether a step of that name is planned."""
        return step in self.names

    def __getitem__(self, step: str) -> Step:
        """Return a step by its name. Raises KeyError, naming those that there are."""
        for one in self.plan.steps:
            if one.name == step:
                return one
        raise KeyError(f"{step!r} is not planned; planned are {', '.join(self.names)}")

    def __iter__(self) -> Iterator[Step]:
        """Yield the steps in their order."""
        return iter(self.plan.steps)

    def __len__(self) -> int:
        """Return how many steps there are."""
        return len(self.plan.steps)


def plan(
    workflow: str,
    *,
    assume: Mapping[str, JsonValue] | None = None,
    inputs: Mapping[str, JsonValue] | None = None,
    event: Mapping[str, JsonValue] | None = None,
    root: Path | str | None = None,
    files: Mapping[str, str] | None = None,
) -> PlanUnderTest:
    """Plan *workflow* of the project around the present folder, as if steps had given *assume*.

    *root* names another project's folder; *files* (path to text) are taken instead of it. Raises
    RejectedError when the workflow is wrong, UsageError when an assumption is.
    """
    known = known_of(assume or {})
    if files is None:
        files = source_files(find_root(Path(root) if root is not None else Path.cwd()))
    planned = asyncio.run(_plan(files, workflow, known, inputs or {}, event or {}))
    if planned.plan is None:
        errors = [d for d in planned.diagnostics if d.severity == "error"]
        first = errors[0] if errors else None
        raise RejectedError(
            f"{first.file}:{first.line}: {first.message} ({first.code})" if first else "no plan",
            field=first.field if first else None,
            remedy=first.remedy if first else None,
        )
    return PlanUnderTest(planned.plan, planned)


async def _plan(
    files: Mapping[str, str],
    workflow: str,
    known: Mapping[str, Mapping[str, JsonValue]],
    inputs: Mapping[str, JsonValue],
    event: Mapping[str, JsonValue],
) -> Planned:
    evaluator = Evaluator()
    await evaluator.start()
    try:
        return await evaluator.plan(files, workflow, inputs=inputs, event=event, known=known)
    finally:
        await evaluator.close()
