"""Each adapter, held by tests that run where its framework is installed."""

import os
import subprocess

import pytest

from tests.support.requirements import needs
from tests.support.server import ROOT

FOLDER = ROOT / "tests" / "adapters" / "frameworks"
PYTHON = ROOT / ".frameworks" / "bin" / "python"
MODULES = sorted(path.name for path in FOLDER.glob("test_*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_an_adapter_does_what_its_framework_wants(module: str) -> None:
    """The module's tests pass beside the real framework, and there are some."""
    needs(None if PYTHON.exists() else "no frameworks: make .frameworks/.installed")
    options = ["-q", "-p", "no:cacheprovider", "-c", "pytest.ini", "--confcutdir", "."]
    done = subprocess.run(
        [PYTHON, "-m", "pytest", *options, module],
        cwd=FOLDER,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
