"""How the API server is reached: from within a pod, or by a kubeconfig.

Tokens of service accounts are rotated on the disk, and so are the authorities beside them: when a
token is a minute old, both are read anew. An authority that has been trusted stays so until the
process ends, so both sides of a rotation can be served meanwhile.
"""

import base64
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from plue.errors import UsageError

__all__ = ["Login", "find_login"]

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_AGE = 60.0
_USUAL = Path("~/.kube/config")
_SECTIONS = ("contexts", "clusters", "users")


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


def find_login(
    environment: Mapping[str, str],
    *,
    context: str | None = None,
    programs: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Login:
    """Return the login that the surroundings give: a kubeconfig that is named, else the pod's.

    *programs* says that a program which the kubeconfig names may be run for a token, as kubectl
    does; only a person's own command may. Raises UsageError when there is none, or when it needs
    what we cannot do.
    """
    named = environment.get("KUBECONFIG", "")
    if named or context is not None:
        files = [Path(one) for one in named.split(os.pathsep) if one] or [_USUAL]
        return _from_kubeconfig(files, context, programs=programs, clock=clock)
    host = environment.get("KUBERNETES_SERVICE_HOST")
    if host:
        return _from_pod(host, environment.get("KUBERNETES_SERVICE_PORT", "443"), clock)
    return _from_kubeconfig([_USUAL], None, programs=programs, clock=clock)


def _from_pod(host: str, port: str, clock: Callable[[], float]) -> Login:
    host = f"[{host}]" if ":" in host else host
    authority = str(_ACCOUNT / "ca.crt")
    verify = ssl.create_default_context(cafile=authority)
    return Login(
        server=f"https://{host}:{port}",
        verify=verify,
        token=_token_of(_ACCOUNT / "token", clock, lambda: verify.load_verify_locations(authority)),
        namespace=(_ACCOUNT / "namespace").read_text().strip(),
    )


def _token_of(
    file: Path, clock: Callable[[], float], read_authority: Callable[[], None]
) -> Callable[[], str]:
    held: list[tuple[float, str]] = []

    def token() -> str:
        now = clock()
        if not held or now - held[0][0] > _TOKEN_AGE:
            read_authority()
            held[:] = [(now, file.read_text().strip())]
        return held[0][1]

    return token


def _merged(paths: Sequence[Path]) -> dict[str, Any]:
    """Return what several kubeconfigs say together: of two entries of a name the first counts.

    Each entry remembers its folder, which the files that it names are relative to.
    """
    whole: dict[str, Any] = {section: [] for section in _SECTIONS}
    for path in paths:
        config = yaml.safe_load(path.read_text()) or {}
        if "current-context" not in whole and config.get("current-context"):
            whole["current-context"] = config["current-context"]
        for section in _SECTIONS:
            whole[section] += [{**one, "folder": path.parent} for one in config.get(section) or []]
    return whole


def _from_kubeconfig(
    files: Sequence[Path],
    context: str | None,
    *,
    programs: bool,
    clock: Callable[[], float],
) -> Login:
    paths = [file.expanduser() for file in files]
    path = os.pathsep.join(map(str, paths))
    try:
        # As kubectl does: of several files some may be missing.
        config = _merged([one for one in paths if one.exists()] or paths)
        name = context or config["current-context"]
        chosen = _named(config, "contexts", name)["context"]
        cluster_entry = _named(config, "clusters", chosen["cluster"])
        user_entry = _named(config, "users", chosen["user"])
        cluster, user = cluster_entry["cluster"], user_entry["user"] or {}
        server = str(cluster["server"]).rstrip("/")
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} gives no login: {error}",
            field="kubeconfig",
            remedy="set KUBECONFIG to a file that `kubectl` can use",
        ) from error
    verify = _verification(cluster, user, cluster_entry["folder"], user_entry["folder"])

    def read_authority() -> None:
        if file := cluster.get("certificate-authority"):
            verify.load_verify_locations(str(cluster_entry["folder"] / file))

    token = _user_token(user)
    if "tokenFile" in user:
        token = _token_of(user_entry["folder"] / user["tokenFile"], clock, read_authority)
    if "exec" in user and programs:
        token = _program_token(user["exec"], user_entry["folder"])
    elif "exec" in user or "auth-provider" in user:
        raise UsageError(
            f"{path}: the user {chosen['user']!r} logs in by a program, which is not started here",
            remedy="use a kubeconfig with a token, or run this in the cluster",
        )
    return Login(
        server=server,
        verify=verify,
        token=token,
        namespace=str(chosen.get("namespace", "default")),
    )


def _named(config: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    for entry in config.get(section) or []:
        if entry["name"] == name:
            found: Mapping[str, Any] = entry
            return found
    raise KeyError(f"no {name!r} among its {section}")


def _user_token(user: Mapping[str, Any]) -> Callable[[], str | None]:
    token = user.get("token")
    return lambda: None if token is None else str(token)


def _program_token(program: Mapping[str, Any], folder: Path) -> Callable[[], str]:
    """Return what asks the program of a kubeconfig for a token, and again when it has expired."""
    held: list[tuple[datetime, str]] = []

    def token() -> str:
        now = datetime.now(UTC)
        if not held or held[0][0] - timedelta(seconds=10) < now:
            status = _asked(program, folder)
            expires = status.get("expirationTimestamp")
            until = now + timedelta(minutes=5)
            held[:] = [
                (datetime.fromisoformat(expires) if expires else until, str(status["token"]))
            ]
        return held[0][1]

    return token


def _asked(program: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Run the program as kubectl does; return the status of its ExecCredential."""
    command = str(program["command"])
    # As kubectl: a path is relative to the kubeconfig, a bare name is looked up.
    words = [str(folder / command) if os.sep in command else command, *(program.get("args") or ())]
    asked = {"apiVersion": program["apiVersion"], "kind": "ExecCredential"}
    more = {one["name"]: one["value"] for one in program.get("env") or ()}
    told = {"KUBERNETES_EXEC_INFO": json.dumps(asked | {"spec": {"interactive": False}})}
    remedy = str(program.get("installHint") or "see that `kubectl` can log in with this context")
    try:
        done = subprocess.run(
            words, env={**os.environ, **told, **more}, stdout=subprocess.PIPE, check=True
        )
        status: Mapping[str, Any] = json.loads(done.stdout)["status"]
        status["token"]  # certificates from programs are not read
    except (OSError, subprocess.CalledProcessError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"the login program {command!r} of the kubeconfig gave no token: {error}",
            field="kubeconfig",
            remedy=remedy,
        ) from error
    return status


def _verification(
    cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path, user_folder: Path
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
            str(user_folder / user["client-certificate"]), str(user_folder / user["client-key"])
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
