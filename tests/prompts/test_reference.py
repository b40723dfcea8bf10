"""The reference of prompts is true: its files have no mistake, and its lists are the code's."""

import re
from pathlib import Path

from authoring.sandboxed import Sandbox

from plue.authoring.sandbox.prompts.calls import OPTIONS
from plue.authoring.sandbox.prompts.frontmatter import KEYS, TOOLS
from plue.templating.filters import FILTERS

PAGE = (Path(__file__).parents[2] / "docs/prompts.md").read_text()
FILES = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_the_files_of_the_reference_have_no_mistake(sandbox: Sandbox) -> None:
    """What a reader copies works."""
    found = sandbox.call(sandbox.evaluator.describe(FILES))
    assert list(found.diagnostics) == []
    assert [info.import_name for info in found.prompts] == ["Base", "CodeReview", "FixErrors"]
    (workflow,) = found.workflows
    planned = sandbox.call(
        sandbox.evaluator.plan(
            FILES, workflow.name, inputs={}, event={"kind": "pull_request", "action": "opened"}
        )
    )
    assert planned.plan is not None, planned.diagnostics
    assert [one.path for one in planned.plan.awaits] == [("approved",)]


def test_the_lists_of_the_reference_are_those_of_the_code() -> None:
    """Keys, tools, filters and options are all there."""
    for name in (*KEYS, *TOOLS, *OPTIONS):
        assert f"`{name}`" in PAGE, name
    written = re.search(r"Filters: `([^`]+)`", PAGE)
    assert written is not None
    ours = {name for name in FILTERS if " " not in name and name != "d"}
    assert set(written[1].split()) == ours
