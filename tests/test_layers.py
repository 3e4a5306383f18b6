"""The layers of the design: imports point downwards only."""

import ast
from pathlib import Path

import pytest

import hermes_session_mw

PACKAGE = Path(hermes_session_mw.__file__).parent  # the installed one, where that is tested

# Each module may import from those that stand on a line above its own, and from nothing else of
# the package. A package's own modules share its line.
LAYERS = [
    ["exceptions", "ids"],
    ["headers", "messages", "logging", "telemetry"],
    ["refusals"],
    ["recording"],
    ["tool_calls"],
    ["prompts"],
    ["stores.base"],
    ["stores.records"],
    ["stores.lifecycle", "stores.paging"],
    ["stores.surveys", "stores.transfer"],
    ["stores.memory"],
    ["stores.sqlalchemy"],
    ["migrations"],
    ["stores.hermes_state"],
    ["stores"],
    ["access"],
    ["stored"],
    ["conversation"],
    ["turn"],
    ["session"],
    ["conflicts", "inputs", "options", "wishes"],
    ["answers", "lifespan", "openapi", "resolver", "responder"],
    ["middleware"],
    ["installation", "otel", "routes"],
    [""],
    ["cli"],
]
# Their own modules may import each other, and no other package's.
PACKAGES = ("cli", "stores.hermes_state", "stores.memory", "stores.sqlalchemy")
PURE = {
    "exceptions",
    "headers",
    "ids",
    "inputs",
    "logging",
    "messages",
    "openapi",
    "prompts",
    "recording",
    "refusals",
    "stores.base",
    "stores.lifecycle",
    "stores.paging",
    "stores.records",
    "stores.surveys",
    "stores.transfer",
    "telemetry",
    "tool_calls",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def package_of(module: str) -> str | None:
    return next((package for package in PACKAGES if module.startswith(package)), None)


def layer_of(module: str) -> int:
    owner = package_of(module) or module
    return next(number for number, layer in enumerate(LAYERS) if owner in layer)


def imports_of(path: Path) -> set[str]:
    """Return absolute names; the package's own start with its name."""
    found: set[str] = set()
    package = ("hermes_session_mw", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *([node.module] if node.module else [])])
            # "from . import x" may name a module or a value.
            found.update(
                f"{source}.{alias.name}" if _is_module(source, alias.name) else source
                for alias in node.names
            )
    return found


def _is_module(source: str, name: str) -> bool:
    inside = source.split(".")[1:] if source.startswith("hermes_session_mw") else None
    return inside is not None and PACKAGE.joinpath(*inside, f"{name}.py").exists()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    """A module imports only what stands below it."""
    module = name_of(path)
    own = [name for name in imports_of(path) if name.split(".")[0] == "hermes_session_mw"]
    below = [name.partition(".")[2] for name in own]
    wrong = [
        other
        for other in below
        if layer_of(other) > layer_of(module)
        or (
            layer_of(other) == layer_of(module)
            and (package_of(module) is None or package_of(other) != package_of(module))
        )
    ]
    assert [] == wrong


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_pure_modules_know_no_framework_and_no_database(path: Path) -> None:
    """SQLAlchemy is imported under stores/ alone, and Starlette by no pure module."""
    tops = {name.split(".")[0] for name in imports_of(path)}
    module = name_of(path)
    if not module.startswith(("stores.sqlalchemy", "stores.hermes_state")):
        assert "sqlalchemy" not in tops
    if module in PURE:
        assert tops.isdisjoint({"starlette", "anyio", "sqlalchemy"})


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_all_owners_sessions_are_for_the_command_alone(path: Path) -> None:
    """Nothing that answers requests can get at what looks beyond one owner's sessions."""
    beyond = {f"stores.sqlalchemy.{name}" for name in ("checking", "pruning", "surveying")}
    beyond |= {"stores.surveys", "stores.sqlalchemy.operator_store"}
    if name_of(path) not in beyond and not name_of(path).startswith("cli"):
        assert imports_of(path).isdisjoint({f"hermes_session_mw.{name}" for name in beyond})


TESTS = sorted(Path(__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
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


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_stay_small(path: Path) -> None:
    """No module is longer than what a reader takes in at once."""
    assert len(path.read_text().splitlines()) <= 600
