"""The documentation names tests and pages that are there."""

import re
from pathlib import Path

import pytest

import hermes_session_mw
from tests.support.server import ROOT

HOUSE = [
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("how-it-works", "speed")),
]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "tests" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
CONTRACTS = Path(hermes_session_mw.__file__).parent / "testing"
TESTS = "\n".join(
    path.read_text()
    for place in (ROOT / "tests", CONTRACTS)
    for path in sorted(place.rglob("*.py"))
)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    """Each test that a page names exists, and each page that it links to."""
    text = page.read_text()
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in TESTS, name
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", HOUSE, ids=lambda page: page.name)
def test_a_page_about_the_code_names_files_that_are_there(page: Path) -> None:
    """Each file and folder in backticks is one of the package, or of the repository."""
    names = re.findall(r"`([\w.]+/[\w./]*)`", page.read_text())
    assert names
    ours = [name for name in names if "NAME" not in name and not name.startswith("build/")]
    roots = (ROOT, ROOT / "hermes_session_mw")
    assert [name for name in ours if not any((root / name).exists() for root in roots)] == []
