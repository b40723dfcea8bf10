"""Faults of a cluster with Plue installed: what dies, and what a user notices of it meanwhile."""

import base64
import json
import os
import random
import secrets
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cluster.bed.namespaces import network_of
from cluster.bed.places import places
from cluster.installed import NAMESPACE, RELEASE, Installed
from cluster.operating import RUNNERS, until

__all__ = [
    "Users",
    "delete_pods_at_random",
    "halt_postgres",
    "kill",
    "kubelet_halted",
    "replace_credentials",
    "restart",
    "without_rights",
]

# ── processes of pods ────────────────────────────────────────────────────────────────────────────


def _processes_of(pod: dict[str, Any]) -> list[int]:
    """Return the processes of a pod's containers; what holds its namespaces is not among them."""
    uid = pod["metadata"]["uid"]
    found = []
    for file in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(OSError):
            if f"pod{uid}" in file.read_text():
                command = (file.parent / "cmdline").read_bytes()
                if not command.startswith(b"/pause"):
                    found.append(int(file.parent.name))
    return found


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def kill(plue: Installed, component: str, count: int | None = None) -> None:
    """Kill the processes of a component's pods at once, of *count* of them if it is given."""
    pods = plue.pods(component)[:count]
    pids = [pid for pod in pods for pid in _processes_of(pod)]
    assert pids, f"no process of {component} is there"
    _signal(pids, signal.SIGKILL)


def halt_postgres(plue: Installed, seconds: float) -> None:
    """Let the database answer nothing for so long, and crash then."""
    (pod,) = plue.pods("postgres")
    pids = _processes_of(pod)
    _signal(pids, signal.SIGSTOP)
    time.sleep(seconds)
    _signal(pids, signal.SIGKILL)


# ── processes of the node ────────────────────────────────────────────────────────────────────────


def _node_process(plue: Installed, name: str) -> int:
    """Return the process of a part of Kubernetes on the node, by the name it is started with."""
    status = Path(f"/proc/{plue.cluster.running.init}/ns/pid").readlink()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = file.read_bytes().split(b"\0")
            if words[1:2] == [name.encode()] and (file.parent / "ns/pid").readlink() == status:
                return int(file.parent.name)
    raise AssertionError(f"{name} does not run on the node")


def restart(plue: Installed, *names: str, away: float) -> None:
    """Kill parts of the control plane, and start them again as they were after *away* seconds."""
    commands = {}
    for name in names:
        pid = _node_process(plue, name)
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        commands[name] = [word.decode() for word in words]
        os.kill(pid, signal.SIGKILL)
        until(f"the end of {name}", lambda pid=pid: not Path(f"/proc/{pid}").exists())
    time.sleep(away)
    into = ("nsenter", "-t", str(plue.cluster.running.init), "-m", "-p", "-n", "--")
    for name, command in commands.items():
        with (places().state / "logs" / f"{name}.log").open("ab") as log:
            # It is the node's from now on, and ends with it.
            subprocess.run(
                ["setsid", "--fork", *into, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
                timeout=10,
            )


@contextmanager
def kubelet_halted(plue: Installed) -> Iterator[None]:
    """Halt the kubelet meanwhile: nobody starts or ends containers, and the node seems lost."""
    pid = _node_process(plue, "kubelet")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# ── objects ──────────────────────────────────────────────────────────────────────────────────────


def delete_pods_at_random(plue: Installed, seed: int, *, rounds: int, every: float) -> None:
    """Delete one pod of Plue or of a runner, any, *rounds* times."""
    choice = random.Random(seed)  # noqa: S311 - which pod, not a secret
    components = ("operator", "gateway", "api", "evaluator")
    for _ in range(rounds):
        pods = [*plue.runner_pods(), *(p for c in components for p in plue.pods(c))]
        pod = choice.choice(pods)["metadata"]
        where = ("-n", pod["namespace"], "--wait=false", "--grace-period=1", "--ignore-not-found")
        plue.cluster.kubectl("delete", "pod", pod["name"], *where)
        time.sleep(every)


@contextmanager
def without_rights(plue: Installed) -> Iterator[None]:
    """Take all bindings of the release away meanwhile."""
    kinds = "clusterrolebinding,rolebinding"
    ours = ("-A", "-l", f"app.kubernetes.io/instance={RELEASE}")
    found = json.loads(plue.cluster.kubectl("get", kinds, *ours, "-o", "json"))
    for binding in found["items"]:
        for name in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
            binding["metadata"].pop(name, None)
    assert len(found["items"]) >= 5
    for namespace in (NAMESPACE, RUNNERS):
        plue.cluster.kubectl("delete", kinds, "-n", namespace, *ours[1:])
    try:
        yield
    finally:
        plue.cluster.kubectl("create", "-f", "-", given=found)


_NEW_PASSWORD = (
    "import os, psycopg; from psycopg import sql;"
    " psycopg.connect(os.environ['PLUE_DATABASE'], autocommit=True).execute("
    "sql.SQL('ALTER ROLE plue PASSWORD {}').format(sql.Literal(os.environ['NEW'])))"
)


def replace_credentials(plue: Installed) -> None:
    """Replace all that Plue's components show each other, as `docs/operations.md` says.

    The database's password, the evaluator's token and, with their accounts, the components' tokens
    for the API server: each old one is worth nothing before any process knows its new one.
    """
    password = secrets.token_hex(20)
    for name, key, value in (
        ("database", "password", password),
        ("evaluator", "token", secrets.token_hex(20)),
    ):
        data = {"data": {key: base64.b64encode(value.encode()).decode()}}
        patch = ("-n", NAMESPACE, "-p", json.dumps(data))
        plue.cluster.kubectl("patch", "secret", f"{RELEASE}-{name}", *patch)
    (pod,) = plue.pods("operator")
    into = ("-n", NAMESPACE, pod["metadata"]["name"], "-c", "operator")
    change = ("env", f"NEW={password}", "python3", "-c", _NEW_PASSWORD)
    plue.cluster.kubectl("exec", *into, "--", *change)
    for component in ("operator", "gateway", "api"):
        name = f"{RELEASE}-{component}"
        account = plue.cluster.get("serviceaccount", name, NAMESPACE)
        for fact in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
            account["metadata"].pop(fact, None)
        plue.cluster.kubectl("delete", "serviceaccount", name, "-n", NAMESPACE)
        plue.cluster.kubectl("create", "-f", "-", given=account)
    ours = ("-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={RELEASE}")
    plue.cluster.kubectl("rollout", "restart", "deployment", *ours)
    plue.cluster.kubectl("rollout", "status", "deployment", *ours, "--timeout=110s")


# ── users ────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Users:
    """Somebody who asks the API for a list every fifth of a second, whatever happens."""

    plue: Installed
    away: float = 0.0
    """The longest time, in seconds, in which no answer began."""
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin to ask."""
        token = self.plue.token()
        url = f"http://{self.plue.service('api')}/api/v1/runs?limit=1"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        self._thread = threading.Thread(target=self._ask, args=(request,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Have the last answer."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _ask(self, request: urllib.request.Request) -> None:
        with network_of(self.plue.cluster.running.init):
            answered = time.monotonic()
            while not self._over.wait(0.2):
                with suppress(urllib.error.URLError, OSError):
                    with urllib.request.urlopen(request, timeout=5) as answer:
                        answer.read()
                    self.away = max(self.away, time.monotonic() - answered)
                    answered = time.monotonic()
            self.away = max(self.away, time.monotonic() - answered)
