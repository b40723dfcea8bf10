"""Which server commands are for: that of the project around us, or the API of a cluster.

Said by options before the command, else by variables: ``plue --context prod run list``.
"""

import os
from dataclasses import dataclass

from plue.errors import UsageError

__all__ = ["DEFAULT_ACCOUNT", "DEFAULT_SERVICE", "Target", "aim", "target"]

DEFAULT_ACCOUNT = "plue-cli"
DEFAULT_SERVICE = "plue-system/plue-api"


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster, by a context of the kubeconfig or by its API's address; neither: this machine.

    ``account`` is the service account whose token is asked for, ``service`` the API's Service as
    NAMESPACE/NAME or NAMESPACE/NAME:PORT, and ``token`` a machine token in the place of both.
    """

    context: str | None = None
    server: str | None = None
    namespace: str | None = None
    account: str | None = None
    service: str = DEFAULT_SERVICE
    token: str | None = None

    @property
    def is_cluster(self) -> bool:
        """Whether commands are for a cluster."""
        return self.context is not None or self.server is not None


_aimed = Target()


def aim(
    *,
    context: str | None,
    server: str | None,
    namespace: str | None,
    account: str | None,
    service: str | None,
) -> None:
    """Take in what the command line says. Raises UsageError for what contradicts itself."""
    global _aimed  # noqa: PLW0603 - one command line a process
    if context is not None and server is not None:
        raise UsageError(
            "--context and --server name two ways to one API",
            remedy="leave --server out, or unset PLUE_SERVER",
        )
    _aimed = Target(
        context=context,
        server=None if server is None else server.rstrip("/"),
        namespace=namespace,
        account=account,
        service=service or DEFAULT_SERVICE,
        token=os.environ.get("PLUE_TOKEN") or None,
    )
    if server is not None and _aimed.token is None:
        raise UsageError(
            "--server needs a machine token in PLUE_TOKEN",
            remedy="`plue --context NAME token create` makes one; or use --context alone",
        )


def target() -> Target:
    """Return what the command line said."""
    return _aimed
