"""Gets a framework's own tests, which its sdist has, and runs them in the adapters' environment."""

import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.server import ROOT

PYTHON = ROOT / ".frameworks" / "bin" / "python"
REQUIREMENTS = ROOT / "tests" / "adapters" / "frameworks" / "requirements.txt"
PLUGINS = Path(__file__).parent / "plugins"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a suite's run has come to.

    Attributes:
        suite: the framework's name.
        version: the version whose tests ran.
        passed: how many tests passed.
        skipped: how many were skipped.
        failed: the name of each test that failed, and why; the reason is empty if it is not known.
    """

    suite: str
    version: str
    passed: int
    skipped: int
    failed: Mapping[str, str]

    def line(self) -> str:
        """Return the outcome as a line of a table."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.failed.items():
            by_reason.setdefault(why or "UNKNOWN", []).append(name)
        failed = "; ".join(f"{why}: {', '.join(names)}" for why, names in by_reason.items())
        cells = (self.suite, self.version, f"{self.passed} passed, {self.skipped} skipped")
        return " | ".join((*cells, f"{len(self.failed)} failed", failed))

    def is_as_known(self) -> bool:
        """Return whether tests passed, and each that failed has a reason."""
        return self.passed > 0 and all(self.failed.values())


def pinned(name: str) -> str:
    """Return the version of a framework that the adapters are tested with."""
    found = re.search(rf"(?m)^{re.escape(name)}==(\S+)$", REQUIREMENTS.read_text())
    assert found is not None, name
    return found[1]


def unpacked(name: str, folder: Path) -> Path:
    """Download the sdist of the pinned version, and return where it was unpacked."""
    options = ["--no-deps", "--no-binary", name, "--quiet", "--dest", str(folder)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    subprocess.run([*pip, *options, f"{name}=={pinned(name)}"], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def run_suite(
    name: str, source: Path, paths: Sequence[str], plugin: str, reasons: Mapping[str, Sequence[str]]
) -> Outcome:
    """Run the tests at the paths with a plugin of ours, which puts our class in theirs' place.

    ``reasons`` says why tests may fail: each reason with the beginnings of their names.
    """
    report = source / "report.xml"
    options = ["-q", "-p", "no:cacheprovider", "-p", plugin, f"--junitxml={report}"]
    subprocess.run(
        [PYTHON, "-m", "pytest", *options, *paths],
        cwd=source,
        env={**os.environ, "PYTHONPATH": f"{source}:{PLUGINS}:{ROOT}", "PYTEST_ADDOPTS": ""},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    passed, skipped, failed = 0, 0, {}
    for case in ET.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            test = case.get("name", "")
            known = (why for why, names in reasons.items() if test.startswith(tuple(names)))
            file = case.get("classname", "").split(".")[-1]
            failed[f"{file}::{test}"] = next(known, "")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return Outcome(name, pinned(name), passed, skipped, failed)
