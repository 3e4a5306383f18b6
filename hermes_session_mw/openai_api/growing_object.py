r"""`GrowingObject`: whether a JSON text that comes in pieces is a whole object.

Rules of this file: pure. The work is linear in the text, however it is cut: each piece is read
once, and the text is parsed once, where its first bracket is closed.

    pieces              whole after
    {"a"   :1}          the second
    {}   a space        both
    {}   x              the first, but not after the second
    "}"   []   {]       none: it is no object, or no JSON
"""

import json
import re

_MARK = re.compile(r'\\.|[\\"{}\[\]]', re.DOTALL)
_DEEPER = {"{": 1, "[": 1, "}": -1, "]": -1}
_SPACE = " \t\n\r"


class GrowingObject:
    """A JSON text, as received so far.

    Attributes:
        is_whole: whether it is a whole object, to which nothing but space can be added.
    """

    def __init__(self) -> None:
        """Begin without a text."""
        self.is_whole: bool = False
        self._pieces: list[str] = []
        self._depth = 0
        self._in_text = False
        self._is_escaped = False
        self._has_closed = False

    def add(self, piece: str) -> None:
        """Add a piece."""
        if self._has_closed:
            self.is_whole = self.is_whole and not piece.strip(_SPACE)
            return
        self._pieces.append(piece)
        if self._closes_in(piece):
            self._has_closed = True
            self.is_whole = _is_object("".join(self._pieces))
            self._pieces = []

    def _closes_in(self, piece: str) -> bool:
        """Return whether the first bracket is closed in the piece."""
        start = int(self._is_escaped)
        self._is_escaped = self._is_escaped and not piece
        for mark in _MARK.finditer(piece, start):
            if mark[0] == '"':
                self._in_text = not self._in_text
            elif self._in_text:
                self._is_escaped = mark[0] == "\\"  # the last character: the rest is to come
            else:
                self._depth += _DEEPER.get(mark[0], 0)
                if self._depth <= 0 and mark[0] in "}]":
                    return True
        return False


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
