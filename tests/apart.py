"""The evaluator's server on a real socket, and its client."""

import contextlib
from collections.abc import AsyncGenerator

from aiohttp import web

from plue.authoring.evaluator import Evaluator
from plue.kube.evaluating import RemoteEvaluator, evaluator_app

TOKEN = "a-token-of-this-test"


@contextlib.asynccontextmanager
async def asking(evaluator: Evaluator) -> AsyncGenerator[RemoteEvaluator, None]:
    """Serve *evaluator*, started or not, and give who asks it."""
    runner = web.AppRunner(evaluator_app(evaluator, token=TOKEN))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    remote = RemoteEvaluator(f"http://127.0.0.1:{runner.addresses[0][1]}", token=TOKEN)
    await remote.start()
    try:
        yield remote
    finally:
        await remote.close()
        await runner.cleanup()
