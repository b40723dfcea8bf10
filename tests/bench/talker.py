"""A model of the bench's own: `python -m bench.talker` speaks the Messages API.

It says as many tokens as ``max_tokens`` allows, as far apart as the one stop sequence says, in
seconds. Each token is the time at which it was said, so that whoever hears it knows how long it
took. The first one comes at once. Its first line of output is its address.
"""

import asyncio
import json
import sys
import time

from aiohttp import web


def _event(kind: str, **fields: object) -> bytes:
    data = json.dumps({"type": kind, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode()


_USAGE = {"input_tokens": 1000, "output_tokens": 1}
_START = _event("message_start", message={"id": "m", "type": "message", "usage": _USAGE})
_BLOCK = _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
_END = (
    _event("content_block_stop", index=0)
    + _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 100})
    + _event("message_stop")
)


async def _serve() -> None:
    async def messages(request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        events, every = asked["max_tokens"], float(asked["stop_sequences"][0])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_START + _BLOCK)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(events):
            await asyncio.sleep(max(0.0, begun + number * every - loop.time()))
            delta = {"type": "text_delta", "text": f"@{time.time():.6f}@"}
            await response.write(_event("content_block_delta", index=0, delta=delta))
        await response.write(_END)
        return response

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/messages", messages)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    # Until whoever measures closes it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve())
