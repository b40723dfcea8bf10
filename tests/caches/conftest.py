"""One evaluator for the whole suite: each test is one request to it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from authoring.sandboxed import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Serve all tests; what one of them does must not reach the next."""
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="session")
def impatient() -> Iterator[Sandbox]:
    """Give evaluations one second, for those that would not end."""
    sandbox = Sandbox(wall=timedelta(seconds=1))
    yield sandbox
    sandbox.close()
