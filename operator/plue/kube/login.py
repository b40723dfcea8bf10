"""How the API server is reached: from within a pod, or by a kubeconfig.

Tokens of service accounts are rotated on the disk, so a token is read anew when it is a minute old.
"""

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from plue.errors import UsageError

__all__ = ["Login", "find_login"]

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_AGE = 60.0


@dataclass(frozen=True, slots=True)
class Login:
    """One API server and who we are there; ``token`` returns None where a certificate says it."""

    server: str
    verify: ssl.SSLContext
    token: Callable[[], str | None]
    namespace: str

    def session(self, *, agent: str, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        """Return an HTTP session that says who we are with every request. Needs a running loop."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.verify, limit=64),
            timeout=timeout,
            headers={"User-Agent": agent, "Accept": "application/json"},
            middlewares=(self._authorize,),
        )

    async def _authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        token = self.token()
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        return await handler(request)


def find_login(environment: Mapping[str, str], *, context: str | None = None) -> Login:
    """Return the login that the surroundings give: a kubeconfig that is named, else the pod's.

    Raises UsageError when there is none, or when it needs what we cannot do.
    """
    named = environment.get("KUBECONFIG", "")
    if named or context is not None:
        return _from_kubeconfig(Path((named or "~/.kube/config").split(":")[0]), context)
    host = environment.get("KUBERNETES_SERVICE_HOST")
    if host:
        return _from_pod(host, environment.get("KUBERNETES_SERVICE_PORT", "443"))
    return _from_kubeconfig(Path("~/.kube/config"), None)


def _from_pod(host: str, port: str) -> Login:
    host = f"[{host}]" if ":" in host else host
    return Login(
        server=f"https://{host}:{port}",
        verify=ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt")),
        token=_token_of(_ACCOUNT / "token"),
        namespace=(_ACCOUNT / "namespace").read_text().strip(),
    )


def _token_of(file: Path) -> Callable[[], str]:
    held: list[tuple[float, str]] = []

    def token() -> str:
        now = time.monotonic()
        if not held or now - held[0][0] > _TOKEN_AGE:
            held[:] = [(now, file.read_text().strip())]
        return held[0][1]

    return token


def _from_kubeconfig(path: Path, context: str | None) -> Login:
    path = path.expanduser()
    try:
        config = yaml.safe_load(path.read_text())
        name = context or config["current-context"]
        chosen = _named(config, "contexts", name)["context"]
        cluster = _named(config, "clusters", chosen["cluster"])["cluster"]
        user = _named(config, "users", chosen["user"])["user"]
        server = str(cluster["server"]).rstrip("/")
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} gives no login: {error}",
            field="kubeconfig",
            remedy="set KUBECONFIG to a file that `kubectl` can use",
        ) from error
    if "exec" in user or "auth-provider" in user:
        raise UsageError(
            f"{path}: the user {chosen['user']!r} logs in by a program, which the operator does"
            " not start",
            remedy="run the operator in the cluster, or use a kubeconfig with a token",
        )
    return Login(
        server=server,
        verify=_verification(cluster, user, path.parent),
        token=_user_token(user, path.parent),
        namespace=str(chosen.get("namespace", "default")),
    )


def _named(config: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    for entry in config.get(section) or []:
        if entry["name"] == name:
            found: Mapping[str, Any] = entry
            return found
    raise KeyError(f"no {name!r} among its {section}")


def _user_token(user: Mapping[str, Any], folder: Path) -> Callable[[], str | None]:
    if "tokenFile" in user:
        return _token_of(folder / user["tokenFile"])
    token = user.get("token")
    return lambda: None if token is None else str(token)


def _verification(
    cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path
) -> ssl.SSLContext:
    authority = None
    if "certificate-authority-data" in cluster:
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    file = cluster.get("certificate-authority")
    verify = ssl.create_default_context(
        cadata=authority, cafile=None if file is None else str(folder / file)
    )
    if cluster.get("insecure-skip-tls-verify"):
        verify.check_hostname = False
        verify.verify_mode = ssl.CERT_NONE
    if "client-certificate-data" in user:
        _load_certificate(verify, user)
    elif "client-certificate" in user:
        verify.load_cert_chain(
            str(folder / user["client-certificate"]), str(folder / user["client-key"])
        )
    return verify


def _load_certificate(verify: ssl.SSLContext, user: Mapping[str, Any]) -> None:
    """Load a certificate that stands in the kubeconfig; OpenSSL reads them from files only."""
    descriptor, name = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(
                base64.b64decode(user[key]) + b"\n"
                for key in ("client-certificate-data", "client-key-data")
            )
        verify.load_cert_chain(name)
    finally:
        with suppress(OSError):
            Path(name).unlink()
