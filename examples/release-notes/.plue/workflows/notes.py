"""Release notes: one typed answer of a model, used as text and as values."""

from plue import manual, workflow
from plue.prompts import ReleaseNotes


@workflow(triggers=[manual(inputs={"version": "1.0"})], timeout="10m")
def notes(ctx):
    """Let a model write the notes; refuse notes that leave something out."""
    changes = ctx.run("changes", "cat CHANGES.txt")
    written = ReleaseNotes(version=ctx.inputs.version, changes=changes.stdout)

    if len(written.items) < 2:
        ctx.fail(f"too few notes: {written.title}")
    lines = "\n".join([f"- {item}" for item in written.items])
    ctx.write("NOTES.md", f"# {written.title}\n\n{lines}\n")
    shown = ctx.run("show", "cat NOTES.md")
    ctx.success(notes=shown.stdout)
