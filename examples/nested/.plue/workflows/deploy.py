"""One environment; it runs by itself too: plue workflow run deploy -i env=staging -i version=1."""

from plue import enum, manual, workflow


@workflow(triggers=[manual(inputs={"env": enum("staging", "production"), "version": str})])
def deploy(ctx):
    """Deploy a version and look whether it answers."""
    target = ctx.inputs.env
    ctx.run("upload", f"mkdir -p deployed && echo {ctx.inputs.version} > deployed/{target}")
    check = ctx.run("check", f"cat deployed/{target}", retry=2, timeout="1m")
    ctx.success(answer=check.stdout)
