"""The provider's key is with the gateway alone: looked for as a step, and in all that is recorded.

The key is in a Secret as an administrator makes it; the model server answers nobody without it.
"""

import asyncio
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from cluster.bed.node import GATEWAY
from cluster.installed import NAMESPACE, Installed
from cluster.operating import RUNNERS, workflow_run
from keys import LOOKS, NOWHERE, backwards

from plue.dev.model_server import ModelServer
from plue.dev.script import Script

KEY = "sk-ant-a-key-that-only-the-gateway-has"
KNOWN = "a-word-that-is-known-to-be-there"
PORT = 8790
SOURCE = f"""
from plue import workflow
from plue.prompts import Look

@workflow()
def ci(ctx):
    ctx.run("plant", "printf %s $WORD > planted.txt", env={{"WORD": "{KNOWN}"}})
    found = Look()
    return ctx.success(fine=found.fine)
"""
PROMPT = """---
name: look
type: agent
tools: [shell]
output:
  fine: boolean
---
Look around.
"""
COMMAND = (
    f"cat > look.py <<'END'\n{LOOKS}\nEND\n"
    "export PLANTED=$(cat planted.txt)\n"
    f"python3 look.py all {backwards(KEY, KNOWN)} /"
)
TURNS: dict[str, Any] = {
    "conversations": [
        {
            "turns": [
                {"text": "I look.", "tools": [{"name": "shell", "input": {"command": COMMAND}}]},
                {"tools": [{"name": "finish", "input": {"fine": True}}]},
            ]
        }
    ]
}


@pytest.fixture(scope="module")
def models(plue: Installed) -> Iterator[ModelServer]:
    """Have the release ask a model server on the node, with a key out of a Secret."""
    server = ModelServer(Script.parse(json.dumps(TURNS)), key=KEY, host=GATEWAY, port=PORT)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    # Begun here, where this process is in the node's network.
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(20)
    before = deepcopy(plue.values)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "model-key", "namespace": NAMESPACE},
        "stringData": {
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": f"http://{GATEWAY}:{PORT}",
        },
    }
    plue.cluster.apply(secret)
    plue.values["models"] = {"existingSecret": "model-key"}
    plue.values["networkPolicies"]["models"] = {
        "cidrs": [f"{GATEWAY}/32"],
        "ports": [PORT],
        "dns": False,
    }
    try:
        plue.upgrade()
        plue.wait_until_warm()
        yield server
    finally:
        plue.values = before
        plue.upgrade()
        plue.wait_until_warm()
        plue.cluster.kubectl("delete", "secret", "model-key", "-n", NAMESPACE)
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)


@pytest.fixture(scope="module")
def run(plue: Installed, models: ModelServer) -> str:
    """Give the name of a run whose agent looked everywhere in its sandbox."""
    wanted = workflow_run(SOURCE)
    wanted["spec"]["source"]["inline"]["prompts"] = {"look.prompt.md": PROMPT}
    plue.cluster.apply(wanted)
    name: str = wanted["metadata"]["name"]
    status = plue.ended(name, 240)
    assert status["phase"] == "Succeeded", (status, plue.log(name))
    assert [call.headers["x-api-key"] for call in models.calls] == [KEY, KEY]
    return name


def test_no_key_is_in_a_sandbox(plue: Installed, run: str) -> None:
    """Not in a process's memory, environment or arguments, nor in any file that a step can read."""
    looked = looked_in(plue.log(run))
    assert looked["key"] == NOWHERE
    # It did look, and would have found it.
    assert looked["known"]["environ"] > 0, looked
    assert looked["known"]["files"] > 0, looked


def test_no_key_is_in_what_a_run_leaves(plue: Installed, run: str) -> None:
    """Not in its events, logs and status, nor in any resource but the Secret itself."""
    uid = plue.cluster.get("wfr", run)["metadata"]["uid"]
    paths = ("", "/plan", "/logs", "/usage", "/budgets")
    told = [
        json.dumps(plue.events(run)),
        *(plue.ask(f"/api/v1/runs/{uid}{p}").decode() for p in paths),
    ]
    assert not any(KEY in text for text in told)
    assert "llm_token" in told[0]
    kinds = "pods,configmaps,deployments,statefulsets,events"
    for where in (NAMESPACE, RUNNERS, "default"):
        assert KEY not in plue.cluster.kubectl("get", f"{kinds},wfr,wf", "-n", where, "-o", "yaml")


@pytest.mark.parametrize("component", ["operator", "api", "gateway", "evaluator", "postgres"])
def test_no_key_is_in_a_log(plue: Installed, run: str, component: str) -> None:
    """Of no component, the one that holds the key included."""
    for pod in plue.pods(component):
        log = plue.cluster.kubectl("logs", "-n", NAMESPACE, pod["metadata"]["name"])
        assert KEY not in log


@pytest.mark.parametrize(
    ("component", "has_it"),
    [
        ("operator", False),
        ("api", False),
        ("evaluator", False),
        ("postgres", False),
        ("gateway", True),
    ],
)
def test_only_the_gateway_holds_the_key(
    plue: Installed, run: str, component: str, has_it: bool
) -> None:
    """In its processes and files, the database's own included, as far as they can be read there."""
    pod = plue.pods(component)[0]["metadata"]["name"]
    done = subprocess.run(
        [
            *("kubectl", f"--kubeconfig={plue.cluster.running.inner_kubeconfig}"),
            *("exec", "-i", "-n", NAMESPACE, pod, "--", "python3", "-", "all"),
            *backwards(KEY, KNOWN).split(),
            *("/var/lib/plue", "/tmp", "/etc/plue"),
        ],
        input=LOOKS,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    looked = looked_in(done.stdout)
    assert looked["looked"]["environ"] > 0
    assert (looked["key"] != NOWHERE) == has_it, looked
    if component == "postgres":
        assert looked["known"]["files"] > 0, looked


def looked_in(log: str) -> dict[str, Any]:
    """Return what the program printed."""
    found: dict[str, Any] = json.loads(re.findall(r"LOOKED (\{.*?\}\})", log)[0])
    return found
