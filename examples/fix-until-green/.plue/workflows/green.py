"""Fix until green: a loop over results, written as a loop."""

from plue import enum, manual, workflow
from plue.prompts import FixErrors

ROUNDS = 5


def fix(ctx, errors):
    """Let a script or an agent repair what the tests complain of."""
    if ctx.inputs.fixer == "agent":
        FixErrors(errors=errors)
    else:
        ctx.run("fix", "sh fix.sh", env={"ERRORS": errors})


@workflow(
    triggers=[manual(inputs={"fixer": enum("script", "agent", default="script")})],
    timeout="1h",
)
def green(ctx):
    """Test; while it fails and there are rounds left, fix and test again."""
    for round in range(ROUNDS):
        # The same line again: its steps are called test, test#2, test#3 …
        tests = ctx.run("test", "sh test.sh", continue_on_error=True)
        if tests.ok:
            ctx.success(rounds=round, said=tests.stdout)
        fix(ctx, tests.stdout.tail(100))
    ctx.fail(f"still failing after {ROUNDS} rounds")
