"""Who makes runs where the API does not by itself: in a cluster each has a resource."""

from typing import Protocol

from aiohttp import web

from plue.api.callers import Caller
from plue.api.models import CreateRun
from plue.domain.run import RunDetails, RunId

__all__ = ["MAKER", "RunMaker"]


class RunMaker(Protocol):
    """Makes runs and has them submitted before it returns."""

    async def make(self, body: CreateRun, namespace: str, by: Caller) -> RunId:
        """Make the run that *body* asks for. Raises PlueError."""

    async def again(self, old: RunDetails, by: Caller) -> RunId:
        """Make a run like *old* in its namespace. Raises PlueError."""


MAKER: web.AppKey[RunMaker | None] = web.AppKey("plue.maker")
