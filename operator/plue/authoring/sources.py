"""The files under ``.plue`` as they are read: text by path, and what could not be text.

A file that cannot be used is a diagnostic of its own and hides no other file.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.results import Diagnostic

__all__ = ["MAX_FILE_BYTES", "Sources", "content_key", "must_be_text", "text_or_diagnostic"]

MAX_FILE_BYTES: Final = 512 * 1024
"""What a file that Plue evaluates may have; the evaluator has the same bound."""

_TEXT_ENDINGS: Final = (".py", ".md", ".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Sources:
    """Files by path from the project's root with slashes, sorted; broken ones as diagnostics."""

    files: Mapping[str, str] = field(default_factory=dict)
    diagnostics: Sequence[Diagnostic] = ()


def must_be_text(path: str) -> bool:
    """Whether *path* is a file that Plue reads; what else lies there, tools may have brought."""
    return path.endswith(_TEXT_ENDINGS)


def text_or_diagnostic(path: str, data: bytes) -> str | Diagnostic:
    """Return the text of a file, or what is wrong with it."""
    if len(data) > MAX_FILE_BYTES:
        return Diagnostic(
            Code.FILE_TOO_LARGE,
            f"the file is larger than {MAX_FILE_BYTES >> 10} KiB",
            path,
            1,
            remedy="move long scripts into files of the repository and call them from a step",
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        begin = before.rfind(b"\n") + 1
        return Diagnostic(
            Code.BAD_TEXT,
            f"the file is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}",
            path,
            before.count(b"\n") + 1,
            len(before[begin:].decode()) + 1,
            remedy="save the file as UTF-8",
            source=data[begin:].split(b"\n", 1)[0].decode(errors="replace")[:500],
        )


def content_key(path: str, text: str) -> str:
    """Return the SHA-256 that names this content at this place."""
    digest = hashlib.sha256(path.encode("utf-8", "surrogatepass") + b"\0")
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
