"""What a step cannot use up, and where it cannot go although a way leads out."""

from collections.abc import Iterator

import pytest
from cluster.installed import STEP, Installed
from cluster.operating import RUNNERS, a_workflow, run_of

DIALLED = (
    'python3 -c "import urllib.request as u; '
    "print(u.urlopen('https://{host}/', timeout=20).status)\""
)


def test_a_full_disk_ends_its_own_run_alone(plue: Installed) -> None:
    """More than its limit of disk, or of /tmp, has a runner evicted; the next run finds room."""
    fill = "dd if=/dev/zero of={file} bs=1M count=1500; sleep 150"
    full = [
        name
        for file in ("big", "/tmp/big")
        for name in plue.apply(STEP.format(command=fill.format(file=file), options=""))
    ]
    # The kubelet measures disks about once a minute.
    assert [plue.ended(name, 180)["reason"] for name in full] == ["Evicted", "Evicted"]
    (beside,) = plue.apply(STEP.format(command="echo fine", options=""))
    assert plue.ended(beside)["phase"] == "Succeeded"


@pytest.fixture(scope="module")
def with_a_way_out(plue: Installed) -> Iterator[str]:
    """Give the name of a pool whose runs may reach one host."""
    name = "way-out"
    plue.cluster.pool(name, warm=1, maximum=2, egress=["allowed.example"])
    plue.wait_until_warm(name)
    yield name
    plue.cluster.kubectl("delete", "rp", name, "-n", RUNNERS)


@pytest.mark.parametrize(
    "host", ["other.example", "allowed.example.evil.example", "10.96.0.1", "allowed.example:8443"]
)
def test_a_step_reaches_no_host_that_its_pool_does_not_name(
    plue: Installed, with_a_way_out: str, host: str
) -> None:
    """The gateway refuses the connection, and the step's log says so."""
    (name,) = plue.apply(
        STEP.format(command=DIALLED.format(host=host), options=""), pool=with_a_way_out
    )
    assert plue.ended(name)["reason"] == "StepFailed"
    log = plue.log(name)
    assert "403 Forbidden" in log or "400 Bad Request" in log, log
    refused = [event for event in plue.events(name) if event["type"] == "egress_refused"]
    assert [event["body"]["reason"] for event in refused] == ["HostNotAllowed"]


USING = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("use", 'echo "$TOKEN" | rev', env={"TOKEN": ctx.secrets.TOKEN})
"""


def test_a_workflow_has_no_secret_of_another(plue: Installed) -> None:
    """With the chart's rights: whom the Secret names has it, and who names it without has not."""
    cluster, named = plue.cluster, [{"name": "TOKEN", "secretName": "of-mine", "key": "token"}]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "of-mine",
            "namespace": "default",
            "labels": {"workflow.plue.dev/mine": "true"},
        },
        "stringData": {"token": "esrever"},
    }
    both = {name: run_of(name) for name in ("mine", "others")}
    cluster.apply(secret, *(a_workflow(name, USING, secrets=named) for name in both))
    cluster.apply(*both.values())
    status = {name: plue.ended(run["metadata"]["name"]) for name, run in both.items()}
    assert (status["mine"]["phase"], status["others"]["reason"]) == ("Succeeded", "MissingSecret")
    assert "reverse" in plue.log(both["mine"]["metadata"]["name"])
    cluster.kubectl("delete", "secret", "of-mine", "-n", "default")
