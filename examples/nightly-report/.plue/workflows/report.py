"""A scheduled report, made of the workspace's files."""

from plue import manual, schedule, workflow


def count(ctx, file):
    """Count in one file; grep ends with 1 when there is nothing. Names of steps have no slash."""
    name = "count " + file.replace("/", ":")
    return ctx.run(name, ["grep", "-c", "TODO", file], continue_on_error=True)


@workflow(triggers=[schedule("30 4 * * 1-5"), manual()], timeout="10m")
def report(ctx):
    """Count what is left to do and write it down."""
    files = ctx.glob("src/**/*.sh")
    # A value of the workspace: asking for it ends the stage, and the loop then knows the files.
    counts = ctx.parallel([count(ctx, file) for file in files])
    lines = [f"- {file}: {found.stdout}" for file, found in zip(files, counts)]

    when = ctx.event.schedule.time if ctx.event.kind == "schedule" else "by hand"
    ctx.write("report.md", f"# To do ({when})\n\n" + "\n".join(lines) + "\n")
    shown = ctx.run("show", "cat report.md")
    ctx.success(report=shown.stdout, files=len(lines))
