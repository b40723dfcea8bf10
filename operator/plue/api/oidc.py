"""OpenID Connect: the authorisation code with PKCE, against any issuer that can be discovered.

The ID token's signature is not checked: it comes from the issuer's token endpoint itself, over
TLS, in answer to our own request, where the standard lets the server's certificate vouch for it
(OpenID Connect Core 1.0, 3.1.3.7, 6). So there is no cryptography of our own, and there are no keys
to rotate. Therefore an issuer must be https; http is taken for loopback only.
"""

import base64
import binascii
import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp

from plue.api.problems import ForbiddenError
from plue.errors import UnavailableError, UsageError
from plue.store.access import Login

__all__ = ["BrowserLogin", "Issuer", "origin_of", "safe_path"]

_TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=5)
_LEEWAY = 60.0
"""Seconds by which the issuer's clock may differ from ours."""

_LARGEST = 1024 * 1024
_VERIFIED = (True, "true")
_RESERVED = "system:"
"""Names that Kubernetes keeps for itself: an issuer must not give the group system:masters."""


@dataclass(frozen=True, slots=True)
class BrowserLogin:
    """How browsers log in, and how an ID token names a user of the cluster.

    *public_url* is where browsers find the API. Names and groups get their prefixes, as the API
    server's own OIDC settings do, so that RBAC can speak of the same people.
    """

    issuer: str
    client_id: str
    public_url: str
    client_secret: str | None = field(default=None, repr=False)
    username_claim: str = "email"
    username_prefix: str = ""
    groups_claim: str = "groups"
    groups_prefix: str = ""
    scopes: Sequence[str] = ("openid", "email", "profile")
    lasts_hours: float = 12.0

    def __post_init__(self) -> None:
        """Refuse addresses over which a token would travel in the open."""
        for name in ("issuer", "public_url"):
            if not _is_private(getattr(self, name)):
                raise UsageError(
                    f"{name}: {getattr(self, name)!r} is no https address",
                    field=name,
                    remedy="http is taken for loopback only",
                )

    @property
    def origin(self) -> str:
        """The origin of our own pages, as browsers send it."""
        return origin_of(self.public_url)

    @property
    def redirect_uri(self) -> str:
        """Where the issuer sends browsers back to."""
        return f"{self.public_url.rstrip('/')}/login/callback"


class Issuer:
    """One issuer: where it sends browsers, and what it says of who comes back."""

    def __init__(self, login: BrowserLogin) -> None:
        """Ask nothing yet."""
        self.login = login
        self._document: Mapping[str, Any] | None = None

    async def begin(self, return_to: str) -> tuple[Login, str]:
        """Return a new login, and the issuer's address for the browser. Raises UnavailableError."""
        document = await self._discovered()
        login = Login(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(64),
            return_to=safe_path(return_to),
        )
        challenge = hashlib.sha256(login.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.login.client_id,
            "redirect_uri": self.login.redirect_uri,
            "scope": " ".join(self.login.scopes),
            "state": login.state,
            "nonce": login.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        address = str(document["authorization_endpoint"])
        return login, f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"

    async def finish(self, login: Login, code: str) -> tuple[str, Sequence[str]]:
        """Return name and groups of who came back with *code*.

        Raises ForbiddenError when the issuer or its token says no, UnavailableError.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.login.redirect_uri,
            "client_id": self.login.client_id,
            "code_verifier": login.verifier,
        }
        document = await self._discovered()
        answer = await self._asked(
            "POST",
            str(document["token_endpoint"]),
            data=form,
            headers=self._ourselves(),
            refusable=True,
        )
        claims = _claims_of(str(answer.get("id_token", "")))
        self._check(claims, login.nonce)
        return self._named(claims)

    def _ourselves(self) -> dict[str, str]:
        """Return the header that says who we are, where the issuer wants a password (RFC 6749)."""
        if self.login.client_secret is None:
            return {}
        pair = f"{quote(self.login.client_id, safe='')}:{quote(self.login.client_secret, safe='')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}

    def _check(self, claims: Mapping[str, Any], nonce: str) -> None:
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        expires = claims.get("exp")
        wrong = None
        if claims.get("iss") != self.login.issuer:
            wrong = "it is of another issuer"
        elif self.login.client_id not in audiences:
            wrong = "it is for another client"
        elif claims.get("azp", None if len(audiences) > 1 else self.login.client_id) != (
            self.login.client_id
        ):
            wrong = "it was made for another client"
        elif not isinstance(expires, int | float) or not (expires > time.time() - _LEEWAY):
            wrong = "it has expired"
        elif not secrets.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            wrong = "it is of another login"
        if wrong is not None:
            raise ForbiddenError(
                f"the issuer's ID token is refused: {wrong}", remedy="log in again"
            )

    def _named(self, claims: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
        login = self.login
        name = claims.get(login.username_claim)
        if not isinstance(name, str) or not name:
            raise ForbiddenError(
                f"the ID token has no claim {login.username_claim!r}",
                remedy="choose another username claim, or ask for its scope",
            )
        # Some issuers write the word and not the value; who says nothing vouches for addresses.
        if login.username_claim == "email" and claims.get("email_verified", True) not in _VERIFIED:
            raise ForbiddenError("the e-mail address is not verified by the issuer")
        given = claims.get(login.groups_claim)
        groups = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        user = f"{login.username_prefix}{name}"
        if user.startswith(_RESERVED):
            raise ForbiddenError(f"{user!r} is a name that Kubernetes keeps for itself")
        if not user.isprintable():
            raise ForbiddenError("the user's name has characters that no name has")
        named = [f"{login.groups_prefix}{group}" for group in groups if isinstance(group, str)]
        return user, [g for g in named if g.isprintable() and not g.startswith(_RESERVED)]

    async def _discovered(self) -> Mapping[str, Any]:
        if self._document is None:
            url = f"{self.login.issuer.rstrip('/')}/.well-known/openid-configuration"
            document = await self._asked("GET", url)
            if document.get("issuer") != self.login.issuer:
                raise UnavailableError(
                    f"{url} is the document of {document.get('issuer')!r}",
                    remedy="give the issuer exactly as it names itself",
                )
            for name in ("authorization_endpoint", "token_endpoint"):
                if not isinstance(document.get(name), str):
                    raise UnavailableError(f"{url} names no {name}")
            if not _is_private(document["token_endpoint"]):
                raise UnavailableError(f"{url} names a token_endpoint that is no https address")
            self._document = document
        return self._document

    async def _asked(
        self, method: str, url: str, *, refusable: bool = False, **more: Any
    ) -> Mapping[str, Any]:
        """Return the JSON that the issuer answers; it is never followed elsewhere."""
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as client,
                client.request(method, url, allow_redirects=False, **more) as answer,
            ):
                status, text = answer.status, b""
                async for part in answer.content.iter_any():
                    text += part
                    if len(text) > _LARGEST:
                        raise UnavailableError(f"{url} answers more than {_LARGEST} bytes")
        except (aiohttp.ClientError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise UnavailableError(f"{self.login.issuer} does not answer: {why}") from error
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if status == HTTPStatus.OK and isinstance(said, dict):
            return said
        reason = said.get("error") if isinstance(said, dict) else None
        if refusable and HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ForbiddenError(f"the issuer refused the login: {reason or status}")
        raise UnavailableError(f"the issuer answered {status} at {url}")


def origin_of(url: str) -> str:
    """Return the origin of *url* as browsers send it: without path and usual port."""
    parts = urlsplit(url.lower())
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    port = "" if parts.port in {None, usual} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _is_private(address: str) -> bool:
    """Return whether nobody on the way can read what is sent to *address*."""
    url = urlsplit(address)
    loopback = url.hostname in {"127.0.0.1", "localhost", "::1"}
    return bool(url.hostname) and (url.scheme == "https" or (url.scheme == "http" and loopback))


def safe_path(path: str) -> str:
    """Return *path* when it is one of this server, else the start page: no way to other sites."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if is_ours and path.isprintable() and len(path) <= 2000 else "/"  # noqa: PLR2004 - a URL's usual limit


def _claims_of(token: str) -> Mapping[str, Any]:
    """Return what is in a JWT."""
    parts = token.split(".")
    try:
        body = parts[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError, binascii.Error) as error:
        raise ForbiddenError("the issuer gave no ID token that can be read") from error
    if len(parts) != 3 or not isinstance(claims, dict):  # noqa: PLR2004 - header, body, signature
        raise ForbiddenError("the issuer gave no ID token that can be read")
    return claims
