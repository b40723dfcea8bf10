"""Whose caches a run may use."""

from typing import Any

import pytest

from plue.domain.caches import cache_scope

REPO = {"url": "https://git/x", "name": "x", "default_branch": "main"}
MAIN = "refs/heads/main"


@pytest.mark.parametrize(
    ("event", "ref", "refs"),
    [
        pytest.param({}, "", ("",), id="nothing-known"),
        pytest.param({"repository": REPO, "ref": MAIN}, MAIN, (MAIN,), id="default-branch"),
        pytest.param(
            {"repository": REPO, "ref": "refs/heads/a"}, "refs/heads/a", ("refs/heads/a", MAIN),
            id="branch",
        ),
        pytest.param(
            {"repository": REPO, "ref": "refs/tags/v1"}, "refs/tags/v1", ("refs/tags/v1", MAIN),
            id="tag",
        ),
        pytest.param(
            {
                "repository": REPO,
                "ref": MAIN,  # what a fork calls its branch
                "pull_request": {"number": 7, "base": {"ref": "next"}, "head": {"ref": "main"}},
            },
            "refs/pull/7", ("refs/pull/7", "refs/heads/next", MAIN),
            id="request-of-a-fork",
        ),
    ],
)  # fmt: skip
def test_a_run_keeps_for_its_ref_and_is_given_of_its_bases(
    event: dict[str, Any], ref: str, refs: tuple[str, ...]
) -> None:
    """A branch finds what the default branch made, and a request changes nobody else's."""
    scope = cache_scope("team", event)
    assert (scope.ref, scope.refs) == (ref, refs)
    assert scope.namespace == "team"
    assert scope.repository == ("https://git/x" if event else "")
