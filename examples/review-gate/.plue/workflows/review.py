"""A gate on a prompt's result: plain Python over an answer that does not exist yet."""

from plue import manual, pull_request, workflow
from plue.prompts import CodeReview


@workflow(triggers=[pull_request(types=["opened", "synchronize"]), manual()], timeout="15m")
def review(ctx):
    """Review the change; let it through only when the reviewer approves."""
    lint = ctx.run("lint", "sh lint.sh", continue_on_error=True)
    verdict = CodeReview(diff=ctx.git.diff(), focus="public interfaces")

    if not verdict.approved:
        # The answer's fields are typed by the prompt: `issues` is a list of objects.
        for number, issue in enumerate(verdict.issues[:5], start=1):
            ctx.run(f"issue {number}", f"echo {issue.file}: {issue.message}")
        ctx.fail(f"not approved: {verdict.summary}")
    if not lint.ok:
        ctx.fail("approved, but lint fails")

    ctx.run("merge", "echo merged")
    ctx.success(summary=verdict.summary)
