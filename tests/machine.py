"""What a machine has to have for some of the tests."""

import os

import pytest


def needs(missing: str | None) -> None:
    """Skip the test where something is missing, and in CI, which may miss nothing, fail it."""
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
