"""The chart without a node: it is judged by helm, by the API server's schemas, and by its own."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.bed.build import find_kubectl
from cluster.installed import CHART, NAMESPACE, helm
from cluster.operating import RUNNERS

EXTERNAL = {"database": {"existingSecret": "team-database"}}
VALUES: dict[str, dict[str, Any]] = {
    "a-trial": {"postgres": {"enabled": True}},
    "a-database-of-ones-own": EXTERNAL,
    "everything": {
        **EXTERNAL,
        "image": {"digest": "sha256:" + "a" * 64},
        "imagePullSecrets": ["registry"],
        "secretsFrom": ["default", "kube-public"],
        "operator": {"replicas": 2, "priorityClassName": "high"},
        "gateway": {"replicas": 5, "nodeSelector": {"pool": "plue"}},
        "archives": {"existingClaim": "archives"},
        "models": {"existingSecret": "keys", "settings": "models: {}", "budgets": "run.usd=1"},
        "api": {
            "url": "https://plue.example",
            "oidc": {"issuer": "https://login.example", "existingSecret": "oidc"},
            "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
        },
        "evaluator": {"runtimeClassName": "gvisor", "existingSecret": "evaluator"},
        "runners": {
            "pools": {
                "default": {"warm": 3, "max": 9, "allowedNamespaces": ["team-a"]},
                "large": {
                    "warm": 0,
                    "max": 2,
                    "resources": {"limits": {"cpu": "4", "memory": "8Gi"}},
                    "pod": {"tolerations": [{"key": "gvisor", "operator": "Exists"}]},
                },
            }
        },
        "runtimeClass": {"create": True, "tolerations": [{"key": "g", "operator": "Exists"}]},
        "networkPolicies": {
            "apiFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        },
        "ingress": {"enabled": True, "host": "plue.example", "tlsSecret": "plue-tls"},
    },
    "a-token-for-a-key": {
        **EXTERNAL,
        "models": {"identity": {"federationRuleId": "fdrl_1", "organizationId": "acme"}},
    },
    "nothing-optional": {
        **EXTERNAL,
        "crds": {"upgrade": False},
        "runners": {"createNamespace": False, "pools": {"default": None}},
        "admissionPolicy": {"enabled": False},
        "networkPolicies": {"enabled": False},
        "podDisruptionBudgets": {"enabled": False},
    },
}


def _template(folder: Path, values: dict[str, Any], *, check: bool = True) -> str:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    arguments = ("template", "plue", CHART, "--namespace", NAMESPACE, "--values", file)
    return helm("/nowhere", *arguments, "--kube-version", "1.34.4", check=check)


def _objects(folder: Path, values: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(_template(folder, values)) if one]


@pytest.mark.parametrize("name", VALUES)
def test_lint_finds_nothing(name: str, tmp_path: Path) -> None:
    """`helm lint --strict` is content with every kind of values."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(VALUES[name]))
    version = ("--kube-version", "1.34.4")
    said = helm("/nowhere", "lint", CHART, "--strict", "--values", file, *version)
    assert "0 chart(s) failed" in said


@pytest.mark.parametrize("name", VALUES)
def test_the_api_server_takes_every_object(name: str, tmp_path: Path, api_server: Path) -> None:
    """Each object is valid by Kubernetes' schemas and our definitions', no field unknown."""
    objects = _objects(tmp_path, VALUES[name])
    kubectl = [find_kubectl(), f"--kubeconfig={api_server}"]

    def apply(given: list[dict[str, Any]], *how: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*kubectl, "apply", "-f", "-", *how],
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": given}),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    # A dry run makes nothing that the next object could stand in or refer to.
    spaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        for name in (NAMESPACE, RUNNERS)
    ]
    accounts = [one for one in objects if one["kind"] == "ServiceAccount"]
    assert apply(spaces + accounts).returncode == 0
    done = apply(objects, "--dry-run=server", "--validate=strict")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(objects)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param({"gatway": {"replicas": 3}}, "'gatway' not allowed", id="a-component"),
        pytest.param({"gateway": {"replica": 3}}, "'replica' not allowed", id="a-field"),
        pytest.param({"gateway": {"replicas": "3"}}, "replicas", id="a-text-for-a-number"),
        pytest.param(
            {"runners": {"pools": {"default": {"wram": 2}}}}, "'wram' not allowed", id="of-a-pool"
        ),
        pytest.param(
            {"operator": {"resources": {"limit": {}}}}, "'limit' not allowed", id="of-resources"
        ),
        pytest.param(
            {"runners": {"pools": {"p": {"resources": {"limits": {"cpu": 4}}}}}}, "cpu", id="cpu"
        ),
        pytest.param({"image": {"digest": "1234"}}, "digest", id="a-digest-that-is-none"),
        pytest.param({"database": {"dsn": "x"}}, "give one database", id="two-databases"),
        pytest.param(
            {"ingress": {"enabled": True, "host": "a.b"}}, "ingress.tlsSecret", id="without-tls"
        ),
        pytest.param(
            {"models": {"identity": {"federationRuleId": "r"}}}, "organizationId", id="half-a-rule"
        ),
        pytest.param(
            {
                "models": {
                    "existingSecret": "keys",
                    "identity": {"federationRuleId": "r", "organizationId": "o"},
                }
            },
            "not both",
            id="a-key-and-a-token",
        ),
    ],
)
def test_what_is_misspelt_or_impossible_is_refused(
    values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """A value that would be ignored is an error that names it."""
    answer = _template(tmp_path, {"postgres": {"enabled": True}, **values}, check=False)
    assert "Error" in answer
    assert said in answer


def test_no_database_is_an_error_that_says_what_to_give(tmp_path: Path) -> None:
    """Without a database there is no installation, rather than one that never becomes ready."""
    assert "give one database" in _template(tmp_path, {}, check=False)


def test_values_may_hold_what_their_schema_says(tmp_path: Path) -> None:
    """Each value of the file is in the schema, and each of the schema's is in the file."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(value: object, schema: dict[str, Any], at: str) -> None:
        if not isinstance(value, dict) or not schema.get("properties"):
            return
        if at != ".runners.pools":
            assert schema.get("additionalProperties") is False, at
        for name, inner in value.items():
            assert name in schema["properties"], f"{at}.{name}"
            compare(inner, schema["properties"][name], f"{at}.{name}")

    compare(values, schema, "")


def test_only_the_gateway_has_the_providers_token(tmp_path: Path) -> None:
    """A token for the provider is mounted and named where models are asked, and nowhere else."""
    pods = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in _objects(tmp_path, VALUES["a-token-for-a-key"])
        if one["kind"] == "Deployment"
    }
    gateway = pods.pop("plue-gateway")
    assert "fdrl_1" not in json.dumps(pods)
    assert "serviceAccountToken" not in json.dumps(pods)
    (container,) = gateway["containers"]
    given = {one["name"]: one.get("value") for one in container["env"]}
    assert given["ANTHROPIC_FEDERATION_RULE_ID"] == "fdrl_1"
    assert given["ANTHROPIC_ORGANIZATION_ID"] == "acme"
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "identity"]
    (volume,) = [one for one in gateway["volumes"] if one["name"] == "identity"]
    (source,) = volume["projected"]["sources"]
    token = source["serviceAccountToken"]
    assert given["ANTHROPIC_IDENTITY_TOKEN_FILE"] == f"{mount['mountPath']}/{token['path']}"
    assert mount["readOnly"] is True
    assert (token["audience"], token["expirationSeconds"]) == ("https://api.anthropic.com", 3600)
    assert "ANTHROPIC" not in _template(tmp_path, VALUES["nothing-optional"])


def test_every_pod_is_restricted_and_limited(tmp_path: Path) -> None:
    """No pod of the chart is privileged, writes to its root, or lacks limits; none runs as root."""
    for found in _objects(tmp_path, VALUES["everything"]) + _objects(tmp_path, VALUES["a-trial"]):
        template = found.get("spec", {}).get("template", found if found["kind"] == "Pod" else None)
        if template is None:
            continue
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert set(container["resources"]) == {"requests", "limits"}


def test_only_who_speaks_to_the_api_server_has_a_token(tmp_path: Path) -> None:
    """Evaluator and database carry none, and no service account gives one by itself."""
    objects = _objects(tmp_path, VALUES["a-trial"])
    with_token = {
        found["metadata"]["labels"]["app.kubernetes.io/component"]
        for found in objects
        if found["kind"] in {"Deployment", "StatefulSet"}
        and found["spec"]["template"]["spec"]["automountServiceAccountToken"]
    }
    assert with_token == {"operator", "gateway", "api"}
    accounts = [found for found in objects if found["kind"] == "ServiceAccount"]
    assert all(account["automountServiceAccountToken"] is False for account in accounts)


def test_no_right_is_a_wildcard_or_a_secret(tmp_path: Path) -> None:
    """No rule has a star, and none reads Secrets in all namespaces."""
    for found in _objects(tmp_path, VALUES["a-trial"]):
        for rule in found.get("rules", []) if "Role" in found["kind"] else []:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert found["kind"] == "Role" or "secrets" not in rule["resources"]


def test_secrets_are_read_where_the_values_say(tmp_path: Path) -> None:
    """Only in the namespaces of secretsFrom may the servers get Secrets, and only get them."""

    def readable(values: dict[str, Any]) -> set[str]:
        found = [one for one in _objects(tmp_path, values) if one["kind"] == "Role"]
        rules = [(one, rule) for one in found for rule in one["rules"]]
        ours = [(one, rule) for one, rule in rules if one["metadata"]["name"] == "plue-secrets"]
        assert all(rule["verbs"] == ["get"] for _, rule in ours)
        return {one["metadata"]["namespace"] for one, _ in ours}

    assert readable(VALUES["everything"]) == {"default", "kube-public"}
    assert readable(VALUES["a-trial"]) == set()
