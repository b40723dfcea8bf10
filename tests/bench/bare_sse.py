"""The reference for subscribers: an aiohttp endpoint that writes ready bytes, and nothing else.

`python -m bench.bare_sse COUNT TIMES EVERY` serves: once COUNT clients are there it writes TIMES
events to each, and tells its address first and its CPU seconds last.
"""

import asyncio
import sys
import time

from aiohttp import web

from bench.sse import follower
from bench.usage import own_cpu
from bench.world import environment

__all__ = ["bare_latencies"]


async def bare_latencies(count: int, times: int, every: float) -> tuple[list[float], float]:
    """Return the latencies that *count* clients see, and the server's CPU seconds."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bare_sse", str(count), str(times), str(every)),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    crowd = [await follower(url, "/", "none") for _ in range(count)]
    async with asyncio.timeout(times * every + 120):
        await asyncio.gather(*(one.over for one in crowd))
    cpu = float(await process.stdout.readline())
    await process.wait()
    return [value for one in crowd for value in one.latencies], cpu


async def _serve(count: int, times: int, every: float) -> None:
    here: set[web.StreamResponse] = set()
    everybody, over = asyncio.Event(), asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"retry: 1000\n\n")
        here.add(response)
        if len(here) == count:
            everybody.set()
        await over.wait()
        return response

    app = web.Application()
    app.router.add_get("/", stream)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await everybody.wait()
    begun = own_cpu()
    for n in range(times):
        body = f'{{"run":"{"0" * 36}","n":{n},"body":{{"text":"@{time.time():.6f}@"}}}}'
        event = f"id: {n}\nevent: step_output\ndata: {body}\n\n".encode()
        for response in here:
            await response.write(event)
        await asyncio.sleep(every)
    for response in here:
        await response.write(b"id: 0\nevent: run_completed\ndata: {}\n\n")
    print(own_cpu() - begun, flush=True)
    over.set()
    await asyncio.sleep(0.5)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
