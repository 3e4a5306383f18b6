"""The layers of the design: imports point downwards only."""

import ast
from pathlib import Path

import pytest

import hermes_session_mw

PACKAGE = Path(hermes_session_mw.__file__).parent  # the installed one, where that is tested

# Each folder may import from those that stand on a line above its own, and itself; the folders of a
# line know nothing of each other. A folder has what is below it, unless that stands here by itself.
LAYERS = [
    ["exceptions", "ids"],
    ["logging", "messages", "telemetry"],
    ["database"],
    ["stores"],
    ["stores.sqlalchemy.schema"],
    ["stores.sqlalchemy.statements"],
    ["stores.hermes_state", "stores.memory", "stores.sqlalchemy"],
    ["stores.factory", "stores.sqlalchemy.admin"],
    ["session"],
    ["asgi"],
    ["openai_api", "routes"],
    ["adapters", "client", "migrations", "otel"],
    [""],
    ["cli", "testing"],
]
# ``stores`` itself gives out what its folders have, and is for whoever is above them.
GIVES_OUT = "stores"
FOLDERS = {folder: number for number, layer in enumerate(LAYERS) for folder in layer}
# What speaks SQL, and what takes an engine of the application for a store.
MAKES_STORES = ("stores.factory", "stores.hermes_state", "stores.sqlalchemy")
PURE = ("exceptions", "ids", "logging", "messages", "telemetry", "stores")
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def folder_of(module: str) -> str:
    """Return the longest folder that stands in the layers and has the module."""
    parts = module.split(".")
    above = [".".join(parts[:count]) for count in range(len(parts), -1, -1)]
    return next(name for name in above if name in FOLDERS)


def imports_of(path: Path) -> set[tuple[str, str]]:
    """Return the modules that one imports and what it takes out of them; "" for all of one."""
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            # "from package import x" may name a module or a value.
            found.update(
                (f"{source}.{alias.name}", "") if _is_module(source, alias.name) else (source, name)
                for alias in node.names
                for name in [alias.name]
            )
    return found


def own_imports_of(path: Path) -> set[tuple[str, str]]:
    """Return what a module imports of the package, by names below the package's."""
    found = {(name.partition("."), taken) for name, taken in imports_of(path)}
    return {(below, taken) for (top, _, below), taken in found if top == PACKAGE.name}


def _is_module(source: str, name: str) -> bool:
    top, *inside = source.split(".")
    place = PACKAGE.joinpath(*inside, name)
    return top == PACKAGE.name and (place.with_suffix(".py").exists() or place.is_dir())


def may_import(module: str, other: str) -> bool:
    here, there = folder_of(module), folder_of(other)
    if other == GIVES_OUT:
        return FOLDERS[here] > FOLDERS["stores.sqlalchemy.admin"]
    return there == here or FOLDERS[there] < FOLDERS[here]


@pytest.mark.parametrize(
    "path", [path for path in MODULES if name_of(path) != GIVES_OUT], ids=name_of
)
def test_imports_point_down(path: Path) -> None:
    """A module imports only what stands below its folder, and the folder's own."""
    module = name_of(path)
    assert [] == [other for other, _ in own_imports_of(path) if not may_import(module, other)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_private_stays_in_its_module(path: Path) -> None:
    """No module imports a name of another that begins with an underscore."""
    assert [] == [taken for _, taken in own_imports_of(path) if taken.startswith("_")]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_pure_modules_know_no_framework_and_no_database(path: Path) -> None:
    """SQLAlchemy is imported below the stores alone, and Starlette by no pure module."""
    tops = {name.split(".")[0] for name, _ in imports_of(path)}
    folder = folder_of(name_of(path))
    if folder != "database" and not folder.startswith(MAKES_STORES):
        assert "sqlalchemy" not in tops
    if folder in PURE and name_of(path) != GIVES_OUT:
        assert tops.isdisjoint({"starlette", "anyio", "sqlalchemy"})


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_all_owners_sessions_are_for_the_command_alone(path: Path) -> None:
    """Nothing that answers requests can get at what looks beyond one owner's sessions."""
    admin = "stores.sqlalchemy.admin"
    if not name_of(path).startswith((admin, "cli")):
        assert [] == [name for name, _ in own_imports_of(path) if name.startswith(admin)]


TESTS_FOLDER = Path(__file__).parents[1]
TESTS = [*sorted(TESTS_FOLDER.rglob("*.py")), *sorted((PACKAGE / "testing").rglob("*.py"))]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: "/".join(path.parts[-2:]))
def test_every_test_says_its_behaviour(path: Path) -> None:
    """The docstring of a test is the sentence of behaviour that it holds."""
    silent = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not (ast.get_docstring(node) or "").endswith(".")
    ]
    assert [] == silent
