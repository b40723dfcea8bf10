"""Write what an image's lock installs as CycloneDX: ``python sbom.py LOCK FILE``.

The lock is complete and pinned by hashes, so that it is the list; nothing has to be scanned.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def sbom(lock: str, *, name: str) -> dict[str, Any]:
    """Return the document of a lock's text."""
    components: list[dict[str, Any]] = []
    for line in lock.splitlines():
        if pin := _PIN.match(line):
            package, version = pin.groups()
            components.append(
                {
                    "type": "library",
                    "name": package,
                    "version": version,
                    "purl": f"pkg:pypi/{package.lower().replace('_', '-')}@{version}",
                    "hashes": [],
                }
            )
        if found := _HASH.search(line):
            # A release has a file for each platform, and the lock admits any of them.
            components[-1]["hashes"].append({"alg": "SHA-256", "content": found[1]})
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name}},
        "components": components,
    }


if __name__ == "__main__":
    given, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.parent.mkdir(parents=True, exist_ok=True)
    document = sbom(given.read_text(), name=f"plue-{given.parent.name.removesuffix('_image')}")
    target.write_text(json.dumps(document, indent=2) + "\n")
