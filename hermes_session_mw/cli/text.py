"""Makes texts safe to print: without control characters, on one line, cut to the terminal's width.

Stored texts come from clients, and an escape sequence could control the operator's terminal.
"""

import itertools
import re
import unicodedata
from collections.abc import Sequence

# Control characters, formats such as bidirectional overrides, surrogates, and line separators.
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")
# Emoji and several scripts are written with these.
_JOINERS = "\u200c\u200d"
_IN_JSON = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LEAST = 8
"""The least width of a column of text, however narrow the terminal is."""


def escaped(text: str, *, kept: str = "") -> str:
    """Return ``text`` with control and format characters escaped, except ``kept``."""
    return "".join(each if each in kept or _is_safe(each) else _escape(each) for each in text)


def escaped_lines(text: str) -> list[str]:
    """Return the lines of ``text``, each one escaped; tabs become spaces."""
    lines = text.replace("\r\n", "\n").split("\n")
    return [escaped(line.expandtabs(4), kept=_JOINERS) for line in lines]


def safe_json(lines: str) -> str:
    """Return the same JSON, with control and format characters escaped."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", lines)


def width_of(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes."""
    return sum(_columns(each) for each in text)


def cut(text: str, width: int) -> str:
    """Return ``text``, or as much of it as fits into ``width`` columns, and an ellipsis."""
    if width_of(text) <= width:
        return text
    ends = itertools.accumulate(map(_columns, text))
    return text[: sum(end < width for end in ends)] + "…"


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str | int]], width: int | None
) -> list[str]:
    """Return a table's lines; where ``width`` is given, texts are cut until it fits.

    Numbers are aligned to the right. Texts are escaped here.
    """
    cells = [
        [str(cell) if isinstance(cell, int) else escaped(cell) for cell in row]
        for row in [headers, *rows]
    ]
    widths = [max(width_of(row[column]) for row in cells) for column in range(len(headers))]
    numeric = [all(isinstance(row[column], int) for row in rows) for column in range(len(headers))]
    if width is not None:
        _narrow(widths, [not each for each in numeric], width - 2 * (len(headers) - 1))
    return [
        "  ".join(
            _padded(cut(cell, size), size, right=right)
            for cell, size, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]


def _narrow(widths: list[int], flexible: list[bool], width: int) -> None:
    """Narrow the widest of the flexible columns until all fit, or none is wide any more."""
    while sum(widths) > width:
        widest = max(range(len(widths)), key=lambda each: flexible[each] * widths[each])
        if not flexible[widest] or widths[widest] <= _LEAST:
            return
        widths[widest] -= 1


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - width_of(text))
    return space + text if right else text + space


def _columns(char: str) -> int:
    if unicodedata.combining(char) or char in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _is_safe(char: str) -> bool:
    return unicodedata.category(char) not in _UNSAFE


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
