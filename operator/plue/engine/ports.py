"""What the engine asks of the house around it: something that makes runners, and a source tree.

Local mode and Kubernetes differ only in who implements these two (design: one engine, two hosts).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, Protocol

from pydantic import JsonValue

from plue.authoring.sources import Sources
from plue.domain.run import RunnerId
from plue.wire.events import Reason
from plue.wire.frames import Workspace

__all__ = [
    "Host",
    "Identity",
    "NewRunner",
    "NoSecrets",
    "Repository",
    "Secrets",
    "SecretsFrom",
    "SeenRunner",
    "Sessions",
]


SecretsFrom = Mapping[str, JsonValue]
"""What says which secrets a run may have, in the words of who resolves them; never values."""


@dataclass(frozen=True, slots=True)
class NewRunner:
    """A runner to be made. Its row is in the database already, with the token's hash."""

    id: RunnerId
    pool: str
    token: str


@dataclass(frozen=True, slots=True)
class SeenRunner:
    """A runner as its host sees it now.

    ``present``: it is there, and ``remove`` ends it for sure; a silent one is ended and waited
    for, because its steps may go on while it is halted or cut off. ``unreachable``: whether it
    still executes cannot be known or changed (its node is lost), so that only its lease tells.
    ``gone`` is said only when it is certain that nothing of the runner executes any more: the
    process and all that it started have ended. ``reason`` then says how, when known.
    """

    id: RunnerId
    state: Literal["present", "unreachable", "gone"]
    reason: Reason | None = None
    message: str | None = None


class Host(Protocol):
    """Makes, sees and ends runners. Every call may be repeated."""

    kind: str
    """``process`` or ``pod``; runners of another kind are not this host's to judge."""

    refill_after: float
    """Seconds after a claim at which the next runner is made: where its start would take the
    processor from the first moments of the run that was claimed just now."""

    on_change: Callable[[], None]
    """Set by the engine: the host calls it when a runner may have gone."""

    async def create(self, runner: NewRunner) -> None:
        """Start *runner*; if one of that id was started already, do nothing.

        Raises UnavailableError when it cannot be started now (retry later).
        """

    async def observe(self) -> Sequence[SeenRunner]:
        """Return every runner that this host knows to be present or to have gone.

        A runner that it does not list was never started, or so long ago that it is forgotten:
        nothing of it executes.
        """

    async def unknown(self, runners: Sequence[RunnerId]) -> Sequence[RunnerId]:
        """Return those of *runners* that surely do not exist, by looking and not from memory.

        Asked only about runners that ``observe`` did not list. Raises UnavailableError.
        """

    async def remove(self, runner: RunnerId, *, grace: timedelta) -> None:
        """End the runner and all that it started, TERM first, KILL after *grace*.

        Returns when the ending has been set in motion; ``observe`` tells when it is complete.
        """


class Identity(Protocol):
    """Knows runners by what they can show that no one else can."""

    async def is_runner(self, runner: RunnerId, token: str) -> bool:
        """Return whether *token* proves that its bearer is *runner*. Raises UnavailableError."""


class Sessions(Protocol):
    """The runners' sessions of this process, as the engine wakes them. Nothing here waits."""

    name: str
    """This gateway's name, as the runners' rows carry it."""

    def attend(self) -> None:
        """Look into the store for what the runners here must be told: claims, cancels, ends."""

    def budget_changed(self) -> None:
        """Let model calls that wait for a budget look again."""

    def assign(self, runners: Sequence[RunnerId]) -> None:
        """Push the open assignments of these runners, without looking for others."""

    def extend(self, runners: Sequence[RunnerId]) -> None:
        """Push the stages that these runners do not have yet."""


class Secrets(Protocol):
    """Where the values of secrets come from. They are never stored by the engine."""

    async def values(self, names: Collection[str], allowed: SecretsFrom) -> Mapping[str, str]:
        """Return the values of those of *names* that there are, and that a run may have.

        *allowed* is what its submission's ``secrets_from`` says. Raises RejectedError when where
        they lie is not safe; it says how to make it so. Raises UnavailableError.
        """

    def remedy(self, name: str, allowed: SecretsFrom) -> str:
        """Say how the secret *name* is given its value."""


class NoSecrets:
    """A server without secrets."""

    async def values(self, names: Collection[str], allowed: SecretsFrom) -> Mapping[str, str]:
        """Return nothing."""
        del names, allowed
        return {}

    def remedy(self, name: str, allowed: SecretsFrom) -> str:
        """Say that there are none."""
        del allowed
        return f"remove ctx.secrets.{name}: this server has no secrets"


class Repository(Protocol):
    """The working tree whose workflows a local server offers."""

    root: Path

    async def files(self) -> Mapping[str, str]:
        """Return the text of every usable file under ``.plue/``, by path."""

    async def sources(self) -> Sources:
        """Return the same with what is wrong in the others; the same object when unchanged."""

    async def facts(self) -> Mapping[str, JsonValue]:
        """Return what an event of the tree knows: ``ref``, ``sha``, ``repository``.

        Raises UnavailableError.
        """

    async def snapshot(self) -> Workspace:
        """Copy the working tree as it is now, without what git ignores, into the blob store.

        Raises RejectedError when it cannot be read, UnavailableError when the disk is full.
        """
