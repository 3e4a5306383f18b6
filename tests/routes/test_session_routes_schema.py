"""The session routes do what their OpenAPI description says, in a process that makes the cases."""

import re
import subprocess
import sys

from tests.support.server import ROOT


def test_each_operation_is_as_described() -> None:
    """The tests of ``described_operations.py`` pass, one for each operation.

    schemathesis makes their cases while it collects, which each of pytest's processes would repeat.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/routes/described_operations.py"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, flags=re.MULTILINE), done.stdout
