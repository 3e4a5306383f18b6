"""What comes before an answer: the turn, what the client takes back, and what it repeats."""

from collections.abc import Sequence

from hermes_session_mw import HermesSession, NotSupported, StoredTurn, TurnConflict
from hermes_session_mw.messages import Message

from .model import text_of

KEEP = 10
"""Messages that a compaction leaves as they are."""


async def begin_turn(session: HermesSession) -> None:
    """Wait for the session's turn and load its history; the middleware gives the turn back.

    A store that has no turns, such as Hermes' own database, goes without.
    """
    try:
        await session.turn().acquire()
    except NotSupported:
        await session.load()


async def find_repeated(session: HermesSession, user: Message) -> StoredTurn | None:
    """Return the turn that this request's Idempotency-Key has stored already.

    Raises:
        TurnConflict: it answers another message than ``user``.
    """
    try:
        turn = await session.find_turn()
    except NotSupported:
        return None
    if turn is not None and turn.messages[-2:-1] != [user]:
        raise TurnConflict
    return turn


async def take_back(session: HermesSession, earlier: Sequence[Message], user: Message) -> int:
    """Shorten the history to what counts, and return how many of ``earlier`` it has.

    With ``X-Hermes-History-Source: request`` that is what the body has too: so a client edits a
    message, or asks for another answer. Else it is all, but for a question at the end that got no
    answer, or half of one, and is asked again: a client that repeats a request after a broken
    connection must not double it.
    """
    history = session.history
    if session.history_source == "request":
        counts = _common(history, earlier)
    else:
        counts = len(history) - _unanswered(history, user)
    if counts < len(history):
        await session.rewind(counts)
    return counts if session.history_source == "request" else len(earlier)


async def compact(session: HermesSession, at: int) -> None:
    """Replace the older part of a history that is longer than ``at`` by a summary; 0 for never."""
    if not at or session.length <= max(at, KEEP):
        return
    older = session.history[:-KEEP]
    first = next((text_of(message) for message in older if message["role"] == "user"), "")
    text = f"Summary of {len(older)} earlier messages; the first was: {first}"
    try:
        await session.compact(keep=KEEP, summary=[{"role": "user", "content": text}])
    except NotSupported:
        return


def title_of(user: Message) -> str:
    """Return a thread's title: how its first message begins, on one line."""
    return " ".join(text_of(user).split())[:60]


def _common(history: Sequence[Message], earlier: Sequence[Message]) -> int:
    """Return how many messages both begin with; a store may have added keys to its own."""
    pairs = zip(history, earlier, strict=False)
    differs = (n for n, (kept, told) in enumerate(pairs) if kept | told != kept)
    return next(differs, min(len(history), len(earlier)))


def _unanswered(history: Sequence[Message], user: Message) -> int:
    """Return how many messages at the end are this question without a whole answer."""
    for count in (1, 2):
        question, *rest = history[-count:] or [{}]
        if len(rest) == count - 1 and question | user == question and all(map(_is_broken, rest)):
            return count
    return 0


def _is_broken(message: Message) -> bool:
    return "incomplete" in (message.get("status"), message.get("finish_reason"))
