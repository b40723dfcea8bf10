"""The secrets of a plan: refused when one has no value, resolved when a runner is told.

Values are read at the moment at which a runner gets them, for each stage anew. They stand in no
table, no plan, no event and no log of ours.
"""

from collections.abc import Iterable, Mapping

from plue.engine.ports import Secrets
from plue.errors import PlueError, RejectedError
from plue.wire.plan import Step, secrets_of

__all__ = ["refuse_missing", "secrets_for"]


async def refuse_missing(secrets: Secrets, steps: Iterable[Step]) -> None:
    """Raise RejectedError when a secret that *steps* name has no value; it says how to set it."""
    names = secrets_of(steps)
    if not names:
        return
    values = await secrets.values(names)
    missing = [name for name in names if name not in values]
    if missing:
        more = f" (nor have {', '.join(missing[1:])})" if len(missing) > 1 else ""
        raise RejectedError(
            f"the secret {missing[0]} has no value here{more}",
            field=f"secrets.{missing[0]}",
            remedy=secrets.remedy(missing[0]),
        )


async def secrets_for(secrets: Secrets, steps: Iterable[Step]) -> Mapping[str, str]:
    """Return the values for a runner; what has none fails the steps that name it, and says so."""
    names = secrets_of(steps)
    if not names:
        return {}
    try:
        return await secrets.values(names)
    except PlueError:
        return {}
