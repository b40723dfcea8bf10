"""The runner image: what is copied into it is what the runner imports."""

import ast
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

_IMAGE = Path(__file__).parents[2] / "runner_image"
_MAKE_CONTEXT = _IMAGE / "make_context.py"


def _imported(file: Path) -> Iterator[str]:
    """Yield the packages that a file imports, wherever in it: some are needed by few runs only."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_installed_libraries_are_enough(tmp_path: Path) -> None:
    """What the copied sources import, also late, is in the image's lock or in the sources."""
    runpy.run_path(str(_MAKE_CONTEXT))["copy_sources"](tmp_path)
    imported = {name for file in tmp_path.rglob("*.py") for name in _imported(file)}
    theirs = imported - sys.stdlib_module_names - {"plue", "plue_runner"}
    lock = (_IMAGE / "requirements.lock").read_text()
    installed = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    distributions = packages_distributions()
    needed = {
        name: {one.lower().replace("_", "-") for one in distributions[name]} for name in theirs
    }
    assert "anthropic" in needed
    assert not {name for name, ways in needed.items() if not ways & installed}


def test_copied_sources_are_enough(tmp_path: Path) -> None:
    """The runner starts from the copied sources alone, with no other part of Plue beside it."""
    runpy.run_path(str(_MAKE_CONTEXT))["copy_sources"](tmp_path)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import plue_runner.__main__"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
