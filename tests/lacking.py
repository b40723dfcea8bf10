"""What tests do on a machine that has not all that they need."""

import os
from typing import NoReturn

import pytest

__all__ = ["cannot"]


def cannot(why: str) -> NoReturn:
    """Say that the machine cannot run a test; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)
