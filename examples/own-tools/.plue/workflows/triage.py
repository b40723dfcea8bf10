"""An agent with tools of this repository: a Python function, and another prompt."""

from plue import manual, workflow
from plue.prompts import Triage


@workflow(triggers=[manual()])
def triage(ctx):
    """Rank what was left undone; fail while something of it is urgent."""
    found = Triage()
    if found.urgent:
        ctx.fail(f"first of all: {found.urgent[0].text}")
