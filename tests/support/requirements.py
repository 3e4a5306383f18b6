"""What a machine has to have for some of the tests."""

import os
from importlib.util import find_spec

import pytest


def needs(missing: str | None) -> None:
    """Skip the test where something is missing, and in CI, which may miss nothing, fail it."""
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)


def needs_driver(url_name: str) -> None:
    """Skip the test, or fail it in CI, where the driver of a URL like ``postgresql+x`` is missing.

    All of them come by the group ``test``, but for an environment that is older than one of them.
    """
    if url_name.endswith("psycopg2") and find_spec("psycopg2") is None:
        needs("no psycopg2: pip install psycopg2-binary")
