"""The secrets of a local server: variables of its environment, and a file that git does not have.

``PLUE_SECRET_TOKEN`` gives ``ctx.secrets.TOKEN``; so does a line ``TOKEN=…`` of
``.plue/secrets.env``, unless the variable is there. The file is read each time anew. It is refused
when others may read it or when git tracks it, and it is in no copy of the tree.
"""

import asyncio
import os
import re
import stat
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from plue.engine.ports import SecretsFrom
from plue.errors import RejectedError

__all__ = ["SECRETS_FILE", "LocalSecrets", "parse_secrets"]

SECRETS_FILE: Final = ".plue/secrets.env"
_PREFIX: Final = "PLUE_SECRET_"
_LINE: Final = re.compile(r"(?:export\s+)?([A-Za-z][A-Za-z0-9_]*)\s*=\s*(.*)")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MAX_BYTES: Final = 1024 * 1024


class LocalSecrets:
    """The engine's Secrets in local mode."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        """Look into the file below *root* and the server's own *environment*."""
        self._file = root / SECRETS_FILE
        self._root = root
        self._given = {
            name.removeprefix(_PREFIX): value
            for name, value in environment.items()
            if name.startswith(_PREFIX) and value
        }

    async def values(self, names: Collection[str], allowed: SecretsFrom) -> Mapping[str, str]:
        """Return the values of those of *names* that there are. Raises RejectedError.

        All are there for every run: they are the secrets of who started the server.
        """
        del allowed
        found = {name: self._given[name] for name in names if name in self._given}
        if len(found) < len(names):
            lines = await asyncio.to_thread(self._read)
            found = {name: lines[name] for name in names if lines.get(name)} | found
        return found

    def remedy(self, name: str, allowed: SecretsFrom) -> str:
        """Say how the secret *name* is given its value."""
        del allowed
        return (
            f"write {name}=… into {SECRETS_FILE} (mode 600, ignored by git), or start `plue up`"
            f" with the variable {_PREFIX}{name}"
        )

    def _read(self) -> Mapping[str, str]:
        try:
            with self._file.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                raw = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise _refused(f"cannot be read: {error.strerror}", "make it readable") from error
        if mode & _OTHERS:
            raise _refused("can be read by others", f"chmod 600 {SECRETS_FILE}")
        if self._is_tracked():
            ignore = f"git rm --cached {SECRETS_FILE}, and write it into .gitignore"
            raise _refused("is tracked by git", f"{ignore}; consider its secrets as known")
        return parse_secrets(raw.decode(errors="replace"))

    def _is_tracked(self) -> bool:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        words = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C"]
        words += [str(self._root), "ls-files", "--error-unmatch", "--", SECRETS_FILE]
        try:
            done = subprocess.run(words, capture_output=True, check=False, env=environment)
        except FileNotFoundError:
            return False
        return done.returncode == 0


def parse_secrets(text: str) -> Mapping[str, str]:
    """Return the secrets of an env file: ``NAME=value``, ``'…'`` as it is, ``"…"`` with escapes.

    A ``#`` begins a comment only at the start of a line: secrets may have one. Raises
    RejectedError, naming the line and never its content.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise _refused(f"line {number} is not NAME=value", "correct the line")
        name, value = match.groups()
        if value[:1] in {"'", '"'}:
            if len(value) < 2 or value[-1] != value[0]:  # noqa: PLR2004 - both quotes
                raise _refused(f"line {number} has a quote without its end", "correct the line")
            inner = value[1:-1]
            value = inner if value[0] == "'" else _unescaped(inner)
        found[name] = value
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text)


def _refused(what: str, remedy: str) -> RejectedError:
    return RejectedError(f"{SECRETS_FILE} {what}", field="secrets", remedy=remedy)
