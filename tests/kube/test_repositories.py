"""Which repository a run works in, who opens it, and which field is told when it cannot be had."""

from typing import Any

import pytest

from plue.errors import RejectedError
from plue.kube.objects import Known
from plue.kube.submitting import field_of, reason_of, tree_of
from plue.kube.trees import Opener, Tree
from plue.kube.workflows import Registered
from plue.resources.workflow import GitSource
from plue.resources.workflow_run import WorkflowRunSpec

OWN, OTHER = "https://example.org/own.git", "https://example.org/other.git"
COMMIT, SHA = "a" * 40, "b" * 40
KNOWN = Known("team", "run", "uid-1", 1, "1", "", {}, {})
SECRET = Opener("team", "ci", "git")
INLINE = {"source": {"inline": {"workflows": {"ci.py": ""}}}}
OF_WORKFLOW = {"workflowRef": {"name": "ci"}}


def a_workflow(*, git: bool = True) -> Registered:
    """Return a Workflow, from git with a Secret or inline."""
    source = GitSource.model_validate({"url": OWN, "ref": "main", "secretRef": {"name": "git"}})
    found = (source, COMMIT) if git else (None, None)
    return Registered(1, {}, "ci", None, None, git=found[0], commit=found[1])


def a_spec(repository: dict[str, Any] | None, base: dict[str, Any] = OF_WORKFLOW) -> Any:
    """Return a run's spec with this repository."""
    return WorkflowRunSpec.model_validate(base | {"repository": repository})


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        pytest.param(None, Tree(OWN, COMMIT, SECRET), id="the-commit-of-its-source"),
        pytest.param({}, Tree(OWN, COMMIT, SECRET), id="nothing-named"),
        pytest.param({"ref": "v1"}, Tree(OWN, "v1", SECRET), id="ref"),
        pytest.param({"ref": "v1", "sha": SHA}, Tree(OWN, SHA, SECRET), id="sha-is-exact"),
        pytest.param({"url": OWN, "sha": SHA}, Tree(OWN, SHA, SECRET), id="its-own-by-url"),
        pytest.param({"url": OTHER}, Tree(OTHER, "HEAD"), id="other"),
        pytest.param({"url": OTHER, "ref": "v1"}, Tree(OTHER, "v1"), id="other-at-a-ref"),
    ],
)
def test_a_workflows_secret_opens_its_own_repository_alone(
    repository: dict[str, Any] | None, expected: Tree
) -> None:
    """Whatever else a run names is cloned as anybody could."""
    assert tree_of(a_spec(repository), a_workflow(), KNOWN) == expected


def test_a_run_without_repository_has_none() -> None:
    """Inline source alone, of a Workflow or a run, gives no files to work with."""
    assert tree_of(a_spec(None), a_workflow(git=False), KNOWN) is None
    assert tree_of(a_spec(None, INLINE), None, KNOWN) is None
    assert tree_of(a_spec({"url": OWN}, INLINE), None, KNOWN) == Tree(OWN, "HEAD")


def test_a_ref_of_no_repository_is_refused() -> None:
    """What admission cannot know: that the Workflow has no repository of its own."""
    with pytest.raises(RejectedError, match=r"spec\.repository\.url is missing") as caught:
        tree_of(a_spec({"ref": "main"}), a_workflow(git=False), KNOWN)
    assert reason_of(caught.value) == "WorkspaceFailed"


@pytest.mark.parametrize(
    ("repository", "wrong", "expected"),
    [
        pytest.param({"ref": "v1"}, "ref", "repository.ref", id="ref"),
        pytest.param({"sha": SHA}, "ref", "repository.sha", id="sha"),
        pytest.param({"url": OTHER}, "url", "repository", id="address"),
        pytest.param({"url": OTHER}, "source.git", "repository", id="host"),
        pytest.param(None, "ref", "workflowRef", id="the-workflows-own"),
    ],
)
def test_the_field_to_mend_is_named(
    repository: dict[str, Any] | None, wrong: str, expected: str
) -> None:
    """In the run's own words, not in those of who clones."""
    assert field_of(a_spec(repository), RejectedError("no", field=wrong)) == expected
    assert reason_of(RejectedError("no", field=expected)) == "WorkspaceFailed"
