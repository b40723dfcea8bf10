"""The page about the context is true: its examples are workflows without errors."""

import re
from pathlib import Path

import pytest
from authoring.sandboxed import FILE, Sandbox

from plue.domain.event import EVENT_FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "context.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"^```python ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("title", SECTIONS)
def test_examples_of_the_page_are_workflows(sandbox: Sandbox, title: str) -> None:
    """Each section's files together declare what they say, and nothing is wrong with them."""
    files = {path or FILE: text for path, text in BLOCK.findall(SECTIONS[title])}
    found = sandbox.describe(files=files)
    assert list(found.diagnostics) == []
    assert "ci" in [info.name for info in found.workflows]


def test_all_fields_of_events_are_on_the_page() -> None:
    """The table has every field."""
    table = SECTIONS["The event and the repository"]
    assert [name for name in EVENT_FIELDS if f"`{name}`" not in table] == []
