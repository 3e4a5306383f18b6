"""The number of files that an operation passes through does not grow."""

import subprocess
import sys

# Calls, files and switches between files, as ``python -m benchmarks.paths`` prints them: the same
# each time, however busy the machine is, with some room for other versions of what calls back into
# the package. Lower a bound where a change makes a path shorter.
BOUNDS = {
    "load by a known id": (88, 15, 36),
    "load without a header": (12, 4, 6),
    "append": (205, 19, 82),
    "prune by the command": (930, 33, 440),
}


def test_operations_pass_through_few_files() -> None:
    """Each operation stays within its bounds; the program's own process keeps threads apart."""
    program = [sys.executable, "-m", "benchmarks.paths"]
    printed = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    table, *_ = printed.partition("\n\n")
    _, *lines = table.splitlines()
    counted = {}
    for line in lines:
        name, *numbers = line.rsplit(maxsplit=3)
        counted[name.strip()] = tuple(map(int, numbers))
    assert counted.keys() == BOUNDS.keys()
    for name, bounds in BOUNDS.items():
        for number, bound in zip(counted[name], bounds, strict=True):
            assert number <= bound, name


def test_a_store_of_ones_own_needs_no_sqlalchemy() -> None:
    """Whoever has no SQL store does not import SQLAlchemy, nor any store but the one asked for."""
    code = (
        "import sys, hermes_session_mw as h\n"
        "async def app(scope, receive, send): ...\n"
        "h.HermesSessionMiddleware(app, h.MemoryStore())\n"
        "names = ('sqlalchemy', 'hermes_session_mw.stores.sqlalchemy',"
        " 'hermes_session_mw.stores.hermes_state')\n"
        "print([name for name in names if name in sys.modules])\n"
        "from hermes_session_mw import *\n"
        "print([SQLAlchemyStore.__name__, HermesStateStore.__name__, migrations.__name__])\n"
    )
    program = [sys.executable, "-c", code]
    printed = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    names = "['SQLAlchemyStore', 'HermesStateStore', 'hermes_session_mw.migrations']"
    assert printed.splitlines() == ["[]", names]
