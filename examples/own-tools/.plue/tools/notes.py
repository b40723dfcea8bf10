"""Tools of this repository: ordinary Python, run in the sandbox."""

from pathlib import Path
from typing import Annotated

from plue import tool


@tool
def todos(folder: Annotated[str, "where to look, from the root on"] = "src"):
    """List every line that holds the word TODO, as file, line and text."""
    found = []
    for path in sorted(Path(folder).rglob("*.sh")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "TODO" in line:
                found.append({"file": str(path), "line": number, "text": line.strip()})
    print(f"{len(found)} in {folder}")
    return found
