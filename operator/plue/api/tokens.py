"""Machine tokens: made by who may do what they allow, bounded in scope and time, revocable.

Who makes one needs the right to, in each namespace that it reaches, and every right that it gives
away. It keeps what it was given when its maker loses rights: it belongs to a machine, and is
revoked by itself. A token can neither make nor revoke tokens.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from aiohttp import web

from plue.api.callers import Caller, Resource, Verb, caller_of, permitted, readable, require
from plue.api.models import CreateToken, MadeToken, TokenBody, TokenList
from plue.api.notes import noted
from plue.api.problems import ForbiddenError
from plue.api.queries import PlaceQuery
from plue.api.routes import JSON, Call, Nothing, Outcome, Reply, Route
from plue.errors import NotFoundError
from plue.store.access import TOKEN_PREFIX, AccessStore, Token

__all__ = ["ROLES", "token_caller", "token_may", "token_routes"]

ROLES: Final[Mapping[str, frozenset[Verb]]] = MappingProxyType(
    {
        "viewer": frozenset({Verb.GET, Verb.LIST}),
        "editor": frozenset({Verb.GET, Verb.LIST, Verb.CREATE, Verb.PATCH}),
    }
)
"""What a token of each role may do to runs; the same as plue-viewer and plue-editor."""


async def token_caller(store: AccessStore, text: str) -> Caller | None:
    """Return the machine whose token this is; None when it is not good now."""
    token = await store.use_token(text) if text.startswith(TOKEN_PREFIX) else None
    if token is None:
        return None
    return Caller(name=f"token:{token.name} ({token.id})", how="token", scope=token)


def token_may(token: Token, verb: Verb, resource: Resource, namespace: str | None) -> bool:
    """Return whether a token reaches so far. Pure."""
    if resource is not Resource.RUNS or verb not in ROLES[token.role]:
        return False
    return token.namespaces is None or namespace in token.namespaces


async def _require_all(request: web.Request, body: CreateToken) -> None:
    """Raise ForbiddenError unless the caller may make such a token."""
    places: Sequence[str | None] = body.namespaces if body.namespaces is not None else [None]
    if caller_of(request).scope is not None:
        raise ForbiddenError(
            "a machine token cannot make tokens",
            remedy="make it as yourself: `plue --context NAME token create`",
        )
    for place in places:
        await require(request, Verb.CREATE, place, resource=Resource.TOKENS)
        for verb in sorted(ROLES[body.role]):
            await require(request, verb, place)


async def _may_revoke(request: web.Request, token: Token) -> bool:
    places: Sequence[str | None] = [None] if token.namespaces is None else token.namespaces
    for place in places:
        if await permitted(request, Verb.DELETE, place, resource=Resource.TOKENS):
            return True
    return False


def _body(token: Token) -> TokenBody:
    return TokenBody(
        id=token.id,
        name=token.name,
        owner=token.owner,
        role=token.role,
        namespaces=None if token.namespaces is None else list(token.namespaces),
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
        revoked_at=token.revoked_at,
        revoked_by=token.revoked_by,
    )


def token_routes(store: AccessStore) -> tuple[Route[Any, Any], ...]:
    """Return the routes that make, list and revoke tokens."""

    async def create_token(call: Call[Nothing, CreateToken]) -> Outcome:
        body = call.body
        places = body.namespaces
        noted(
            call.request,
            target=body.name,
            namespace=places[0] if places and len(places) == 1 else None,
            role=body.role,
            namespaces=None if places is None else [*places],
        )
        await _require_all(call.request, body)
        token, text = await store.make_token(
            name=body.name,
            owner=caller_of(call.request).name,
            role=body.role,
            namespaces=None if places is None else sorted({*places}),
            lasts=timedelta(seconds=body.lasts_seconds),
        )
        noted(call.request, target=token.id, name=token.name)
        return Reply(MadeToken(**dict(_body(token)), token=text))

    async def list_tokens(call: Call[PlaceQuery, Nothing]) -> Outcome:
        within = await readable(call.request, call.query.namespace, resource=Resource.TOKENS)
        return TokenList(tokens=[_body(token) for token in await store.tokens(within)])

    async def revoke_token(call: Call[Nothing, Nothing]) -> Outcome:
        name = call.part("token")
        token = await store.token(name)
        if not await _may_revoke(call.request, token):
            raise NotFoundError(
                f"there is no token {name!r} that you may revoke",
                remedy="that needs the verb delete on apitokens in a namespace that it reaches",
            )
        if token.namespaces and len(token.namespaces) == 1:
            noted(call.request, namespace=token.namespaces[0])
        return _body(await store.revoke(name, by=caller_of(call.request).name))

    return (
        Route(
            method="GET",
            path="/api/v1/tokens",
            handler=list_tokens,
            summary="List the machine tokens that reach into namespaces whose tokens you may list",
            query=PlaceQuery,
            body=Nothing,
            produces={JSON: TokenList},
        ),
        Route(
            method="POST",
            path="/api/v1/tokens",
            handler=create_token,
            summary="Make a machine token; it is shown this once",
            query=Nothing,
            body=CreateToken,
            produces={JSON: MadeToken},
            status=201,
            audited="token.create",
        ),
        Route(
            method="DELETE",
            path="/api/v1/tokens/{token}",
            handler=revoke_token,
            summary="Make a machine token worthless, at once and for good",
            query=Nothing,
            body=Nothing,
            produces={JSON: TokenBody},
            audited="token.revoke",
        ),
    )
