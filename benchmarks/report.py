"""The report: Markdown that is made from nothing but the results."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from statistics import median

from benchmarks.footprint import NOTHING
from benchmarks.judging import Target, describe, names
from benchmarks.measuring import Cell, Sample, Spread
from benchmarks.peers.everyone import OURS, unsafe_peers
from benchmarks.results import Results
from benchmarks.targets import APART, FLAT, HEARTBEAT, targets

PLOTS = {
    "sqlite.svg": "Load and append on SQLite, as multiples of ours; less is faster",
    "growth.svg": "Time of one operation of ours, as the conversation, the table and the load grow",
}


@dataclass(frozen=True)
class Layout:
    """How the cells of a group become tables: one for each value of ``tables``."""

    group: str
    title: str
    says: str
    tables: tuple[str, ...]
    columns: tuple[str, ...]
    reference: str = OURS


_UNSAFE = (
    "No target counts these, which lose a turn that they have stored when the machine loses its "
    f"power, or the process ends: {', '.join(unsafe_peers())}."
)

LAYOUTS = (
    Layout(
        "requests",
        "Requests without a database",
        "The application answers at once, with one body or with 100 chunks. `mint`: the request "
        "has no header; `echo`: it has one.",
        ("loop",),
        ("case", "body"),
    ),
    Layout(
        "stores",
        "Stores",
        "The time of one operation; at 32 at once, that of all of them, divided. `turn` loads a "
        "conversation and appends two messages. `first sight` is what a middleware does for an id "
        "that nobody has stored anything under. SQLite's files are in WAL mode, with "
        "`synchronous=FULL`. " + _UNSAFE,
        ("database", "operation", "at_once"),
        ("messages",),
    ),
    Layout(
        "frameworks",
        "Frameworks",
        "A whole turn through a framework's protocol: by our adapter, and by the framework's own "
        "store, in the same environment. With LangGraph it is a run of a graph of one node.",
        ("framework",),
        ("messages",),
    ),
    Layout(
        "floors",
        "Floors",
        "What nothing at all costs: a hop to a worker thread and back, and a round trip to the "
        "database (SQLite's with its hop). Here the others are told as multiples of the hop.",
        (),
        ("database",),
        reference="bare hop",
    ),
    Layout(
        "sockets",
        "Over sockets",
        "A real server, and clients on the same machine; seconds per request.",
        ("server", "case"),
        ("workers",),
    ),
    Layout("streams", "Open streams", "Streams that are all open at once.", (), ("streams",)),
    Layout(
        "footprint",
        "Footprint",
        "Processes that do nothing but begin and end; here the others are told as multiples of "
        "the interpreter alone.",
        (),
        ("what",),
        reference=NOTHING,
    ),
    Layout(
        "search",
        "Search",
        "On SQLite. An append of a turn of 30 words and 150, with search and without, the indexing "
        "that every 500 messages do among them. A query's first 50 hits, among the messages of one "
        "owner.",
        ("operation",),
        ("messages",),
    ),
    Layout(
        "growth",
        "Growth",
        "The same operation while one thing grows; these cells are measured one after another.",
        ("axis", "operation", "database"),
        ("value",),
    ),
)

_WHOLE = 100  # three digits are enough: from here on there are none behind the point

_INTRODUCTION = """\
---
orphan: true
---

# Benchmarks

The figures behind [Performance](../speed.md).

`make bench` wrote this page; the raw numbers are in [results.json](results.json).

## How to read it

- Subjects of one cell take turns, in shuffled order; a store has a process of its own, with what it
  asks for in its newest versions, and the others sleep while it works. A ratio is that of two times
  in the same round, so that what slows the machine down slows both; it is told as the median over
  the rounds, with the quartiles in brackets.
- In the tables `ours` is told in absolute time, for the scale, and all others as multiples of it:
  above 1 is slower than ours, which has the extra `[fast]`. `CPU` is the process's CPU time, of all
  threads, as a multiple too.
- `stall` is the longest time that the event loop served nobody else, in a few turns of work;
  `JSON parse` is what parsing the same history on the event loop costs, and no store.
- Absolute times are those of one shared machine. Compare ratios.
"""

_VERDICTS = f"""\
The median of the worst cell decides, and that cell is named. A target of which a cell or a peer was
not measured is never met. Where two cells are compared, they were measured one after the other: 32
at a time may be slower by a factor of {APART:g}, and what is called flat may differ by one of
{FLAT:g}. A heartbeat may be late by {HEARTBEAT * 1e3:g} ms through nobody's fault: so long the
interpreter lets one thread run. The header path's figures are what ours adds to the bare
application, as multiples of what the other adds.
"""


def render(results: Results, plots: Iterable[str] = ()) -> str:
    """Return the report; ``plots`` are the names of the files of ``PLOTS`` that lie beside it."""
    sections = [
        _INTRODUCTION,
        *_machine(results),
        f"## Targets\n\n{_VERDICTS}",
        _target_table(targets(results.cells)),
        *(f"![{PLOTS[name]}]({name})\n" for name in plots),
        *_left_out(results),
        *chain.from_iterable(_group(layout, results) for layout in LAYOUTS),
    ]
    return "\n".join(sections)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def duration(seconds: float) -> str:
    """Return ``seconds`` with three digits, in the unit that fits."""
    units = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
    unit, size = next((pair for pair in units if seconds >= pair[1]), units[-1])
    return f"{_digits(seconds / size)} {unit}"


def _machine(results: Results) -> list[str]:
    versions = ", ".join(f"{name} {value}" for name, value in results.versions.items())
    sections = [
        "## Where it ran\n",
        table(("what", "value"), [*results.facts.items(), ("packages", versions)]),
    ]
    if not results.facts.get("run", "").startswith("full"):
        sections.append("**A short run shows that everything works; its figures mean nothing.**\n")
    return sections


def _target_table(rows: Iterable[Target]) -> str:
    return table(
        ("", "target", "bound", "measured", "worst cell", "verdict"),
        (
            (row.area, row.says, row.bound, row.measured, row.where, f"**{row.verdict}**")
            for row in rows
        ),
    )


def _left_out(results: Results) -> list[str]:
    if not results.left_out:
        return []
    return ["## Left out\n", table(("who and where", "why"), results.left_out.items())]


def _group(layout: Layout, results: Results) -> list[str]:
    sections = [f"## {layout.title}\n", f"{layout.says}\n"]
    cells = results.group(layout.group)
    if layout.group in results.failures:
        sections.append(f"This group broke off: `{results.failures[layout.group]}`\n")
    elif not cells:
        sections.append("Not measured in this run.\n")
    panels: dict[str, list[Cell]] = {}
    for cell in cells:
        title = describe(cell, *layout.tables) if layout.tables else ""
        panels.setdefault(title, []).append(cell)
    for title, some in panels.items():
        if title:
            sections.append(f"### {title}\n")
        sections.append(_panel(layout, some))
    return sections


def _panel(layout: Layout, cells: Sequence[Cell]) -> str:
    subjects = dict.fromkeys(chain.from_iterable(names(cell) for cell in cells))
    ordered = sorted(subjects, key=lambda name: name != layout.reference)  # else as measured
    header = ["", *(describe(cell, *layout.columns) for cell in cells)]
    rows = [[name, *(_entry(cell, name, layout.reference) for cell in cells)] for name in ordered]
    return table(header, rows)


def _entry(cell: Cell, name: str, reference: str) -> str:
    if name not in names(cell):
        return "-"
    sample = cell.sample(name)
    if name == reference or reference not in names(cell):
        parts = _absolute(sample)
    else:
        parts = _relative(cell, name, reference)
    if isfinite(sample.stall):
        parts.append(f"stall {duration(sample.stall)}")
    parts += [
        f"{figure} {_digits(value)}" for figure, value in sample.figures.items() if isfinite(value)
    ]
    return "<br>".join(parts) or "-"


def _absolute(sample: Sample) -> list[str]:
    parts = []
    if sample.wall:
        spread = Spread.of(sample.wall)
        quartiles = f"({duration(spread.low)} to {duration(spread.high)})"
        parts.append(f"{duration(spread.middle)} {quartiles}")
    if sample.cpu:
        parts.append(f"CPU {duration(median(sample.cpu))}")
    return parts


def _relative(cell: Cell, name: str, reference: str) -> list[str]:
    one, other = cell.sample(name), cell.sample(reference)
    parts = []
    if one.wall and other.wall:
        parts.append(str(cell.ratio(name, to=reference)))
    if one.cpu and other.cpu:
        parts.append(f"CPU {cell.ratio(name, to=reference, of='cpu')}")
    return parts


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _WHOLE else f"{value:.3g}"
