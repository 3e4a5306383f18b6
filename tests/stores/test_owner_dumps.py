"""A dump after an erasure has nothing of what was erased, on the databases' servers."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import URL

from hermes_session_mw import SQLAlchemyStore
from tests.stores.test_owners import SECRET, leave_traces
from tests.support import postgres
from tests.support.own_databases import own_database
from tests.support.requirements import needs


def version_of(program: str) -> int:
    """Return the major version of pg_dump."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"\) (\d+)", said.stdout)
    assert found is not None
    return int(found[1])


def pg_dump_for(url: URL) -> str:
    """Return a pg_dump that is not older than the server, which it would refuse."""
    with postgres.connect(url) as connection:
        wanted = connection.info.server_version // 10_000
    own = postgres.binaries()
    there = [
        *([] if own is None else [own / "pg_dump"]),
        *Path("/usr/lib/postgresql").glob("*/bin/pg_dump"),
        Path(shutil.which("pg_dump") or "/nowhere"),
    ]
    found = [str(each) for each in there if each.is_file() and version_of(str(each)) >= wanted]
    if not found:
        needs(f"no pg_dump of version {wanted} or newer: install postgresql-client")
    return found[0]


def dump(url: URL) -> bytes:
    """Return a dump of the database, with rows as text."""
    environment = dict(os.environ)
    if url.get_backend_name() == "postgresql":
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        words = [pg_dump_for(url), "--inserts", plain]
    else:
        program = shutil.which("mariadb-dump") or shutil.which("mysqldump")
        if program is None:
            needs("no mariadb-dump: install mariadb-client")
        place = [f"--host={url.host}", f"--port={url.port or 3306}", f"--user={url.username}"]
        environment["MYSQL_PWD"] = url.password or ""
        words = [str(program), *place, "--skip-extended-insert", str(url.database)]
    done = subprocess.run(words, env=environment, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
async def test_a_dump_has_nothing_of_the_text(
    driver: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """It has another owner's rows, and no byte of what the first one ever wrote."""
    with own_database(request, driver, tmp_path) as url:
        store = SQLAlchemyStore(url, timeout=60)
        await leave_traces(store)
        assert SECRET.encode() in dump(url)
        await store.erase_owner("ada")
        after = dump(url)
        assert b"Porto" in after
        assert SECRET.encode() not in after
        assert SECRET.encode().hex().encode() not in after.lower()
        assert b"'ada'" not in after
        await store.aclose()
