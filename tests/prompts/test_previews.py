"""Previews: a prompt rendered by the evaluator, the API and the command line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from api.served import serving
from authoring.sandboxed import Sandbox
from prompts.written import FIX, REVIEW, files_of

from plue.authoring.evaluator import Evaluator
from plue.authoring.results import Rendered

FILES = files_of({"review": REVIEW, "fix": FIX})


def rendered(sandbox: Sandbox, name: str, *, text: bool = False, **inputs: Any) -> Rendered:
    """Render one of the two prompts."""
    work = sandbox.evaluator.render(FILES, name, inputs=inputs, text_inputs=text)
    return sandbox.call(work)


def test_a_preview_is_the_text_that_a_model_is_given(sandbox: Sandbox) -> None:
    """Defaults are filled in, what is absent is null, and the schema stands in the text."""
    found = rendered(sandbox, "code-review", diff="D")
    assert found.text is not None
    assert found.text.startswith('Review at level low:\nD\n{\n  "type": "object",')
    assert found.inputs == {"diff": "D", "focus": None, "level": "low"}
    assert found.prompt is not None
    assert json.loads(found.text.split("\n", 2)[2]) == found.prompt.output_schema


def test_text_of_a_command_line_is_parsed_by_type(sandbox: Sandbox) -> None:
    """A list of objects is JSON, a number is its digits (28)."""
    found = rendered(
        sandbox, "FixErrors", text=True, errors="e", issues='[{"file": "a"}]', rounds="5"
    )
    assert found.text == 'Fix: e [{"file":"a","line":null}] 5'


def test_large_inputs(sandbox: Sandbox) -> None:
    """100 KB and more of input are rendered whole."""
    found = rendered(sandbox, "code-review", diff="é" * 100_000)
    assert found.text is not None
    assert "é" * 100_000 in found.text


@pytest.mark.parametrize(
    ("name", "inputs", "codes", "field"),
    [
        pytest.param("revew", {}, ["PLU720"], "prompt", id="unknown"),
        pytest.param("code-review", {}, ["PLU723"], "inputs.diff", id="missing"),
        pytest.param("code-review", {"diff": 3}, ["PLU723"], "inputs.diff", id="type"),
        pytest.param("code-review", {"dif": "x", "diff": ""}, ["PLU723"], "inputs.dif", id="name"),
    ],
)
def test_wrong_previews(
    sandbox: Sandbox, name: str, inputs: dict[str, Any], codes: list[str], field: str
) -> None:
    """What is wrong with the request is told, with the field that is meant."""
    found = rendered(sandbox, name, **inputs)
    assert found.text is None
    assert codes == [d.code for d in found.diagnostics]
    assert found.diagnostics[0].field == field


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
         "PLU716", "0.5 s"),
        ("{{ diff * 10**9 }}", "PLU716", "characters"),
        ("{{ focus }}{{ diff }}", "PLU717", "null"),
        ("{{ diff[5].x }}", "PLU711", "has no `.x`"),
        ("{{ diff[0:3].format(1) }}", "PLU715", "out of reach"),
    ],
)  # fmt: skip
def test_what_only_rendering_shows_has_its_place(
    sandbox: Sandbox, body: str, code: str, word: str
) -> None:
    """An error of rendering is a diagnostic of the prompt's file, with line and remedy."""
    text = f"---\ninputs:\n  diff: string\n  focus: string?\n---\n{{{{ diff }}}}{{# {{{{ focus }}}} #}}\n{body}\n"
    work = sandbox.evaluator.render(files_of({"a": text}), "a", inputs={"diff": "abcdefgh"})
    found = [d for d in sandbox.call(work).diagnostics if d.severity == "error"]
    assert [(d.code, d.line) for d in found] == [(code, 7)]
    assert word in f"{found[0].message} {found[0].remedy}"


async def test_the_api_parses_and_renders(tmp_path: Path) -> None:
    """POST /prompts/parse and /prompts/render answer 200 with diagnostics."""
    evaluator = Evaluator()
    async with serving(tmp_path) as served:
        served.engine._evaluator = evaluator
        try:
            broken = FILES | {".plue/prompts/x.prompt.md": "---\ntyp: llm\n---\n"}
            url = "/api/v1/prompts/parse"
            async with served.client.post(url, json={"files": broken}) as response:
                found = await response.json()
            assert response.status == 200
            assert [one["import_name"] for one in found["prompts"]] == [
                "FixErrors", "CodeReview", "X",
            ]  # fmt: skip
            assert [(d["code"], d["line"]) for d in found["diagnostics"]] == [("PLU702", 2)]
            body = {"files": FILES, "prompt": "code-review", "inputs": {"diff": "D"}}
            url = "/api/v1/prompts/render"
            async with served.client.post(url, json=body) as response:
                found = await response.json()
            assert found["text"].startswith("Review at level low:\nD\n")
            assert found["prompt"]["output"]["properties"]["approved"]["type"] == "boolean"
            async with served.client.post(url, json={**body, "promt": "x"}) as response:
                assert response.status == 422
            async with served.client.post(url, json={"prompt": "x"}) as response:
                assert response.status == 404
        finally:
            await evaluator.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project with the two prompts."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def plue(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in the project."""
    command = [sys.executable, "-m", "plue.cli.main", *words]
    return subprocess.run(
        command, cwd=project, capture_output=True, text=True, timeout=60, check=False
    )


def test_plue_prompt_render(project: Path) -> None:
    """The text goes to standard output, the schema to standard error; @file reads a file."""
    (project / "change.diff").write_text("+ new\n")
    done = plue(project, "prompt", "render", "code-review", "-i", "diff=@change.diff")
    assert (done.returncode, done.stdout[:28]) == (0, "Review at level low:\n+ new\n\n")
    assert "the answer must fit" in done.stderr
    done = plue(project, "prompt", "render", "code-review", "-i", "diff=x", "--json")
    assert json.loads(done.stdout)["output_schema"]["required"][0] == "approved"
    done = plue(project, "prompt", "render", "code-review", "-i", "dif=x")
    assert done.returncode == 2
    assert "did you mean `diff`?" in done.stderr


def test_plue_prompt_list_and_show(project: Path) -> None:
    """List has a line for each prompt; show has its types as front matter writes them."""
    done = plue(project, "prompt", "list")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:]] == [
        ["fix-errors", "agent", "FixErrors"],
        ["code-review", "llm", "CodeReview"],
    ]
    shown = plue(project, "prompt", "show", "CodeReview").stdout
    assert "    diff: string  # the unified diff\n" in shown
    assert "    focus: string?\n" in shown
    assert '    level: low | high = "low"\n' in shown
    assert "    issues: object[]\n      file: string\n      line: integer?\n" in shown
    assert plue(project, "prompt", "show", "nothing").returncode == 2


def test_lint_covers_prompts(project: Path) -> None:
    """`plue workflow lint` counts good prompts and tells what is wrong in bad ones."""
    done = plue(project, "workflow", "lint")
    assert done.stdout == "0 workflows and 2 prompts, no errors\n"
    (project / ".plue/prompts/bad.prompt.md").write_text("---\n---\n{{ x }}\n")
    done = plue(project, "workflow", "lint")
    assert done.returncode == 1
    assert ".plue/prompts/bad.prompt.md:3:4" in done.stderr
