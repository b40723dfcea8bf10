"""One server of `plue up` for most tests of the suite, on a repository of its own."""

from collections.abc import Iterator

import pytest
from e2e.stage import Project, Up
from e2e.workflows import WORKFLOWS


@pytest.fixture(scope="package")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Give a running server; what one test does must not reach the next."""
    project = Project.make(tmp_path_factory.mktemp("e2e"), {"ci.py": WORKFLOWS})
    with project.up("--runners", "2") as server:
        yield server


@pytest.fixture
def project(up: Up) -> Project:
    """Give the repository of the shared server."""
    return up.project
