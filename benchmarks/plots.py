"""Plots: two SVG files that are the same for the same results, and whose text stays text."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from benchmarks.judging import describe, names, pick
from benchmarks.measuring import Cell, Spread
from benchmarks.peers.everyone import OURS, PLAIN, SQLITE, peers
from benchmarks.report import PLOTS

_STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": "#dddddd",
    "savefig.facecolor": "white",  # a page in dark mode shows it as a white card
    "svg.fonttype": "none",
    "svg.hashsalt": "benchmarks",
}
# Colours that stay apart for those who see red and green alike.
_COLOURS = (
    "#999999",
    "#0072b2",
    "#56b4e9",
    "#009e73",
    "#e69f00",
    "#d55e00",
    "#cc79a7",
    "#7b5ea7",
    "#b8a100",
)

_HALF_DECADE = 10**0.5


def draw(cells: Sequence[Cell], directory: Path) -> list[str]:
    """Draw into ``directory`` what ``cells`` suffice for; return the files' names."""
    mpl.use("svg")
    drawn = []
    painters: dict[str, Callable[[Sequence[Cell]], Any]] = {
        "sqlite.svg": _stores,
        "growth.svg": _growth,
    }
    for name in PLOTS:
        with mpl.rc_context(_STYLE):
            figure = painters[name](cells)
            if figure is None:
                continue
            figure.savefig(directory / name, metadata={"Date": None, "Creator": None})
            plt.close(figure)
            drawn.append(name)
    return drawn


def _stores(cells: Sequence[Cell]) -> Any:
    panels = [
        (f"{operation}, {at_once} at once", some)
        for operation in ("load", "append")
        for at_once in (1, 32)
        if (some := _sqlite(cells, operation, at_once))
    ]
    if not panels:
        return None
    subjects = _subjects(cell for _, some in panels for cell in some)
    colours = dict(zip(subjects, _COLOURS, strict=False))
    figure, grid = plt.subplots(
        len(panels), 1, figsize=(9, 2.4 * len(panels) + 1.2), layout="constrained", squeeze=False
    )
    for axes, (title, some) in zip(grid.flat, panels, strict=True):
        _bars(axes, some, subjects, colours)
        axes.set_title(f"SQLite: {title}", loc="left")
    handles = [plt.Rectangle((0, 0), 1, 1, color=colours[name]) for name in subjects]
    figure.legend(handles, subjects, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _sqlite(cells: Sequence[Cell], operation: str, at_once: int) -> list[Cell]:
    some = pick(cells, "stores", database="SQLite", operation=operation, at_once=at_once)
    return sorted(some, key=lambda cell: cell.conditions["messages"])


def _subjects(cells: Iterable[Cell]) -> list[str]:
    measured = {name for cell in cells for name in names(cell)}
    return [name for name in ("raw sqlite3", PLAIN, *peers(SQLITE)) if name in measured]


def _bars(
    axes: Any, cells: Sequence[Cell], subjects: Sequence[str], colours: dict[str, str]
) -> None:
    width = 0.8 / len(subjects)
    for place, cell in enumerate(cells):
        for index, name in enumerate(subjects):
            if name not in names(cell):
                continue
            ratio = cell.ratio(name, to=OURS)
            left = place - 0.4 + width * (index + 0.5)
            errors = [[ratio.middle - ratio.low], [ratio.high - ratio.middle]]
            # From 1 and not from 0: up is slower than ours, down is faster, on a scale of factors.
            axes.bar(
                left,
                ratio.middle - 1,
                width * 0.9,
                1,
                color=colours[name],
                yerr=errors,
                ecolor="#444444",
                error_kw={"elinewidth": 0.7},
            )
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(visible=False, axis="x")
    axes.set_xticks(range(len(cells)), [describe(cell, "messages") for cell in cells])
    axes.set_ylabel("times ours (the line)")


def _growth(cells: Sequence[Cell]) -> Any:
    grown = pick(cells, "growth")
    axes_names = list(dict.fromkeys(cell.conditions["axis"] for cell in grown))
    if not axes_names:
        return None
    figure, grid = plt.subplots(
        1, len(axes_names), figsize=(4 * len(axes_names), 3.4), layout="constrained", squeeze=False
    )
    for axes, axis in zip(grid.flat, axes_names, strict=True):
        _curves(axes, [cell for cell in grown if cell.conditions["axis"] == axis])
        axes.set_xlabel(axis)
        axes.set_ylabel("ms per operation")
    return figure


def _curves(axes: Any, cells: Sequence[Cell]) -> None:
    curves: dict[str, list[tuple[int, Spread]]] = {}
    for cell in cells:
        if OURS in names(cell) and cell.sample(OURS).wall:
            milliseconds = Spread.of([wall * 1e3 for wall in cell.sample(OURS).wall])
            curve = curves.setdefault(describe(cell, "operation", "database"), [])
            curve.append((cell.conditions["value"], milliseconds))
    for (name, points), colour in zip(curves.items(), _COLOURS[1:], strict=False):
        points.sort(key=lambda point: point[0])
        places = [place for place, _ in points]
        spreads = [spread for _, spread in points]
        lows, highs = [one.low for one in spreads], [one.high for one in spreads]
        middles = [one.middle for one in spreads]
        axes.plot(places, middles, marker="o", markersize=3, label=name, color=colour)
        axes.fill_between(places, lows, highs, alpha=0.2, color=colour, linewidth=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    # A decade at least: what is flat has to look so.
    low, high = axes.get_ylim()
    middle = (low * high) ** 0.5
    axes.set_ylim(min(low, middle / _HALF_DECADE), max(high, middle * _HALF_DECADE))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False)
