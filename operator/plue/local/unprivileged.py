"""How Postgres is started: it refuses to run as root, and it must not outlive us.

As an ordinary user nothing is special. As root (containers, CI machines) there are two ways, tried
in this order:

1. a user namespace in which root appears as user 1000: files stay root's outside, nothing is
   chowned, folders that only root may enter stay that way;
2. an existing unprivileged account, where namespaces are refused. Then the data folder belongs to
   that account and every folder above it must let it through; whether it does is tried, not
   computed from mode bits.

Rejected: making an account and opening parent folders, as some packages do; a tool has no business
changing a machine's accounts or the modes of folders that it did not make.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plue.errors import UnavailableError

__all__ = ["Launch", "choose_launch", "launch_as_account", "launch_in_namespace"]

_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
_ACCOUNTS = ("postgres", "nobody")
_REMEDY = "give a database with `plue up --database DSN`, or run plue as an ordinary user"


@dataclass(frozen=True, slots=True)
class Launch:
    """Words before the command, and the account to drop to (None: stay who we are)."""

    prefix: Sequence[str] = ()
    account: str | None = None
    owner: tuple[int, int] | None = field(default=None)

    def command(self, words: Sequence[str], *, die_with_parent: bool = False) -> list[str]:
        """Return the whole command line for *words*.

        With *die_with_parent* the program gets INT when the thread that started it ends; start it
        from the main thread then. Without `setpriv` on the machine it is left out: a server that
        outlived us is found and stopped at the next start.
        """
        mortal: Sequence[str] = ()
        if die_with_parent and shutil.which("setpriv"):
            mortal = ("setpriv", "--pdeathsig", "INT", "--")
        return [*self.prefix, *mortal, *words]

    def options(self) -> Mapping[str, object]:
        """Return what subprocess needs besides: user, group and groups to drop to."""
        if self.owner is None:
            return {}
        user, group = self.owner
        return {"user": user, "group": group, "extra_groups": []}

    def hand_over(self, folder: Path) -> None:
        """Make *folder* belong to the account, where there is one."""
        if self.owner is not None:
            os.chown(folder, *self.owner)


def choose_launch(binary: Path, folder: Path) -> Launch:
    """Return the first way in which *binary* starts here and can enter *folder*.

    Raises UnavailableError with a remedy when there is none.
    """
    if os.geteuid() != 0:
        return Launch()
    return launch_in_namespace(binary) or launch_as_account(binary, folder)


def launch_in_namespace(binary: Path) -> Launch | None:
    """Return the way through a user namespace; None where the kernel or a policy refuses it."""
    if shutil.which("unshare") is None:
        return None
    launch = Launch(prefix=_NAMESPACE)
    tried = subprocess.run(
        launch.command([str(binary), "--version"]), capture_output=True, check=False
    )
    return launch if tried.returncode == 0 else None


def launch_as_account(binary: Path, folder: Path) -> Launch:
    """Return the way through an existing account that can enter *folder* and run *binary*."""
    reasons = []
    for account in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(account)
        except KeyError:
            continue
        launch = Launch(account=account, owner=(entry.pw_uid, entry.pw_gid))
        tried = subprocess.run(
            ["/bin/sh", "-c", 'cd "$1" && exec "$2" --version', "sh", str(folder), str(binary)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=[],
        )
        if tried.returncode == 0:
            return launch
        reasons.append(f"{account}: {tried.stderr.strip()}")
    why = "; ".join(reasons) or f"there is no account named {' or '.join(_ACCOUNTS)}"
    raise UnavailableError(
        "Postgres refuses to run as root; user namespaces are not allowed here, and no"
        f" unprivileged account can run it in {folder} ({why})",
        remedy=_REMEDY,
    )
