"""The order in which steps are shown: calls, and fan-outs of a loop, under their names. Pure.

A step's ``group`` are the names that it is shown under, outermost first. One that only a single
step has is left out: a heading for one line tells nothing.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

__all__ = ["Grouped", "Heading", "arranged"]


class Grouped(Protocol):
    """What has a group."""

    @property
    def group(self) -> tuple[str, ...]:
        """The names that it is shown under."""


S = TypeVar("S", bound=Grouped)


class Heading(tuple[str, int]):
    """A group's name, and how many steps it has."""

    __slots__ = ()


def arranged(steps: Sequence[S]) -> Iterator[tuple[int, Heading | S]]:
    """Yield headings and steps with their depth; a group stands where its first step does."""
    counts = Counter(s.group[:end] for s in steps for end in range(1, len(s.group) + 1))
    yield from _placed(list(steps), 0, 0, counts)


def _placed(
    steps: list[S], level: int, depth: int, counts: Counter[tuple[str, ...]]
) -> Iterator[tuple[int, Heading | S]]:
    done: set[tuple[str, ...]] = set()
    for step in steps:
        at = level
        while len(step.group) > at and counts[step.group[: at + 1]] == 1:
            at += 1
        path = step.group[: at + 1]
        if len(step.group) <= at:
            yield depth, step
        elif path not in done:
            done.add(path)
            members = [other for other in steps if other.group[: at + 1] == path]
            yield depth, Heading((path[-1], len(members)))
            yield from _placed(members, at + 1, depth + 1, counts)
