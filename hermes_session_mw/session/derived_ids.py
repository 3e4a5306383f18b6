"""Derives a conversation's id from its beginning, for clients that send all of it and no id.

Rules of this file: pure functions over messages in the shape of OpenAI's Chat Completions.

Hermes Agent hashes the system prompt and the first user message, so that two chats that begin with
"Hi" are one. Here the beginning only says where to look: its ids are tried in order, and the first
one is taken under which nothing is stored, or just what the request's history tells. Messages are
compared by meaning, as in ``new_messages``.

In these cases u, v, w are messages of the user, a, b answers, i an answer that broke off, j the
part of it that the client has, c an answer that calls a tool, r its result, e an edited u, and s a
summary:

    stored  told    goes on
    -       u       yes
    -       uav     yes
    u       u       yes       it was never answered
    ui      u       yes
    ua      u       no        another chat, which begins alike
    ua      uav     yes
    ua      uavw    yes
    ua      ubv     no
    ua      uavbw   no        the client has gone on elsewhere
    uavb    uav     no        answered anew: the stored answer stays
    uavb    uaw     no        edited
    uc      ucr     yes
    uavi    uav     yes
    uavi    uavjw   yes
    uavi    uavw    yes
    uavi    uavbw   no
    u       uu      no        it is not known which of the two was asked
    ua      ua      yes       the answer is continued
    u       ub      yes       ... and is not stored
    sva     ubvaw   yes       its beginning was compacted
    sva     ubvbw   no
    sva     uva     yes
    ea      ua      no
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from hermes_session_mw.exceptions import SessionConflict
from hermes_session_mw.messages import Message, chat_messages
from hermes_session_mw.session.new_messages import (
    find_new,
    is_part,
    is_same,
    meaning_of,
    split_told,
)
from hermes_session_mw.session.recording import is_incomplete
from hermes_session_mw.stores.server_keys import server_key

MOST = 32
"""Conversations of one owner that may begin with the same message, and still be told apart."""

_KEPT = 2
"""Messages after a summary that have to be the same."""


def derived_ids(owner: str, scope: str | None, told: Sequence[Message]) -> Iterator[str]:
    """Yield the ids that a conversation with this beginning may have, of 72 characters each.

    They depend on the owner, the ``memory_scope``, and the first message of the user; without one
    there are none. Nobody can tell the message from an id.
    """
    beginning = _beginning(told)
    for number in range(MOST if beginning is not None else 0):
        named = json.dumps([owner, scope, beginning, number])
        yield f"derived-{sha256(named.encode()).hexdigest()}"


def retry_key(idempotency_key: str, scope: str | None, told: Sequence[Message]) -> str:
    """Return the session key under which a repetition of this request finds its session.

    Requests that begin otherwise may have an equal ``Idempotency-Key``.
    """
    return server_key("retry", [scope, _beginning(told), idempotency_key])


def _beginning(told: Sequence[Message]) -> str | None:
    first = next((message for message in told if message.get("role") == "user"), None)
    return None if first is None else meaning_of(first)


@dataclass(frozen=True, slots=True)
class Told:
    """What a request tells, which is compared with each conversation that it may continue.

    Attributes:
        messages: without instructions, and without an empty answer at the end.
        added: how many of them a conversation without the others may lack: those after the last
            answer, or the beginning of an answer.
    """

    messages: list[Message]
    added: int

    @classmethod
    def of(cls, told: Sequence[Message]) -> "Told":
        """Return it without messages, if nothing can be answered."""
        try:
            asked, begun = split_told(told)
        except ValueError:
            return cls([], 0)
        if begun is None:
            return cls(asked, len(asked) - _count_answered(asked))
        return cls([*asked, begun], 1 + len(asked) - _count_answered(asked))


def goes_on(stored: Sequence[Message], told: Told) -> bool:
    """Return whether the request continues just what is stored; the table above has the cases.

    It does if the stored history, with what is new, is afterwards what the request tells. The time
    that this takes depends on what is stored, and not on how much else is told.
    """
    stored = chat_messages(stored)
    if not stored or not told.messages:
        return bool(told.messages)
    most = len(stored) + told.added
    is_whole = len(told.messages) <= most
    if is_whole and _differs(stored, told.messages):
        return False
    # The first message may be the summary of several, if enough of the others are the same.
    is_summarized = len(stored) > _KEPT and not is_same(stored[0], told.messages[0])
    if not (is_whole or is_summarized):
        return False
    end = told.messages[-most:]
    try:
        new = find_new(stored, end)
    except (SessionConflict, ValueError):
        return False
    if any(message.get("role") == "assistant" for message in new.messages):
        return False  # what is stored may be the beginning of more than one conversation
    whole = [*stored[: new.keep], *new.asked]
    return (is_whole and _is_told(whole, end)) or (
        is_summarized
        and len(whole) <= len(end)
        and not is_same(whole[0], told.messages[0])
        and _is_told(whole[1:], end[len(end) - len(whole) + 1 :])
    )


def _differs(stored: Sequence[Message], told: Sequence[Message]) -> bool:
    """Return whether both begin alike, and differ before the last answer that is stored."""
    sure = stored[: max(_count_answered(stored) - 1, 0)]
    return is_same(stored[0], told[0]) and _count_told(sure, told) is None


def _is_told(whole: Sequence[Message], told: Sequence[Message]) -> bool:
    """Return whether the messages are those that are told, but for answers that broke off."""
    return _count_told(whole, told) == len(told)


def _count_told(messages: Sequence[Message], told: Sequence[Message]) -> int | None:
    """Return how many of the messages told are these; None if any but a broken answer is not."""
    at = 0
    for message in messages:
        if at < len(told) and is_same(message, told[at]):
            at += 1
        elif not is_incomplete(message):
            return None
        elif at < len(told) and is_part(told[at], message):
            at += 1
    return at


def _count_answered(messages: Sequence[Message]) -> int:
    """Return how many messages there are up to the last answer."""
    at = len(messages)
    while at and messages[at - 1].get("role") != "assistant":
        at -= 1
    return at
