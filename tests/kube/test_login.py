"""How an API server is reached: kubeconfigs alone and together, and programs that log in."""

import json
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from git_host import self_signed

from plue.errors import UsageError
from plue.kube.login import find_login


def a_kubeconfig(path: Path, name: str, user: dict[str, Any], **more: Any) -> Path:
    """Write a kubeconfig of one context, cluster and user, all of *name*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config = {
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:6443"}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **more}}],
        "current-context": name,
    }
    path.write_text(yaml.safe_dump(config))
    return path


def test_several_kubeconfigs_are_one_as_for_kubectl(tmp_path: Path) -> None:
    """Contexts of all are known, the first current one counts, a missing file does not matter."""
    one = a_kubeconfig(tmp_path / "a" / "config", "one", {"token": "t1"})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "secret").write_text("t2\n")
    two = a_kubeconfig(tmp_path / "b" / "config", "two", {"tokenFile": "secret"}, namespace="team")
    where = {"KUBECONFIG": f"{one}:{tmp_path / 'missing'}:{two}"}
    first, second = find_login(where), find_login(where, context="two")
    assert (first.server, first.token(), first.namespace) == ("https://one:6443", "t1", "default")
    # Files that an entry names lie beside the file that it stands in.
    assert (second.server, second.token(), second.namespace) == ("https://two:6443", "t2", "team")
    with pytest.raises(UsageError, match="three"):
        find_login(where, context="three")


def a_program(folder: Path, status: dict[str, Any]) -> Path:
    """Write a login program that answers *status*, and counts how often it was asked."""
    program = folder / "login"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$KUBERNETES_EXEC_INFO $FLAVOUR $1" >> {folder}/asked\n'
        f"cat <<'END'\n{json.dumps(answer | {'status': status})}\nEND\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def an_exec(command: str) -> dict[str, Any]:
    """Return a kubeconfig's user who logs in by *command*."""
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": command,
            "args": ["get-token"],
            "env": [{"name": "FLAVOUR", "value": "plain"}],
            "installHint": "install the helper",
        }
    }


@pytest.mark.parametrize(
    ("expires", "asked"),
    [
        pytest.param("2100-01-01T00:00:00Z", 1, id="is-kept-while-it-is-valid"),
        pytest.param("2001-01-01T00:00:00Z", 2, id="is-asked-for-again-when-it-has-expired"),
    ],
)
def test_a_token_of_a_login_program(tmp_path: Path, expires: str, asked: int) -> None:
    """Clouds log in like this: the program is told of what, and its token is used as it says."""
    a_program(tmp_path, {"token": "fresh", "expirationTimestamp": expires})
    config = a_kubeconfig(tmp_path / "config", "cloud", an_exec("./login"))
    login = find_login({"KUBECONFIG": str(config)}, programs=True)
    assert [login.token(), login.token()] == ["fresh", "fresh"]
    lines = (tmp_path / "asked").read_text().splitlines()
    assert len(lines) == asked
    assert "ExecCredential" in lines[0]
    assert lines[0].endswith("plain get-token")


def test_servers_start_no_programs(tmp_path: Path) -> None:
    """Only a person's own command runs what a kubeconfig names."""
    config = a_kubeconfig(tmp_path / "config", "cloud", an_exec("./login"))
    with pytest.raises(UsageError, match="not started here"):
        find_login({"KUBECONFIG": str(config)})


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(None, id="no-such-program"),
        pytest.param({}, id="no-token"),
        pytest.param({"clientCertificateData": "x"}, id="a-certificate"),
    ],
)
def test_a_program_that_gives_no_token_says_what_to_install(
    tmp_path: Path, status: dict[str, Any] | None
) -> None:
    """With the hint of the kubeconfig."""
    if status is not None:
        a_program(tmp_path, status)
    config = a_kubeconfig(tmp_path / "config", "cloud", an_exec("./login"))
    login = find_login({"KUBECONFIG": str(config)}, programs=True)
    with pytest.raises(UsageError) as caught:
        login.token()
    assert caught.value.remedy == "install the helper"


@asynccontextmanager
async def an_api_server(certificate: Path, key: Path) -> AsyncIterator[str]:
    """Give the address of a server with this certificate; it says who asks."""

    async def who(request: web.Request) -> web.Response:
        return web.Response(text=request.headers["Authorization"])

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    app = web.Application()
    app.router.add_get("/", who)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"https://localhost:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_what_is_rotated_on_the_disk_is_read_anew(tmp_path: Path) -> None:
    """A process follows a new token and a new authority of the API server within a minute."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, new = self_signed(tmp_path / "old"), self_signed(tmp_path / "new")
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first\n")
    authority.write_bytes(old[0].read_bytes())
    config = a_kubeconfig(tmp_path / "config", "pod", {"tokenFile": "token"})
    text = yaml.safe_load(config.read_text())
    text["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
    config.write_text(yaml.safe_dump(text))
    now = 0.0
    login = find_login({"KUBECONFIG": str(config)}, clock=lambda: now)

    async with login.session(agent="test", timeout=aiohttp.ClientTimeout(10)) as http:

        async def said(url: str) -> str:
            async with http.get(url) as answer:
                return await answer.text()

        async with an_api_server(*old) as url:
            assert await said(url) == "Bearer first"
            token.write_text("second\n")
            authority.write_bytes(new[0].read_bytes())
        async with an_api_server(*new) as url:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await said(url)
            now += 61
            assert await said(url) == "Bearer second"
