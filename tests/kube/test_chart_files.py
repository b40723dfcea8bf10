"""What the chart repeats of other files, compared with them."""

import json
import re
import runpy
from pathlib import Path

import yaml

from plue.authoring.remotes import MOST_BYTES
from plue.kube.evaluating import CLONES_AT_ONCE, FETCHES_AT_ONCE
from plue.resources.__main__ import files

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "plue"


def test_the_charts_definitions_are_the_generated_ones() -> None:
    """`make crds` writes both folders; neither is changed by hand."""
    assert files() == {file.name: file.read_text() for file in (CHART / "crds").iterdir()}


def test_a_pool_in_the_values_may_hold_what_a_pools_spec_may() -> None:
    """The schema of values knows exactly the fields of a RunnerPool's spec."""
    (version,) = yaml.safe_load(files()["runnerpools.yaml"])["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    schema = json.loads((CHART / "values.schema.json").read_text())
    pools = schema["properties"]["runners"]["properties"]["pools"]["additionalProperties"]
    assert set(spec["properties"]) == set(pools["properties"])
    assert pools["additionalProperties"] is False


def test_the_charts_version_is_the_packages() -> None:
    """One version everywhere: the image's tag is the chart's appVersion."""
    from plue import __version__

    meta = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert meta["appVersion"] == __version__


def test_the_sbom_names_everything_that_is_installed() -> None:
    """Each pin of a lock is a component with its version and at least one hash."""
    for kind in ("server", "runner"):
        lock = (ROOT / f"{kind}_image" / "requirements.lock").read_text()
        made = runpy.run_path(str(ROOT / "server_image" / "sbom.py"))["sbom"](lock, name=kind)
        pins = [line.split("==")[0] for line in lock.splitlines() if "==" in line]
        assert [name.split("[")[0] for name in pins] == [c["name"] for c in made["components"]]
        assert all(component["hashes"] for component in made["components"])


def test_every_test_that_the_threat_model_names_is_there() -> None:
    """What a boundary gives is shown by a test of that very name, and case, or by that file."""
    text = (ROOT / "docs" / "threat-model.md").read_text()
    code = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    names = re.findall(r"`(test_\w+)(?:\[([\w-]+)\])?`", text)
    assert len(names) >= 10
    for name, case in names:
        assert f"def {name}(" in code, name
        assert not case or f'id="{case}"' in code, case
    for pattern in re.findall(r"`(tests/[\w/*.]+\.py)`", text):
        assert list(ROOT.glob(pattern)), pattern


def test_the_evaluators_folder_holds_what_it_may_make_at_once() -> None:
    """Clones with their files and archives, and fetches: a limit below that evicts good work."""
    limit = yaml.safe_load((CHART / "values.yaml").read_text())["evaluator"]["tmpSizeLimit"]
    at_once = 4 * CLONES_AT_ONCE + FETCHES_AT_ONCE
    assert int(limit.removesuffix("Gi")) * 1024**3 >= at_once * MOST_BYTES
