"""Results: the cells of a run and the machine's facts, to JSON and back, with nothing rounded."""

import asyncio
import json
import math
import os
import platform
import re
import sqlite3
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.measuring import Cell, Dose, Sample
from benchmarks.peers.everyone import ENVIRONMENTS

POSTGRESQL = "postgresql://postgres@127.0.0.1:5432/postgres"
_OUR_LIBRARIES = ("anyio", "SQLAlchemy", "starlette")
_PIN = re.compile(r"^([\w-]+)(?:\[.*\])?==(\S+)", re.MULTILINE)


@dataclass
class Results:
    """What a run has measured, and where.

    ``failures`` are the groups that broke off, and ``left_out`` the subjects that a group did not
    measure somewhere, each with the reason.
    """

    facts: dict[str, str]
    versions: dict[str, str]
    cells: list[Cell]
    failures: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def group(self, name: str) -> list[Cell]:
        """Return the cells of one group, in the order in which they were measured."""
        return [cell for cell in self.cells if cell.group == name]

    def write(self, path: Path) -> None:
        """Write everything to ``path``."""
        plain = {
            "facts": self.facts,
            "versions": self.versions,
            "failures": self.failures,
            "left_out": self.left_out,
            "cells": [_to_json(cell) for cell in self.cells],
        }
        path.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Return what ``write`` has written to ``path``."""
        plain = json.loads(path.read_text(encoding="utf-8"))
        cells = [_from_json(cell) for cell in plain["cells"]]
        return cls(plain["facts"], plain["versions"], cells, plain["failures"], plain["left_out"])


def facts(dose: Dose, *, postgresql: str | None) -> dict[str, str]:
    """Return what a reader has to know of the machine and of the run."""
    kind = "full" if dose.full else "short"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "run": f"{kind}: {dose.rounds} rounds, each subject at work for {dose.seconds:g} s in each",
        "system": f"{platform.system()} on {platform.machine()}, {os.cpu_count()} CPUs",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "SQLite": sqlite3.sqlite_version,
        "PostgreSQL": postgresql or "none answered",
    }


def versions() -> dict[str, str]:
    """Return the versions of all that is measured, and of what we stand on."""
    pins: dict[str, str] = {}
    for file in sorted(ENVIRONMENTS.glob("*.txt")):
        pins |= _PIN.findall(file.read_text(encoding="utf-8"))
    return {**{name: _version(name) for name in _OUR_LIBRARIES}, **dict(sorted(pins.items()))}


def postgresql_version() -> str | None:
    """Return the version of the PostgreSQL that is measured, or nothing where none answers."""
    import asyncpg  # noqa: PLC0415  # a report can be made without it

    async def ask() -> str:
        connection = await asyncpg.connect(POSTGRESQL, timeout=5)
        try:
            return str(await connection.fetchval("SHOW server_version"))
        finally:
            await connection.close()

    with suppress(OSError, TimeoutError, asyncpg.PostgresError):
        return asyncio.run(ask())
    return None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _to_json(cell: Cell) -> dict[str, Any]:
    plain = asdict(cell)
    for sample in plain["samples"]:
        # JSON has no NaN: null says as well that nobody looked.
        sample["stall"] = None if math.isnan(sample["stall"]) else sample["stall"]
        sample["figures"] = {
            name: value if math.isfinite(value) else None
            for name, value in sample["figures"].items()
        }
    return plain


def _from_json(plain: dict[str, Any]) -> Cell:
    return Cell(
        plain["group"], plain["conditions"], [_sample(sample) for sample in plain["samples"]]
    )


def _sample(plain: dict[str, Any]) -> Sample:
    figures = {name: _number(value) for name, value in plain["figures"].items()}
    stall = _number(plain["stall"])
    return Sample(plain["name"], plain["wall"], plain["cpu"], stall, figures)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
