"""A git host that speaks ssh, on loopback: ``git upload-pack`` behind a real ssh server."""

import asyncio
import contextlib
import os
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
from git_host import GitHost

__all__ = ["SshHost", "new_key", "ssh_host"]


def new_key() -> asyncssh.SSHKey:
    """Return a new private key."""
    return asyncssh.generate_private_key("ssh-ed25519")


def private_text(key: asyncssh.SSHKey) -> str:
    """Return a private key as OpenSSH keeps it in a file, and people in a Secret."""
    return key.export_private_key("openssh").decode()


class SshHost:
    """The repository ``/work.git``, opened by one key of the user ``git``."""

    def __init__(self, folder: Path) -> None:
        """Make an empty repository below *folder*."""
        self.repository = GitHost(folder)
        self.root = folder / "repositories"
        self.host_key = new_key()
        self.client_key = new_key()
        self.is_old = False
        """Whether it takes no environment, and so speaks git's first protocol."""
        self.commands: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        """The repository's address."""
        return f"ssh://git@localhost:{self.port}/work.git"

    def known_hosts(self, key: asyncssh.SSHKey | None = None) -> str:
        """Return what ``ssh-keyscan`` prints of a host with this key, or with the host's own."""
        public = (key or self.host_key).export_public_key("openssh").decode().strip()
        return f"[localhost]:{self.port} {public}\n"

    def credentials(self) -> dict[str, str]:
        """Return a Secret's keys that open the repository."""
        key = private_text(self.client_key)
        return {"ssh-privatekey": key, "known_hosts": self.known_hosts()}

    async def serve(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        """Do what a git host's shell does: one command, and only this one."""
        self.commands.append(process.command or "")
        words = shlex.split(process.command or "")
        if len(words) != 2 or words[0] != "git-upload-pack":
            process.stderr.write(b"only git-upload-pack\n")
            process.exit(128)
            return
        asked = "" if self.is_old else process.env.get("GIT_PROTOCOL", "")
        served = await asyncio.create_subprocess_exec(
            *("git", "-c", "safe.directory=*", "upload-pack", str(self.root) + words[1]),
            env={
                "PATH": os.environ["PATH"],
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_PROTOCOL": asked,
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert served.stdin is not None
        assert served.stdout is not None
        assert served.stderr is not None
        asks = asyncio.create_task(_pour(process.stdin, served.stdin))
        try:
            await asyncio.gather(
                _pour(served.stdout, process.stdout), _pour(served.stderr, process.stderr)
            )
            process.exit(await served.wait())
        finally:
            asks.cancel()
            if served.returncode is None:
                served.kill()
                await served.wait()


async def _pour(source: Any, sink: Any) -> None:
    """Copy what comes until its end; who hung up wants no more of it."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        if isinstance(sink, asyncio.StreamWriter):
            sink.close()


class _Door(asyncssh.SSHServer):
    """Lets one key in."""

    def __init__(self, key: asyncssh.SSHKey) -> None:
        self._public = key.public_data

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "git" and key.public_data == self._public


@contextlib.asynccontextmanager
async def ssh_host(folder: Path) -> AsyncIterator[SshHost]:
    """Give a host with an empty repository."""
    host = SshHost(folder)
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: _Door(host.client_key),
        server_host_keys=[host.host_key],
        process_factory=host.serve,
        encoding=None,
    )
    host.port = server.get_port()
    try:
        yield host
    finally:
        server.close()
        await server.wait_closed()
