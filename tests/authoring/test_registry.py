"""The registry: what changed is evaluated, what did not is not, and nothing hides anything."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from authoring.sandboxed import Sandbox

from plue.authoring.registry import Discovery, Registry
from plue.authoring.results import Diagnostic
from plue.authoring.sources import Sources


def workflow(name: str, line: str = "") -> str:
    """Return a file with one workflow."""
    return (
        f"from plue import workflow\n{line}\n@workflow()\n"
        f"def {name}(ctx):\n    ctx.run('a', 'true')\n"
    )


def path(name: str) -> str:
    """Return where a workflow file lies."""
    return f".plue/workflows/{name}.py"


class Project:
    """Files that change, and a registry that looks at them."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.registry = Registry(sandbox.evaluator)

    def scan(self, files: Mapping[str, str], *broken: Diagnostic) -> Discovery:
        """Look at *files*."""
        return self._sandbox.call(self.registry.scan(Sources(dict(sorted(files.items())), broken)))


@pytest.fixture
def project(sandbox: Sandbox) -> Project:
    """Give a project that nobody has looked at."""
    return Project(sandbox)


def test_unchanged_files_are_not_evaluated_again(project: Project) -> None:
    """Only the file that changed is, and what is found stays in order of the paths."""
    files = {path(name): workflow(name) for name in ("a", "b", "c")}
    assert project.scan(files).evaluated == 3
    assert project.scan(files).evaluated == 0
    files[path("b")] = workflow("bb")
    found = project.scan(files)
    assert (found.files, found.evaluated) == (3, 1)
    assert [info.name for info in found.description.workflows] == ["a", "bb", "c"]


def test_going_back_to_an_earlier_content_costs_nothing(project: Project) -> None:
    """Changing branches does not evaluate again."""
    old, new = {path("a"): workflow("a")}, {path("a"): workflow("b")}
    project.scan(old)
    project.scan(new)
    assert project.scan(old).evaluated == 0


def test_a_file_of_the_same_content_elsewhere_is_another(project: Project) -> None:
    """Its diagnostics carry its own path, and one name twice is an error with both places."""
    found = project.scan({path("a"): workflow("ci"), path("b"): workflow("ci")})
    assert [info.file for info in found.description.workflows] == [path("a")]
    (twice,) = found.description.diagnostics
    assert (twice.code, twice.file, twice.related) == ("PLU102", path("b"), (path("a"), 3))
    assert twice.source == "@workflow()"
    repaired = project.scan({path("a"): workflow("ci"), path("b"): workflow("cd")})
    assert repaired.description.diagnostics == []


def test_removing_the_first_of_two_frees_the_name(project: Project) -> None:
    """What is kept of a file does not depend on its neighbours."""
    project.scan({path("a"): workflow("ci"), path("b"): workflow("ci")})
    found = project.scan({path("b"): workflow("ci")})
    assert found.evaluated == 0
    assert [info.file for info in found.description.workflows] == [path("b")]
    assert found.description.diagnostics == []


def test_one_broken_file_hides_no_other(impatient: Sandbox) -> None:
    """Neither a wrong one nor one that breaks its whole batch, nor one that cannot be read."""
    files = {path(f"w{n:02}"): workflow(f"w{n:02}") for n in range(40)}
    files |= {path("endless"): "while True: pass\n", path("wrong"): "import os\n"}
    unread = Diagnostic("PLU005", "the file cannot be read", path("secret"), 1)
    found = Project(impatient).scan(files, unread)
    assert len(found.description.workflows) == 40
    assert sorted((d.code, d.file) for d in found.description.diagnostics) == [
        ("PLU005", path("secret")),
        ("PLU010", path("wrong")),
        ("PLU602", path("endless")),
    ]


def test_a_file_full_of_errors_hides_no_other(project: Project) -> None:
    """Each file has its own bound of what is told."""
    files = {path("a"): "".join(f"x = y{n}\n" for n in range(500)), path("b"): "import os\n"}
    found = project.scan(files).description.diagnostics
    assert len([one for one in found if one.file == path("a")]) == 200
    assert [one.code for one in found if one.file == path("b")] == ["PLU010"]


LIB = {".plue/lib/x.py": "A = 1\n", ".plue/lib/y.py": "from lib.x import A\n", ".plue/lib/z.py": ""}


@pytest.mark.parametrize(
    ("line", "changed", "evaluated"),
    [
        # The modules of lib are looked at too, for their own errors: y imports x.
        pytest.param("from lib.x import A", ".plue/lib/x.py", 3, id="imported"),
        pytest.param("from lib.y import A", ".plue/lib/x.py", 3, id="through-another"),
        pytest.param("x = 1; from lib.x import A", ".plue/lib/x.py", 3, id="second-statement"),
        pytest.param("from lib \\\n.x import A", ".plue/lib/x.py", 3, id="continued-line"),
        pytest.param("from lib.x import A", ".plue/lib/z.py", 1, id="not-imported"),
        pytest.param("from plue.prompts import P", ".plue/prompts/p.prompt.md", 1, id="prompt"),
        pytest.param("", ".plue/prompts/p.prompt.md", 0, id="no-prompt"),
        pytest.param("", ".plue/config.yaml", 4, id="defaults-concern-all"),
    ],
)
def test_a_change_reaches_who_imports_it(
    project: Project, line: str, changed: str, evaluated: int
) -> None:
    """A workflow is looked at again when a file that it may import changes, and else not."""
    files = {
        path("a"): workflow("a", line),
        **LIB,
        ".plue/prompts/p.prompt.md": "x",
        ".plue/config.yaml": "",
    }
    project.scan(files)
    assert evaluated == project.scan({**files, changed: files[changed] + "\n"}).evaluated


def test_two_scans_at_once_evaluate_once(sandbox: Sandbox) -> None:
    """Whoever comes second waits for the first."""
    registry = Registry(sandbox.evaluator)
    sources = Sources({path("a"): workflow("a")})

    async def both() -> list[Any]:
        return list(await asyncio.gather(registry.scan(sources), registry.scan(sources)))

    assert sorted(found.evaluated for found in sandbox.call(both())) == [0, 1]
