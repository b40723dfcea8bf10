"""Events: checked fields, what follows from them, and what a working tree adds."""

from collections.abc import Mapping
from typing import Any

import pytest

from plue.domain.event import EVENT_FIELDS, complete_event, event_of, repository_of, with_tree
from plue.errors import RejectedError

MADE: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
    ("manual", {}, {"kind": "manual"}),
    ("push", {"ref": "main"}, {"kind": "push", "ref": "refs/heads/main", "branch": "main"}),
    ("push", {"ref": "refs/tags/v1"}, {"kind": "push", "ref": "refs/tags/v1", "tag": "v1"}),
    ("push", {"ref": "refs/notes/x", "tag": None}, {"kind": "push", "ref": "refs/notes/x"}),
    (
        "pull_request",
        {
            "pull_request": {
                "number": 3,
                "head": {"ref": "fix", "sha": "a"},
                "base": {"ref": "main"},
            }
        },
        {
            "kind": "pull_request",
            "ref": "refs/heads/fix",
            "branch": "fix",
            "sha": "a",
            "pull_request": {
                "number": 3,
                "head": {"ref": "fix", "sha": "a"},
                "base": {"ref": "main"},
            },
        },
    ),
    ("push", {"payload": {"x": [1]}}, {"kind": "push", "payload": {"x": [1]}}),
]


@pytest.mark.parametrize(("kind", "given", "expected"), MADE)
def test_event_has_what_follows_from_its_fields(
    kind: str, given: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    """Short names from refs, the ref from a request's head; and again it is the same."""
    made = event_of(kind, given)
    assert made == expected
    assert event_of(kind, made) == made


WRONG: list[tuple[Mapping[str, Any], str, str]] = [
    ({"brnch": "x"}, "event.brnch", "payload"),
    ({"pull_request": {"nubmer": 1}}, "event.pull_request.nubmer", "number"),
    ({"pull_request": {"number": "1"}}, "event.pull_request.number", "whole number"),
    ({"pull_request": {"number": True}}, "event.pull_request.number", "whole number"),
    ({"pull_request": {"head": {"ref": 1}}}, "event.pull_request.head.ref", "text"),
    ({"repository": "x"}, "event.repository", "object"),
    ({"ref": 1}, "event.ref", "text"),
    ({"kind": "schedule"}, "event.kind", "trigger is push"),
]


@pytest.mark.parametrize(("given", "field", "said"), WRONG)
def test_wrong_fields_are_named(given: Mapping[str, Any], field: str, said: str) -> None:
    """With their path; what is not known goes into the payload."""
    with pytest.raises(RejectedError) as caught:
        event_of("push", given)
    assert caught.value.field == field
    assert said in f"{caught.value.message} {caught.value.remedy}"


TREE = {
    "ref": "refs/heads/main",
    "sha": "t",
    "repository": {"name": "repo", "default_branch": "main"},
}


@pytest.mark.parametrize(
    ("event", "sha", "branch"),
    [
        ({}, "t", "main"),
        ({"ref": "refs/heads/main"}, "t", "main"),
        ({"ref": "refs/heads/other"}, None, "other"),
        ({"sha": "given"}, "given", None),
        ({"pull_request": {"base": {"ref": "main"}}}, "t", "main"),
    ],
)
def test_the_tree_fills_in_what_is_its_own(
    event: Mapping[str, Any], sha: str | None, branch: str | None
) -> None:
    """Its commit belongs to its ref only; what the event says wins."""
    made = with_tree(event, TREE)
    assert (made.get("sha"), made.get("branch")) == (sha, branch)
    assert made["repository"]["name"] == "repo"
    assert with_tree({"repository": {"name": "x"}}, TREE)["repository"] == {
        "name": "x",
        "default_branch": "main",
    }


def test_complete_event_has_every_field() -> None:
    """None where nothing is known; inside of what is there, too."""
    made = complete_event({"kind": "push", "pull_request": {"number": 1}})
    assert set(made) == set(EVENT_FIELDS)
    assert made["repository"] is None
    assert made["pull_request"]["title"] is None
    assert made["pull_request"]["base"] == {"ref": None, "sha": None}
    assert repository_of({"sha": "a", "repository": {"name": "x"}})["name"] == "x"
    assert repository_of({})["default_branch"] is None
