"""What is imported for what: told by the names of modules, and never by the clock."""

import subprocess
import sys

import pytest

import hermes_session_mw


def imported_by(code: str) -> set[str]:
    """Return the names of the modules that a new process has after ``code``."""
    tell = "import sys\nprint(*sys.modules, sep=chr(10))"
    program = [sys.executable, "-c", f"{code}\n{tell}"]
    return set(subprocess.run(program, check=True, capture_output=True, text=True).stdout.split())


def own_of(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] == "hermes_session_mw"}


FRAMEWORKS = {"anyio", "asyncio", "sqlalchemy", "starlette"}


@pytest.mark.parametrize("command", ["--help", "prune --help", "completion bash"])
def test_help_needs_no_framework_and_no_database(command: str) -> None:
    """The command's help imports click, and neither what serves requests nor what keeps them."""
    arguments = ["hermes-sessions", *command.split()]
    modules = imported_by(
        "import contextlib, io, sys\n"
        "from hermes_session_mw.cli import main\n"
        f"sys.argv = {arguments}\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main()"
    )
    assert "click" in modules
    assert modules.isdisjoint(FRAMEWORKS)
    folders = {".".join(name.split(".")[:2]) for name in own_of(modules)}
    assert folders.isdisjoint(f"hermes_session_mw.{each}" for each in ("database", "session"))


def test_a_name_brings_what_it_needs_alone() -> None:
    """The package imports little by itself, and with the middleware no store and no SQLAlchemy."""
    assert imported_by("import hermes_session_mw").isdisjoint(FRAMEWORKS)
    modules = imported_by("from hermes_session_mw import HermesSessionMiddleware, Store")
    assert "starlette" in modules
    assert "sqlalchemy" not in modules
    stores = {name.split(".")[2] for name in own_of(modules) if ".stores." in name}
    assert stores.isdisjoint({"hermes_state", "memory", "sqlalchemy"})
    assert len(own_of(modules)) <= 62


def test_any_public_name_can_be_the_first() -> None:
    """No name of the package relies on another one's having been imported before."""
    imported_by(
        "import importlib, sys\n"
        f"for name in {hermes_session_mw.__all__}:\n"
        "    for module in [*sys.modules]:\n"
        "        if module.startswith('hermes_session_mw'): del sys.modules[module]\n"
        "    getattr(importlib.import_module('hermes_session_mw'), name)"
    )
