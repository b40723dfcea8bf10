"""One evaluator for all tests of prompts."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from authoring.sandboxed import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Serve all tests; what one of them does must not reach the next.

    Its wall clock is patient: on a busy machine, a template's own budget must be what ends it.
    """
    sandbox = Sandbox(wall=timedelta(seconds=40))
    yield sandbox
    sandbox.close()
