"""A node that is played: pods of a real API server, whose runners are processes of this machine.

It does what a kubelet does for pods of runners: binds them, starts a runner with a token that the
API server made for that very pod, tells the pod's phase, and ends the runner when its pod is
deleted. So what operators do can be tested without root, without images and within seconds; what
isolates a runner cannot, and has the real node.
"""

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from cluster.operating import RUNNERS, Cluster

from plue.errors import ConflictError, NotFoundError, UnavailableError
from plue.kube.client import ApiClient
from plue.kube.login import find_login
from plue.kube.pod_template import AUDIENCE, POOL_LABEL
from plue.kube.pods import PODS
from plue.local.processes import runner_environment

__all__ = ["NODE", "PlayedNode"]

from plue.kube.client import Place

NODE = "played"
_ACCOUNTS = Place("v1", "serviceaccounts")
_LOOK_EVERY = 0.05


@dataclass(slots=True)
class _Runner:
    process: "subprocess.Popen[bytes]"
    is_told: bool = False


class PlayedNode:
    """Plays the kubelet from ``start`` to ``close``, in a thread of its own."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        """Keep the runners' homes in *folder*."""
        self._cluster = cluster
        self._folder = folder
        self._runners: dict[str, _Runner] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="node", daemon=True)
        self.halted = threading.Event()
        """While it is set nothing is done, as on a node whose kubelet has stopped."""
        self.failure: BaseException | None = None
        self.name = NODE
        """The node that new pods come to."""
        self.silent: set[str] = set()
        """Nodes whose kubelet does nothing any more."""

    def __enter__(self) -> Self:
        """Start it."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._stop.set()
        self._thread.join(timeout=30)
        for runner in self._runners.values():
            runner.process.kill()
            runner.process.wait()
        assert self.failure is None, self.failure

    def kill(self, pod: str, *, quietly: bool = False) -> None:
        """End a pod's runner as the kernel does; *quietly*, without telling the API server."""
        runner = self._runners[pod]
        runner.is_told = quietly
        runner.process.kill()

    def freeze(self, pod: str) -> list[psutil.Process]:
        """Halt a pod's runner and its steps, as when its machine stops; return them."""
        runner = psutil.Process(self._runners[pod].process.pid)
        runner.suspend()  # first, so that it starts nothing more
        halted = [runner, *runner.children(recursive=True)]
        for process in halted[1:]:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        return halted

    def _play(self) -> None:
        try:
            asyncio.run(self._forever())
        except BaseException as error:  # noqa: BLE001 - the test's end raises it
            self.failure = error

    async def _forever(self) -> None:
        async with ApiClient(find_login({"KUBECONFIG": self._cluster.kubeconfig})) as api:
            while not self._stop.is_set():
                if not self.halted.is_set():
                    async for page in api.pages(PODS, namespace=RUNNERS, labels=POOL_LABEL):
                        await asyncio.gather(*(self._attend(api, pod) for pod in page["items"]))
                await asyncio.sleep(_LOOK_EVERY)

    async def _attend(self, api: ApiClient, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        if pod["spec"].get("nodeName") in self.silent:
            return
        # Whoever deletes or changes the pod meanwhile is seen at the next look.
        with suppress(NotFoundError, ConflictError, UnavailableError):
            if pod["metadata"].get("deletionTimestamp"):
                await self._end(api, name)
            elif not pod["spec"].get("nodeName"):
                if not pod["spec"].get("nodeSelector"):
                    await _bind(api, name, self.name)
            elif name not in self._runners:
                if pod["status"].get("phase") == "Pending" and not _is_image_missing(pod):
                    await self._start(api, pod)
                elif _is_image_missing(pod):
                    await _tell(api, name, _waiting(pod))
            else:
                await self._look(api, pod)

    async def _start(self, api: ApiClient, pod: dict[str, Any]) -> None:
        name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]
        token = await _token(api, pod)
        home = self._folder / name
        home.mkdir(parents=True)
        arguments = [str(home) if word == "/workspace" else word for word in container["args"]]
        with (home / "runner.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: ASYNC220 - quick, and the thread is ours
                [sys.executable, "-m", "plue_runner", *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=runner_environment(os.environ),
                start_new_session=True,
            )
        self._runners[name] = _Runner(process)
        assert process.stdin is not None
        process.stdin.write(token.encode() + b"\n")
        process.stdin.close()
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        await _tell(
            api,
            name,
            {
                "phase": "Running",
                "startTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "containerStatuses": [_container(state)],
            },
        )

    async def _look(self, api: ApiClient, pod: dict[str, Any]) -> None:
        """Tell that a runner has ended by itself, unless somebody wrote an end already."""
        name = pod["metadata"]["name"]
        runner = self._runners[name]
        code = runner.process.poll()
        if code is None or runner.is_told:
            return
        runner.is_told = True
        if pod["status"].get("phase") in {"Succeeded", "Failed"}:
            return
        ended = {"exitCode": code if code >= 0 else 128 - code, "reason": "Error"}
        phase = "Failed" if code else "Succeeded"
        await _tell(
            api, name, {"phase": phase, "containerStatuses": [_container({"terminated": ended})]}
        )

    async def _end(self, api: ApiClient, name: str) -> None:
        runner = self._runners.get(name)
        if runner is not None and runner.process.poll() is None:
            runner.process.terminate()
            for _ in range(100):
                if runner.process.poll() is not None:
                    break
                await asyncio.sleep(0.02)
            else:
                runner.process.kill()
                runner.process.wait()
        if runner is not None:
            code = runner.process.returncode
            ended = {"exitCode": code if code >= 0 else 128 - code, "reason": "Error"}
            status = {
                "phase": "Failed" if code else "Succeeded",
                "containerStatuses": [_container({"terminated": ended})],
            }
            with suppress(NotFoundError):
                await _tell(api, name, status)
        await api.delete(PODS, RUNNERS, name, grace=0)


async def _bind(api: ApiClient, name: str, node: str) -> None:
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": RUNNERS},
        "target": target,
    }
    await api.create_sub(PODS, RUNNERS, name, "binding", body)


async def _token(api: ApiClient, pod: dict[str, Any]) -> str:
    reference = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
    }
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [AUDIENCE], "boundObjectRef": reference},
    }
    account = pod["spec"]["serviceAccountName"]
    made = await api.create_sub(_ACCOUNTS, RUNNERS, account, "token", body)
    token: str = made["status"]["token"]
    return token


async def _tell(api: ApiClient, name: str, status: dict[str, Any]) -> None:
    await api.patch(PODS, RUNNERS, name, {"status": status}, sub="status")


def _container(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "runner",
        "image": "played",
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def _is_image_missing(pod: dict[str, Any]) -> bool:
    return "no-such-image" in pod["spec"]["containers"][0]["image"]


def _waiting(pod: dict[str, Any]) -> dict[str, Any]:
    image = pod["spec"]["containers"][0]["image"]
    waiting = {"reason": "ErrImagePull", "message": f"{image}: not found"}
    return {"phase": "Pending", "containerStatuses": [_container({"waiting": waiting})]}
