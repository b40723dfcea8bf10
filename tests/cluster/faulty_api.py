"""A proxy before the API server, which can answer in its place, or hang up."""

import asyncio
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from cluster.bed.control_plane import write_kubeconfig

__all__ = ["FaultyApi"]

Fault = Callable[[web.Request], web.Response | None]
"""Gives the answer to a request, or None to have it go on to the API server."""


class FaultyApi:
    """Passes everything on to *server*, but for what ``fault`` answers; in a thread of its own."""

    def __init__(self, server: str, token: str, folder: Path) -> None:
        """Write a kubeconfig of the proxy into *folder*."""
        self._server = server
        self._token = token
        self.kubeconfig = folder / "faulty-kubeconfig"
        self.fault: Fault | None = None
        self.asked: Counter[tuple[str, str]] = Counter()
        """Requests by verb and kind."""
        self._watches: set[asyncio.Task[None] | web.StreamResponse] = set()
        self._transports: set[asyncio.Transport] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="faulty-api", daemon=True
        )

    def __enter__(self) -> Self:
        """Start it."""
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

    def close_watches(self) -> int:
        """Hang up on everybody who watches; return on how many."""
        assert self._loop is not None
        closing = len(self._transports)

        def close() -> None:
            for transport in list(self._transports):
                transport.abort()

        self._loop.call_soon_threadsafe(close)
        return closing

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        write_kubeconfig(self.kubeconfig, f"http://127.0.0.1:{runner.addresses[0][1]}", self._token)
        unverified = ssl._create_unverified_context()  # noqa: S323 - it made its certificate itself
        connector = aiohttp.TCPConnector(ssl=unverified, limit=0)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        ) as self._http:
            self._ready.set()
            await self._stop.wait()
            for transport in list(self._transports):
                transport.abort()
            await runner.cleanup()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        self.asked[request.method, request.path] += 1
        if self.fault is not None and (answer := self.fault(request)) is not None:
            return answer
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        body = await request.read()
        async with self._http.request(
            request.method, f"{self._server}{request.path_qs}", data=body or None, headers=headers
        ) as answer_:
            kept = {
                k: v
                for k, v in answer_.headers.items()
                if k.lower() not in {"transfer-encoding", "content-length", "connection"}
            }
            response = web.StreamResponse(status=answer_.status, headers=kept)
            transport = request.transport
            if transport is None or transport.is_closing():
                return response  # whoever asked has gone meanwhile
            await response.prepare(request)
            watches = "watch" in request.query and transport is not None
            if watches and transport is not None:
                self._transports.add(transport)
            try:
                async for chunk in answer_.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except ConnectionError:
                pass  # whoever asked has gone, or was hung up on
            finally:
                if transport is not None:
                    self._transports.discard(transport)
            return response
