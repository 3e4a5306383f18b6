"""Demos that a whole module drives: each of its tests has conversations of its own."""

from collections.abc import Iterator

import pytest

from tests.demo.clients.demos import Demo, a_session_id, serving_demo, serving_keyed_demo
from tests.demo.clients.npm import Npm, npm_client


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo as it is."""
    with serving_demo(tmp_path_factory.mktemp("demo")) as served:
        yield served


@pytest.fixture(scope="package")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo that asks for an API key, and lets nobody wait for a turn."""
    with serving_keyed_demo(tmp_path_factory.mktemp("keyed")) as served:
        yield served


@pytest.fixture(scope="package")
def npm() -> Iterator[Npm]:
    """The openai npm SDK."""
    with npm_client() as client:
        yield client


@pytest.fixture
def session_id() -> str:
    """A conversation's id, which the client has made up."""
    return a_session_id()
