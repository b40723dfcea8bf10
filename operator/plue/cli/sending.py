"""What a run in a cluster is sent of the project here: its source, and its tree as an archive."""

import os
from typing import TYPE_CHECKING, Any

from plue.cli.context import here
from plue.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from plue.cli.client import Api

__all__ = ["sent"]


def sent(
    api: "Api", name: str, *, namespace: str | None, event: dict[str, Any], deployed: bool
) -> dict[str, Any]:
    """Return what a request for a run of *name* says of source, files and event.

    The tree is uploaded: what git tracks, and what it neither tracks nor ignores, without its
    history. With *deployed* nothing is sent: the Workflow of that name in the cluster is meant.
    Raises NotFoundError outside of a project, RejectedError for a file that cannot be read.
    """
    if deployed:
        return {"workspace": {"kind": "none"}, "event": event}
    from plue.domain.event import with_tree
    from plue.local.archive import tar_of
    from plue.local.history import history_of, tree_facts
    from plue.local.reading import source_files
    from plue.local.tree import names_in

    try:
        root = here().root
    except NotFoundError as error:
        raise UsageError(
            f"there is no project here whose {name} could be run in the cluster",
            remedy=f"go to the project, or run the cluster's own: add --deployed for the Workflow"
            f" {name!r}",
        ) from error
    blob = api.upload("/blobs", tar_of(os.fsencode(root), names_in(root)), namespace=namespace)
    return {
        "files": dict(source_files(root)),
        "workspace": {"kind": "blob", "blob": blob["id"]},
        "event": with_tree(event, tree_facts(root, history_of(root))),
    }
