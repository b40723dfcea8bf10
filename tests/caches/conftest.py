"""One evaluator for all tests of what workflow code says of caches."""

from collections.abc import Iterator

import pytest
from authoring.sandboxed import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Serve all tests; what one of them does must not reach the next."""
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()
