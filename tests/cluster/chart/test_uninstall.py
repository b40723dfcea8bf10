"""What stays when the chart is uninstalled. The last tests of the release."""

from cluster.installed import NAMESPACE, RELEASE, Installed
from cluster.operating import RUNNERS, until

RUN = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("work", "true")
"""


def test_an_end_leaves_only_the_definitions(plue: Installed) -> None:
    """Uninstalled, nothing of the release stays, and users' objects do: their kinds are kept."""
    (name,) = plue.apply(RUN)
    plue.ended(name)
    plue.helm("uninstall", RELEASE, "--wait", "--timeout", "120s")
    until(
        "the runners' namespace is gone",
        lambda: not plue.cluster.get("namespace", RUNNERS),
        seconds=90,
    )
    assert plue.cluster.get("wfr", name)["status"]["phase"] == "Succeeded"
    kinds = "clusterrole,clusterrolebinding,validatingadmissionpolicy"
    left = plue.cluster.kubectl(
        "get", kinds, "-l", f"app.kubernetes.io/instance={RELEASE}", "-o", "name"
    )
    assert not left

    def objects() -> set[str]:
        return set(plue.cluster.kubectl("get", "all", "-n", NAMESPACE, "-o", "name").split())

    # Pods may take their grace period to end.
    until("its pods are gone", lambda: objects() <= {f"pod/{RELEASE}-test"}, seconds=45)
