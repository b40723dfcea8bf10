"""What the operator reads off pods and runs, and what it says of them: pure functions."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from plue.domain.run import RunDetails, RunId, RunnerId, RunView, StepView
from plue.kube.conditions import Fact, conditions_of
from plue.kube.nodes import Nodes
from plue.kube.pod_state import PodEnd, Shortage, end_of, shortage_of
from plue.kube.pod_template import PoolIdentity, RunnerPlacing, runner_pod, template_hash
from plue.kube.pools import at_maximum
from plue.kube.run_status import status_of
from plue.resources.parts import ConditionType
from plue.resources.runner_pool import PodOverlay, RunnerPoolSpec
from plue.resources.workflow_run import MAX_STEPS_SHOWN
from plue.wire.events import Reason, RunState, StepState

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _pod(phase: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "status": {"phase": phase, **status}}


def _ended(code: int, reason: str = "Error") -> dict[str, Any]:
    terminated = {"exitCode": code, "reason": reason}
    return _pod("Failed", containerStatuses=[{"state": {"terminated": terminated}}])


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(_pod("Pending"), "present", id="pending"),
        pytest.param(_pod("Running"), "present", id="running"),
        pytest.param(_pod("Succeeded"), None, id="work-done"),
        pytest.param(_ended(137, "OOMKilled"), Reason.OOM_KILLED, id="out-of-memory"),
        pytest.param(_ended(1), Reason.RUNNER_LOST, id="crashed"),
        pytest.param(_ended(128, "StartError"), Reason.CANNOT_START, id="never-started"),
        pytest.param(_pod("Failed", reason="Evicted"), Reason.EVICTED, id="evicted"),
        pytest.param(_pod("Failed", reason="NodeLost"), Reason.NODE_LOST, id="node-lost"),
        pytest.param(_pod("Failed", reason="DeadlineExceeded"), Reason.RUN_TIMEOUT, id="deadline"),
        pytest.param(_pod("Failed"), Reason.RUNNER_LOST, id="failed-and-nobody-says-why"),
    ],
)
def test_end_of_a_pod_has_its_reason(pod: Mapping[str, Any], expected: object) -> None:
    """A pod has ended only in a final phase, and how is said in one word."""
    end = end_of(pod)
    if expected == "present":
        assert end is None
    else:
        assert isinstance(end, PodEnd)
        assert end.reason is expected


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(_pod("Running"), None, id="running"),
        pytest.param(_pod("Pending"), None, id="just-made"),
        pytest.param(
            _pod("Pending", containerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull"}}}]),
            "ImagePull",
            id="image",
        ),
        pytest.param(
            _pod(
                "Pending",
                conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}],
            ),
            "Unschedulable",
            id="no-node",
        ),
    ],
)
def test_shortage_names_what_is_missing(pod: Mapping[str, Any], expected: str | None) -> None:
    """A pod that does not come up says why; one that merely starts says nothing."""
    found = shortage_of(pod)
    assert (found.reason if found else None) == expected


def test_transition_time_moves_with_the_status_only() -> None:
    """A condition whose status stays keeps its time, whatever its reason does."""
    before = conditions_of([Fact.unready("Starting")], (), generation=1, now=NOW)
    later = NOW + timedelta(minutes=1)
    same = conditions_of([Fact.unready("ImagePull")], before, generation=2, now=later)
    assert same[0]["lastTransitionTime"] == before[0]["lastTransitionTime"]
    assert (same[0]["reason"], same[0]["observedGeneration"]) == ("ImagePull", 2)
    other = conditions_of([Fact.ready("Warm")], same, generation=2, now=later)
    assert other[0]["lastTransitionTime"] == "2026-01-02T03:05:05Z"


# ── the pod ──────────────────────────────────────────────────────────────────────────────────────

POOL = PoolIdentity("default", "plue-runners", "uid-1")
PLACING = RunnerPlacing("http://10.0.0.1:8701")


def _overlaid(**overlay: Any) -> dict[str, Any]:
    spec = RunnerPoolSpec(image="image:1", pod=PodOverlay.model_validate(overlay))
    return runner_pod(RunnerId("default-abc"), POOL, spec, PLACING)


def test_pod_meets_the_restricted_standard() -> None:
    """Nothing of what Pod Security `restricted` forbids is in a runner's pod."""
    spec = _overlaid()["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert {next(iter(volume.keys() - {"name"})) for volume in spec["volumes"]} == {
        "emptyDir",
        "projected",
    }


def test_overlay_cannot_take_our_labels() -> None:
    """An overlay adds labels, and never takes the place of those that find the pod."""
    labels = _overlaid(labels={"team": "a", "plue.dev/pool": "other"})["metadata"]["labels"]
    assert (labels["team"], labels["plue.dev/pool"]) == ("a", "default")


def test_overlay_is_spelt_as_pods_spell_it() -> None:
    """What an overlay may set arrives at the pod under its own name."""
    spec = _overlaid(
        nodeSelector={"kind": "runners"},
        tolerations=[{"key": "sandbox", "operator": "Exists"}],
        imagePullSecrets=[{"name": "registry"}],
        priorityClassName="low",
    )["spec"]
    assert spec["nodeSelector"] == {"kind": "runners"}
    assert spec["tolerations"] == [{"key": "sandbox", "operator": "Exists"}]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["priorityClassName"] == "low"


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        pytest.param({"warm": 7, "max": 9}, True, id="scaling-replaces-nothing"),
        pytest.param({"allowed_namespaces": ["a"]}, True, id="who-may-use-it-neither"),
        pytest.param({"image": "image:2"}, False, id="image"),
        pytest.param({"runtime_class_name": ""}, False, id="runtime"),
    ],
)
def test_template_is_named_by_what_shapes_pods(change: dict[str, Any], is_same: bool) -> None:
    """Pods are replaced when their shape changes, and only then."""
    spec = RunnerPoolSpec(image="image:1")
    other = spec.model_copy(update=change)
    assert (template_hash(spec, PLACING) == template_hash(other, PLACING)) is is_same


# ── a run's status ───────────────────────────────────────────────────────────────────────────────


def _run(state: RunState, *, reason: Reason | None = None, steps: int = 1) -> RunDetails:
    ended = NOW if state.is_end else None
    view = RunView(
        id=RunId("5f0c8f3e-0000-4000-8000-000000000000"),
        number=42,
        name="ci-42",
        namespace="default",
        workflow="ci",
        revision="a" * 64,
        state=state,
        reason=reason,
        message=None,
        trigger="manual",
        pool="default",
        priority=0,
        attempt=1,
        created_at=NOW,
        queued_at=NOW,
        started_at=NOW - timedelta(seconds=75),
        ended_at=ended,
        cancel_requested_at=None,
        waiting_reason=Reason.NO_IDLE_RUNNER if state is RunState.QUEUED else None,
        waiting_since=NOW if state is RunState.QUEUED else None,
        last_event=9,
    )
    step = StepView(
        name="unit",
        kind="shell",
        state=StepState.FAILED,
        reason=Reason.EXIT_CODE,
        message=None,
        needs=(),
        branch=(),
        group=(),
        cleanup=False,
        shown="make",
        exit_code=2,
        tries=1,
        started_at=NOW,
        ended_at=NOW,
        duration_ms=5,
        outputs={},
    )
    return RunDetails(
        run=view,
        inputs={},
        event={},
        outputs={},
        rerun_of=None,
        runner=RunnerId("default-abc"),
        steps=[step] * steps,
    )


def _conditions(status: Mapping[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status["conditions"]}


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        pytest.param(RunState.QUEUED, None, ("False", "False", "True", "False"), id="queued"),
        pytest.param(RunState.RUNNING, None, ("False", "False", "True", "False"), id="running"),
        pytest.param(
            RunState.SUCCEEDED, Reason.SUCCEEDED, ("True", "False", "False", "False"), id="good"
        ),
        pytest.param(
            RunState.CANCELLED, Reason.CANCELLED, ("False", "True", "False", "True"), id="cancelled"
        ),
        pytest.param(
            RunState.TIMED_OUT, Reason.RUN_TIMEOUT, ("False", "True", "False", "True"), id="late"
        ),
    ],
)
def test_conditions_tell_how_a_run_stands(
    state: RunState, reason: Reason | None, expected: tuple[str, ...]
) -> None:
    """Complete and Failed are for `kubectl wait`, Reconciling and Stalled for kstatus."""
    status = status_of(_run(state, reason=reason), {}, generation=1, now=NOW)
    found = _conditions(status)
    names = (
        ConditionType.COMPLETE,
        ConditionType.FAILED,
        ConditionType.RECONCILING,
        ConditionType.STALLED,
    )
    assert tuple(found[name] for name in names) == expected


def test_status_is_small() -> None:
    """Only the first steps are listed; all are counted."""
    run = _run(RunState.FAILED, reason=Reason.STEP_FAILED, steps=1000)
    status = status_of(run, {}, generation=1, now=NOW)
    assert len(status["steps"]) == MAX_STEPS_SHOWN
    assert (status["progress"], status["stepCounts"]["failed"]) == ("1000/1000", 1000)
    assert status["duration"] == "1m15s"


def test_unchanged_run_gives_the_same_status() -> None:
    """Reported again at another time, nothing differs: there is nothing to write."""
    run = _run(RunState.SUCCEEDED, reason=Reason.SUCCEEDED)
    first = status_of(run, {}, generation=1, now=NOW)
    again = status_of(run, first, generation=1, now=NOW + timedelta(hours=1))
    assert again == first


def _node(name: str, *, ready: str = "True", closed: bool = False) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"unschedulable": True} if closed else {},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(
    ("body", "deleted", "expected"),
    [
        pytest.param(_node("a"), False, (False, False), id="well"),
        pytest.param(_node("a", ready="Unknown"), False, (True, False), id="silent"),
        pytest.param(_node("a", ready="False"), False, (False, False), id="says-it-is-not-well"),
        pytest.param(_node("a", closed=True), False, (False, True), id="cordoned"),
        pytest.param(_node("a"), True, (True, False), id="deleted"),
    ],
)
def test_node_is_lost_when_nobody_hears_of_it(
    body: dict[str, Any], deleted: bool, expected: tuple[bool, bool]
) -> None:
    """Silence and deletion are losses, trouble is none; a cordoned node takes nothing new."""
    nodes = Nodes()
    assert not nodes.is_lost("a")
    told: list[bool] = []
    nodes.on_change = lambda: told.append(True)
    nodes.saw(body, deleted=deleted)
    assert (nodes.is_lost("a"), nodes.is_closed("a")) == expected
    assert bool(told) == any(expected)
    nodes.saw(_node("a"), deleted=False)
    assert (nodes.is_lost("a"), nodes.is_closed("a")) == (False, False)


def test_nodes_that_are_gone_are_forgotten_when_no_pod_needs_them() -> None:
    """Not before the second look, nor while a pod is there: what is told late finds them lost."""
    nodes = Nodes()
    for name in ("gone", "used", "silent", "came-back"):
        body = _node(name, ready="Unknown" if name == "silent" else "True", closed=name == "gone")
        nodes.saw(body, deleted=name != "silent")
    nodes.forget({"used"})
    assert all(nodes.is_lost(name) for name in ("gone", "used", "silent", "came-back"))
    nodes.saw(_node("came-back"), deleted=False)
    nodes.saw(_node("came-back"), deleted=True)
    nodes.forget({"used"})
    assert [nodes.is_lost(name) for name in ("gone", "used", "silent")] == [False, True, True]
    assert not nodes.is_closed("gone")
    assert nodes.is_lost("came-back")  # gone anew since the first look
    nodes.forget(())
    assert [nodes.is_lost(name) for name in ("used", "silent")] == [False, True]


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        pytest.param({}, "there are 3, the maximum", id="all-well"),
        pytest.param(
            {"b": 1, "a": 2},
            "there are 3, the maximum; 3 of them on nodes that do not answer any more: a, b",
            id="two-lost",
        ),
        pytest.param(
            {f"n{i}": 1 for i in range(7)},
            "there are 3, the maximum; 7 of them on nodes that do not answer any more:"
            " n0, n1, n2, n3, n4, …",
            id="many-lost",
        ),
    ],
)
def test_full_pool_says_which_runners_nobody_hears_of(lost: dict[str, int], expected: str) -> None:
    """Their nodes are named, some of many."""
    assert Shortage("AtMaximum", expected) == at_maximum(3, lost)
