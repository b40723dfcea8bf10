"""Whose caches a run may use, and to whom its own belong: decided from its event.

As with GitHub's: a run keeps caches for its own ref, and is given those of its ref, of the branch
that its pull request goes to, and of the default branch. So a branch finds what the default branch
made, and never the other way round: a request of anybody's cannot put files into a release.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CacheScope", "cache_scope"]

_HEADS = "refs/heads/"


@dataclass(frozen=True, slots=True)
class CacheScope:
    """``ref`` is whose caches a run makes; ``refs`` whose it is given, the first choice first."""

    namespace: str
    repository: str
    ref: str
    refs: tuple[str, ...]


def cache_scope(namespace: str, event: Mapping[str, Any]) -> CacheScope:
    """Return the scope of a run with this *event*; what is not known is empty text."""
    repository = event.get("repository") or {}
    name = next((repository[k] for k in ("url", "full_name", "name") if repository.get(k)), "")
    ref, bases = event.get("ref") or "", list[str]()
    request = event.get("pull_request")
    if request is not None:
        # Not the head's ref: a fork may name its branch as it likes.
        ref = f"refs/pull/{request.get('number', '')}"
        bases.append(_branch((request.get("base") or {}).get("ref")))
    bases.append(_branch(repository.get("default_branch")))
    refs = [ref, *(base for base in bases if base)]
    return CacheScope(namespace, name, ref, tuple(dict.fromkeys(refs)))


def _branch(name: str | None) -> str:
    return _HEADS + name.removeprefix(_HEADS) if name else ""
