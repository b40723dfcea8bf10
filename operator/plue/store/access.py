"""Machine tokens, browsers' sessions and the audit log: what the API of a cluster keeps of callers.

No secret is stored, only SHA-256 hashes of secrets that are random themselves.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_json

from plue.errors import NotFoundError
from plue.store.database import Database, seconds

__all__ = ["TOKEN_PREFIX", "AccessStore", "AuditEntry", "Login", "Session", "Token"]

TOKEN_PREFIX = "plue_"  # noqa: S105 - what a scanner for leaked secrets looks for
_LOGIN_LASTS = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Token:
    """A machine token without its secret. ``namespaces`` are those it reaches; None: all."""

    id: str
    name: str
    owner: str
    role: str
    namespaces: Sequence[str] | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None


@dataclass(frozen=True, slots=True)
class Login:
    """A browser on its way to the issuer: what its answer is compared with."""

    state: str
    nonce: str
    verifier: str
    return_to: str


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that has logged in."""

    who: str
    groups: Sequence[str]
    csrf: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change by a caller. ``status`` is the HTTP answer; None: it was never given."""

    id: int
    at: datetime
    who: str
    how: str
    address: str
    action: str
    namespace: str | None
    target: str
    details: Mapping[str, JsonValue] = field(default_factory=dict)
    status: int | None = None


class AccessStore:
    """The rows of tokens, sessions and audit."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database

    # ── machine tokens ───────────────────────────────────────────────────────────────────────────

    async def make_token(
        self,
        *,
        name: str,
        owner: str,
        role: str,
        namespaces: Sequence[str] | None,
        lasts: timedelta,
    ) -> tuple[Token, str]:
        """Return a new token and its text, which nobody can be told again."""
        identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        row = await self._database.row(
            "insert_token",
            {
                "id": identity,
                "name": name,
                "hash": _hash(secret),
                "owner": owner,
                "role": role,
                "namespaces": None if namespaces is None else list(namespaces),
                "lasts": seconds(lasts),
            },
        )
        assert row is not None  # noqa: S101 - an insert without condition
        return Token(**row), f"{TOKEN_PREFIX}{identity}_{secret}"

    async def use_token(self, text: str) -> Token | None:
        """Return the token of this text when it is good now, and remember that it was used."""
        identity, _, secret = text.removeprefix(TOKEN_PREFIX).partition("_")
        if "\0" in identity:
            return None
        row = await self._database.row("use_token", {"id": identity, "hash": _hash(secret)})
        return None if row is None else Token(**row)

    async def tokens(self, within: Sequence[str] | None) -> Sequence[Token]:
        """Return the tokens that reach into any of these namespaces; None: all tokens."""
        rows = await self._database.rows(
            "list_tokens", {"within": None if within is None else list(within)}
        )
        return [Token(**row) for row in rows]

    async def token(self, identity: str) -> Token:
        """Return a token. Raises NotFoundError."""
        return self._found(await self._database.row("get_token", {"id": identity}), identity)

    async def revoke(self, identity: str, *, by: str) -> Token:
        """Make a token worthless for good. Raises NotFoundError."""
        row = await self._database.row("revoke_token", {"id": identity, "by": by})
        return self._found(row, identity)

    @staticmethod
    def _found(row: Mapping[str, Any] | None, identity: str) -> Token:
        if row is None:
            raise NotFoundError(
                f"there is no token {identity!r}", remedy="`plue token list` shows the tokens"
            )
        return Token(**row)

    # ── browsers ─────────────────────────────────────────────────────────────────────────────────

    async def begin_login(self, cookie: str, login: Login) -> None:
        """Remember a browser that was given *cookie* and sent to the issuer."""
        await self._database.rows(
            "insert_login",
            {
                "hash": _hash(cookie),
                "state": login.state,
                "nonce": login.nonce,
                "verifier": login.verifier,
                "return_to": login.return_to,
                "lasts": seconds(_LOGIN_LASTS),
            },
        )

    async def take_login(self, cookie: str) -> Login | None:
        """Return what is known of a browser that comes back, once; None when nothing is."""
        row = await self._database.row("take_login", {"hash": _hash(cookie)})
        if row is None or not row.pop("is_good"):
            return None
        return Login(**row)

    async def begin_session(self, who: str, groups: Sequence[str], *, lasts: timedelta) -> str:
        """Return the cookie of a new session."""
        cookie = secrets.token_urlsafe(32)
        await self._database.rows(
            "insert_session",
            {
                "hash": _hash(cookie),
                "who": who,
                "groups": list(groups),
                "csrf": secrets.token_urlsafe(32),
                "lasts": seconds(lasts),
            },
        )
        return cookie

    async def session(self, cookie: str) -> Session | None:
        """Return the session of a cookie while it lasts."""
        row = await self._database.row("get_session", {"hash": _hash(cookie)})
        return None if row is None else Session(**row)

    async def end_session(self, cookie: str) -> None:
        """Make a cookie worthless."""
        await self._database.rows("end_session", {"hash": _hash(cookie)})

    # ── audit ────────────────────────────────────────────────────────────────────────────────────

    async def begin_audit(
        self, *, who: str, how: str, address: str, action: str, target: str
    ) -> int:
        """Write that a change is about to be made; return the entry's number."""
        row = await self._database.row(
            "begin_audit",
            {"who": who, "how": how, "address": address, "action": action, "target": target},
        )
        assert row is not None  # noqa: S101 - an insert without condition
        return int(row["id"])

    async def finish_audit(
        self,
        entry: int,
        *,
        status: int,
        namespace: str | None,
        target: str,
        details: Mapping[str, JsonValue],
    ) -> None:
        """Write how the change ended."""
        await self._database.rows(
            "finish_audit",
            {
                "id": entry,
                "status": status,
                "namespace": namespace,
                "target": target,
                "details": to_json(dict(details)).decode(),
            },
        )

    async def audit(
        self,
        *,
        namespaces: Sequence[str] | None,
        who: str | None,
        action: str | None,
        since: datetime | None,
        before: int | None,
        limit: int,
    ) -> Sequence[AuditEntry]:
        """Return entries, newest first; None narrows nothing."""
        rows = await self._database.rows(
            "list_audit",
            {
                "namespaces": None if namespaces is None else list(namespaces),
                "who": who,
                "action": action,
                "since": since,
                "before": before,
                "limit": limit,
            },
        )
        return [AuditEntry(**row) for row in rows]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
