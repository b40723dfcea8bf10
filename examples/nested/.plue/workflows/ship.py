"""Ship: staging first, production when it answers with the right version."""

from plue import manual, workflow

from workflows.deploy import deploy


@workflow(triggers=[manual(inputs={"version": str})], timeout="30m")
def ship(ctx):
    """Deploy to staging, compare, then deploy to production."""
    version = ctx.inputs.version
    staging = ctx.call(deploy, name="staging", env="staging", version=version)
    if staging.outputs.answer != version:
        ctx.fail(f"staging answers {staging.outputs.answer}")
    production = ctx.call(deploy, name="production", env="production", version=version)
    ctx.success(staging=staging.outputs.answer, production=production.outputs.answer)
