"""The ways to a real database server each lead to one, whatever machine the tests run on."""

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

from tests.support import mariadb, postgres


def version(url: URL) -> str:
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(False)) as connection:
        row = connection.execute("SELECT version()").fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.skipif(postgres.binaries() is None, reason="PostgreSQL's binaries are not here")
def test_a_server_starts_from_the_machines_binaries() -> None:
    """Where binaries are installed, a server of our own runs while it is needed."""
    with postgres._from_binaries() as url:
        assert version(url).startswith("PostgreSQL")


def test_a_server_starts_from_the_wheel() -> None:
    """Where nothing is installed, the one from the package index runs while it is needed."""
    with postgres._from_wheel() as url:
        assert version(url).startswith("PostgreSQL")


def test_a_named_server_comes_first(postgres_server: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """HERMES_TEST_POSTGRES_URL decides, even where another server answers."""
    named = postgres_server.update_query_dict({"application_name": "named"})
    monkeypatch.setenv("HERMES_TEST_POSTGRES_URL", named.render_as_string(hide_password=False))
    with postgres.server() as url:
        assert named == url


@pytest.mark.skipif(mariadb.binary() is None, reason="MariaDB's binaries are not here")
def test_a_mariadb_starts_from_the_machines_binaries() -> None:
    """Where no MariaDB answers, one of our own runs while it is needed, and has a database."""
    with mariadb.from_binaries() as url, mariadb.database(url) as own:
        assert mariadb.answers(own)
        assert mariadb.answers(url.set(database="test"))  # which the torture's writers use


@pytest.mark.skipif(mariadb.binary() is None, reason="MariaDB's binaries are not here")
def test_a_mariadb_that_starts_deletes_no_table_of_another() -> None:
    """A server of our own has a folder of its own for temporary tables, which it empties first."""
    with mariadb.own_server() as own, mariadb.connect(own.url) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@datadir, @@tmpdir")
            row = cursor.fetchone()
        assert row is not None
        data, temporary = (Path(folder) for folder in row)
        assert data.parent == temporary
