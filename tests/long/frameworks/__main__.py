"""Writes what the frameworks' own tests say of our adapters to docs/framework-stores.md.

Prints a line for each framework whose own tests can be run; fails if one fails unexpectedly.
"""

import sys
import tempfile
from pathlib import Path

from tests.adapters.framework_page import PAGE, with_own_tests
from tests.long.frameworks import openai_agents


def main() -> None:
    """Run the suite with the framework's own class, and with ours."""
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = openai_agents.run(Path(folder))
    for outcome in (theirs, ours):
        print(outcome.line(), flush=True)
    counts = {"theirs": theirs.counts(), "sqlite": ours.counts()}
    PAGE.write_text(with_own_tests(PAGE.read_text(), counts, ours.by_reason()))
    sys.exit(0 if ours.is_as_known() and not theirs.failed else 1)


main()
