"""The pages are built without a warning, and the reference has all that there is to refer to."""

import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

import hermes_session_mw
from hermes_session_mw import (
    HermesSession,
    HermesSessionError,
    HermesSessionMiddleware,
    SQLAlchemyStore,
)
from hermes_session_mw.asgi import error_responses
from hermes_session_mw.asgi.error_responses import ANSWERED, Refusal, RouteRefusals, refusal_of
from hermes_session_mw.routes.parameters import BODY_TOO_LARGE
from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_tables import checkpoint_metadata
from hermes_session_mw.stores.sqlalchemy.schema.expiry_tables import expiry_metadata
from hermes_session_mw.stores.sqlalchemy.schema.search_tables import search_metadata
from hermes_session_mw.stores.sqlalchemy.schema.tables import metadata
from tests.support.server import ROOT

REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, as ``make docs`` builds them; what fails them is in the assertion's text."""
    folder = tmp_path_factory.mktemp("docs")
    command = ["-W", "--keep-going", "-n", "-q", "-b", "html", "docs", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *command],
        capture_output=True, text=True, check=False, timeout=280, cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_and_can_be_reached(built: Path) -> None:
    """Each Markdown file is a page of its own, and in the index; the benchmarks' is another's."""
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
    index = (built / "index.html").read_text()
    elsewhere = {"benchmarks/report.html": (built / "speed.html").read_text()}
    for page in pages:
        target = page.with_suffix(".html")
        assert (built / target).exists()
        above = elsewhere.get(str(target), index)
        assert page.name == "index.md" or f'href="{target}"' in above, page


def test_every_local_link_leads_somewhere(built: Path) -> None:
    """Files and anchors that the built pages link to are there."""
    seen = {path: _Links(path.read_text()) for path in built.rglob("*.html")}
    broken = [
        (str(path.relative_to(built)), link)
        for path, page in seen.items()
        for link in page.links
        if not _is_there(path, link, seen)
    ]
    assert broken == []


def test_every_public_name_is_in_the_reference(built: Path) -> None:
    """Whatever can be imported from the package has its place in the reference."""
    with (built / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda _base, name: name)
    known = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    missing = [
        name for name in hermes_session_mw.__all__ if f"hermes_session_mw.{name}" not in known
    ]
    assert missing == []


def test_every_option_is_in_its_table() -> None:
    """Each option of the middleware and of the store is told, with its default."""
    page = (REFERENCE / "middleware.md").read_text()
    for name, option in inspect.signature(HermesSessionMiddleware).parameters.items():
        if name == "app":
            continue
        default = option.default
        written = re.escape(default.__name__ if callable(default) else repr(default))
        row = rf"^\| `{name}` \| `{written}` \|".replace("'", '"')
        assert re.search(row, page, flags=re.MULTILINE), name
    page = (REFERENCE / "stores.md").read_text()
    for name in inspect.signature(SQLAlchemyStore).parameters:
        assert name == "url_or_engine" or f"\n| `{name}` |" in page, name


def test_every_member_of_a_session_is_in_its_table() -> None:
    """Each public attribute and method of a session is told in a row."""
    page = (REFERENCE / "session.md").read_text()
    names = {name for name in dir(HermesSession) if not name.startswith("_")}
    for name in names - {
        "answers",
        "append_part",
        "become",
        "begin",
        "begin_anew",
        "current_turn",
        "derivation",
        "end",
        "go_on_in",
        "is_recording",
        "is_replayed",
        "is_told",
        "known_owner",
        "left_by_earlier_attempt",
        "note_write",
        "on_open",
        "part_key",
        "register_open",
        "release_answered_turn",
        "resolve_key",
        "response_ends_turn",
        "sibling",
        "store_client",
        "was_found",
        "with_part_digest",
    }:
        assert re.search(rf"^\| `[^`]*session\.{name}\b", page, flags=re.MULTILINE), name


def test_every_refusal_is_in_its_table() -> None:
    """Each answer of the middleware's own has a row with its status, code and close code."""
    page = (REFERENCE / "wire.md").read_text()
    known = [value for value in vars(error_responses).values() if isinstance(value, Refusal)]
    raised = [kind(*_arguments(kind)) for kind in ANSWERED]
    found = [*known, *(each for error in raised if (each := refusal_of(error)))]
    assert len(found) == len(known) + len(ANSWERED)
    for refusal in found:
        row = rf"^\| {refusal.status} \| `{refusal.code}` \|.*\| {refusal.close_code} \|$"
        assert re.search(row, page, flags=re.MULTILINE), refusal.code


def test_every_refusal_of_the_routes_is_in_their_table() -> None:
    """Each answer of the session routes' own has its status and code in a row."""
    page = (ROOT / "docs" / "sessions.md").read_text()
    own = [value for value in vars(RouteRefusals).values() if isinstance(value, Refusal)]
    for refusal in [*own, BODY_TOO_LARGE]:
        row = rf"^\| [0-9, ]*{refusal.status}[0-9, ]* \|.*`{refusal.code}`"
        assert re.search(row, page, flags=re.MULTILINE), refusal.code


def test_every_error_is_in_its_table() -> None:
    """Each error has a row, and the status that it becomes where it is let through."""
    page = (REFERENCE / "errors.md").read_text()
    errors = {
        name: value
        for name in hermes_session_mw.__all__
        if isinstance(value := getattr(hermes_session_mw, name), type)
        and issubclass(value, HermesSessionError)
    }
    for name, error in errors.items():
        rows = re.findall(rf"^\| [^|]*`{name}`.*$", page, flags=re.MULTILINE)
        assert len(rows) == (error is not HermesSessionError), name
        if error in ANSWERED:
            refusal = refusal_of(error(*_arguments(error)))
            assert refusal is not None
            assert f"{refusal.status} `{refusal.code}`" in rows[0]


def test_every_column_is_in_its_table() -> None:
    """Each table of the schema has its heading, each column a row, and each index its name."""
    page = (REFERENCE / "tables.md").read_text()
    sections = dict(
        re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    )
    few = (checkpoint_metadata, expiry_metadata, search_metadata)
    tables = {name: table for each in (metadata, *few) for name, table in each.tables.items()}
    assert set(sections) == set(tables)
    for name, table in tables.items():
        rows = re.findall(r"^\| (`[^|]*`) \|", sections[name], flags=re.MULTILINE)
        told = [column for row in rows for column in re.findall(r"`(\w+)`", row)]
        assert sorted(told) == sorted(column.name for column in table.columns)
        assert all(str(index.name) in sections[name] for index in table.indexes)


class _Links(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors.add(found.get("id") or "")
        link = found.get("href" if tag == "a" else "src") or ""
        if link and not re.match(r"[a-z]+:", link):
            self.links.add(link)


def _is_there(page: Path, link: str, seen: dict[Path, _Links]) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path.partition("?")[0]).resolve() if path else page
    if not anchor or target not in seen:
        return target.exists()
    return anchor in seen[target].anchors


def _arguments(error: type[Exception]) -> list[int]:
    """Return what an error of the package is made with: numbers, if anything."""
    parameters = inspect.signature(error.__init__).parameters.values()
    return [1] * (sum(each.kind is not each.KEYWORD_ONLY for each in parameters) - 1)
