"""``python -m plue.resources FOLDER``: write the CustomResourceDefinitions as YAML.

``--roles FILE`` writes the roles that people are given.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from plue.resources.crds import KINDS, definition
from plue.resources.roles import role_documents

__all__ = ["files", "roles_text"]

_HEAD = "# Generated from operator/plue/resources by `make crds`; changes here are lost.\n"


def files() -> dict[str, str]:
    """Return the text of each file of ``crds/`` by its name."""
    return {f"{kind.plural}.yaml": _HEAD + _yaml(definition(kind)) for kind in KINDS}


def roles_text() -> str:
    """Return the text of the file of roles."""
    return _HEAD + "---\n".join(_yaml(document) for document in role_documents())


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)


if __name__ == "__main__":
    if sys.argv[1] == "--roles":
        Path(sys.argv[2]).write_text(roles_text())
    else:
        folder = Path(sys.argv[1])
        folder.mkdir(exist_ok=True)
        for name, text in files().items():
            (folder / name).write_text(text)
