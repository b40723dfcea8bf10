"""The runner image: what is copied into it is what the runner imports."""

import runpy
import subprocess
import sys
from pathlib import Path

_MAKE_CONTEXT = Path(__file__).parents[2] / "runner_image" / "make_context.py"


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
