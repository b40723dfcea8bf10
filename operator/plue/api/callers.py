"""Who calls, and what that caller may do: asked by every handler, answered by the server's access.

Rights are those of Kubernetes: a verb on a resource in a namespace. A run that a caller may not
read is not there for that caller, so that names and numbers cannot be guessed; what may be read
but not changed is refused with the right that is missing.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from aiohttp import web

from plue.api.keys import ENGINE, HOUSE
from plue.api.notes import is_audited, noted
from plue.api.problems import ForbiddenError
from plue.api.routes import Call, Route
from plue.domain.run import LOCAL, RunId
from plue.errors import NotFoundError, RejectedError
from plue.store.access import Token

__all__ = [
    "ACCESS",
    "CALLER",
    "Access",
    "Caller",
    "Resource",
    "Verb",
    "caller_of",
    "found_run",
    "permitted",
    "place_of",
    "readable",
    "require",
    "while_permitted",
]

T = TypeVar("T")

ASKED_AGAIN = 15.0
"""Seconds after which a stream's caller is looked at again: rights are taken away meanwhile."""


class Verb(StrEnum):
    """What is done, in the words of Kubernetes."""

    GET = "get"
    LIST = "list"
    CREATE = "create"
    PATCH = "patch"
    DELETE = "delete"


class Resource(StrEnum):
    """What it is done to, in the group plue.dev; only runs exist as objects of a cluster."""

    RUNS = "workflowruns"
    TOKENS = "apitokens"
    AUDIT = "auditevents"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was recognised; ``how`` says by what: local, kubernetes, token, session, proxy.

    ``scope`` is what a machine token may do, given by ``store.access``; None for everybody else.
    """

    name: str
    how: str
    groups: Sequence[str] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)
    scope: Token | None = None


class Access(Protocol):
    """Decides who may call, and what callers may do."""

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return the routes that signing in needs."""

    async def check(self, request: web.Request, *, public: bool) -> Caller | None:
        """Return who calls, or raise UnauthenticatedError or ForbiddenError.

        *public* requests need no credentials, and have no caller then, but may still come from
        where they must not.
        """

    def form_token(self, request: web.Request) -> str:
        """Return what a form of our pages must carry as ``csrf``; empty where it need not."""

    async def may(
        self, caller: Caller, verb: Verb, resource: Resource, namespace: str | None
    ) -> bool:
        """Return whether *caller* has a right in *namespace*; None: in all of them."""

    async def may_measure(self, caller: Caller) -> bool:
        """Return whether *caller* may read what concerns the whole server: its metrics."""


ACCESS: web.AppKey[Access] = web.AppKey("plue.access")
CALLER: web.RequestKey[Caller] = web.RequestKey("plue.caller", Caller)


def caller_of(request: web.Request) -> Caller:
    """Return who calls."""
    return request[CALLER]


async def permitted(
    request: web.Request,
    verb: Verb,
    namespace: str | None,
    *,
    resource: Resource = Resource.RUNS,
) -> bool:
    """Return whether the caller has a right in *namespace*, perhaps because of one in all."""
    access, caller = request.app[ACCESS], caller_of(request)
    if await access.may(caller, verb, resource, None):
        return True
    return namespace is not None and await access.may(caller, verb, resource, namespace)


async def require(
    request: web.Request,
    verb: Verb,
    namespace: str | None,
    *,
    resource: Resource = Resource.RUNS,
) -> None:
    """Raise ForbiddenError, which says what is missing, unless the caller has the right."""
    if not await permitted(request, verb, namespace, resource=resource):
        caller = caller_of(request)
        where = "in all namespaces" if namespace is None else f"in the namespace {namespace!r}"
        raise ForbiddenError(
            f"{caller.name} may not {verb} {resource} {where}", remedy=_remedy(caller, namespace)
        )


def _remedy(caller: Caller, namespace: str | None) -> str:
    if caller.scope is not None:
        return "make a token with a wider scope: `plue token create --help`"
    role = "ask for a ClusterRole such as plue-viewer or plue-editor"
    if namespace is None:
        return f"{role} by a ClusterRoleBinding, or name one namespace with `?namespace=`"
    return f"{role} by a RoleBinding in {namespace!r}"


async def place_of(request: web.Request, namespace: str | None) -> str:
    """Return where a run, or what belongs to none yet, is made. Raises ForbiddenError.

    Raises RejectedError where there are no namespaces, or where one must be named and is not.
    """
    if request.app[HOUSE].info.mode == "local":
        if namespace not in {None, LOCAL}:
            raise RejectedError(
                f"this server has no namespaces but `{LOCAL}`",
                field="namespace",
                remedy="leave `namespace` out, or use the server of a cluster",
            )
        return LOCAL
    noted(request, namespace=namespace)
    if namespace is None:
        raise RejectedError(
            "in a cluster a namespace must be named",
            field="namespace",
            remedy="name one in which you may make runs; `plue` takes -n",
        )
    await require(request, Verb.CREATE, namespace)
    return namespace


async def readable(
    request: web.Request, wanted: str | None, *, resource: Resource = Resource.RUNS
) -> Sequence[str] | None:
    """Return the namespaces that a list may show; None: all. *wanted* is the only one asked for.

    Raises ForbiddenError when *wanted* may not be read.
    """
    if wanted is not None:
        await require(request, Verb.LIST, wanted, resource=resource)
        return (wanted,)
    if await permitted(request, Verb.LIST, None, resource=resource):
        return None
    there = await request.app[ENGINE].namespaces()
    access, caller = request.app[ACCESS], caller_of(request)
    answers = await asyncio.gather(*(access.may(caller, Verb.LIST, resource, n) for n in there))
    return [name for name, may in zip(there, answers, strict=True) if may]


async def found_run(call: Call[Any, Any], verb: Verb = Verb.GET) -> RunId:
    """Return the run that the path names, if the caller may do *verb* to it.

    Raises NotFoundError when the caller may not read it, ForbiddenError when only that.
    """
    request, reference = call.request, call.part("id")
    engine = request.app[ENGINE]
    if await permitted(request, Verb.GET, None) and await permitted(request, verb, None):
        run = await engine.find(reference)
        if is_audited(request):
            noted(request, namespace=await engine.namespace_of(run), run=run)
        return run
    run = await engine.find(reference, among=await readable(request, None))
    namespace = await engine.namespace_of(run)
    if not await permitted(request, Verb.GET, namespace):
        raise NotFoundError(
            f"there is no run {reference!r} that you may read",
            remedy="`plue run list` shows the runs of the namespaces that you may read",
        )
    noted(request, namespace=namespace, run=run)
    if verb is not Verb.GET:
        await require(request, verb, namespace)
    return run


async def while_permitted(
    request: web.Request, run: RunId, batches: AsyncIterator[T]
) -> AsyncIterator[T]:
    """Yield *batches* until the caller may not read *run* any more, or is nobody any more."""
    access, namespace = request.app[ACCESS], None
    asked = time.monotonic()
    async for batch in batches:
        if time.monotonic() - asked > ASKED_AGAIN:
            await access.check(request, public=False)
            namespace = namespace or await request.app[ENGINE].namespace_of(run)
            await require(request, Verb.GET, namespace)
            asked = time.monotonic()
        yield batch
