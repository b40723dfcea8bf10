"""A release: typed inputs, a step that must not run twice, and a way back."""

from plue import enum, manual, optional, schema, workflow

ARTIFACT = schema(file=str, bytes=int)


@workflow(
    triggers=[
        manual(
            inputs={
                "version": str,
                "channel": enum("stable", "beta", default="beta"),
                "notes": optional(str),
                "dry_run": False,
            }
        )
    ]
)
def release(ctx):
    """Build the artifact, publish it once, and announce it."""
    wanted = ctx.inputs
    if wanted.channel == "stable" and not wanted.notes:
        ctx.fail("a stable release needs notes: -i notes=@NOTES.md")

    # Recorded now, run last: also when a step fails or somebody cancels.
    ctx.cleanup("remove scratch", "rm -rf scratch")
    artifact = ctx.run(
        "build",
        f"""
        mkdir -p scratch dist
        echo "app "{wanted.version} > "dist/app.txt"
        printf '{{"file": "dist/app.txt", "bytes": %d}}' "$(wc -c < dist/app.txt)"
        """,
        output=ARTIFACT,
    )
    if artifact.bytes > 1_000:
        ctx.fail(f"{artifact.file} has {artifact.bytes} bytes")
    if wanted.dry_run:
        ctx.success(published=False, file=artifact.file)

    # once=True: when a runner is lost after this began, the run fails rather than publish twice.
    ctx.run("publish", ["cp", artifact.file, "published.txt"], once=True)
    ctx.run("announce", "cat", stdin=wanted.notes or "no notes")
    ctx.success(published=True, file=artifact.file)
