"""``cache=cache(paths=[...], key=...)``: folders that a step finds again in later runs.

What is checked here is what the author wrote; the runner checks the paths again when their values
are known, and it alone touches files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from plue.authoring.codes import Code
from plue.authoring.sandbox.kinds import refuse_unknown
from plue.authoring.sandbox.problems import Problem
from plue.authoring.sandbox.steps import references_in, refuse_nul, wire_text
from plue.authoring.sandbox.texts import text_of
from plue.authoring.sandbox.values import Guarded, Text, parts_of, refuse_secrets

__all__ = ["CacheSpec", "Caches", "cache", "caches_of"]

MOST_CACHES: Final = 10
MOST_PATHS: Final = 50
MOST_RESTORE_KEYS: Final = 10
MAX_KEY: Final = 512
_WILD: Final = frozenset("*?[")
_EXAMPLE: Final = (
    'write cache=cache(paths=["node_modules"], key=f"deps-{ctx.hash_files(\'package-lock.json\')}")'
)


@dataclass(frozen=True)
class CacheSpec(Guarded):
    """A declared cache: what is kept, under which key, and what else will do."""

    paths: tuple[str | Text, ...]
    key: str | Text
    restore_keys: tuple[str | Text, ...] = ()

    def wire(self) -> dict[str, object]:
        """Return it as ``plue.wire.plan.Cache`` dumps it."""
        return {
            "paths": [wire_text(path) for path in self.paths],
            "key": wire_text(self.key),
            "restore_keys": [wire_text(key) for key in self.restore_keys],
        }


def cache(*args: object, **given: object) -> CacheSpec:
    """Declare a cache of *paths* under *key*; ``restore_keys`` are beginnings of other keys."""
    refuse_unknown("cache", given, ("paths", "key", "restore_keys"))
    if args or "paths" not in given or "key" not in given:
        raise Problem(Code.CACHE, "cache takes paths= and key=, and restore_keys=", remedy=_EXAMPLE)
    return CacheSpec(
        paths=tuple(_path(path) for path in _several(given["paths"], "paths", MOST_PATHS)),
        key=_key(given["key"], "key"),
        restore_keys=tuple(
            _key(key, "restore_keys")
            for key in _several(given.get("restore_keys", ()), "restore_keys", MOST_RESTORE_KEYS)
        ),
    )


class Caches(NamedTuple):
    """A step's caches as the plan has them, and the steps that they refer to."""

    wire: list[dict[str, object]]
    used: list[str]


def caches_of(value: object) -> Caches:
    """Return what ``cache=`` was given. Raises Problem."""
    if value is None:
        return Caches([], [])
    items = value if isinstance(value, (list, tuple)) else [value]
    specs = [item for item in items if isinstance(item, CacheSpec)]
    if len(specs) != len(items):
        raise Problem(Code.CACHE, "cache= takes a cache(...)", remedy=_EXAMPLE)
    if len(specs) > MOST_CACHES:
        raise Problem(
            Code.CACHE,
            f"a step has {len(specs)} caches; {MOST_CACHES} are allowed",
            remedy="give one cache several paths",
        )
    texts = [text for spec in specs for text in (*spec.paths, spec.key, *spec.restore_keys)]
    return Caches([spec.wire() for spec in specs], references_in(texts))


def _several(value: object, what: str, most: int) -> Sequence[object]:
    items = value if isinstance(value, (list, tuple)) else [value]
    if (not items and what == "paths") or len(items) > most:
        raise Problem(
            Code.CACHE,
            f"cache has {len(items)} {what}; 1 to {most} are allowed",
            remedy=_EXAMPLE,
        )
    return items


def _path(value: object) -> str | Text:
    text = text_of(value)
    refuse_nul(text, "a path of a cache")
    refuse_secrets(text, "cannot be a path of a cache")
    if not isinstance(text, str):
        return text
    parts = [part for part in text.split("/") if part not in {"", "."}]
    inside = parts[1:] if parts[:1] == ["~"] else parts
    if text.startswith("/") or ".." in parts or not inside or inside[0].startswith("~"):
        raise Problem(
            Code.CACHE,
            f"the path {text!r} of a cache is not below the workspace or the home folder",
            remedy='write "node_modules", or "~/.cache/pip"',
        )
    if _WILD & set(text):
        raise Problem(
            Code.CACHE,
            f"the path {text!r} of a cache is a pattern",
            remedy="name the folders; a folder is kept with all that is in it",
        )
    return text


def _key(value: object, what: str) -> str | Text:
    text = text_of(value)
    refuse_nul(text, what)
    refuse_secrets(text, "cannot be a cache's key")
    if isinstance(text, str) and not (0 < len(text) <= MAX_KEY and text.isprintable()):
        raise Problem(
            Code.CACHE,
            f"{what} of a cache is 1 to {MAX_KEY} printable characters",
            remedy=_EXAMPLE,
        )
    parts_of(text)
    return text
