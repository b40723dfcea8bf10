"""The secrets of a plan: refused when one has no value, resolved when a runner is told.

Values are read at the moment at which a runner gets them, for each stage anew. They stand in no
table, no plan, no event and no log of ours.
"""

from collections.abc import Iterable, Mapping

from plue.engine.ports import Secrets, SecretsFrom
from plue.errors import RejectedError
from plue.wire.plan import Step, secrets_of

__all__ = ["refuse_missing", "secrets_for"]


async def refuse_missing(secrets: Secrets, steps: Iterable[Step], allowed: SecretsFrom) -> None:
    """Raise RejectedError when a secret that *steps* name has no value; it says how to set it."""
    names = secrets_of(steps)
    if not names:
        return
    values = await secrets.values(names, allowed)
    missing = [name for name in names if name not in values]
    if missing:
        more = f" (nor have {', '.join(missing[1:])})" if len(missing) > 1 else ""
        raise RejectedError(
            f"the secret {missing[0]} has no value here{more}",
            field=f"secrets.{missing[0]}",
            remedy=secrets.remedy(missing[0], allowed),
        )


async def secrets_for(
    secrets: Secrets, steps: Iterable[Step], allowed: SecretsFrom
) -> Mapping[str, str]:
    """Return the values for a runner; what has none fails the steps that name it, and says so.

    Raises UnavailableError when nobody can say: what is not known yet is not missing.
    """
    names = secrets_of(steps)
    if not names:
        return {}
    try:
        return await secrets.values(names, allowed)
    except RejectedError:
        return {}
