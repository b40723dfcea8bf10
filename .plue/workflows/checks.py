"""The checks of this repository itself: what `make demo` runs, on a copy of the working tree.

The tools come from PATH (`make demo` puts .venv/bin first); caches lie outside of the copy, so
that a second run is quick.
"""

from plue import manual, pull_request, push, workflow

FAST_TESTS = " ".join(
    [
        "tests/domain",
        "tests/cli/test_text.py",
        "tests/cli/test_report.py",
        "tests/cli/test_client.py",
        "tests/local/test_instance.py",
        "tests/local/test_tree.py",
    ]
)


@workflow(triggers=[push(), pull_request(), manual()], timeout="10m")
def checks(ctx):
    """Lint, layers, types and the fast tests of this repository."""
    tree = ctx.run(
        "tree",
        """
        files=$(find operator runner_image tests -name '*.py' | wc -l)
        lines=$(find operator runner_image tests -name '*.py' -exec cat {} + | wc -l)
        echo "$files Python files, $lines lines; $(ruff --version), $(mypy --version)"
        echo "files=$files" >> "$PLUE_OUTPUT"
        echo "lines=$lines" >> "$PLUE_OUTPUT"
        """,
        timeout="1m",
    )
    ctx.parallel(
        [
            ctx.run("lint", "ruff check . && ruff format --check ."),
            ctx.run("layers", "lint-imports --no-cache --no-logo", env={"PYTHONPATH": "operator:runner_image"}),
            ctx.run("types", 'mypy --cache-dir "${XDG_CACHE_HOME:-$HOME/.cache}/plue-checks/mypy"'),
            ctx.run("tests", f"pytest -q -p no:cacheprovider -m 'not slow' {FAST_TESTS}"),
        ]
    )
    ctx.run("report", f"echo {tree.outputs.files} files with {tree.outputs.lines} lines are fine")
    return ctx.success(files=tree.outputs.files, lines=tree.outputs.lines)
