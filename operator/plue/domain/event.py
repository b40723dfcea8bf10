"""What triggered a run: the fields that ``ctx.event`` has, checked and derived; no I/O.

Every field exists for workflow code; those that do not apply are None. What is stored and sent
has only those that are known.

==============  ====================================================================================
kind            manual, push, pull_request or schedule
action          of a pull request: opened, synchronize, …
ref             the full name: refs/heads/main, refs/tags/v1
branch, tag     the short name, as far as ref is one
sha             the commit
before          of a push: the commit before it; zeros or None when the branch is new
actor           who did it
repository      name, owner, full_name, url, default_branch
pull_request    number, title, body, url, state, draft, merged, author, labels, base and head
                (each ref, a short name, and sha)
schedule        cron and time (when it was due, RFC 3339)
payload         what the other side sent, as it was
==============  ====================================================================================
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from plue.errors import RejectedError

__all__ = ["EVENT_FIELDS", "complete_event", "event_of", "repository_of", "with_tree"]

Json = dict[str, Any]
_ANY: Final = "any"
_COMMIT: Final[Mapping[str, object]] = MappingProxyType({"ref": str, "sha": str})

EVENT_FIELDS: Final[Mapping[str, object]] = MappingProxyType(
    {
        "kind": str,
        "action": str,
        "ref": str,
        "branch": str,
        "tag": str,
        "sha": str,
        "before": str,
        "actor": str,
        "repository": {
            "name": str,
            "owner": str,
            "full_name": str,
            "url": str,
            "default_branch": str,
        },
        "pull_request": {
            "number": int,
            "title": str,
            "body": str,
            "url": str,
            "state": str,
            "draft": bool,
            "merged": bool,
            "author": str,
            "labels": list,
            "base": _COMMIT,
            "head": _COMMIT,
        },
        "schedule": {"cron": str, "time": str},
        "payload": _ANY,
    }
)
"""The fields by name: a type, the fields of an object, or ``any``."""

_WORDS: Final = {str: "text", int: "a whole number", bool: "true or false", list: "a list"}
_HEADS, _TAGS = "refs/heads/", "refs/tags/"


def event_of(kind: str, given: Mapping[str, Any]) -> Json:
    """Return the event of a run that *kind* triggered: checked, with what follows from the rest.

    Raises RejectedError, naming the field. The same event again is left as it is.
    """
    event = _checked(given, EVENT_FIELDS, "event")
    if event.setdefault("kind", kind) != kind:
        raise RejectedError(
            f"the event is of kind {event['kind']}, and the trigger is {kind}", field="event.kind"
        )
    return _derived(event)


def with_tree(event: Mapping[str, Any], tree: Mapping[str, Any]) -> Json:
    """Return *event* with what a working *tree* knows: its ref, commit and repository.

    The commit is the tree's only when the event names no other ref.
    """
    found: Json = dict(event)
    ref = found.get("ref")
    same = ref is None or tree.get("ref") in {ref, f"{_HEADS}{ref}"}
    if same and "sha" not in found:
        found |= {name: tree[name] for name in ("ref", "sha") if tree.get(name)}
    known = {k: v for k, v in (tree.get("repository") or {}).items() if v is not None}
    repository = {**known, **(found.get("repository") or {})}
    return _derived({**found, "repository": repository} if repository else found)


def complete_event(event: Mapping[str, Any]) -> Json:
    """Return *event* with every field, None where nothing is known."""
    return _completed(event, EVENT_FIELDS)


def repository_of(event: Mapping[str, Any]) -> Json:
    """Return what ``ctx.repo`` has: the repository and the commit; None where it is not known."""
    repository = event.get("repository") or {}
    fields = ("name", "owner", "full_name", "url", "default_branch")
    return {**{name: repository.get(name) for name in fields}, "sha": event.get("sha")}


def _derived(event: Json) -> Json:
    """Add what follows from the rest: the ref of a request's head, the short names of a ref."""
    request = event.get("pull_request")
    if request is not None:
        head = request.get("head", {})
        if head.get("ref"):
            event.setdefault("ref", _HEADS + head["ref"].removeprefix(_HEADS))
        if head.get("sha"):
            event.setdefault("sha", head["sha"])
    ref = event.get("ref")
    if ref is not None:
        event["ref"] = ref = ref if ref.startswith("refs/") else _HEADS + ref
        if ref.startswith(_HEADS):
            event.setdefault("branch", ref.removeprefix(_HEADS))
        elif ref.startswith(_TAGS):
            event.setdefault("tag", ref.removeprefix(_TAGS))
    return event


def _completed(given: Mapping[str, Any], fields: Mapping[str, object]) -> Json:
    found = dict(given)
    for name, kind in fields.items():
        value = found.setdefault(name, None)
        if isinstance(kind, Mapping) and isinstance(value, Mapping):
            found[name] = _completed(value, kind)
        elif kind is _COMMIT and value is None:
            found[name] = _completed({}, _COMMIT)
    return found


def _checked(given: Mapping[str, Any], fields: Mapping[str, object], path: str) -> Json:
    found: Json = {}
    for name, value in given.items():
        where = f"{path}.{name}"
        if name not in fields:
            raise RejectedError(
                f"an event has no field {where.removeprefix('event.')}",
                field=where,
                remedy=f"it has: {', '.join(fields)}"
                + ("; other things go into payload" if path == "event" else ""),
            )
        kind = fields[name]
        if value is None:
            continue
        if isinstance(kind, Mapping):
            if not isinstance(value, Mapping):
                raise RejectedError(f"{where} is an object", field=where)
            found[name] = _checked(value, kind, where)
        elif isinstance(kind, type) and not _is(value, kind):
            raise RejectedError(f"{where} is {_WORDS[kind]}", field=where)
        else:
            found[name] = value
    return found


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
