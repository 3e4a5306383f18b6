"""An Alembic project with the tables in its own MetaData, as docs/alembic.md has it."""

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import DatabaseError
from starlette.testclient import TestClient

from hermes_session_mw import HermesSessionMiddleware, SQLAlchemyStore, migrations
from hermes_session_mw.testing.helpers import numbered
from tests.support import mariadb, postgres
from tests.support.asgi import Recorder
from tests.support.old_tables import load_version
from tests.support.server import ROOT

PAGE = (ROOT / "docs" / "alembic.md").read_text()
MAIN = "\n".join(
    [
        "import shlex, sys",
        "from alembic.config import main",
        "for line in sys.argv[1:]:",
        "    main(shlex.split(line))",
    ]
)


def block(name: str) -> str:
    """Return the page's one block with this name."""
    (found,) = re.findall(rf"^```{name}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """An empty database."""
    if request.param == "sqlite":
        yield URL.create("sqlite", database=f"{tmp_path}/sessions.db")
    elif request.param == "postgresql":
        with postgres.database(request.getfixturevalue("postgres_server")) as made:
            yield made
    else:
        with mariadb.database(request.getfixturevalue("mysql_server")) as made:
            yield made


class Project:
    """An Alembic project in a folder, over a database."""

    def __init__(self, folder: Path, url: URL) -> None:
        self.folder = folder
        self.url = url
        self.env = folder / "migrations" / "env.py"
        self.versions = folder / "migrations" / "versions"

    def run(self, *commands: str, fails: bool = False) -> str:
        """Run Alembic's commands one after another, in one process; return what they print."""
        ended = subprocess.run(
            [sys.executable, "-c", MAIN, *commands],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "DATABASE_URL": self.url.render_as_string(hide_password=False),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (ended.returncode != 0) == fails, ended.stdout
        return ended.stdout

    def generated(self, name: str) -> str:
        """Return what the revision with this name does."""
        (path,) = self.versions.glob(f"*_{name}.py")
        return path.read_text().partition("def upgrade()")[2].partition("def downgrade()")[0]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as the page has it, without a revision."""
    project = Project(tmp_path_factory.mktemp("begun"), URL.create("sqlite"))
    project.run("init migrations")
    (project.folder / "models.py").write_text(block("python models.py"))
    written = project.env.read_text()
    assert written.count("target_metadata = None\n") == 1
    project.env.write_text(written.replace("target_metadata = None\n", block("python env.py")))
    return project.folder


@pytest.fixture
def project(begun: Path, url: URL, tmp_path: Path) -> Project:
    """Such a project, over an empty database."""
    return Project(shutil.copytree(begun, tmp_path / "project"), url)


def test_an_alembic_project_keeps_the_tables(project: Project, url: URL) -> None:
    """Revisions make the tables, autogenerate leaves them alone, an app needs no more rights."""
    (project.versions / "0001_hermes_sessions.py").write_text(block("python revision"))
    lines = block("sh").splitlines()
    assert all(line.startswith("alembic ") for line in lines)
    printed = project.run(*(line.removeprefix("alembic ") for line in lines))
    assert "No new upgrade operations detected." in printed
    generated = project.generated("accounts")
    assert "create_table('accounts'" in generated
    assert "hermes" not in generated
    is_refused = "Alembic's offline mode"
    assert is_refused in project.run("upgrade head --sql", fails=True)
    if url.get_backend_name() == "sqlite":
        anyio.run(use, url)
        return
    with user_with_rights(url) as limited:
        engine = create_engine(limited)
        with engine.connect() as connection:
            assert migrations.is_complete(connection)
            with pytest.raises(DatabaseError, match=r"(?i)must be owner|denied"):
                connection.execute(text("ALTER TABLE hermes_sessions ADD COLUMN more INTEGER"))
        engine.dispose()
        anyio.run(use, limited)


def test_the_tables_can_be_autogenerated(project: Project, url: URL) -> None:
    """A revision that Alembic writes of the tables makes them, also by a script run elsewhere."""
    compared = project.env.read_text().replace(
        "target_metadata=target_metadata",
        "target_metadata=target_metadata, compare_server_default=True",
    )
    if url.get_backend_name() != "mysql":  # where Alembic finds its own now() to be another
        project.env.write_text(compared)
    script = project.run("revision --autogenerate -m all", "upgrade head --sql")
    assert "create_table('hermes_sessions'" in project.generated("all")
    assert "CREATE TABLE hermes_sessions" in script
    assert "No new upgrade operations" in project.run("upgrade head", "check")
    engine = create_engine(url)
    with engine.connect() as connection:
        assert migrations.is_complete(connection)
    engine.dispose()
    anyio.run(use, url)


def test_a_revision_may_build_an_index_while_others_write(project: Project, url: URL) -> None:
    """A revision of the page's upgrades in AUTOCOMMIT, where PostgreSQL can build concurrently."""
    engine = create_engine(url)
    with engine.begin() as connection:
        load_version(connection, "0.1.0")
    revision = block("python revision")
    upgrade = re.search(r"^def upgrade.*?(?=^def)", revision, re.DOTALL | re.MULTILINE)
    assert upgrade is not None
    concurrent = revision.replace(upgrade[0], block("python concurrent") + "\n\n")
    (project.versions / "0001_hermes_sessions.py").write_text(concurrent)
    project.run("upgrade head")
    with engine.connect() as connection:
        assert migrations.is_complete(connection)
    engine.dispose()


def test_a_check_fails_until_the_tables_are_upgraded(begun: Path, tmp_path: Path) -> None:
    """Over tables of an earlier version, alembic check tells what a revision has to do."""
    url = URL.create("sqlite", database=f"{tmp_path}/sessions.db")
    project = Project(shutil.copytree(begun, tmp_path / "project"), url)
    engine = create_engine(url)
    with engine.begin() as connection:
        migrations.upgrade(connection)
        connection.execute(text("ALTER TABLE hermes_sessions DROP COLUMN title"))
        connection.execute(text("CREATE TABLE accounts (name VARCHAR(100) PRIMARY KEY NOT NULL)"))
    assert "'title'" in project.run("check", fails=True)
    (project.versions / "0001_hermes_sessions.py").write_text(block("python revision"))
    assert "No new upgrade operations" in project.run("upgrade head", "check")
    engine.dispose()


@contextmanager
def user_with_rights(url: URL) -> Iterator[URL]:
    """Make a database user with the page's rights, and drop it after."""
    name = f"hermes_{secrets.token_hex(4)}"
    grants = block(f"sql {url.get_backend_name()}").replace("'app'", f"'{name}'")
    limited = url.set(username=name, password="secret")
    if url.get_backend_name() == "postgresql":
        with postgres.connect(url) as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'".encode())
            connection.execute(grants.replace("TO app", f"TO {name}").encode())
            try:
                yield limited
            finally:
                connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())
        return
    # A server may have an anonymous user for localhost, who comes before 'name'@'%'.
    for host in ("%", "localhost"):
        mariadb.execute(url, f"CREATE USER '{name}'@'{host}' IDENTIFIED BY 'secret'")
        for grant in grants.replace("@'%'", f"@'{host}'").splitlines():
            mariadb.execute(url, grant)
    try:
        yield limited
    finally:
        mariadb.execute(url, f"DROP USER '{name}'@'%', '{name}'@'localhost'")


async def use(url: URL) -> None:
    """Do all that writes to the tables, without a right to change them."""
    store = SQLAlchemyStore(url, create_schema=False)
    assert await store.append("a", numbered(0, 4)) == 4
    fence = await store.acquire("a", 60)
    assert await store.append("a", numbered(4), fence=fence) == 5
    await store.release("a", fence)
    assert await store.rewind("a", 2) == 2
    assert len(await store.archived("a")) == 3
    assert await store.bind_key("work", "a", "ada") == "a"
    assert await store.fork("a", "b") == 2
    assert await store.rename("b", "Two words")
    assert {each.id for each in (await store.list("")).sessions} == {"a", "b"}
    assert await store.delete("b")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE hermes_sessions SET updated_at = '2020-01-01 00:00:00'"))
    engine.dispose()
    assert await store.prune(timedelta(days=1)) == 2
    app = Recorder(lambda session: session.append({"role": "user"}))
    client = TestClient(HermesSessionMiddleware(app, store))
    assert client.get("/", headers={"X-Hermes-Session-Id": "c"}).status_code == 200
    assert (await store.load("c")).messages == [{"role": "user"}]
    await store.aclose()
