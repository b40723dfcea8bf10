"""The error family, split by who must act.

    PlueError
    ├── RejectedError      the caller must change the request; trying again does not help
    │   ├── NotFoundError  what was named does not exist
    │   ├── GoneError      it existed, and was dropped by retention
    │   └── UsageError     the command line or a setting is wrong (exit code 2)
    ├── UnavailableError   time must pass; carries ``retry_in``
    ├── ConflictError      the caller acted on an old view; read again
    │   └── FencedError    the caller is not the current runner of this attempt, and never will be
    └── InternalError      a fault of ours

A class's docstring is its default message. Adapters raise these ``from`` the driver's error, so
that nobody above an adapter sees a driver's class.
"""

from collections.abc import Mapping
from datetime import timedelta

__all__ = [
    "ConflictError",
    "FencedError",
    "GoneError",
    "InternalError",
    "NotFoundError",
    "PlueError",
    "RejectedError",
    "UnavailableError",
    "UsageError",
]


class PlueError(Exception):
    """Something went wrong."""

    def __init__(
        self,
        message: str | None = None,
        *,
        field: str | None = None,
        remedy: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Say what happened, where, and what to do next.

        *field* is a path such as ``inputs.env``; *details* is JSON for machines, such as a list
        of diagnostics.
        """
        self.message = message or (self.__doc__ or type(self).__name__).strip().splitlines()[0]
        self.field = field
        self.remedy = remedy
        self.details = dict(details or {})
        super().__init__(self.message)


class RejectedError(PlueError):
    """The request cannot be accepted as it is."""


class NotFoundError(RejectedError):
    """There is nothing of that name."""


class GoneError(RejectedError):
    """It was dropped by the retention setting."""


class UsageError(RejectedError):
    """The command line or a setting is wrong."""


class UnavailableError(PlueError):
    """Something that is needed cannot be reached now."""

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_in: timedelta = timedelta(seconds=1),
        remedy: str | None = None,
    ) -> None:
        """Say what is away, and when it makes sense to try again."""
        super().__init__(message, remedy=remedy)
        self.retry_in = retry_in


class ConflictError(PlueError):
    """Somebody else changed it first; read again."""


class FencedError(ConflictError):
    """The attempt belongs to another runner now."""


class InternalError(PlueError):
    """A fault in Plue itself; please report it."""
