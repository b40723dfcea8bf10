"""Prompt files: what they declare, and every mistake in them with code, place and remedy."""

from collections.abc import Mapping
from typing import Any

import pytest
from authoring.sandboxed import Sandbox
from prompts.written import FIX, FOLDER, REVIEW, files_of

from plue.authoring.results import Description, Diagnostic, PromptInfo

TEXT = {"type": "string"}


def described(sandbox: Sandbox, prompts: Mapping[str, str]) -> Description:
    """Return what these prompts declare."""
    return sandbox.call(sandbox.evaluator.describe_prompts(files_of(prompts)))


def good(sandbox: Sandbox, prompts: Mapping[str, str]) -> dict[str, PromptInfo]:
    """Return the prompts by name; none has an error."""
    found = described(sandbox, prompts)
    assert [d for d in found.diagnostics if d.severity == "error"] == []
    return {info.name: info for info in found.prompts}


def test_a_prompt_as_it_declares_itself(sandbox: Sandbox) -> None:
    """Front matter gives name, types and limits; comments behind fields are descriptions."""
    found = good(sandbox, {"review": REVIEW, "fix": FIX})
    review, fix = found["code-review"], found["fix-errors"]
    assert (review.import_name, review.kind, review.file) == (
        "CodeReview", "llm", FOLDER + "review.prompt.md",
    )  # fmt: skip
    assert (review.description, review.client) == ("Reviews a diff", "anthropic/claude-sonnet")
    assert review.inputs_schema == {
        "type": "object",
        "properties": {
            "diff": {**TEXT, "description": "the unified diff"},
            "focus": {"anyOf": [TEXT, {"type": "null"}]},
            "level": {"enum": ["low", "high"], **TEXT, "default": "low"},
        },
        "required": ["diff"],
        "additionalProperties": False,
    }
    issue = review.output_schema["properties"]["issues"]["items"]  # type: ignore[index] # it has one
    assert issue["properties"] == {
        "file": TEXT,
        "line": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    }
    assert (fix.kind, fix.tools, fix.max_turns) == (
        "agent", ["read_file", "edit_file", "shell"], 20,
    )  # fmt: skip


def test_what_is_not_written_has_a_default(sandbox: Sandbox) -> None:
    """The name is the file's; an llm without an output answers text, an agent nothing of its own."""
    found = good(sandbox, {"release_notes": "---\n---\nWrite.", "do": "---\ntype: agent\n---\nGo."})
    notes, do = found["release_notes"], found["do"]
    assert (notes.import_name, notes.kind) == ("ReleaseNotes", "llm")
    assert notes.output_schema == {
        "type": "object",
        "properties": {"text": TEXT},
        "required": ["text"],
        "additionalProperties": False,
    }
    assert do.output_schema is None


BASE = """---
client: anthropic/claude-sonnet
inputs:
  diff: string
  style: string = kind
output:
  ok: boolean
---
# {% block title %}Base{% endblock %}
Be {{ style }}. {% include "parts/rules.md" %}
{% block body %}{% endblock %}
"""


def test_extends_inherits_text_and_front_matter(sandbox: Sandbox) -> None:
    """What a prompt does not give itself comes from what it extends; inputs come together."""
    child = """---
extends: base
inputs:
  more: string[]
---
{% from "macros.md" import item %}
{% block body %}{% for one in more %}{{ item(one) }}{% endfor %}{{ diff }}{% endblock %}
"""
    prompts = {
        "base": BASE,
        "child": child,
        "parts/rules.md": "No {{ diff }}!\n",
        "macros.md": "{% macro item(x) %}- {{ x }}\n{% endmacro %}",
    }
    found = good(sandbox, prompts)["child"]
    assert list(found.inputs_schema["properties"]) == ["diff", "style", "more"]
    assert found.client == "anthropic/claude-sonnet"
    assert found.output_schema is not None
    assert sorted(found.files) == [
        FOLDER + "base.prompt.md", FOLDER + "child.prompt.md", FOLDER + "macros.md",
        FOLDER + "parts/rules.md",
    ]  # fmt: skip


def test_the_digest_covers_the_files_and_no_others(sandbox: Sandbox) -> None:
    """A change of an included file changes the prompt; a change beside it does not."""
    prompts = {"a": '---\n---\n{% include "x.md" %}', "x.md": "one", "y.md": "other"}
    first = good(sandbox, prompts)["a"].digest
    assert first == good(sandbox, {**prompts, "y.md": "changed"})["a"].digest
    assert first != good(sandbox, {**prompts, "x.md": "two"})["a"].digest


@pytest.mark.parametrize(
    ("name", "imported", "step"),
    [
        ("code-review", "CodeReview", "code-review"),
        ("code_review", "CodeReview", "code-review"),
        ("CodeReview", "CodeReview", "code-review"),
        ("HTMLReport", "HTMLReport", "html-report"),
        ("v2-notes", "V2Notes", "v2-notes"),
    ],
)
def test_names(sandbox: Sandbox, name: str, imported: str, step: str) -> None:
    """A prompt is imported in CamelCase and its step is named in kebab-case."""
    files = files_of(
        {"x": f"---\nname: {name}\n---\nHello."},
        "from plue import workflow\n"
        f"from plue.prompts import {imported}\n@workflow\ndef ci(ctx):\n    {imported}()\n",
    )
    planned = sandbox.call(sandbox.evaluator.plan(files, "ci", inputs={}, event={}))
    assert planned.plan is not None, planned.diagnostics
    assert [s.name for s in planned.plan.steps] == [step]


HEAD = "---\ninputs:\n  diff: string\n---\n"

# name, files, code, line, column, a word of the message or the remedy
WRONG = [
    ("no-front-matter", {"a": "Hello"}, "PLU701", 1, 1, "begins with"),
    ("no-end", {"a": "---\nname: a\n"}, "PLU701", 1, 1, "does not end"),
    ("yaml", {"a": "---\ninputs: [\n---\nx"}, "PLU701", 3, 1, "not YAML"),
    ("yaml-quotes", {"a": '---\noutput:\n  a: "x y" | z\n---\nx'}, "PLU701", 3, 14, "whole value"),
    ("tabs", {"a": "---\ninputs:\n\ta: string\n---\nx"}, "PLU701", 3, 1, "spaces"),
    ("anchor", {"a": "---\ninputs: &x\n  a: string\n---\n{{ a }}"}, "PLU701", 2, 9, "anchors"),
    ("tag", {"a": "---\nname: !!python/object:os.system x\n---\nx"}, "PLU701", 2, 7, "tags"),
    ("deep", {"a": "---\ninputs: " + "[" * 5000 + "\n---\nx"}, "PLU701", None, None, "YAML"),
    ("not-a-mapping", {"a": "---\n- a\n---\nx"}, "PLU703", 2, 1, "mapping"),
    ("key", {"a": "---\ninput:\n  a: string\n---\nx"}, "PLU702", 2, 1, "did you mean `inputs`"),
    ("key-twice", {"a": "---\nname: a\nname: b\n---\nx"}, "PLU702", 3, 1, "twice"),
    ("name", {"a": "---\nname: a b\n---\nx"}, "PLU703", 2, 7, "code-review"),
    ("file-name", {"9a": "---\n---\nx"}, "PLU703", 1, 1, "name: code-review"),
    ("type", {"a": "---\ntype: agnet\n---\nx"}, "PLU703", 2, 7, "did you mean `agent`"),
    ("client", {"a": "---\nclient: sonnet\n---\nx"}, "PLU703", 2, 9, "provider/model"),
    ("description", {"a": "---\ndescription: [a]\n---\nx"}, "PLU703", 2, 14, "text"),
    ("tool", {"a": "---\ntype: agent\ntools: [shel]\n---\nx"}, "PLU703", 3, 9, "did you mean `shell`"),
    ("tools-form", {"a": "---\ntype: agent\ntools: shell\n---\nx"}, "PLU703", 3, 8, "[read_file]"),
    ("tool-twice", {"a": "---\ntype: agent\ntools: [glob, glob]\n---\nx"}, "PLU703", 3, 15, "twice"),
    ("tools-of-llm", {"a": "---\ntools: [shell]\n---\nx"}, "PLU703", 2, 1, "type: agent"),
    ("turns", {"a": "---\ntype: agent\nmax_turns: 0\n---\nx"}, "PLU703", 3, 12, "1 to 1000"),
    ("turns-of-llm", {"a": "---\nmax_turns: 3\n---\nx"}, "PLU703", 2, 1, "type: agent"),
    ("output-form", {"a": "---\noutput: string\n---\nx"}, "PLU703", 2, 9, "fields"),
    ("input-type", {"a": "---\ninputs:\n  a: strng\n---\n{{ a }}"}, "PLU704", 3, 6, "did you mean `string`"),
    ("nested-type", {"a": "---\noutput:\n  a:\n    - b: string\n      c: in\n---\nx"}, "PLU704", 5, 10, "not a type"),
    ("list-of-two", {"a": "---\noutput:\n  a:\n    - string\n    - integer\n---\nx"}, "PLU704", 4, 5, "one type"),
    ("field-name", {"a": "---\noutput:\n  a-b: string\n---\nx"}, "PLU704", 3, 3, "letters"),
    ("reserved", {"a": "---\ninputs:\n  retry: string\n---\n{{ retry }}"}, "PLU705", 3, 3, "option"),
    ("reserved-template", {"a": "---\ninputs:\n  loop: string\n---\n{{ loop }}"}, "PLU705", 3, 3, "template"),
    ("duplicate", {"a": "---\nname: x\n---\nx", "b": "---\nname: X\n---\nx"}, "PLU706", 2, 1, "another name"),
    ("syntax", {"a": "---\n---\nx\n{% if %}"}, "PLU710", 4, 1, "expression"),
    ("unclosed", {"a": HEAD + "{% if diff %}\n{{ diff }}"}, "PLU710", 6, 1, "close the tag"),
    ("tag-name", {"a": "---\n---\n{% fro x %}"}, "PLU710", 3, 4, "did you mean `from`"),
    ("undefined", {"a": HEAD + "{{ diff }}\n  {{ dif }}"}, "PLU711", 6, 6, "did you mean `diff`"),
    ("loop-variable-outside", {"a": HEAD + "{% for i in diff %}{{ i }}{% endfor %}{{ i }}"}, "PLU711", 5, 42, "not defined"),
    ("undefined-in-a-branch", {"a": HEAD + "{% if diff %}{{ x }}{% endif %}"}, "PLU711", 5, 17, "not defined"),
    ("no-output", {"a": "---\ntype: agent\n---\n{{ output_schema }}"}, "PLU711", 4, 4, "declare `output:`"),
    ("undefined-in-an-include", {"a": HEAD + '{{ diff }}{% include "p.md" %}', "p.md": "a\n{{ dif }}"}, "PLU711", 2, 4, "did you mean"),
    ("import-sees-nothing", {"a": HEAD + '{{ diff }}{% from "m.md" import m %}{{ m() }}', "m.md": "{% macro m() %}{{ diff }}{% endmacro %}"}, "PLU711", 1, 19, "argument"),
    ("field-of-text", {"a": HEAD + "{{ diff.line }}"}, "PLU711", 5, 9, "is text"),
    ("field", {"a": "---\ninputs:\n  a:\n    file: string\n---\n{{ a.flie }}"}, "PLU711", 6, 6, "did you mean `file`"),
    ("filter", {"a": HEAD + "{{ diff | uper }}"}, "PLU712", 5, 11, "did you mean `upper`"),
    ("filter-attr", {"a": HEAD + "{{ diff | attr('x') }}"}, "PLU712", 5, 11, "attr"),
    ("test", {"a": HEAD + "{% if diff is strin %}{% endif %}"}, "PLU712", 5, 15, "did you mean `string`"),
    ("absent-file", {"a": '---\n---\n{% include "sytle.md" %}', "style.md": "x"}, "PLU713", 3, 4, "did you mean `style.md`"),
    ("absent-base", {"a": "---\nextends: bse\n---\n{% block a %}{% endblock %}"}, "PLU713", 2, 1, "no file"),
    ("escape", {"a": '---\n---\n{% include "../config.yaml" %}'}, "PLU713", 3, 4, "below .plue/prompts/"),
    ("escape-by-extends", {"a": "---\nextends: ../../x.md\n---\n"}, "PLU713", 2, 1, "below .plue/prompts/"),
    ("absolute", {"a": '---\n---\n{% import "/etc/passwd" as x %}'}, "PLU713", 3, 4, "below .plue/prompts/"),
    ("dynamic", {"a": HEAD + "{% include diff %}"}, "PLU713", 5, 4, "by a value"),
    ("several", {"a": '---\n---\n{% include ["a.md", "b.md"] %}'}, "PLU713", 3, 4, "by a value"),
    ("ignore-missing", {"a": '---\n---\n{% include "x.md" ignore missing %}', "x.md": ""}, "PLU713", 3, 19, "no meaning"),
    ("includes-itself", {"a": '---\n---\n{% include "a.prompt.md" %}'}, "PLU714", 3, 4, "use each other"),
    ("extends-itself", {"a": "---\nextends: a\n---\n"}, "PLU714", 2, 1, "use each other"),
    ("class", {"a": HEAD + "{{ diff.__class__ }}"}, "PLU715", 5, 9, "out of reach"),
    ("autoescape", {"a": HEAD + "{% autoescape true %}{{ diff }}{% endautoescape %}"}, "PLU715", 5, 4, "escaped"),
    ("without-context", {"a": HEAD + '{{ diff }}{% include "x.md" without context %}', "x.md": ""}, "PLU715", 5, 29, "remove"),
    ("unused", {"a": HEAD + "Hello"}, "PLU718", 3, 3, "never used"),
    ("outside-blocks", {"a": "---\nextends: b\n---\n\nlost\n{% block x %}{% endblock %}", "b": "---\n---\n{% block x %}{% endblock %}"}, "PLU719", 5, 1, "{% block"),
    ("too-large", {"a": "---\n---\n" + "x" * 130 * 1024}, "PLU002", 1, 1, "include"),
    ("nul", {"a": "---\n---\nx\n\0"}, "PLU003", 4, 1, "UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "code", "place", "word"),
    [pytest.param(row[1], row[2], row[3:5], row[5], id=row[0]) for row in WRONG],
)
def test_wrong_prompts(
    sandbox: Sandbox,
    files: Mapping[str, str],
    code: str,
    place: tuple[int | None, int | None],
    word: str,
) -> None:
    """Each mistake is one diagnostic with its code, its place and a remedy."""
    (found,) = described(sandbox, files).diagnostics
    assert (found.code, found.severity) == (code, "warning" if code == "PLU718" else "error")
    assert word in f"{found.message} {found.remedy}"
    if place[0] is not None:
        assert (found.line, found.column) == place
        text = files_of(files)[found.file]
        assert found.source == text.split("\n")[place[0] - 1][:500]


def test_all_errors_of_all_files_at_once(sandbox: Sandbox) -> None:
    """One mistake hides no other, and a shared file's mistakes are told once."""
    prompts = {
        "a": "---\ntyp: llm\nname: a\ninputs:\n  x: str\n---\n{{ y }}{{ x | up }}\n"
        '{% include "s.md" %}{% include "t.md" %}',
        "b": '---\nname: a\n---\n{% include "s.md" %}',
        "s.md": "{{ zz }}",
    }
    found = described(sandbox, prompts).diagnostics
    told = sorted((d.file.removeprefix(FOLDER), d.line, d.code) for d in found)
    assert told == [
        ("a.prompt.md", 2, "PLU702"),
        ("a.prompt.md", 5, "PLU704"),
        ("a.prompt.md", 7, "PLU711"),
        ("a.prompt.md", 7, "PLU712"),
        ("a.prompt.md", 8, "PLU713"),
        ("b.prompt.md", 2, "PLU706"),
        ("s.md", 1, "PLU711"),
    ]


def test_what_a_loop_or_set_defines_is_seen_by_what_it_includes(sandbox: Sandbox) -> None:
    """An included file may use the variables of the place that includes it."""
    prompts = {
        "a": "---\ninputs:\n  l: string[]\n---\n{% set title = 'T' %}\n"
        "{% for one in l %}\n{% include 'one.md' %}\n{% endfor %}\n",
        "one.md": "{{ title }}: {{ one }}\n",
    }
    assert list(good(sandbox, prompts)) == ["a"]


def test_unchanged_prompts_are_not_parsed_again(sandbox: Sandbox) -> None:
    """The same files give the same answer without asking the process."""
    first = described(sandbox, {"review": REVIEW})
    assert described(sandbox, {"review": REVIEW}) is first


@pytest.mark.parametrize(
    "body",
    ["{{ " * 20000, "{% if x %}" * 5000, "{{ " + "(" * 3000 + "1", "{{ " + "-" * 9000 + "1 }}"],
)
def test_a_hostile_body_breaks_only_its_own_prompt(sandbox: Sandbox, body: str) -> None:
    """Whatever a body does to the parser, the other prompts are there."""
    found = described(sandbox, {"bad": f"---\n---\n{body}", "review": REVIEW})
    assert "code-review" in [info.name for info in found.prompts]
    errors: list[Diagnostic] = [d for d in found.diagnostics if d.severity == "error"]
    assert {d.file for d in errors} == {FOLDER + "bad.prompt.md"}


def given_to(sandbox: Sandbox, files: Mapping[str, str], **inputs: Any) -> str:
    """Return the rendered prompt `a`."""
    work = sandbox.evaluator.render(files_of(files), "a", inputs=inputs)
    rendered = sandbox.call(work)
    assert rendered.text is not None, rendered.diagnostics
    return rendered.text
