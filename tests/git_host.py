"""A git host on loopback: ``git http-backend`` behind TLS, as git hosts speak it."""

import asyncio
import base64
import contextlib
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from aiohttp import web

__all__ = ["GitHost", "git_host", "self_signed"]

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


class GitHost:
    """One repository, ``/work.git``, that wants the password ``secret`` when it has ``private``."""

    def __init__(self, folder: Path) -> None:
        """Make an empty repository below *folder*."""
        self.work = folder / "work"
        self.url = ""
        self.ca = ""
        self.private = False
        self.requests: list[str] = []
        self.git("init", "--quiet", "--initial-branch=main", str(self.work), at=folder)
        (folder / "repositories").mkdir()
        (folder / "repositories" / "work.git").symlink_to(self.work / ".git")
        self._root = folder / "repositories"

    def git(self, *words: str, at: Path | None = None) -> str:
        """Return what git prints in the working tree."""
        done = subprocess.run(
            ["git", *words],
            cwd=at or self.work,
            env=_ENVIRONMENT,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str]) -> str:
        """Commit *files* and return the commit."""
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=more")
        return self.git("rev-parse", "HEAD")

    async def handle(self, request: web.Request) -> web.Response:
        """Answer as the repository does."""
        self.requests.append(request.path_qs)
        expected = "Basic " + base64.b64encode(b"git:secret").decode()
        if self.private and request.headers.get("Authorization") != expected:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        body = await request.read()
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            env={
                **_ENVIRONMENT,
                "GIT_PROJECT_ROOT": str(self._root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "REQUEST_METHOD": request.method,
                "PATH_INFO": request.path,
                "QUERY_STRING": request.query_string,
                "CONTENT_TYPE": request.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
                "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        answer, _ = await process.communicate(body)
        head, _, rest = answer.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200").split(" ", 1)[0])
        return web.Response(status=status, body=rest, headers=headers)


def self_signed(folder: Path, alternative: str = "DNS:localhost") -> tuple[Path, Path]:
    """Return certificate and key for a name, or for an address as in ``IP:127.0.0.1``."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    name = ["-subj", "/CN=localhost", "-addext", f"subjectAltName={alternative}"]
    subprocess.run(
        ["openssl", *words.split(), *name, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    return certificate, key


@contextlib.asynccontextmanager
async def git_host(folder: Path, address: str = "", port: int = 0) -> AsyncIterator[GitHost]:
    """Give a host with an empty repository: ``localhost``, or one that is known by its address."""
    host = GitHost(folder)
    certificate, key = self_signed(folder, f"IP:{address}" if address else "DNS:localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", host.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address or "127.0.0.1", port, ssl_context=context)
        await site.start()
        host.url = f"https://{address or 'localhost'}:{runner.addresses[0][1]}/work.git"
        host.ca = certificate.read_text()
        yield host
    finally:
        await runner.cleanup()
