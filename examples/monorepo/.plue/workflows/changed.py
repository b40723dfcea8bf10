"""A monorepo: work is made from what has changed."""

from plue import manual, pull_request, push, workflow


def test_package(ctx, package):
    """Test one package; inside ctx.parallel each call is a branch."""
    ctx.run(f"test {package}", "sh test.sh", cwd=f"packages/{package}")
    return ctx.run(f"size {package}", f"du -sb packages/{package} | cut -f1")


@workflow(triggers=[push(), pull_request(), manual()], timeout="15m")
def changed(ctx):
    """Test each package that the push or the pull request touched."""
    files = ctx.git.changed_files("packages")
    # Asking for the value ends the first stage; the second one knows the packages.
    packages = sorted({file.split("/")[1] for file in files})
    if not packages:
        ctx.success(tested="nothing")

    sizes = ctx.parallel([test_package(ctx, package) for package in packages])
    for package, size in zip(packages, sizes):
        if int(size.stdout) > 1_000_000:
            ctx.fail(f"{package} has grown to {size.stdout} bytes")
    ctx.success(tested=", ".join(packages))
