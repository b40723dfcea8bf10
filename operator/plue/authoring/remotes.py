"""Git repositories elsewhere: where git may go for them, and git that is held tight.

https and ssh only, no redirects, no configuration, hooks or helpers of this machine, a name that
is resolved once, by us, and never to an address that belongs to this machine or to its link.
Credentials come with the request and go with it; no command line shows them.
"""

import asyncio
import base64
import contextlib
import ipaddress
import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from plue.errors import RejectedError, UnavailableError

__all__ = [
    "MOST_BYTES",
    "At",
    "Git",
    "GitRequest",
    "Network",
    "Reach",
    "commit_of",
    "git_for",
    "in_time",
]

MOST_BYTES: Final = 512 * 1024 * 1024
"""What one fetch may write into one file: the repository's objects, as they are packed."""

_SECONDS: Final = 60.0
_BLOCK_BYTES: Final = 512
"""What the shell's ulimit counts in; some shells count in twice as much."""
_PORTS: Final[Mapping[str, int]] = {"https": 443, "ssh": 22}
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SYMREF: Final = "ref: "
_SCP: Final = re.compile(r"^(?P<user>[A-Za-z0-9_.-]+)@(?P<host>[A-Za-z0-9.-]+):(?P<path>[^\s:].*)$")
_HOST: Final = re.compile(r"^[A-Za-z0-9.-]+$|^[0-9a-fA-F:.]+$")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Reach:
    """Where fetches may go: not to these networks, and to this machine only if it says so."""

    refused: Sequence[Network] = ()
    loopback: bool = False
    nowhere: bool = False

    def allows(self, address: str) -> bool:
        """Return whether *address* may be fetched from."""
        found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        if found.is_loopback:
            return self.loopback
        if found.is_link_local or found.is_multicast or found.is_unspecified:
            return False
        return not any(found in network for network in self.refused)


@dataclass(frozen=True, slots=True)
class GitRequest:
    """What to fetch. ``known``: the commit whose files are here already.

    ``credentials`` are keys of a Secret: ``username`` and ``password`` for https, ``ca.crt`` for
    a host of one's own; ``ssh-privatekey`` and ``known_hosts`` for ssh.
    """

    url: str
    ref: str = "HEAD"
    path: str = "."
    known: str | None = None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class At:
    """A commit, and the full name of the branch or tag that has it, where one was asked for."""

    commit: str
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Remote:
    url: str
    scheme: str
    host: str
    port: int


@contextlib.asynccontextmanager
async def git_for(
    request: GitRequest, *, reach: Reach, most_bytes: int = MOST_BYTES
) -> AsyncIterator["Git"]:
    """Give git for the repository of *request*, in a folder of its own that goes at the end.

    Raises RejectedError when it is none that may be fetched, UnavailableError when its host has no
    address.
    """
    if reach.nowhere:
        raise RejectedError(
            "no git sources are fetched here",
            field="source.git",
            remedy="give spec.source.inline, or set the chart's evaluator.git.enabled",
        )
    remote = _remote_of(request.url)
    address = await _address(remote, reach)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="plue-git-"))
    try:
        yield Git(folder, remote, address, request.credentials, most_bytes)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def in_time(git: "Git") -> AsyncIterator[None]:
    """Give the host a minute for what is done within. Raises UnavailableError after it."""
    try:
        async with asyncio.timeout(_SECONDS):
            yield
    except TimeoutError as error:
        raise UnavailableError(
            f"{git.remote.host} did not give the repository within {_SECONDS:g} s",
            remedy="see whether the repository is far larger than its files need",
        ) from error


def _remote_of(url: str) -> Remote:
    """Return the parts of an address. Raises RejectedError."""
    scp = _SCP.match(url)
    if scp:
        url = f"ssh://{scp['user']}@{scp['host']}/{scp['path'].lstrip('/')}"
    remedy = "give https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise RejectedError(
            f"the address is not one: {error}", field="url", remedy=remedy
        ) from error
    if parts.scheme not in {"https", "ssh"} or not _HOST.match(host):
        raise RejectedError("the address is neither https nor ssh", field="url", remedy=remedy)
    if parts.password or (parts.scheme == "https" and parts.username):
        raise RejectedError(
            "the address holds a user or a password",
            field="url",
            remedy="put them into a Secret and name it in secretRef",
        )
    if (parts.username or "").startswith("-") or re.search(r"[\s\0]", url):
        raise RejectedError("the address is not one", field="url", remedy=remedy)
    return Remote(url, parts.scheme, host, port or _PORTS[parts.scheme])


async def _address(remote: Remote, reach: Reach) -> str:
    """Return the one address that is used. Raises RejectedError, UnavailableError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(remote.host, remote.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UnavailableError(f"{remote.host} has no address: {error.strerror}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    # All of them: a name that leads here and elsewhere is not one of a host outside.
    if not all(reach.allows(address) for address in addresses):
        raise RejectedError(
            f"{remote.host} is an address inside of the cluster, or of this machine",
            field="url",
            remedy="sources are fetched from hosts outside",
        )
    return addresses[0]


async def commit_of(git: "Git", ref: str) -> At:
    """Return the commit of *ref*. Raises RejectedError when there is no such ref."""
    if _COMMIT.fullmatch(ref):
        return At(ref)
    words = ("ls-remote", "--symref", "--", git.remote.url, ref, f"{ref}^{{}}")
    listed = (await git.run(*words)).decode(errors="replace")
    found: dict[str, str] = {}
    meant: dict[str, str] = {}
    for line in listed.splitlines():
        said, _, name = line.partition("\t")
        if said.startswith(_SYMREF):
            meant[name] = said.removeprefix(_SYMREF)
        else:
            found[name] = said
    # As git understands a short name; a tag's own object is not a commit.
    wanted = (
        (ref,)
        if ref == "HEAD" or ref.startswith("refs/")
        else (
            f"refs/tags/{ref}",
            f"refs/heads/{ref}",
            f"refs/remotes/{ref}",
        )
    )
    for name in wanted:
        for one in (f"{name}^{{}}", name):
            if _COMMIT.fullmatch(found.get(one, "")):
                full = meant.get(name, name)
                return At(found[one], full if full.startswith("refs/") else None)
    raise RejectedError(
        f"the repository has no branch, tag or commit {ref!r}",
        field="ref",
        remedy="name a branch, a tag or a whole commit",
    )


class Git:
    """Runs git with nothing but what a fetch needs."""

    def __init__(
        self,
        folder: Path,
        remote: Remote,
        address: str,
        credentials: Mapping[str, str],
        most_bytes: int,
    ) -> None:
        """Run it in *folder*, for *remote* at *address* alone."""
        self.remote = remote
        self.folder = folder
        self.most_bytes = most_bytes
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "https:ssh",
        }
        settings = [("credential.helper", ""), ("transfer.fsckObjects", "true")]
        if remote.scheme == "https":
            settings += self._https(address, credentials)
        else:
            self._environment["GIT_SSH_COMMAND"] = self._ssh(address, credentials)
        self._environment["GIT_CONFIG_COUNT"] = str(len(settings))
        for number, (key, value) in enumerate(settings):
            self._environment[f"GIT_CONFIG_KEY_{number}"] = key
            self._environment[f"GIT_CONFIG_VALUE_{number}"] = value

    def _https(self, address: str, credentials: Mapping[str, str]) -> list[tuple[str, str]]:
        remote = self.remote
        shown = f"[{address}]" if ":" in address else address
        settings = [
            ("http.followRedirects", "false"),
            ("http.proxy", ""),
            # Else a second look at the name could lead elsewhere than ours.
            ("http.curloptResolve", f"{remote.host}:{remote.port}:{shown}"),
            ("http.lowSpeedLimit", "1000"),
            ("http.lowSpeedTime", "20"),
        ]
        if "password" in credentials:
            pair = f"{credentials.get('username') or 'git'}:{credentials['password']}"
            encoded = base64.b64encode(pair.encode()).decode()
            settings.append(("http.extraHeader", f"Authorization: Basic {encoded}"))
        if "ca.crt" in credentials:
            settings.append(("http.sslCAInfo", self._keep("ca.crt", credentials["ca.crt"])))
        return settings

    def _ssh(self, address: str, credentials: Mapping[str, str]) -> str:
        for key in ("ssh-privatekey", "known_hosts"):
            if key not in credentials:
                raise RejectedError(
                    f"an ssh address needs the key {key} in its Secret",
                    field="secretRef",
                    remedy="`ssh-keyscan HOST` gives known_hosts; or use an https address",
                )
        # A file of OpenSSH's ends with a line's end, or it is not one.
        key = self._keep("ssh-privatekey", credentials["ssh-privatekey"].rstrip() + "\n")
        hosts = self._keep("known_hosts", credentials["known_hosts"].rstrip() + "\n")
        host, port = self.remote.host, self.remote.port
        alias = host if port == _PORTS["ssh"] else f"[{host}]:{port}"
        options = (
            f"HostName={address}",
            f"HostKeyAlias={alias}",
            f"IdentityFile={key}",
            f"UserKnownHostsFile={hosts}",
            "GlobalKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "ConnectTimeout=10",
        )
        # Git hands this to a shell; the folder is ours, and the host has letters, digits and dots.
        return " ".join(["ssh", "-F", "/dev/null", *(f"-o '{option}'" for option in options)])

    def _keep(self, name: str, text: str) -> str:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return str(path)

    async def get(self, commit: str, *place: str) -> None:
        """Fetch *commit* alone into the repository that *place*, options of git, names."""
        await self.run(
            *place,
            *("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--"),
            *(self.remote.url, commit),
        )

    async def run(self, *words: str, said: bytes = b"") -> bytes:
        """Return what git prints. Raises RejectedError, UnavailableError with its last words."""
        blocks = self.most_bytes // _BLOCK_BYTES
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", "git", *words),
            cwd=self.folder,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = await process.communicate(said)
        except BaseException:
            # Helpers included: git-remote-https and ssh are its children.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        if process.returncode != 0:
            raise _failure(self.remote, err.decode(errors="replace"))
        return out


_NO_COMMIT: Final = "there is no such commit"
_INSIDE: Final = "it gives only what a branch or a tag names"
_GUESSES: Final = (
    "fatal: Could not read from remote repository",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
)
"""What git says at the end of every failure of ssh; what happened stands above it."""
_MEANINGS: Final = (
    ("could not read Username", "it wants credentials, or others than these"),
    ("Authentication failed", "it refuses the credentials"),
    ("returned error: 401", "it wants other credentials"),
    ("returned error: 403", "it refuses access"),
    ("Permission denied", "it refuses the key"),
    ("Host key verification failed", "its host key is not the one in known_hosts"),
    ("/' not found", "there is no such repository, or it is not for these credentials"),
    ("epository not found", "there is no such repository, or it is not for these credentials"),
    ("does not appear to be a git repository", "there is no such repository"),
    ("unadvertised object", _INSIDE),
    ("not our ref", _NO_COMMIT),
    ("no such remote ref", _NO_COMMIT),
    ("unable to update url base from redirection", "it is somewhere else now"),
    ("died of signal 25", "the repository is too large to be fetched"),
    ("SSL certificate problem", "its certificate is signed by nobody who is trusted; see ca.crt"),
    (
        "server certificate verification failed",
        "its certificate is signed by nobody who is trusted",
    ),
)


def _failure(remote: Remote, said: str) -> RejectedError | UnavailableError:
    """Return what git's words mean: somebody must mend it, or it may go by itself."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(_GUESSES)] or lines
    last = (lines[-1] if lines else "git said nothing")[:300]
    for words, meaning in _MEANINGS:
        if words in said:
            told = next((line for line in reversed(lines) if words in line), last)[:300]
            field = "ref" if meaning in {_NO_COMMIT, _INSIDE} else "source.git"
            return RejectedError(f"{remote.host}: {meaning} ({told})", field=field)
    return UnavailableError(f"{remote.host}: {last}")
