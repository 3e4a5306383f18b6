"""Judging: one bound over many findings; the worst of them decides, and a gap is never a pass."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.measuring import Cell, Spread

MET, MISSED, NOT_MEASURED = "met", "not met", "not measured"
_TOLD = 3


@dataclass(frozen=True)
class Target:
    """One row of the table: what has to hold, what was measured in the worst cell, the verdict."""

    area: str
    says: str
    bound: str
    measured: str
    where: str
    verdict: str


@dataclass(frozen=True)
class Finding:
    """What one cell says of a target."""

    value: Spread
    where: str


@dataclass(frozen=True)
class Bound:
    """What the median of each finding has to keep."""

    text: str
    holds: Callable[[float], bool]
    worst: Callable[[Iterable[float]], float] = max

    @classmethod
    def below(cls, limit: float) -> "Bound":
        """Return the bound that only smaller values keep."""
        return cls(f"below {limit:g}", lambda value: value < limit)

    @classmethod
    def at_most(cls, limit: float) -> "Bound":
        """Return the bound that ``limit`` itself still keeps."""
        return cls(f"at most {limit:g}", lambda value: value <= limit)

    @classmethod
    def at_least(cls, limit: float) -> "Bound":
        """Return the bound that ``limit`` and greater values keep."""
        return cls(f"at least {limit:g}", lambda value: value >= limit, min)


def judge(
    area: str, says: str, bound: Bound, findings: Sequence[Finding], missing: Sequence[str] = ()
) -> Target:
    """Return the row for ``findings``; what is ``missing`` keeps it from being met."""
    if not findings:
        return Target(area, says, bound.text, "", "", NOT_MEASURED)
    gaps = tell_gaps(missing)
    middle = bound.worst(finding.value.middle for finding in findings)
    worst = next(finding for finding in findings if finding.value.middle == middle)
    verdict = (NOT_MEASURED if missing else MET) if bound.holds(middle) else MISSED
    where = f"{worst.where}; the worst of {len(findings)}" if len(findings) > 1 else worst.where
    where = f"{where}; {gaps}" if gaps else where
    return Target(area, says, bound.text, str(worst.value), where, verdict)


def tell_gaps(missing: Sequence[str]) -> str:
    """Return what is missing in words: the first few, and how many more."""
    more = [f"and {len(missing) - _TOLD} more"] if len(missing) > _TOLD else []
    return "; ".join([*(f"no {gap}" for gap in missing[:_TOLD]), *more])


def pick(cells: Iterable[Cell], group: str, **conditions: object) -> list[Cell]:
    """Return the cells of ``group`` under these conditions; a tuple names several that will do."""
    return [cell for cell in cells if cell.group == group and _fits(cell.conditions, conditions)]


def _fits(actual: Mapping[str, Any], wanted: Mapping[str, object]) -> bool:
    return all(
        key in actual
        and (actual[key] in value if isinstance(value, tuple) else actual[key] == value)
        for key, value in wanted.items()
    )


def describe(cell: Cell, *keys: str) -> str:
    """Return the cell's conditions in words, or those of them that ``keys`` name."""
    return ", ".join(
        _words(key, value) for key, value in cell.conditions.items() if key in keys or not keys
    )


def _words(key: str, value: object) -> str:
    if not isinstance(value, int):
        return str(value)
    if key == "at_once":
        return f"{value:,} at once"
    if key in {"messages", "streams", "workers"}:
        return f"{value:,} {key.removesuffix('s') if value == 1 else key}"
    return f"{value:,}"


def names(cell: Cell) -> list[str]:
    """Return the names of the subjects that were measured in the cell."""
    return [sample.name for sample in cell.samples]


def apart(values: Sequence[float], reference: Sequence[float]) -> Spread:
    """Return ``values`` as multiples of the median of ``reference``.

    This is for figures whose rounds are not the same rounds, and for differences, which noise can
    bring close to zero in a single round.
    """
    one = max(median(reference), 1e-9)
    return Spread.of([value / one for value in values])


def overhead(cell: Cell, name: str, over: str = "bare app") -> list[float]:
    """Return the seconds that ``name`` adds to ``over``, by round."""
    pairs = zip(cell.sample(name).wall, cell.sample(over).wall, strict=True)
    return [one - other for one, other in pairs]


def absent(cells: Iterable[Cell], key: str, expected: Iterable[object]) -> list[str]:
    """Return what of ``expected`` no cell has as its condition ``key``, in words."""
    seen = {cell.conditions.get(key) for cell in cells}
    return [_words(key, value) for value in expected if value not in seen]
