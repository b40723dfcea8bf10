"""Fetches the ``.plue/`` of a git repository: one commit, no checkout, nothing of this machine's.

What is fetched is text that is evaluated in the sandbox afterwards; what git itself is given is
held tight: https and ssh only, no redirects, no configuration, hooks or helpers of this machine,
a name that is resolved once, by us, and never to an address that belongs to this machine or to
its link. Credentials come with the request and go with it; no command line shows them.
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from plue.authoring.sources import MAX_FILE_BYTES, must_be_text
from plue.errors import RejectedError, UnavailableError

__all__ = ["Fetched", "GitRequest", "Network", "Reach", "fetch"]

_SECONDS: Final = 60.0
_DISK_BLOCKS: Final = 1_048_576
"""What one fetch may write into one file, in blocks of 512 bytes (of 1 KiB in some shells)."""
_TOTAL_BYTES: Final = 16 * 1024 * 1024
_FILES: Final = 2000
_PORTS: Final[Mapping[str, int]] = {"https": 443, "ssh": 22}
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SCP: Final = re.compile(r"^(?P<user>[A-Za-z0-9_.-]+)@(?P<host>[A-Za-z0-9.-]+):(?P<path>[^\s:].*)$")
_HOST: Final = re.compile(r"^[A-Za-z0-9.-]+$|^[0-9a-fA-F:.]+$")
_TREE_ENTRY: Final = re.compile(
    rb"^(?P<mode>\d{6}) (?P<kind>\w+) (?P<id>[0-9a-f]+) +(?P<size>\d+|-)\t(?P<path>.*)$", re.DOTALL
)

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
class Fetched:
    """A commit, and its files by their path (``.plue/…``); None when it is the known one."""

    commit: str
    files: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class _Remote:
    url: str
    scheme: str
    host: str
    port: int


async def fetch(request: GitRequest, *, reach: Reach) -> Fetched:
    """Return the commit that the ref names now, and its files unless they are known.

    Raises RejectedError for what its author must mend, UnavailableError when the host is away or
    takes more than a minute.
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
        git = _Git(folder, remote, address, request.credentials)
        async with asyncio.timeout(_SECONDS):
            commit = await _commit_of(git, request.ref)
            if commit == request.known:
                return Fetched(commit, None)
            await git.run("init", "--quiet", "--bare", str(folder / "repository"))
            await git.run(
                *_IN, "fetch", "--quiet", "--depth=1", "--no-tags", "--", remote.url, commit
            )
            return Fetched(commit, await _files_of(git, commit, request.path))
    except TimeoutError as error:
        raise UnavailableError(
            f"{remote.host} did not give the repository within {_SECONDS:g} s",
            remedy="see whether the repository is far larger than its files need",
        ) from error
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


_IN: Final = ("--git-dir", "repository")


def _remote_of(url: str) -> _Remote:
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
    return _Remote(url, parts.scheme, host, port or _PORTS[parts.scheme])


async def _address(remote: _Remote, reach: Reach) -> str:
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


async def _commit_of(git: "_Git", ref: str) -> str:
    """Return the commit of *ref*. Raises RejectedError when there is no such ref."""
    if _COMMIT.fullmatch(ref):
        return ref
    listed = (await git.run("ls-remote", "--", git.remote.url, ref, f"{ref}^{{}}")).decode(
        errors="replace"
    )
    found: dict[str, str] = {}
    for line in listed.splitlines():
        commit, _, name = line.partition("\t")
        found[name] = commit
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
                return found[one]
    raise RejectedError(
        f"the repository has no branch, tag or commit {ref!r}",
        field="ref",
        remedy="name a branch, a tag or a whole commit",
    )


async def _files_of(git: "_Git", commit: str, path: str) -> Mapping[str, str]:
    """Return the text files below ``.plue`` of the folder *path*. Raises RejectedError."""
    folder = "/".join(part for part in path.split("/") if part not in {"", "."})
    if ".." in folder.split("/"):
        raise RejectedError("the path leaves the repository", field="path", remedy="remove `..`")
    top = f"{folder}/.plue/" if folder else ".plue/"
    listed = await git.run(*_IN, "ls-tree", "-r", "-z", "--long", "--full-tree", commit, "--", top)
    wanted = dict(_wanted(listed, top))
    if not wanted:
        raise RejectedError(
            f"there is no file in {top} at commit {commit[:12]}",
            field="path",
            remedy="name the folder that holds .plue/",
        )
    text = await git.run(
        *_IN, "cat-file", "--batch", said="".join(f"{one}\n" for one in wanted.values()).encode()
    )
    return dict(_texts(text, wanted))


def _wanted(listed: bytes, top: str) -> list[tuple[str, str]]:
    """Return (path from ``.plue/`` on, object) of the files to read. Raises RejectedError."""
    found: list[tuple[str, str]] = []
    total = 0
    for entry in listed.split(b"\0"):
        match = _TREE_ENTRY.match(entry)
        if match is None or match["kind"] != b"blob":
            continue
        path = ".plue/" + match["path"].decode(errors="replace").removeprefix(top)
        if path.rsplit("/", 1)[-1].startswith("."):
            continue
        if match["mode"] == b"120000":
            if must_be_text(path):
                raise RejectedError(
                    f"{path} is a symbolic link", field="source", remedy="put a file in its place"
                )
            continue
        size = int(match["size"])
        if size > MAX_FILE_BYTES:
            if must_be_text(path):
                raise RejectedError(f"{path} has {size} bytes", field="source", remedy="split it")
            continue
        total += size
        found.append((path, match["id"].decode()))
    if len(found) > _FILES or total > _TOTAL_BYTES:
        raise RejectedError(
            f"{top} has {len(found)} files of {total} bytes",
            field="source",
            remedy=f"keep data out of it: {_FILES} files and {_TOTAL_BYTES} bytes are the most",
        )
    return found


def _texts(answer: bytes, wanted: Mapping[str, str]) -> list[tuple[str, str]]:
    texts: list[tuple[str, str]] = []
    at = 0
    for path, one in wanted.items():
        end = answer.index(b"\n", at)
        name, kind, size = answer[at:end].split(b" ")
        if name.decode() != one or kind != b"blob":
            raise UnavailableError(f"the repository's answer lacks {path}")
        at = end + 1 + int(size) + 1
        data = answer[end + 1 : at - 1]
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            if must_be_text(path):
                raise RejectedError(
                    f"{path} is not UTF-8 text", field="source", remedy="save it as UTF-8"
                ) from error
            continue
        if "\0" not in text:
            texts.append((path, text))
        elif must_be_text(path):
            raise RejectedError(f"{path} has NUL bytes", field="source", remedy="save it as text")
    return texts


class _Git:
    """Runs git with nothing but what a fetch needs."""

    def __init__(
        self, folder: Path, remote: _Remote, address: str, credentials: Mapping[str, str]
    ) -> None:
        self.remote = remote
        self._folder = folder
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
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return str(path)

    async def run(self, *words: str, said: bytes = b"") -> bytes:
        """Return what git prints. Raises RejectedError, UnavailableError with its last words."""
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", f'ulimit -f {_DISK_BLOCKS}; exec "$@"', "sh", "git", *words),
            cwd=self._folder,
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
    ("not our ref", "there is no such commit"),
    ("no such remote ref", "there is no such commit"),
    ("unable to update url base from redirection", "it is somewhere else now"),
    ("SSL certificate problem", "its certificate is signed by nobody who is trusted; see ca.crt"),
    (
        "server certificate verification failed",
        "its certificate is signed by nobody who is trusted",
    ),
)


def _failure(remote: _Remote, said: str) -> RejectedError | UnavailableError:
    """Return what git's words mean: somebody must mend it, or it may go by itself."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = (lines[-1] if lines else "git said nothing")[:300]
    for words, meaning in _MEANINGS:
        if words in said:
            return RejectedError(f"{remote.host}: {meaning} ({last})", field="source.git")
    return UnavailableError(f"{remote.host}: {last}")
