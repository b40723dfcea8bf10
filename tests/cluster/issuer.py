"""An OpenID Connect issuer on loopback: it logs in whom the test says, and checks what is asked."""

import asyncio
import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

__all__ = ["Issuer"]

CLIENT = "plue"
SECRET = "of-the-client"


def _part(data: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


@dataclass
class Issuer:
    """Answers as the standard says, but for what a test puts into ``wrong``."""

    url: str = ""
    claims: dict[str, Any] = field(
        default_factory=lambda: {"email": "ann@example.org", "groups": ["builders"]}
    )
    wrong: dict[str, Any] = field(default_factory=dict)
    """Claims of ID tokens that are not as they should be."""
    refuses: bool = False
    in_pieces: bool = False
    """Whether tokens are sent a part at a time, as a network does it."""
    asked: list[dict[str, str]] = field(default_factory=list)
    """What browsers were sent with."""
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def app(self) -> web.Application:
        """Return the issuer's server."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._document)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        return app

    async def _document(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
            }
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        self.asked.append(asked)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        if self.refuses:
            back = {"error": "access_denied", "state": asked["state"]}
        else:
            code = secrets.token_urlsafe(16)
            self._codes[code] = asked
            back = {"code": code, "state": asked["state"], "session_state": "of no interest"}
        raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode(back)}")

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        asked = self._codes.pop(str(form.get("code")), None)
        challenge = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        good = (
            asked is not None
            and form["grant_type"] == "authorization_code"
            and form["redirect_uri"] == asked["redirect_uri"]
            and base64.urlsafe_b64encode(challenge).rstrip(b"=").decode() == asked["code_challenge"]
            and request.headers.get("Authorization") == f"Basic {basic}"
        )
        if asked is None or not good:
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": "1",
            "exp": time.time() + 300,
            "nonce": asked["nonce"],
            **self.claims,
            **self.wrong,
        }
        token = f"{_part({'alg': 'RS256'})}.{_part(claims)}.{_part({})}"
        answer = {"access_token": "x", "token_type": "Bearer", "id_token": token}
        if not self.in_pieces:
            return web.json_response(answer)
        text, response = json.dumps(answer).encode(), web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(text), len(text) // 3 + 1):
            await response.write(text[start : start + len(text) // 3 + 1])
            await asyncio.sleep(0.02)
        return response
