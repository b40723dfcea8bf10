"""One `helm install`: a first run, an upgrade under load, a rollback."""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from cluster.bed.build import build_helm, find_kubectl
from cluster.bed.places import places
from cluster.installed import CHART, NAMESPACE, RELEASE, Installed
from cluster.operating import until

KEPT = Path(__file__).parent / "fixture" / "plue-0.1.0.tgz"
"""The chart as it was last kept by `helm package`: of the last release, once there is one."""

RUN = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("work", "echo begin; sleep {seconds}; echo end")
"""


def test_the_first_run(plue: Installed) -> None:
    """A run that is applied is complete, and its log is read through the API."""
    (name,) = plue.apply(RUN.format(seconds=0))
    plue.assert_each_ran_once([name])
    assert [line.split()[-1] for line in plue.log(name).splitlines()] == ["begin", "end"]


def test_helm_test_makes_a_run_of_its_own(plue: Installed) -> None:
    """`helm test` applies a run as a user would, and leaves none."""
    assert "Succeeded" in plue.helm("test", RELEASE, "--timeout", "120s")
    said = plue.cluster.kubectl("logs", "-n", NAMESPACE, f"{RELEASE}-test")
    assert "was complete" in said
    assert plue.cluster.items("wfr", NAMESPACE) == []


def test_a_newcomer_gets_to_a_log_by_what_helm_says(plue: Installed) -> None:
    """The commands of the chart's notes, as they are, end with the output of a first run."""
    notes = plue.helm("get", "notes", RELEASE)
    commands = "\n".join(line[5:] for line in notes.splitlines() if line.startswith(" " * 5))
    assert commands.count("kubectl") >= 5
    folders = [
        build_helm(places()).parent,
        Path(find_kubectl()).parent,
        Path(sys.executable).parent,
    ]
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        env={
            "KUBECONFIG": plue.cluster.running.inner_kubeconfig,
            "HOME": str(plue.folder),
            "PATH": ":".join([*map(str, folders), "/usr/bin", "/bin"]),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello from" in done.stdout.splitlines()[-1]
    plue.cluster.kubectl("delete", "wfr/hello", "sa/plue-cli", "rolebinding/plue-cli")


def test_the_evaluator_has_no_token_and_runners_have_none_of_the_api_server(
    plue: Installed,
) -> None:
    """No volume of the evaluator or of a runner holds a token that the API server takes."""
    for pod in plue.pods("evaluator"):
        assert not [v for v in pod["spec"]["volumes"] if "projected" in v]
    for pod in plue.runner_pods():
        sources = [
            source
            for volume in pod["spec"]["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
        ]
        assert [s["serviceAccountToken"]["audience"] for s in sources] == ["plue-gateway"]


def _newer(folder: Path) -> Path:
    """Return a copy of the chart with another version: every pod of it is another one."""
    chart = folder / "plue"
    shutil.copytree(CHART, chart)
    file = chart / "Chart.yaml"
    meta = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**meta, "version": "0.1.1"}))
    return chart


def _fresh_pods(plue: Installed, before: set[str]) -> set[str]:
    pods = [p for c in ("operator", "gateway", "api", "evaluator") for p in plue.pods(c)]
    return {pod["metadata"]["uid"] for pod in pods} - before


def test_an_upgrade_and_a_rollback_under_load_lose_nothing(plue: Installed, tmp_path: Path) -> None:
    """Every process is replaced twice in the middle of runs; each run ends well, and ran once."""
    before = _fresh_pods(plue, set())
    names = plue.apply(RUN.format(seconds=20), 6)
    until("most run", lambda: list(plue.phases().values()).count("Running") >= 4, seconds=60)
    names += plue.apply(RUN.format(seconds=1), 10)
    plue.upgrade(_newer(tmp_path))
    assert len(_fresh_pods(plue, before)) == 7
    plue.assert_each_ran_once(names)
    names = plue.apply(RUN.format(seconds=10), 10)
    plue.helm("rollback", RELEASE, "1", "--wait", "--timeout", "240s")
    plue.assert_each_ran_once(names)
    assert f"{RELEASE}-upgrade" not in plue.cluster.kubectl("get", "clusterrole", "-o", "name")


def test_an_upgrade_from_the_last_kept_chart_loses_nothing(plue: Installed) -> None:
    """Runs that began on the chart of `fixture/` end on this one, each once."""
    plue.upgrade(KEPT)
    plue.wait_until_warm()
    names = plue.apply(RUN.format(seconds=15), 4)
    until("some run", lambda: list(plue.phases().values()).count("Running") >= 2, seconds=60)
    names += plue.apply(RUN.format(seconds=1), 6)
    plue.upgrade()
    plue.assert_each_ran_once(names)


def test_crds_are_upgraded(plue: Installed) -> None:
    """What an upgrade finds changed in the definitions it makes what the version says."""
    broken = '[{"op": "replace", "path": "/spec/names/shortNames", "value": ["old"]}]'
    name = "workflowruns.plue.dev"
    plue.cluster.kubectl("patch", "crd", name, "--type=json", "-p", broken)
    plue.upgrade()
    assert plue.cluster.get("crd", name)["spec"]["names"]["shortNames"] == ["wfr"]
