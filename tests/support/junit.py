"""What pytest reports in a file of JUnit's format."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """A test that ran.

    Attributes:
        file: the name of its module.
        name: its class, if it has one, and its own name, as in ``TestAdd::test_one[memory]``.
        outcome: ``passed``, ``failed`` or ``skipped``.
        recorded: what it recorded with pytest's ``record_property``.
    """

    file: str
    name: str
    outcome: str
    recorded: Mapping[str, str]


def read_report(path: Path) -> list[Case]:
    """Return the tests of a report, in their order."""
    return [_case(each) for each in ET.parse(path).iter("testcase")]


def _case(element: ET.Element) -> Case:
    *_, file, last = ["", *element.get("classname", "").split(".")]
    name = element.get("name", "")
    if last.startswith("Test"):
        name = f"{last}::{name}"
    else:
        file = last
    recorded = {
        each.get("name", ""): each.get("value", "") for each in element.iterfind("properties/*")
    }
    return Case(file, name, _outcome(element), recorded)


def _outcome(element: ET.Element) -> str:
    if element.find("failure") is not None or element.find("error") is not None:
        return "failed"
    return "passed" if element.find("skipped") is None else "skipped"
