"""Prompts and workflows for tests, as files."""

from collections.abc import Mapping

__all__ = ["FOLDER", "REVIEW", "files_of", "workflow_with"]

FOLDER = ".plue/prompts/"
WORKFLOW = ".plue/workflows/ci.py"

REVIEW = """---
name: code-review
description: Reviews a diff
client: anthropic/claude-sonnet
inputs:
  diff: string                # the unified diff
  focus: string?
  level: low | high = low
output:
  approved: boolean           # whether it can be merged
  issues:
    - file: string
      line: integer?
  summary: string
  author:
    name: string
---
Review at level {{ level }}{% if focus %}, mind {{ focus }}{% endif %}:
{{ diff }}
{{ output_schema }}
"""

FIX = """---
name: fix-errors
type: agent
inputs:
  errors: string
  issues:
    - file: string
      line: integer?
  rounds: integer = 3
tools: [read_file, edit_file, shell]
max_turns: 20
output:
  fixed: boolean
  status: string
---
Fix: {{ errors }} {{ issues }} {{ rounds }}
"""


def files_of(prompts: Mapping[str, str], workflow: str | None = None) -> dict[str, str]:
    """Return files by path: ``review`` is a prompt, ``parts/style.md`` a file beside them."""
    found = {
        FOLDER + (name if name.endswith(".md") else f"{name}.prompt.md"): text
        for name, text in prompts.items()
    }
    return found if workflow is None else {**found, WORKFLOW: workflow}


def workflow_with(body: str, imports: str = "CodeReview, FixErrors") -> str:
    """Return a file with one workflow; its body begins in line 5."""
    lines = "\n".join(f"    {line}" if line else "" for line in body.strip("\n").split("\n"))
    return (
        "from plue import workflow, push, manual, schema\n"
        f"from plue.prompts import {imports}\n"
        '@workflow(triggers=[push(), manual(inputs={"n": 1, "text": ""})])\n'
        f"def ci(ctx):\n{lines}\n"
    )
