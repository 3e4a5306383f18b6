"""What runs elsewhere, and what is pinned for it, goes with what is here."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import long_runs
from tests.support.lowest_versions import LEFT_OUT
from tests.support.server import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
INDEX = re.compile(r"(pypi|pythonhosted|npmjs)\.\w")
"""Hosts of package registries; what is committed pins by name and version alone."""


def read(path: Path) -> Any:
    # As YAML 1.2 has it, and as GitHub reads it: "on" is a word.
    return yaml.load(path.read_text(), yaml.BaseLoader)


def pins(name: str) -> dict[str, str]:
    """Return the version that a file of constraints has for each package."""
    lines = (ROOT / name).read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(package): version for package, version in pairs}


def steps_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.yml")), ids=lambda path: path.name)
def test_what_github_reads_is_yaml(path: Path) -> None:
    """Each file parses, and is a mapping."""
    assert isinstance(read(path), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_what_is_here(path: Path) -> None:
    """Each make target and each script that a workflow runs exists."""
    commands = "\n".join(step.get("run", "") for step in steps_of(read(path)))
    for target in re.findall(r"\bmake ([a-z][a-z-]*)", commands):
        assert re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE), target
    for script, target in re.findall(r"\bbash (\S+)(?: ([a-z-]+))?", commands):
        assert (ROOT / script).exists(), script
        assert not target or f"\n{target}:" in MAKEFILE, target


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_do_little(path: Path) -> None:
    """It can write nothing unless a job says so, ends in time, and leaves no credentials behind."""
    workflow = read(path)
    assert workflow["permissions"] in ({"contents": "read"}, "", {})
    for job in workflow["jobs"].values():
        assert int(job["timeout-minutes"]) <= 90
        assert set(job.get("permissions", {}).items()) <= {
            ("contents", "read"),
            ("id-token", "write"),
        }
    for step in steps_of(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"
        # What a stranger may have written, a branch's name for instance, is no part of a script.
        assert "github.event" not in step.get("run", "")
        assert "${{" not in step.get("run", "").replace("${{ matrix.", "")


def test_only_the_publishing_job_can_publish() -> None:
    """The right to say who the workflow is belongs to one job, which runs no code of ours."""
    may = {
        (path.name, name)
        for path in WORKFLOWS
        for name, job in read(path)["jobs"].items()
        if "id-token" in job.get("permissions", {})
    }
    assert may == {("release.yml", "publish")}
    job = read(GITHUB / "workflows" / "release.yml")["jobs"]["publish"]
    assert job["environment"] == "release"
    assert [] == [step["run"] for step in job["steps"] if "run" in step]


def test_ci_runs_each_python_that_is_named() -> None:
    """The classifiers name the Pythons that the tests run on, and no other."""
    classifiers = "\n".join(PYPROJECT["project"]["classifiers"])
    named = re.findall(r"Python :: (3\.\d+)$", classifiers, flags=re.MULTILINE)
    tests = read(GITHUB / "workflows" / "ci.yml")["jobs"]["tests"]
    assert tests["strategy"]["matrix"]["python"] == named


def test_the_lowest_versions_are_the_ones_that_are_allowed() -> None:
    """Each lower bound of a dependency, an extra's too, is the version that is tested."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    wanted = {}
    for line in [*project["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(line)
        (bound,) = requirement.specifier
        assert bound.operator == ">=", line
        wanted[canonicalize_name(requirement.name)] = bound.version
    lowest = pins("constraints-lowest.txt")
    # "8.1" and "8.1.0" are one version.
    found = {name: Requirement(f"x=={lowest[name]}").specifier for name in wanted}
    assert [] == [name for name in wanted if not found[name].contains(wanted[name])]


def test_beside_the_lowest_the_tests_tools_are_the_usual_ones() -> None:
    """What is said to be in constraints.txt's version is; what is left out is not installed."""
    text = (ROOT / "constraints-lowest.txt").read_text()
    usual = text.rpartition("in constraints.txt's versions")[2].splitlines()[1:]
    all_pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert [] == [line for line in usual if line not in all_pins]
    installed = pins("constraints-lowest.txt")
    assert [] == [name for name in LEFT_OUT if canonicalize_name(name) in installed]


def test_no_file_names_an_index() -> None:
    """Pins are names and versions: nothing tells where they are to be had."""
    folders = ("*", ".ci/*", ".github/**/*", "docs/**/*", "hermes_session_mw/**/*", "demo_app/**/*")
    files = {path for folder in folders for path in ROOT.glob(folder) if path.is_file()}
    assert {ROOT / "Makefile", ROOT / ".ci" / "run"} <= files
    wrong = [path.name for path in sorted(files) if INDEX.search(path.read_text(errors="replace"))]
    assert [] == wrong


COLLECT = """
import sys, pytest

class Teller:
    def pytest_collection_finish(self, session):
        for item in session.items:
            print("long" if item.get_closest_marker("long") else "dose", item.nodeid)

options = ["--collect-only", "-qq", "-p", "no:cacheprovider"]
sys.exit(pytest.main([*options, *sys.argv[1:]], plugins=[Teller()]))
"""


def test_a_dose_of_what_takes_long_is_in_every_run() -> None:
    """Each test of the dose exists and is not left out; the rest of the long ones is."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, *long_runs.LONG],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    told = [line.split(" ", 1) for line in done.stdout.splitlines() if "::" in line]
    left_out = {name for kind, name in told if kind == "long"}
    in_every_run = {name for kind, name in told if kind == "dose"}
    assert left_out
    for test in long_runs.DOSE:
        assert [name for name in in_every_run if name.startswith(test)], test
        assert not [name for name in left_out if name.startswith(test)], test


def test_ci_runs_what_takes_long() -> None:
    """Whatever `make test` leaves out has a job of its own."""
    steps = read(GITHUB / "workflows" / "ci.yml")["jobs"]["long"]["steps"]
    assert "bash .ci/run test-long" in steps[-1]["run"]
    (folders,) = re.findall(r"^LONG = ((?:.*\\\n)*.*)$", MAKEFILE, flags=re.MULTILINE)
    for left_out in (*long_runs.LONG, *long_runs.EVERY_CASE):
        assert left_out.startswith(tuple(folders.split())), left_out
