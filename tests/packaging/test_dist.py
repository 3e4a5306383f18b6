"""What is published: built here as for a release, and installed where nothing else is."""

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from sqlalchemy import URL

from tests.support.requirements import needs
from tests.support.server import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RELEASE = f"{PROJECT['name']}-{PROJECT['version']}"
# What measures our coverage would measure the copies too, and miss their source later.
# Without CI: an sdist has no Hermes Agent beside it, and these tests do not have it installed.
PLAIN = {n: value for n, value in os.environ.items() if not n.startswith("COV") and n != "CI"}

# After the README's first example: two requests of one conversation, by the ASGI messages alone.
TWO_REQUESTS = """
import asyncio, json

async def say(text):
    sent = []
    async def receive():
        return {"type": "http.request", "body": json.dumps({"text": text}).encode()}
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "method": "POST", "path": "/chat", "query_string": b"",
             "headers": [(b"x-hermes-session-id", b"a-thread")]}
    await app(scope, receive, send)
    return sent

asyncio.run(say("hello"))
start, body = asyncio.run(say("and again"))[:2]
assert (b"x-hermes-session-id", b"a-thread") in start["headers"], start
assert b"I have seen 3 messages." in body["body"], body
"""


@dataclass(frozen=True)
class Built:
    """One release: its folder, its two files, and the sdist's content beside them."""

    wheel: Path
    sdist: Path
    unpacked: Path


def run(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=PLAIN | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, folder: Path) -> Built:
    """Build both, the wheel from the sdist, with the pinned build backend."""
    options: list[str | Path] = [
        "--outdir",
        folder,
        "--dependency-constraints-txt",
        ROOT / "constraints.txt",
    ]
    run([sys.executable, "-m", "build", *options, source], ROOT, SOURCE_DATE_EPOCH="1764115200")
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return Built(wheel, sdist, folder / RELEASE)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(ROOT, tmp_path_factory.mktemp("built"))


def pip_install(python: Path, *what: str | Path) -> None:
    """Install it in the versions that the project is tested with."""
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
    ]
    run([*pip, "--constraint", ROOT / "constraints.txt", *what], python.parent)


@pytest.fixture(scope="module")
def python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel, without extras, what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    run([sys.executable, "-m", "venv", folder], folder)
    python = folder / "bin" / "python"
    pip_install(python, built.wheel)
    return python


# An extra, and the URLs that it is for.
DRIVERS = {
    "postgresql": ["postgresql+psycopg", "postgresql+psycopg_async"],
    "asyncpg": ["postgresql+asyncpg"],
    "mysql": ["mysql+pymysql", "mariadb+pymysql"],
    "asyncmy": ["mysql+asyncmy", "mariadb+asyncmy"],
    "aiosqlite": ["sqlite+aiosqlite"],
}
NO_DRIVERS = {"cli", "client", "demo", "encryption", "fast", "otel"}

APPEND = """
import anyio, sys
from hermes_session_mw import SQLAlchemyStore

async def main(url):
    store = SQLAlchemyStore(url, timeout=60)
    assert await store.append(url, [{"role": "user", "content": "hello"}]) == 1
    await store.aclose()

for url in sys.argv[1:]:
    anyio.run(main, url)
"""


@pytest.mark.parametrize("extra", sorted(set(PROJECT["optional-dependencies"]) - NO_DRIVERS))
def test_an_extra_brings_what_its_urls_need(
    built: Built, python: Path, tmp_path: Path, request: pytest.FixtureRequest, extra: str
) -> None:
    """Alone beside the wheel, each connects by every URL that the pages name it for."""
    pip_install(python, "--target", tmp_path / "extra", f"{built.wheel}[{extra}]")
    urls = []
    for name in DRIVERS[extra]:
        if name.startswith("sqlite"):
            url = URL.create(name, database=f"{tmp_path}/chat.db")
        else:
            kind = "postgres_url" if name.startswith("postgresql") else "mysql_url"
            url = request.getfixturevalue(kind).set(drivername=name)
        urls.append(url.render_as_string(hide_password=False))
    run([python, "-W", "error", "-c", APPEND, *urls], tmp_path, PYTHONPATH=f"{tmp_path}/extra")


def test_the_installation_page_has_every_extra() -> None:
    """Each extra has a row, which names the URLs that it is for."""
    page = (ROOT / "docs" / "installation.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", page, flags=re.MULTILINE))
    assert set(rows) == set(PROJECT["optional-dependencies"])
    for extra, names in DRIVERS.items():
        assert [name for name in names if f"`{name}://`" not in rows[extra]] == []


@pytest.fixture(scope="module")
def pyright(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which pyright sees the clean Python's packages, and the extras' beside it.

    The package brings its program along, so that nothing is downloaded; node has to be there.
    """
    if which("node") is None:
        needs("no node, which runs pyright: install nodejs")
    path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    extras = tmp_path_factory.mktemp("extras")
    pip_install(
        python,
        "--target",
        extras,
        "click",
        "cryptography",
        "httpx",
        "httpx2",
        "opentelemetry-api",
        "pytest",
    )
    return {"PATH": path, "PYTHONPATH": str(extras), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}


def metadata(built: Built) -> Message:
    with zipfile.ZipFile(built.wheel) as archive:
        return email.message_from_bytes(archive.read(f"{RELEASE}.dist-info/METADATA"))


def test_the_wheel_has_the_package_and_nothing_else(built: Built) -> None:
    """It has each file of the package, py.typed too, and the license; no tests and no demo."""
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "hermes_session_mw").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package == {name for name in names if not name.startswith(f"{RELEASE}.dist-info/")}
    assert {"hermes_session_mw/py.typed"} <= names
    assert {f"{RELEASE}.dist-info/licenses/LICENSE"} <= names


def test_the_sdist_has_what_the_repository_has(built: Built) -> None:
    """Nothing that the repository has is missing in the sdist, and nothing else is there."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no repository to compare with")
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = {name for name in run(git, ROOT).splitlines() if (ROOT / name).is_file()}
    packed = {
        str(path.relative_to(built.unpacked))
        for path in built.unpacked.rglob("*")
        if path.is_file()
    }
    assert packed == files | {"PKG-INFO"}


def test_whoever_builds_from_the_sdist_gets_the_same_release(
    built: Built, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whoever builds from the sdist gets the same two files, byte for byte."""
    again = build(built.unpacked, tmp_path_factory.mktemp("again"))
    assert built.wheel.read_bytes() == again.wheel.read_bytes()
    assert built.sdist.read_bytes() == again.sdist.read_bytes()


def test_an_unpacked_sdists_own_tests_run(built: Built) -> None:
    """In the unpacked sdist, tests that read pages, data and modules find them."""
    names = (
        "test_ids",
        "packaging/test_layers",
        "packaging/test_public_names",
        "docs/test_docs",
        "stores/hermes_state/test_golden",
    )
    files = [f"tests/{name}.py" for name in names]
    options = ["-q", "-p", "no:cacheprovider"]
    assert "passed" in run([sys.executable, "-m", "pytest", *options, *files], built.unpacked)


def test_an_index_would_take_both_files(built: Built) -> None:
    """Twine finds nothing to warn of, the page's text included."""
    run([sys.executable, "-m", "twine", "check", "--strict", built.wheel, built.sdist], ROOT)


def test_the_metadata_is_what_pyproject_says(built: Built) -> None:
    """Name, version, Python, license, classifiers, extras and requirements arrive in the wheel."""
    told = metadata(built)
    one = ("Name", "Version", "Requires-Python", "License-Expression", "License-File")
    assert [told[name] for name in one] == [
        PROJECT["name"],
        PROJECT["version"],
        PROJECT["requires-python"],
        "MIT",
        "LICENSE",
    ]
    assert PROJECT["classifiers"] == told.get_all("Classifier")
    assert set(PROJECT["optional-dependencies"]) == set(told.get_all("Provides-Extra") or [])
    asked = [line for line in told.get_all("Requires-Dist") or [] if "extra ==" not in line]
    assert sorted(PROJECT["dependencies"]) == sorted(asked)
    assert (ROOT / "README.md").read_text() in told.as_string()


def test_every_python_that_is_named_is_allowed(built: Built) -> None:
    """The classifiers' versions begin with the lowest that may install it."""
    told = "\n".join(metadata(built).get_all("Classifier") or [])
    versions = re.findall(r"Python :: (3\.\d+)$", told, flags=re.MULTILINE)
    assert f">={versions[0]}" == PROJECT["requires-python"]


def test_the_wheel_alone_installs_and_works(python: Path, tmp_path: Path) -> None:
    """Without an extra it needs what it asks for and no more, and the README's example goes on."""
    run([python, "-m", "pip", "--disable-pip-version-check", "check"], tmp_path)
    readme = (ROOT / "README.md").read_text()
    (example,) = re.findall(
        r"^Wrap your app.*?^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE
    )
    run([python, "-W", "error", "-c", example + TWO_REQUESTS], tmp_path)
    where = run([python, "-c", "import hermes_session_mw as m; print(m.__file__)"], tmp_path)
    assert python.parent.parent in Path(where).parents
    assert {"hermes_sessions.db"} <= {path.name for path in tmp_path.iterdir()}


STORE_TESTING = (ROOT / "docs" / "store-testing.md").read_text()
FILES = dict(
    re.findall(r"^```python (\S+\.py)\n(.*?)^```$", STORE_TESTING, re.DOTALL | re.MULTILINE)
)

# What is wrong in a store, and the test of the contract that has to find it.
WRONG = {
    "the oldest instead of the newest": (
        ("stored[first:]", "stored[: len(stored) - first]"),
        "test_a_limit_gives_the_newest",
    ),
    "owners are ignored": (
        ("owner, session_id", '"", session_id'),
        "test_another_owners_session_is_unknown",
    ),
    "a repeated turn is stored again": (
        ("and turn in self._turns", "and not turn"),
        "test_a_repeated_turn_is_stored_once",
    ),
    "an expected length is ignored": (
        ("expected_length != len(stored)", "expected_length > len(stored) + 2"),
        "test_an_expected_length_must_be_met",
    ),
    "writers overtake each other": (
        (
            "        stored = [*stored, *(",
            "        await anyio.sleep(0.01)\n        stored = [*stored, *(",
        ),
        "test_turns_of_many_writers_never_interleave",
    ),
}


@pytest.fixture(scope="module")
def python_with_pytest(
    built: Built, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A Python that has the wheel, what it asks for, and pytest."""
    folder = tmp_path_factory.mktemp("with-pytest")
    run([sys.executable, "-m", "venv", folder], folder)
    python = folder / "bin" / "python"
    pip_install(python, built.wheel, "pytest")
    return python, {"PYTHONDONTWRITEBYTECODE": "1"}


def project(folder: Path, store: str) -> list[str | Path]:
    """Write somebody's project with a store and its tests; return pytest's arguments."""
    (folder / "my_store.py").write_text(store)
    (folder / "test_my_store.py").write_text(FILES["test_my_store.py"])
    return ["-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_my_store.py"]


def test_a_store_of_ones_own_is_held_to_the_contract(
    python_with_pytest: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """With the wheel and pytest alone, the page's store passes the whole contract."""
    python, environment = python_with_pytest
    arguments = project(tmp_path, FILES["my_store.py"])
    told = run([python, *arguments], tmp_path, **environment)
    (passed,) = re.findall(r"^(\d+) passed in", told, re.MULTILINE)  # none skipped, none warned
    assert int(passed) >= 59


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_store_fails_the_contract(
    python_with_pytest: tuple[Path, dict[str, str]], tmp_path: Path, wrong: str
) -> None:
    """Each mistake is found by the test that is about it, which shows the values."""
    python, environment = python_with_pytest
    (right, mistaken), test = WRONG[wrong]
    code = FILES["my_store.py"]
    assert right in code
    code = code.replace(right, mistaken).replace("import json\n", "import json\n\nimport anyio\n")
    arguments = project(tmp_path, code)
    done = subprocess.run(
        [python, *arguments], cwd=tmp_path, env=PLAIN | environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"FAILED test_my_store.py::TestMyStore::{test}" in done.stdout


def test_the_contract_costs_nothing_where_it_is_not_used(python: Path, tmp_path: Path) -> None:
    """Importing the package imports no tests, and works without pytest."""
    code = (
        "import sys\nfrom hermes_session_mw import *\n"
        "print([n for n in sys.modules if 'test' in n])"
    )
    run([python, "-c", "import importlib.util as u; assert not u.find_spec('pytest')"], tmp_path)
    assert "hermes_session_mw" not in run([python, "-c", code], tmp_path)


def test_every_public_type_is_known(pyright: dict[str, str], tmp_path: Path) -> None:
    """Pyright knows the type of everything public in the installed wheel, in one way only.

    But for the adapters, whose bases and items are their frameworks', which are not installed here.
    """
    options = ["--verifytypes", "hermes_session_mw", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(
        [sys.executable, "-m", "pyright", *options],
        cwd=tmp_path,
        env=PLAIN | pyright,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)["typeCompleteness"]
    assert report["pyTypedPath"]
    unknown = [s["name"] for s in report["symbols"] if s["isExported"] and not s["isTypeKnown"]]
    adapters = "hermes_session_mw.adapters."
    assert [] == [name for name in unknown if not name.startswith(adapters)]


def test_type_checkers_tell_users_what_is_promised(pyright: dict[str, str], tmp_path: Path) -> None:
    """Pyright, strict, finds each type and each mistake that tests/typing names, as mypy does."""
    page = tmp_path / "public.py"
    page.write_text((ROOT / "tests" / "packaging" / "typing" / "public.py").read_text())
    assert "0 errors" in run([sys.executable, "-m", "pyright", page], tmp_path, **pyright)


def test_the_version_has_its_place_in_the_changelog() -> None:
    """The changelog tells of the version that would be published, with its day, below the next."""
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, flags=re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    (day,) = [day for version, day in headings if version == PROJECT["version"]]
    assert day
