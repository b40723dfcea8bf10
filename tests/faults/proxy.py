"""The network between runners and gateway, as a proxy on loopback that can be made bad.

It passes whole frames, so that they can be delayed, doubled and exchanged as well as cut. It also
keeps the runners' own record: what they sent, and what the gateway answered, as it arrived here.
"""

import asyncio
import contextlib
import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

__all__ = ["Proxy", "Record", "digest"]

Key = tuple[str, int]


def digest(kind: str, step: str | None, body: Any) -> bytes:
    """Return what two equal events have in common."""
    if kind == "step_values":
        # The values themselves are kept apart from the log, which has their sizes.
        kept = [{k: one.get(k) for k in ("field", "tail", "error")} for one in body["values"]]
        body = {**body, "values": kept}
    text = json.dumps([kind, step, body], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


@dataclass
class Record:
    """What runners and gateway said to each other, by (run, attempt)."""

    sent: dict[Key, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    changed: list[str] = field(default_factory=list)
    """Numbers that a runner used for two different events."""
    acked: dict[Key, int] = field(default_factory=lambda: defaultdict(int))
    started: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    done: set[Key] = field(default_factory=set)
    frames: int = 0

    def up(self, frame: dict[str, Any], runner: str) -> None:
        """Note a frame of a runner's."""
        self.frames += 1
        if frame.get("type") != "events":
            return
        sent = self.sent[frame["run"], frame["attempt"]]
        for event in frame["events"]:
            seen = digest(event["type"], event.get("step"), event["body"])
            if sent.setdefault(event["n"], seen) != seen:
                self.changed.append(f"{runner}: event {event['n']} of {frame['run']} changed")

    def down(self, frame: dict[str, Any], runner: str) -> None:
        """Note a frame of the gateway's."""
        self.frames += 1
        match frame:
            case {"type": "ack", "run": run, "attempt": attempt, "through": through}:
                self.acked[run, attempt] = max(self.acked[run, attempt], through)
            case {"type": "welcome", "holding": {"run": run, "attempt": attempt, "acked": acked}}:
                self.acked[run, attempt] = max(self.acked[run, attempt], acked)
            case {"type": "start", "run": run, "attempt": attempt}:
                self.started[run, attempt].add(runner)
            case {"type": "done", "run": run, "attempt": attempt}:
                self.done.add((run, attempt))


@dataclass
class Weather:
    """How bad the network is now; probabilities are per frame, times in seconds."""

    delay: float = 0.0
    double: float = 0.0
    swap: float = 0.0
    swallow_up: bool = False
    swallow_down: bool = False


class _Line:
    """One runner's connection through the proxy."""

    def __init__(self, proxy: "Proxy", near: web.WebSocketResponse, request: web.Request) -> None:
        self.proxy = proxy
        self.near = near
        self.far: aiohttp.ClientWebSocketResponse | None = None
        self.runner = request.headers.get("X-Plue-Runner", "?")
        self._request = request
        self.weather: Weather | None = None

    @property
    def now(self) -> Weather:
        return self.weather or self.proxy.weather

    def cut(self) -> None:
        """Break both sides without a goodbye."""
        if self._request.transport is not None:
            self._request.transport.abort()
        if self.far is not None and self.far._response.connection is not None:
            transport = self.far._response.connection.transport
            if transport is not None:
                transport.abort()

    async def pump(self, source: Any, target: Any, *, up: bool) -> None:
        """Pass frames of one direction on, as the weather lets them."""
        note = self.proxy.record.up if up else self.proxy.record.down
        held: tuple[str, WSMsgType] | None = None
        async for message in source:
            if message.type in {WSMsgType.PING, WSMsgType.PONG}:
                if not self._swallows(up=up):
                    send = target.ping if message.type is WSMsgType.PING else target.pong
                    await send(message.data)
                continue
            if message.type is not WSMsgType.TEXT:
                break
            frame = json.loads(message.data)
            note(frame, self.runner)
            if self._swallows(up=up):
                continue
            held = await self._pass(target, message.data, held, frame)
        if held is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                await target.send_str(held[0])

    def _swallows(self, *, up: bool) -> bool:
        return self.now.swallow_up if up else self.now.swallow_down

    async def _pass(
        self, target: Any, text: str, held: tuple[str, WSMsgType] | None, frame: dict[str, Any]
    ) -> tuple[str, WSMsgType] | None:
        weather, chance = self.now, self.proxy.chance
        if weather.delay:
            await asyncio.sleep(chance.uniform(0, weather.delay))
        # A first frame that never comes is half openness; changed order needs a second one.
        if held is None and frame["type"] != "hello" and chance.random() < weather.swap:
            return text, WSMsgType.TEXT
        await target.send_str(text)
        if chance.random() < weather.double:
            await target.send_str(text)
        if held is not None:
            await target.send_str(held[0])
        return None


class Proxy:
    """A proxy in front of whatever gateway the server's folder names."""

    def __init__(self, gateway_file: Path, chance: random.Random) -> None:
        """Find the gateway in *gateway_file*, at every connection anew."""
        self._file = gateway_file
        self.chance = chance
        self.weather = Weather()
        self.record = Record()
        self.lines: set[_Line] = set()
        self.refusing = False
        self.url = ""
        self._web: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        app = web.Application()
        app.router.add_get("/runner/v1/session", self._session)
        app.router.add_get("/runner/v1/{rest:.*}", self._get)
        self._web = web.AppRunner(app, shutdown_timeout=0.1)
        await self._web.setup()
        await web.TCPSite(self._web, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*self._web.addresses[0][:2])

    async def close(self) -> None:
        """End all lines."""
        self.cut()
        if self._web is not None and self._http is not None:
            await self._web.cleanup()
            await self._http.close()

    def cut(self, which: Callable[["_Line"], bool] = lambda _: True) -> int:
        """Break lines; return how many."""
        chosen = [line for line in self.lines if which(line)]
        for line in chosen:
            line.cut()
        return len(chosen)

    def heal(self) -> None:
        """Let everything pass from now on; half-open lines are broken."""
        for line in list(self.lines):
            if line.now.swallow_up or line.now.swallow_down or line.now.swap:
                line.cut()
            line.weather = None
        self.weather = Weather()
        self.refusing = False

    def _target(self) -> str:
        try:
            return self._file.read_text().strip()
        except OSError as error:
            raise web.HTTPBadGateway from error

    async def _session(self, request: web.Request) -> web.StreamResponse:
        if self.refusing or self._http is None:
            raise web.HTTPBadGateway
        headers = {k: v for k, v in request.headers.items() if k.startswith(("Auth", "X-Plue"))}
        try:
            far = await self._http.ws_connect(
                f"{self._target()}/runner/v1/session",
                headers=headers,
                autoping=False,
                autoclose=False,
                max_msg_size=0,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise web.HTTPBadGateway from error
        near = web.WebSocketResponse(
            autoping=False, autoclose=False, max_msg_size=0, compress=False
        )
        try:
            await near.prepare(request)
        except ConnectionError as error:  # the runner has gone meanwhile
            await far.close()
            raise web.HTTPBadGateway from error
        line = _Line(self, near, request)
        line.far = far
        self.lines.add(line)
        try:
            await self._run(line, near, far)
        finally:
            self.lines.discard(line)
            if not near.closed and far.close_code is not None:
                with contextlib.suppress(ConnectionError, RuntimeError):
                    await near.close(code=far.close_code)
            line.cut()
        return near

    async def _run(
        self, line: _Line, near: web.WebSocketResponse, far: aiohttp.ClientWebSocketResponse
    ) -> None:
        pumps = [
            asyncio.ensure_future(line.pump(near, far, up=True)),
            asyncio.ensure_future(line.pump(far, near, up=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if self._http is None:
            raise web.HTTPBadGateway
        headers = {k: v for k, v in request.headers.items() if k.startswith(("Auth", "X-Plue"))}
        try:
            async with self._http.get(self._target() + request.path, headers=headers) as answer:
                body = await answer.read()
                return web.Response(status=answer.status, body=body)
        except (aiohttp.ClientError, OSError) as error:
            raise web.HTTPBadGateway from error
