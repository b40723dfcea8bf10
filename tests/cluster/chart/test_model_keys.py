"""A model's key with the chart: who has it, and how it is replaced."""

import asyncio
import base64
import json
from collections.abc import Iterator

import pytest
from cluster.bed.node import GATEWAY
from cluster.installed import NAMESPACE, RELEASE, STEP, Installed
from cluster.operating import until, workflow_run

from plue.dev.model_server import ModelServer
from plue.dev.script import Script

PORT = 8443
"""Where the models are, as far as the chart's networks know: on the node, which the test serves."""

FIRST, SECOND = "key-that-is-replaced", "key-that-replaces-it"
SECRET = "plue-models"
ASKS = """
from plue import workflow
from plue.prompts import Greet

@workflow()
def ci(ctx):
    ctx.run("look", "env; cat /proc/[0-9]*/environ | tr '\\\\0' '\\\\n'")
    Greet()
"""
PROMPT = """---
name: Greet
type: llm
client: anthropic/claude-haiku
output:
  word: string
---
Say something kind.
"""
SCRIPT = Script.model_validate(
    {"conversations": [{"match": "kind", "turns": [{"json": {"word": "well"}}]}]}
)


@pytest.fixture
def asking(plue: Installed) -> Iterator[Installed]:
    """Give the release with a key, and with models that are on the node."""
    url = f"http://{GATEWAY}:{PORT}"
    plue.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": NAMESPACE},
            "stringData": {"ANTHROPIC_API_KEY": FIRST, "ANTHROPIC_BASE_URL": url},
        }
    )
    before = plue.values
    networks = {**before["networkPolicies"]}
    networks["models"] = {"cidrs": [f"{GATEWAY}/32"], "ports": [PORT], "dns": False}
    models = {"existingSecret": SECRET}
    plue.values = {**before, "networkPolicies": networks, "models": models}
    plue.upgrade()
    yield plue
    plue.values = before
    plue.upgrade()
    plue.cluster.kubectl("delete", "secret", SECRET, "-n", NAMESPACE)


def _asked(plue: Installed) -> str:
    """Make a run that asks a model; return all that its steps have printed."""
    run = workflow_run(ASKS)
    run["spec"]["source"]["inline"]["prompts"] = {"greet.prompt.md": PROMPT}
    plue.cluster.apply(run)
    name = run["metadata"]["name"]
    assert plue.ended(name)["phase"] == "Succeeded", plue.log(name)
    return plue.log(name)


def _replace_key(plue: Installed) -> None:
    """Do what docs/operations.md says."""
    data = {"data": {"ANTHROPIC_API_KEY": base64.b64encode(SECOND.encode()).decode()}}
    where = ("-n", NAMESPACE)
    plue.cluster.kubectl("patch", "secret", SECRET, *where, "-p", json.dumps(data))
    gateway = f"deployment/{RELEASE}-gateway"
    plue.cluster.kubectl("rollout", "restart", gateway, *where)
    plue.cluster.kubectl("rollout", "status", gateway, *where, "--timeout=110s")


async def test_a_models_key_is_replaced(asking: Installed) -> None:
    """The gateway shows the new one when it was restarted, no step sees any, and runs go on."""
    plue = asking
    async with ModelServer(SCRIPT, key=FIRST, host=GATEWAY, port=PORT):
        said = await asyncio.to_thread(_asked, plue)
    assert "PLUE_RUN_ID" in said
    assert FIRST not in said
    held = await asyncio.to_thread(
        plue.apply, STEP.format(command="sleep 15; echo fine", options=""), 3
    )
    await asyncio.to_thread(
        until, "some run", lambda: "Running" in plue.phases().values(), seconds=60
    )
    await asyncio.to_thread(_replace_key, plue)
    async with ModelServer(SCRIPT, key=SECOND, host=GATEWAY, port=PORT) as server:
        said = await asyncio.to_thread(_asked, plue)
        assert {call.headers["x-api-key"] for call in server.calls} == {SECOND}
    assert SECOND not in said
    await asyncio.to_thread(plue.assert_each_ran_once, held)
