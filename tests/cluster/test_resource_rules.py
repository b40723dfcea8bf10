"""What the API server itself refuses and accepts of our resources, each rule both ways."""

from collections.abc import Iterator
from typing import Any

import pytest

from plue.errors import RejectedError
from plue.kube.client import ApiClient, Json, Place
from plue.resources.crds import API_VERSION, KINDS, definition

PLACES = {kind.kind: Place(API_VERSION, kind.plural) for kind in KINDS}

INLINE = {"inline": {"workflows": {"ci.py": "text"}}}
SPECS: dict[str, Json] = {
    "Workflow": {"source": INLINE},
    "WorkflowRun": {"source": INLINE},
    "RunnerPool": {"image": "image:1", "max": 1000, "warm": 0},
}

_URL = "https://"

_HOST = r"\.)+"  # a pattern that wants a dot wants a host's name


# ── every bound, from the schema itself ──────────────────────────────────────────────────────────


def _text(schema: Json, length: int, which: int = 0) -> str:
    """Return a text of *length* that fits the pattern; *which* makes several distinct."""
    if schema.get("pattern", "").startswith(f"^({_URL}"):
        return _URL + "a" * max(length - len(_URL), 1)
    if "isQuantity" in str(schema.get("x-kubernetes-validations")):
        return "1" * length
    tail = "" if which == 0 else f"{which}"
    if _HOST in schema.get("pattern", ""):
        length = max(length - len(tail), 3)
        return "a" * (1 - length % 2) + ("a." * length)[: length - 1 + length % 2] + tail
    return "a" * max(length - len(tail), 0) + tail


def _example(schema: Json, which: int = 0) -> Any:  # noqa: PLR0911 - one for each type
    """Return the least value that the schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("format") == "date-time":
        return "2026-01-01T00:00:00Z"
    match schema.get("type"):
        case "string":
            return _text(schema, max(schema.get("minLength", 0), 3 if which else 1), which)
        case "integer":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case "array":
            return [_example(schema["items"], i) for i in range(schema.get("minItems", 0))]
        case "object" if "properties" in schema:
            properties, required = schema["properties"], schema.get("required", [])
            return {name: _example(properties[name], which) for name in required}
        case "object":
            fewest = schema.get("minProperties", 0)
            return {f"a{i}": _example(schema["additionalProperties"]) for i in range(fewest)}
        case _:
            return "1"


Case = tuple[str, Any, Any]
"""A path, a value at the bound, and one beyond it."""


def _bounds(schema: Json, path: str) -> Iterator[Case]:
    """Yield every bound of *schema*, with values for the whole of it."""
    for name, make in _MAKERS.items():
        if name in schema:
            yield f"{path} {name}", *make(schema)
    if "enum" in schema:
        yield f"{path} enum", schema["enum"][-1], "NoSuchWord"
    for name, part in schema.get("properties", {}).items():
        for label, ok, bad in _bounds(part, f"{path}.{name}"):
            whole = _example(schema)
            yield label, whole | {name: ok}, whole | {name: bad}
    if isinstance(items := schema.get("items"), dict):
        for label, ok, bad in _bounds(items, f"{path}[]"):
            yield label, [ok], [bad]
    if isinstance(values := schema.get("additionalProperties"), dict):
        for label, ok, bad in _bounds(values, f"{path}{{}}"):
            yield label, {"a0": ok}, {"a0": bad}


def _items(schema: Json, count: int) -> list[Any]:
    return [_example(schema["items"], i + 1) for i in range(count)]


def _entries(schema: Json, count: int) -> Json:
    return {f"a{i}": _example(schema["additionalProperties"]) for i in range(count)}


_MAKERS = {
    "maxLength": lambda s: (_text(s, s["maxLength"]), _text(s, s["maxLength"] + 1)),
    "minLength": lambda s: (_text(s, s["minLength"]), ""),
    "pattern": lambda s: (_example(s), "not so: \n!"),
    "maximum": lambda s: (s["maximum"], s["maximum"] + 1),
    "minimum": lambda s: (s["minimum"], s["minimum"] - 1),
    "maxItems": lambda s: (_items(s, s["maxItems"]), _items(s, s["maxItems"] + 1)),
    "minItems": lambda s: (_items(s, s["minItems"]), []),
    "maxProperties": lambda s: (
        _entries(s, s["maxProperties"]),
        _entries(s, s["maxProperties"] + 1),
    ),
    "minProperties": lambda s: (_entries(s, s["minProperties"]), {}),
}


def _cases(part: str) -> Iterator[Any]:
    for kind in KINDS:
        whole = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for name, schema in whole["properties"][part]["properties"].items():
            for label, ok, bad in _bounds(schema, f"{kind.kind}.{part}.{name}"):
                yield pytest.param(kind.kind, name, ok, bad, id=label.replace(" ", "-"))


def _object(kind: str, spec: Json) -> Json:
    metadata = {"generateName": "test-", "namespace": "default"}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


async def _try(api: ApiClient, kind: str, spec: Json) -> Json:
    """Have the API server judge an object without keeping it, as strictly as kubectl does."""
    body = _object(kind, spec)
    return await api.create(PLACES[kind], "default", body, dryRun="All", fieldValidation="Strict")


_AMOUNT_NAMES = ("cpu", "memory", "ephemeral-storage")
_AMOUNTS = {
    "requests": dict.fromkeys(_AMOUNT_NAMES, "1m"),
    "limits": dict.fromkeys(_AMOUNT_NAMES, "1" * 32),
}


def _around(kind: str, name: str, value: Any) -> Json:
    """Return a spec that is valid but for, perhaps, the value of the field *name*."""
    spec = dict(SPECS[kind])
    if name in {"workflowRef", "rerunOf", "repository"}:
        spec.pop("source")
    if name == "repository":
        spec |= REFERENCE
    if name == "max":
        spec["warm"] = 0
    if name == "resources":
        # Requests below any limit and limits above any request, so that only bounds are judged.
        value = {side: _AMOUNTS[side] | value.get(side, {}) for side in ("requests", "limits")}
    return spec | {name: value}


@pytest.mark.parametrize(("kind", "name", "ok", "bad"), list(_cases("spec")))
async def test_spec_is_bounded(
    api: ApiClient, kind: str, name: str, ok: object, bad: object
) -> None:
    """A value at the bound is accepted; one beyond it is refused, and the field is named."""
    await _try(api, kind, _around(kind, name, ok))
    with pytest.raises(RejectedError, match=rf"spec\.{name}"):
        await _try(api, kind, _around(kind, name, bad))


# ── rules between fields ─────────────────────────────────────────────────────────────────────────

REFERENCE = {"workflowRef": {"name": "ci"}}
POOL = SPECS["RunnerPool"]


@pytest.mark.parametrize(
    ("kind", "ok", "bad", "message"),
    [
        pytest.param(
            "Workflow",
            {"source": INLINE},
            {"source": {}},
            "exactly one source",
            id="source-is-given",
        ),
        pytest.param(
            "Workflow",
            {"source": {"git": {"url": "https://host/repo"}}},
            {"source": INLINE | {"git": {"url": "https://host/repo"}}},
            "exactly one source",
            id="source-is-one",
        ),
        pytest.param(
            "Workflow",
            {"source": {"inline": {"workflows": {"a.py": ""}, "lib": {"b.py": ""}}}},
            {"source": {"inline": {"workflows": {"../a.py": ""}}}},
            "plain names",
            id="files-are-plain-names",
        ),
        pytest.param("WorkflowRun", REFERENCE, {}, "exactly one of", id="run-of-something"),
        pytest.param(
            "WorkflowRun",
            {"source": INLINE},
            REFERENCE | {"source": INLINE},
            "exactly one of",
            id="run-of-one-thing",
        ),
        pytest.param(
            "WorkflowRun",
            {"rerunOf": "0" * 36},
            {"rerunOf": "0" * 36, "inputs": {"a": "1"}},
            "a rerun has the inputs",
            id="rerun-takes-all",
        ),
        pytest.param(
            "WorkflowRun",
            {"rerunOf": "0" * 36},
            {"rerunOf": "0" * 36, "repository": {"url": "https://host/repo"}},
            "a rerun has the inputs",
            id="rerun-takes-the-code",
        ),
        pytest.param(
            "WorkflowRun",
            REFERENCE | {"repository": {"ref": "main"}},
            REFERENCE | {"repository": {"ref": "main"}, "workspace": {"blob": "0" * 64}},
            "one of repository and workspace",
            id="repository-or-workspace",
        ),
        pytest.param(
            "WorkflowRun",
            {"source": INLINE, "repository": {"url": "https://host/repo", "ref": "main"}},
            {"source": INLINE, "repository": {"ref": "main"}},
            "name the repository's url",
            id="repository-has-a-url",
        ),
        pytest.param(
            "WorkflowRun",
            {"source": INLINE, "function": "ci"},
            REFERENCE | {"function": "ci"},
            "function goes with source",
            id="function-goes-with-source",
        ),
        pytest.param(
            "WorkflowRun",
            REFERENCE | {"inputs": {"env": "a"}},
            REFERENCE | {"inputs": {"no-name": "a"}},
            "named like Python arguments",
            id="inputs-have-names",
        ),
        pytest.param(
            "WorkflowRun",
            REFERENCE | {"inputs": {"count": "3"}},
            REFERENCE | {"inputs": {"count": 3}},
            "spec.inputs.count",
            id="inputs-are-text",
        ),
        pytest.param(
            "RunnerPool",
            POOL | {"warm": 3, "max": 3},
            POOL | {"warm": 4, "max": 3},
            "warm cannot be more than max",
            id="warm-is-within-max",
        ),
        pytest.param(
            "RunnerPool",
            POOL | {"workspaceSize": "0.5Gi"},
            POOL | {"workspaceSize": "10 GB"},
            "quantity above zero",
            id="sizes-are-quantities",
        ),
        pytest.param(
            "RunnerPool",
            POOL | {"tmpSize": "1"},
            POOL | {"tmpSize": "0"},
            "quantity above zero",
            id="sizes-are-above-zero",
        ),
        pytest.param(
            "RunnerPool",
            POOL | {"resources": {"requests": {"cpu": "1000m"}, "limits": {"cpu": "1"}}},
            POOL | {"resources": {"requests": {"cpu": "1001m"}, "limits": {"cpu": "1"}}},
            "the request of cpu is more than its limit",
            id="cpu-is-within-its-limit",
        ),
        pytest.param(
            "RunnerPool",
            POOL | {"resources": {"requests": {"memory": "4Gi"}}},
            POOL | {"resources": {"requests": {"memory": "5Gi"}}},
            "the request of memory is more than its limit",
            id="memory-is-within-its-default-limit",
        ),
        pytest.param(
            "RunnerPool",
            POOL | {"resources": {"requests": {"ephemeral-storage": "1Gi"}}},
            POOL | {"resources": {"requests": {"ephemeral-storage": "11Gi"}}},
            "the request of ephemeral-storage is more than its limit",
            id="disk-is-within-its-default-limit",
        ),
        pytest.param(
            "RunnerPool",
            POOL | {"runtimeClassName": ""},
            POOL | {"hostNetwork": True},
            "unknown field",
            id="pods-are-ours-to-shape",
        ),
    ],
)
async def test_rule_is_kept(api: ApiClient, kind: str, ok: Json, bad: Json, message: str) -> None:
    """What keeps the rule is accepted; what breaks it is refused with the rule's own message."""
    await _try(api, kind, ok)
    with pytest.raises(RejectedError, match=message):
        await _try(api, kind, bad)


_RUN = REFERENCE | {"inputs": {"a": "1"}, "pool": "default", "timeoutSeconds": 60}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"workflowRef": {"name": "cd"}}, "workflowRef cannot", id="workflowRef"),
        pytest.param({"workflowRef": None, "source": INLINE}, "source cannot", id="source"),
        pytest.param({"inputs": {"a": "2"}}, "inputs cannot", id="inputs"),
        pytest.param({"inputs": None}, "inputs cannot", id="inputs-taken-away"),
        pytest.param({"event": "{}"}, "event cannot", id="event"),
        pytest.param({"workspace": {"blob": "0" * 64}}, "workspace cannot", id="workspace"),
        pytest.param({"repository": {"ref": "main"}}, "repository cannot", id="repository"),
        pytest.param({"rerunOf": "0" * 36, "workflowRef": None}, "rerunOf cannot", id="rerunOf"),
        pytest.param({"pool": "other"}, "pool cannot", id="pool"),
        pytest.param({"priority": 5}, "priority cannot", id="priority"),
        pytest.param({"trigger": "push"}, "trigger cannot", id="trigger"),
        pytest.param({"timeoutSeconds": 61}, "timeoutSeconds cannot", id="timeoutSeconds"),
        pytest.param({"queueTimeoutSeconds": 9}, "queueTimeoutSeconds cannot", id="queueTimeout"),
        pytest.param({"ttlSecondsAfterFinished": 9}, "ttlSecondsAfterFinished cannot", id="ttl"),
    ],
)
async def test_run_does_not_change(api: ApiClient, change: Json, message: str) -> None:
    """A run's spec is what it was made with; the message names the field."""
    run = await api.create(PLACES["WorkflowRun"], "default", _object("WorkflowRun", _RUN))
    name = run["metadata"]["name"]
    with pytest.raises(RejectedError, match=message):
        await api.patch(PLACES["WorkflowRun"], "default", name, {"spec": change})


async def test_function_of_a_run_does_not_change(api: ApiClient) -> None:
    """Also the field whose name CEL keeps for itself is guarded."""
    spec = {"source": INLINE, "function": "ci"}
    run = await api.create(PLACES["WorkflowRun"], "default", _object("WorkflowRun", spec))
    with pytest.raises(RejectedError, match="function cannot be changed"):
        await api.patch(
            PLACES["WorkflowRun"], "default", run["metadata"]["name"], {"spec": {"function": "cd"}}
        )


async def test_cancel_is_for_good(api: ApiClient) -> None:
    """A run can be cancelled; that cannot be taken back."""
    place = PLACES["WorkflowRun"]
    run = await api.create(place, "default", _object("WorkflowRun", _RUN))
    name = run["metadata"]["name"]
    changed = await api.patch(place, "default", name, {"spec": {"cancel": True}})
    assert changed["spec"]["cancel"] is True
    with pytest.raises(RejectedError, match="cannot be taken back"):
        await api.patch(place, "default", name, {"spec": {"cancel": False}})


async def test_defaults_are_filled_in(api: ApiClient) -> None:
    """The API server fills in what was left out, and what it fills in is what Plue documents."""
    pool = await _try(api, "RunnerPool", {"image": "image:1"})
    assert pool["spec"] == {
        "image": "image:1",
        "imagePullPolicy": "IfNotPresent",
        "warm": 2,
        "max": 10,
        "runtimeClassName": "gvisor",
        "resources": {
            "requests": {"cpu": "500m", "memory": "1Gi"},
            "limits": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "10Gi"},
        },
        "workspaceSize": "10Gi",
        "tmpSize": "1Gi",
        "allowedNamespaces": ["*"],
        "egress": [],
        "recycleSeconds": 86400,
    }


# ── status ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("kind", "name", "ok", "bad"), list(_cases("status")))
async def test_status_is_bounded(
    api: ApiClient, kind: str, name: str, ok: object, bad: object
) -> None:
    """A status is small: the API server refuses what is beyond a bound, and names the field."""
    place = PLACES[kind]
    made = await api.create(place, "default", _object(kind, SPECS[kind]))
    object_name = made["metadata"]["name"]
    await api.patch(place, "default", object_name, {"status": {name: ok}}, sub="status")
    with pytest.raises(RejectedError, match=rf"status\.{name}"):
        await api.patch(place, "default", object_name, {"status": {name: bad}}, sub="status")


async def test_status_is_a_subresource(api: ApiClient) -> None:
    """Who may write a spec cannot write a status with it, nor the other way round."""
    place = PLACES["RunnerPool"]
    body = _object("RunnerPool", POOL) | {"status": {"warm": 5}}
    name = (await api.create(place, "default", body))["metadata"]["name"]
    both = {"spec": {"max": 7}, "status": {"warm": 3}}
    changed = await api.patch(place, "default", name, both, sub="status")
    assert (changed["spec"]["max"], changed["status"]["warm"]) == (1000, 3)


async def test_pool_is_scaled(api: ApiClient) -> None:
    """The scale subresource is over ``warm``, so that `kubectl scale` and autoscalers work."""
    place = PLACES["RunnerPool"]
    name = (await api.create(place, "default", _object("RunnerPool", POOL)))["metadata"]["name"]
    await api.patch(place, "default", name, {"spec": {"replicas": 4}}, sub="scale")
    assert (await api.get(place, "default", name))["spec"]["warm"] == 4


async def test_runs_are_selected_by_workflow_and_phase(api: ApiClient) -> None:
    """Lists can be narrowed on the server by what people ask for."""
    place = PLACES["WorkflowRun"]
    spec = {"workflowRef": {"name": "selected"}}
    name = (await api.create(place, "default", _object("WorkflowRun", spec)))["metadata"]["name"]
    await api.patch(place, "default", name, {"status": {"phase": "Running"}}, sub="status")
    for selector, expected in (
        ("spec.workflowRef.name=selected", [name]),
        ("spec.workflowRef.name=selected,status.phase=Running", [name]),
        ("spec.workflowRef.name=selected,status.phase=Failed", []),
    ):
        pages = [page async for page in api.pages(place, namespace="default", fields=selector)]
        assert [item["metadata"]["name"] for page in pages for item in page["items"]] == expected
