"""Notices that a caller has gone away while its call is silent.

aiohttp does not tell a handler that is not writing, and a model may think for minutes. One look
over all calls costs a hundredth of a timer for each, which a hundred streams would feel.
"""

import asyncio
import contextlib
from collections.abc import Iterator

from aiohttp import web

__all__ = ["Callers", "has_left"]

LOOK_EVERY = 0.1
"""Seconds between two looks."""


def has_left(http: web.Request) -> bool:
    """Whether the caller's connection is gone."""
    return http.transport is None or http.transport.is_closing()


class Callers:
    """The callers that somebody is answering."""

    def __init__(self) -> None:
        """Watch nobody yet."""
        self._watched: dict[asyncio.Future[None], web.Request] = {}
        self._next: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def watched(self, http: web.Request) -> Iterator[asyncio.Future[None]]:
        """Give a future that is done soon after the caller has left."""
        gone = asyncio.get_running_loop().create_future()
        self._watched[gone] = http
        self._again()
        try:
            yield gone
        finally:
            del self._watched[gone]

    def _again(self) -> None:
        if self._next is None and self._watched:
            self._next = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        self._next = None
        for gone, http in self._watched.items():
            if not gone.done() and has_left(http):
                gone.set_result(None)
        self._again()
