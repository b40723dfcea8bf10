"""Continuous integration: one build, tests side by side, one verdict."""

from plue import manual, pull_request, push, workflow

SUITES = ["unit", "lint", "e2e"]


@workflow(triggers=[push(branches=["main"]), pull_request(), manual()], timeout="20m")
def ci(ctx):
    """Build, test everything at once, and say what failed."""
    build = ctx.run("build", "make build", timeout="5m")

    # Each element of the list is a branch. A failure is handled here, so that no suite hides another.
    tests = ctx.parallel(
        [ctx.run(suite, f"make {suite}", continue_on_error=True, retry=1) for suite in SUITES]
    )

    failed = [test.name for test in tests if not test.ok]
    if failed:
        ctx.fail("failed: " + ", ".join(failed))
    return ctx.success(built=build.stdout, suites=len(tests))
