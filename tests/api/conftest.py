"""A served API for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api.served import Served, serving


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """Serve the API with its usual settings."""
    async with serving(tmp_path) as one:
        yield one
