"""Questions to the API server about others: whose token it is, and what they may do.

An answer holds for some seconds, so that a page of runs or a stream costs one question and not
hundreds; a refusal holds shorter, because somebody who was just given a right tries again at once.
Who asks while the same question is open gets that answer.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from plue.api.callers import Caller, Resource, Verb
from plue.kube.client import ApiClient, Json, Place
from plue.resources.crds import GROUP

__all__ = ["API_AUDIENCE", "Reviews", "user_of"]

API_AUDIENCE = "plue-api"

_TOKEN_REVIEWS = Place("authentication.k8s.io/v1", "tokenreviews")
_ACCESS_REVIEWS = Place("authorization.k8s.io/v1", "subjectaccessreviews")

HELD = 10.0
"""Seconds for which a yes is believed: so long a right that was taken away may still be used."""

REFUSALS_HELD = 2.0
_MOST = 10_000

T = TypeVar("T")


class Remembered(Generic[T]):
    """Answers by question, each for its time; a question is asked once at a time."""

    def __init__(self, *, most: int = _MOST, now: Callable[[], float] = time.monotonic) -> None:
        """Keep at most so many."""
        self._most = most
        self._now = now
        self._answers: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()
        self._open: dict[Hashable, asyncio.Task[T]] = {}

    async def ask(self, question: Hashable, find: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to *question*, found by *find* unless it is known."""
        held = self._answers.get(question)
        if held is not None and held[0] > self._now():
            return held[1]
        task = self._open.get(question)
        if task is None:
            task = self._open[question] = asyncio.create_task(self._find(question, find))
            task.add_done_callback(lambda done: self._close(question, done))
        # Who asked first may leave; the others still want to know.
        return await asyncio.shield(task)

    def _close(self, question: Hashable, task: asyncio.Task[T]) -> None:
        del self._open[question]
        if not task.cancelled():
            task.exception()  # whoever asked has it, unless all of them have left

    async def _find(self, question: Hashable, find: Callable[[], Awaitable[T]]) -> T:
        answer = await find()
        until = self._now() + (HELD if answer else REFUSALS_HELD)
        self._answers[question] = (until, answer)
        self._answers.move_to_end(question)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)
        return answer


async def user_of(api: ApiClient, token: str, *, audience: str) -> Json | None:
    """Return the user whose token it is, as the API server says; None if not for *audience*.

    Raises UnavailableError.
    """
    review = await api.create(
        _TOKEN_REVIEWS,
        None,
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        },
    )
    said = review.get("status") or {}
    if not said.get("authenticated") or audience not in (said.get("audiences") or ()):
        return None
    return dict(said.get("user") or {})


class Reviews:
    """TokenReviews and SubjectAccessReviews."""

    def __init__(self, api: ApiClient) -> None:
        """Ask *api*."""
        self._api = api
        self._callers: Remembered[Caller | None] = Remembered()
        self._rights: Remembered[bool] = Remembered()

    async def caller(self, token: str) -> Caller | None:
        """Return whose token it is; None when it is nobody's, or not made for this API."""
        # Tokens are not kept, also not for seconds.
        name = hashlib.sha256(token.encode()).digest()
        return await self._callers.ask(name, lambda: self._review(token))

    async def may(
        self, caller: Caller, verb: Verb, resource: Resource, namespace: str | None
    ) -> bool:
        """Return whether *caller* has the right in *namespace*; None: in all."""
        attributes = {"group": GROUP, "resource": resource.value, "verb": verb.value}
        if namespace is not None:
            attributes["namespace"] = namespace
        return await self._right(caller, "resourceAttributes", attributes)

    async def may_get(self, caller: Caller, path: str) -> bool:
        """Return whether *caller* may read an address that is no resource, such as /metrics."""
        attributes = {"path": path, "verb": "get"}
        return await self._right(caller, "nonResourceAttributes", attributes)

    async def _review(self, token: str) -> Caller | None:
        user = await user_of(self._api, token, audience=API_AUDIENCE)
        if user is None:
            return None
        return Caller(
            name=str(user["username"]),
            how="kubernetes",
            groups=tuple(user.get("groups") or ()),
            extra={key: tuple(values) for key, values in (user.get("extra") or {}).items()},
        )

    async def _right(self, caller: Caller, kind: str, attributes: Json) -> bool:
        extra = {key: list(values) for key, values in caller.extra.items()}
        # A service account's token names itself and its pod here: who it is stays the same.
        who = (caller.name, tuple(caller.groups), str(sorted(extra.items())))
        question = (who, kind, *sorted(attributes.items()))

        async def find() -> bool:
            answer = await self._api.create(
                _ACCESS_REVIEWS,
                None,
                {
                    "apiVersion": "authorization.k8s.io/v1",
                    "kind": "SubjectAccessReview",
                    "spec": {
                        "user": caller.name,
                        "groups": list(caller.groups),
                        "extra": extra,
                        kind: attributes,
                    },
                },
            )
            return bool((answer.get("status") or {}).get("allowed"))

        return await self._rights.ask(question, find)
