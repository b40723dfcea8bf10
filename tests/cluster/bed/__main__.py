"""``python -m cluster.bed``: build, up, down, status, enter.

``up`` leaves one process behind. It holds the cluster's namespaces and relays the API server to a
port of this machine's loopback, so that kubectl needs no privileges; ``down`` ends it, and the
kernel ends the rest.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from cluster.bed.build import (
    build_control,
    build_helm,
    build_node,
    ensure_packages,
    find_kubectl,
)
from cluster.bed.control_plane import control_programs, write_kubeconfig
from cluster.bed.images import PAUSE, pause_archive, runner_archive, server_archive
from cluster.bed.machine import PodImages
from cluster.bed.namespaces import (
    die_with_parent,
    network_of,
    unshare_mounts,
    unshare_network_and_children,
)
from cluster.bed.node import Node
from cluster.bed.places import Places, places
from cluster.bed.say import BedError, tell
from cluster.bed.state import OurImages, Running, find_running

_UP_WITHIN = 480.0


def main() -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(prog="cluster.bed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build what is missing, and start nothing")
    build.add_argument("--played", action="store_true", help="only what needs no node")
    commands.add_parser("up", help="start the cluster, building what is missing")
    commands.add_parser("down", help="end the cluster; nothing of it stays")
    commands.add_parser("status", help="say whether it is up")
    enter = commands.add_parser("enter", help="run a command in the cluster's network")
    enter.add_argument("words", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    where = places()
    try:
        match given.command:
            case "build" if given.played:
                find_kubectl()
                control_programs(where)
                build_helm(where)
            case "build":
                _build(where)
            case "up":
                up(where)
            case "down":
                down(where)
            case "status":
                _status(where)
            case _:
                return _enter(where, given.words)
    except BedError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _build(where: Places) -> tuple[Path, PodImages, OurImages]:
    ensure_packages()
    find_kubectl()
    control = build_control(where)
    build_node(where)
    runner, runner_name = runner_archive(where)
    server, server_name = server_archive(where)
    archives = [pause_archive(where), runner, server]
    return control, PodImages(archives, pause=PAUSE), OurImages(runner_name, server_name)


def up(where: Places) -> Running:
    """Start the cluster unless it is up; return how to reach it. Raises BedError."""
    if (running := find_running(where)) is not None:
        tell(f"the cluster is up; its kubeconfig is {running.kubeconfig}")
        return running
    if os.geteuid() != 0:
        raise BedError("only root can make namespaces and mounts for a node")
    control, images, ours = _build(where)
    _remove_state(where)
    where.state.mkdir(parents=True)
    begun = time.monotonic()
    holder = os.fork()
    if holder == 0:
        _hold(where, control, images, ours)
    while (running := find_running(where)) is None:
        ended, _ = os.waitpid(holder, os.WNOHANG)
        if ended or time.monotonic() - begun > _UP_WITHIN:
            with suppress(ProcessLookupError):
                os.kill(holder, signal.SIGKILL)
            raise BedError(f"the cluster did not start:\n{_said(where)}")
        time.sleep(0.1)
    tell(f"the cluster is up after {time.monotonic() - begun:.0f} s")
    tell(f"export KUBECONFIG={running.kubeconfig}")
    return running


def down(where: Places) -> None:
    """End the cluster and wait until nothing of it is there."""
    running = find_running(where)
    if running is not None:
        os.kill(running.pid, signal.SIGKILL)
        end = time.monotonic() + 30
        while running.is_alive() or Path(f"/proc/{running.init}").exists():
            if time.monotonic() > end:
                raise BedError(f"process {running.init} does not end")
            time.sleep(0.05)
    _remove_state(where)
    tell("the cluster is down")


def _status(where: Places) -> None:
    running = find_running(where)
    if running is None:
        raise BedError("the cluster is not up; `make cluster-up` starts it")
    sys.stdout.write(json.dumps(running.record(), indent=2) + "\n")


def _enter(where: Places, words: list[str]) -> int:
    running = find_running(where)
    if running is None:
        raise BedError("the cluster is not up; `make cluster-up` starts it")
    environment = os.environ | {"KUBECONFIG": running.inner_kubeconfig}
    with network_of(running.init):
        return subprocess.run(words or ["bash"], env=environment, check=False).returncode


# ── the process that holds the cluster ───────────────────────────────────────────────────────────


def _hold(where: Places, control: Path, images: PodImages, ours: OurImages) -> None:
    """Be the process that stays: never returns."""
    os.setsid()
    os.closerange(3, 1024)
    log = os.open(where.state / "up.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # Bound here and now, this socket stays in the machine's own network.
    relay = socket.create_server(("127.0.0.1", 0))
    unshare_network_and_children()
    ready, said = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(ready)
        _be_init(where, control, images, said)
    os.close(said)
    with os.fdopen(ready) as pipe:
        token = pipe.read()
    if not token:
        os._exit(1)
    port: int = relay.getsockname()[1]
    kubeconfig = where.state / "kubeconfig"
    write_kubeconfig(kubeconfig, f"https://127.0.0.1:{port}", token)
    inner = where.state / "inner-kubeconfig"
    write_kubeconfig(inner, "https://127.0.0.1:6443", token)
    Running.of(os.getpid(), init, str(kubeconfig), str(inner), ours).save(where)
    asyncio.run(_relay(relay))


def _be_init(where: Places, control: Path, images: PodImages, said: int) -> None:
    """Be the first process of the PID namespace: start all, then reap what is orphaned."""
    die_with_parent()
    unshare_mounts()
    node = Node(where, control=control, cgroup=cgroup_of(where))
    try:
        node.start(images)
        os.write(said, node.token.encode())
        os.close(said)
        while True:
            # A component that ends leaves the cluster as a real one would be: degraded.
            os.waitpid(-1, 0)
    except BedError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
    os._exit(1)


async def _relay(listening: socket.socket) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", 6443)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, forth), _pump(back, writer))

    server = await asyncio.start_server(connected, sock=listening)
    await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


# ── what is on the disk ──────────────────────────────────────────────────────────────────────────


def cgroup_of(where: Places) -> str:
    """Return the name of the cluster's own root of control groups."""
    return f"plue-bed-{sha256(str(where.state).encode()).hexdigest()[:8]}"


def _remove_state(where: Places) -> None:
    for hierarchy in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")):
        root = hierarchy / cgroup_of(where)
        if root.exists():
            for folder in sorted(root.rglob("*/"), key=lambda f: -len(f.parts)):
                folder.rmdir()
            root.rmdir()
    shutil.rmtree(where.state, ignore_errors=True)


def _said(where: Places) -> str:
    with suppress(OSError):
        return "\n".join((where.state / "up.log").read_text().splitlines()[-30:])
    return ""


if __name__ == "__main__":
    sys.exit(main())
