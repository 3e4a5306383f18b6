"""Gets a framework's own tests, which its sdist has, and runs them in the adapters' environment."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.adapters.framework_page import PYTHON, Counts, pinned
from tests.support.junit import read_report
from tests.support.server import ROOT

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
        """Return the outcome as a line."""
        failed = "; ".join(f"{why}: {', '.join(names)}" for why, names in self.by_reason().items())
        cells = (self.suite, self.version, f"{self.passed} passed, {self.skipped} skipped")
        return " | ".join((*cells, f"{len(self.failed)} failed", failed))

    def counts(self) -> Counts:
        """Return how many tests had each outcome."""
        numbers = {"passed": self.passed, "failed": len(self.failed), "skipped": self.skipped}
        return Counts(numbers)

    def by_reason(self) -> dict[str, list[str]]:
        """Return the names of the tests that failed, by the reason why."""
        found: dict[str, list[str]] = {}
        for name, why in self.failed.items():
            found.setdefault(why or "UNKNOWN", []).append(name)
        return found

    def is_as_known(self) -> bool:
        """Return whether tests passed, and each that failed has a reason."""
        return self.passed > 0 and all(self.failed.values())


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
    name: str,
    source: Path,
    paths: Sequence[str],
    plugin: str | None = None,
    reasons: Mapping[str, Sequence[str]] | None = None,
) -> Outcome:
    """Run the tests at the paths, with a plugin of ours that puts our class in theirs' place.

    ``reasons`` says why tests may fail: each reason with the beginnings of their names.
    """
    report = source / "report.xml"
    options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    if plugin is not None:
        options += ["-p", plugin]
    subprocess.run(
        [PYTHON, "-m", "pytest", *options, *paths],
        cwd=source,
        env={**os.environ, "PYTHONPATH": f"{source}:{PLUGINS}:{ROOT}", "PYTEST_ADDOPTS": ""},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    cases = read_report(report)
    outcomes = [case.outcome for case in cases]
    failed = {}
    for case in cases:
        if case.outcome == "failed":
            test = case.name.rpartition("::")[2]
            known = (why for why, names in (reasons or {}).items() if test.startswith(tuple(names)))
            failed[f"{case.file}::{case.name}"] = next(known, "")
    numbers = outcomes.count("passed"), outcomes.count("skipped")
    return Outcome(name, pinned(name), *numbers, failed)
