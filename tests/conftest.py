"""Fixtures that more than one file needs."""

import functools
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import hypothesis
import pytest
from httpx2._config import DEFAULT_TIMEOUT_CONFIG
from httpx2._transports import default as transports
from sqlalchemy import URL

from hermes_session_mw import HermesStateStore, SQLAlchemyStore
from tests.support import long_runs, mariadb, postgres
from tests.support.requirements import needs

# A script's background job begins with SIGINT ignored, and so would servers that tests stop by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# How long a case takes says how busy the machine is; each test has a limit of its own.
hypothesis.settings.register_profile("without_a_deadline", deadline=None)
hypothesis.settings.load_profile("without_a_deadline")

# So does a store's default time for an operation: a database that makes others' databases beside it
# may take five seconds for a table. Tests that are about the time give their own.
for store_class in (HermesStateStore, SQLAlchemyStore):
    vars(store_class)["__init__"].__kwdefaults__["timeout"] = 30.0

# A function such as ``httpx2.get`` makes a client, which would read all certificates each time.
vars(transports)["create_ssl_context"] = functools.cache(httpx2.create_ssl_context)

# And would wait five seconds for an answer, which a busy machine's workers may need.
for limit in ("connect", "read", "write", "pool"):
    setattr(DEFAULT_TIMEOUT_CONFIG, limit, 60.0)


@pytest.fixture(autouse=True)
def plain_logging() -> None:
    """The root logger as Python makes it, whatever came before.

    Litestar's applications set its level to INFO and give it a handler as they are made, and a test
    that counts what is logged would then count httpx's requests too.
    """
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    root.handlers = [each for each in root.handlers if type(each).__module__.startswith("_pytest")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what ``make test`` leaves to ``make test-long``, and begin with what takes longest."""
    long_runs.mark(items)
    long_runs.order(items)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[URL]:
    """A real PostgreSQL server's maintenance database."""
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url(postgres_server: URL) -> Iterator[URL]:
    """A database of this run's own."""
    with postgres.database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[URL]:
    """A real MariaDB or MySQL server's own database.

    The package index has no such server, so that a machine may have none; CI may not.
    """
    if not mariadb.available():
        needs("no MariaDB: install mariadb-server, or set HERMES_TEST_MYSQL_URL")
    with mariadb.server() as url:
        yield url


@pytest.fixture(scope="session")
def mysql_url(mysql_server: URL) -> Iterator[URL]:
    """A database of this run's own."""
    with mariadb.database(mysql_server) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/sessions.db"
