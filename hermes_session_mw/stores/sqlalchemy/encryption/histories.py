"""Histories that were decrypted lately, so that a load decrypts what has come since.

An entry counts only beside the very same encrypted text, from the same number on, and the same
wrapped data key: whoever cannot read these from the database gets nothing from here.
"""

import sys
from collections import OrderedDict
from threading import Lock
from typing import NamedTuple

from hermes_session_mw.stores.sqlalchemy.statements.history_texts import SEPARATOR

MARK = "\x1e"
"""What stands between the stored texts of messages: no JSON text has it, nor an encrypted one."""

_LARGEST = 4
"""The part of all room that one history may take."""

Key = tuple[str, str]
"""An owner and a session's id."""


class Decrypted(NamedTuple):
    """Messages as they are stored, with `MARK` between, and decrypted, with `SEPARATOR` between.

    Attributes:
        wrapped: the session's data key, as it is stored.
        first: the number of the first message; the others follow without a gap.
        stored: the texts as they are stored.
        texts: their JSON texts.
    """

    wrapped: str | None
    first: int
    stored: str
    texts: str

    def since(self, first: int) -> "Decrypted | None":
        """Return the same from a later message on; None if it has no such message."""
        if first == self.first:
            return self
        stored = texts = 0
        for _ in range(first - self.first):
            stored = self.stored.find(MARK, stored) + len(MARK)
            texts = self.texts.find(SEPARATOR, texts) + len(SEPARATOR)
            if stored < len(MARK) or texts < len(SEPARATOR):
                return None
        if first < self.first:
            return None
        return Decrypted(self.wrapped, first, self.stored[stored:], self.texts[texts:])


class DecryptedHistories:
    """The histories that were used last, in up to ``size`` bytes; threads share it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._lock = Lock()
        self._entries: OrderedDict[Key, tuple[Decrypted, int]] = OrderedDict()

    def find(self, key: Key, wrapped: str | None, first: int, stored: str) -> Decrypted | None:
        """Return what is known of the beginning of ``stored``; None for nothing."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
        known = entry[0]
        if known.wrapped != wrapped:
            return None
        if known.first != first:
            later = known.since(first)
            if later is None:
                return None
            known = later
        if stored.startswith(known.stored) and stored[
            len(known.stored) : len(known.stored) + 1
        ] in ("", MARK):
            return known
        return None

    def keep(self, key: Key, history: Decrypted) -> None:
        """Keep a history, in place of those that were not used for longest."""
        size = sys.getsizeof(history.stored) + sys.getsizeof(history.texts)
        with self._lock:
            _, before = self._entries.pop(key, (None, 0))
            self._used -= before
            if size * _LARGEST > self._size:
                return
            self._entries[key] = history, size
            self._used += size
            while self._used > self._size:
                _, (_, freed) = self._entries.popitem(last=False)
                self._used -= freed

    def forget(self, key: Key) -> None:
        """Forget a session's history."""
        with self._lock:
            _, freed = self._entries.pop(key, (None, 0))
            self._used -= freed
