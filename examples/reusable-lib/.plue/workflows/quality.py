"""Two workflows from the same parts."""

from plue import manual, push, workflow

from lib.steps import checked, summary


@workflow(triggers=[push(), manual()], timeout="5m")
def checks(ctx):
    """Check the scripts."""
    files = ctx.glob("scripts/*.sh")
    checked(ctx, "shell", files)
    told = summary(ctx, "scripts are fine", files)
    ctx.success(summary=told.stdout)


@workflow(triggers=[push(paths=["docs/**"]), manual()], timeout="5m")
def docs(ctx):
    """Check the texts."""
    files = ctx.glob("docs/*.md")
    checked(ctx, "text", files)
    told = summary(ctx, "texts are fine", files)
    ctx.success(summary=told.stdout)
