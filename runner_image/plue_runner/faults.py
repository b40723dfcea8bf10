"""Why a step, or the whole attempt, cannot go on: an error that carries its :class:`Reason`."""

from typing_extensions import override

from plue.errors import RejectedError
from plue.wire.events import Reason

__all__ = ["Fault", "short"]

_MESSAGE_LIMIT = 2000


class Fault(RejectedError):  # noqa: N818 - it is said of a step, as "failure" is
    """The step cannot be run as it was planned."""

    def __init__(self, reason: Reason, message: str, *, remedy: str | None = None) -> None:
        """Say what is wrong in the author's words; *remedy* says what to write instead."""
        super().__init__(message, remedy=remedy)
        self.reason = reason

    @override
    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}; {self.remedy}"


def short(message: str, limit: int = _MESSAGE_LIMIT) -> str:
    """Return *message*, cut so that no message can fill a log."""
    return message if len(message) <= limit else message[: limit - 1] + "…"
