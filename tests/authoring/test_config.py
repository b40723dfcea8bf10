"""`.plue/config.yaml`: everything wrong in it is told with its place, what is right has effect."""

import json
from importlib import resources

import pytest
from authoring.sandboxed import Sandbox
from jsonschema import Draft202012Validator

import plue.authoring
from plue.authoring.config import CONFIG_FILE, Config, parse_config, schema_text

# name, text, code, line, column, a word of the message or the remedy
WRONG = [
    ("bracket", "env: {A: b\n", "PLU801", 2, 1, "brackets"),
    ("tab", "pool: x\n\ttimeout: 3\n", "PLU801", 2, 1, "indents"),
    ("quote", "pool: x\nenv: {A: 'b}\n", "PLU801", 3, 1, "quotes"),
    ("list", "- pool\n", "PLU801", 1, 1, "pool: default"),
    ("anchor", "env: &e {A: b}\n", "PLU801", 1, 6, "write the value out"),
    ("tag", "pool: !!python/object x\n", "PLU801", 1, 7, "remove the tag"),
    ("merge", "env:\n  <<: {A: b}\n", "PLU801", 2, 3, "name: value"),
    ("twice", "pool: a\ntimeout: 3\npool: b\n", "PLU801", 3, 1, "first in line 1"),
    ("documents", "pool: a\n---\npool: b\n", "PLU801", 2, 1, "document"),
    ("key-as-list", "? [a]\n: b\n", "PLU801", 1, 3, "plain name"),
    ("unknown", "pool: a\ntimout: 30m\n", "PLU802", 2, 1, "did you mean `timeout`?"),
    ("unknown-far", "zebra: 1\n", "PLU802", 1, 1, "it has: pool, timeout"),
    ("pool", "pool: Big One\n", "PLU803", 1, 7, "lower-case letters"),
    ("pool-number", "pool: 3\n", "PLU803", 1, 7, "name of a pool"),
    ("duration", "timeout: soon\n", "PLU803", 1, 10, '"1h30m"'),
    ("duration-clock", "timeout: 1:30\n", "PLU803", 1, 10, "'1:30' is not a duration"),
    ("duration-zero", "queue_timeout: 0\n", "PLU803", 1, 16, "cannot be 0"),
    ("duration-list", "idle_timeout: [1]\n", "PLU803", 1, 15, "cannot be [1]"),
    ("duration-bool", "cleanup_timeout: true\n", "PLU803", 1, 18, "cannot be true"),
    ("attempts", "attempts: 99\n", "PLU803", 1, 11, "from 1 to 10"),
    ("attempts-text", "attempts: two\n", "PLU803", 1, 11, 'cannot be "two"'),
    ("env-list", "env: [A]\n", "PLU803", 1, 6, "names and texts"),
    ("env-number", "env:\n  A: 1\n", "PLU803", 2, 6, 'write it in quotes: "1"'),
    ("env-bool", "env: {A: false}\n", "PLU803", 1, 10, 'write it in quotes: "false"'),
    ("env-name", "env:\n  A: b\n  B-C: d\n", "PLU803", 3, 3, "letters, digits"),
    ("env-plue", "env: {PLUE_X: d}\n", "PLU803", 1, 7, "Plue's own"),
    ("env-nested", "env: {A: {b: c}}\n", "PLU803", 1, 10, "names and texts"),
    ("too-large", f"env: {{A: {'x' * 100_000}}}\n", "PLU801", 1, 1, "keep settings short"),
    ("image", "image: python:3.12\n", "PLU901", 1, 1, "no effect in this version"),
    ("budget", "pool: a\nbudget: 5\n", "PLU901", 2, 1, "remove `budget`"),
    ("concurrency", "concurrency: ci\n", "PLU901", 1, 1, "do not exclude each other"),
    ("cache", "cache: true\n", "PLU901", 1, 1, "nothing is cached"),
]


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "said"),
    [pytest.param(*rest, id=name) for name, *rest in WRONG],
)
def test_wrong_configuration_is_told(
    text: str, code: str, line: int, column: int, said: str
) -> None:
    """One wrong thing gives one diagnostic: its code, its place, what to write instead."""
    (found,) = parse_config(text).diagnostics
    assert (code, line, column) == (found.code, found.line, found.column), found
    assert said in f"{found.message} {found.remedy}", found
    assert found.remedy
    assert found.file == CONFIG_FILE


def test_everything_wrong_is_told_at_once_and_the_rest_counts() -> None:
    """In order of the lines; a wrong key does not take the right ones with it."""
    found = parse_config("pool: A B\ntimout: 3\nattempts: 2\nenv: {A: 1, B-: x}\n")
    assert [(d.line, d.column) for d in found.diagnostics] == [(1, 7), (2, 1), (4, 10), (4, 13)]
    assert found.defaults() == {"attempts": 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", {}, id="empty"),
        pytest.param("# nothing\n", {}, id="comment"),
        pytest.param("pool:\n", {}, id="unset"),
        pytest.param("timeout: 90\n", {"timeout": 90.0}, id="seconds"),
        pytest.param("timeout: 30m\n", {"timeout": "30m"}, id="text"),
        pytest.param("env: {A: on, B: '3'}\n", {"env": {"A": "on", "B": "3"}}, id="yaml-1.2"),
    ],
)
def test_right_configuration_is_taken(text: str, expected: dict[str, object]) -> None:
    """What is not set is not there; `on` is a word and no boolean."""
    found = parse_config(text)
    assert found.diagnostics == ()
    assert found.defaults() == expected


def test_the_shipped_schema_is_the_models() -> None:
    """Editors check with what Plue checks with: after a change, write schema_text() there."""
    shipped = resources.files(plue.authoring).joinpath("config.schema.json").read_text("utf-8")
    assert shipped == schema_text()
    schema = json.loads(shipped)
    Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(Config.model_fields)
    assert all(found["description"] for found in schema["properties"].values())
    assert not Draft202012Validator(schema).is_valid({"timout": "3m"})
    assert Draft202012Validator(schema).is_valid({"timeout": "3m", "env": {"A": "b"}})


WORKFLOW = """from plue import workflow

@workflow({options})
def ci(ctx):
    ctx.run("a", "true")
"""
CONFIG = """
pool: big
timeout: 5m
queue_timeout: 1h
cleanup_timeout: 10
idle_timeout: 30s
attempts: 3
env: {A: project, B: project}
"""


def files(config: str, options: str = "") -> dict[str, str]:
    """Return a project of one workflow."""
    return {".plue/workflows/ci.py": WORKFLOW.format(options=options), CONFIG_FILE: config}


def test_the_configuration_gives_defaults(sandbox: Sandbox) -> None:
    """A workflow that says nothing gets all of them, in its description and in its plan."""
    (info,) = sandbox.describe(files=files(CONFIG)).workflows
    assert (info.pool, info.attempts, info.timeout_seconds) == ("big", 3, 300.0)
    assert (info.queue_timeout_seconds, info.cleanup_seconds) == (3600.0, 10.0)
    assert {name: text[0].model_dump() for name, text in info.env.items()} == {
        "A": {"text": "project"},
        "B": {"text": "project"},
    }
    planned = sandbox.call(sandbox.evaluator.plan(files(CONFIG), "ci", inputs={}, event={}))
    assert planned.plan is not None
    assert planned.plan.steps[0].idle_timeout_seconds == 30.0
    assert planned.plan.revision == info.revision


def test_a_workflows_own_options_outrank_it(sandbox: Sandbox) -> None:
    """Variables are merged by name, everything else is replaced."""
    options = 'pool="own", timeout="1m", attempts=1, env={"B": "workflow"}'
    (info,) = sandbox.describe(files=files(CONFIG, options)).workflows
    assert (info.pool, info.attempts, info.timeout_seconds) == ("own", 1, 60.0)
    shown = {name: text[0].model_dump()["text"] for name, text in info.env.items()}
    assert shown == {"A": "project", "B": "workflow"}


def test_a_revision_names_the_defaults_that_it_was_made_with(sandbox: Sandbox) -> None:
    """Another default is another revision; a comment is not; none is as if there were no file."""

    def revision(config: str | None) -> str:
        given = files(config or "")
        if config is None:
            del given[CONFIG_FILE]
        (info,) = sandbox.describe(files=given).workflows
        assert (CONFIG_FILE in info.files) == bool(config and "pool" in config)
        return info.revision

    assert revision(None) == revision("# empty\n") != revision("pool: a\n")
    assert revision("pool: a\n") == revision("# why\npool:   a\n") != revision("pool: b\n")


def test_nothing_runs_with_a_broken_configuration(sandbox: Sandbox) -> None:
    """The list still shows every workflow; a plan is refused with the configuration's errors."""
    broken = files("pool: A B\n")
    description = sandbox.describe(files=broken)
    assert [info.name for info in description.workflows] == ["ci"]
    assert [d.code for d in description.diagnostics] == ["PLU803"]
    planned = sandbox.call(sandbox.evaluator.plan(broken, "ci", inputs={}, event={}))
    assert planned.plan is None
    assert [(d.code, d.file) for d in planned.diagnostics] == [("PLU803", CONFIG_FILE)]
