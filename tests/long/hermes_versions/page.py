"""The table of the checks, in the page about Hermes' database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.long.hermes_versions.versions import Version
from tests.support.server import ROOT

PAGE = ROOT / "docs" / "hermes.md"
BEGIN, END = "<!-- make hermes-versions writes from here -->\n", "<!-- to here -->\n"


@dataclass(frozen=True)
class Outcome:
    """What a check found in one version.

    Attributes:
        differences: a line for each.
        reason: why there is something to tell, and no failure; None for what is all the same.
    """

    differences: Sequence[str]
    reason: str | None


def table(versions: Sequence[Version], outcomes: Mapping[str, Mapping[str, Outcome]]) -> str:
    """Return the table: a row for each check, a column for each version, and the notes."""
    notes: list[str] = []
    rows = [
        ["", *(each.name for each in versions)],
        ["---"] * (len(versions) + 1),
        ["schema version", *(str(each.schema) for each in versions)],
    ]
    for label, of_check in outcomes.items():
        rows.append([label, *(_cell(of_check[each.name], notes) for each in versions)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    told = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", *told]) + "\n"


def write(text: str) -> None:
    """Write the table into the page, in the place of the one before."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _cell(outcome: Outcome, notes: list[str]) -> str:
    if outcome.reason is None:
        return "**differs**" if outcome.differences else "same"
    if outcome.reason not in notes:
        notes.append(outcome.reason)
    word = "differs" if outcome.differences else "none"
    return f"{word} ({notes.index(outcome.reason) + 1})"
