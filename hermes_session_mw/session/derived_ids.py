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
from hashlib import sha256

from hermes_session_mw.exceptions import SessionConflict
from hermes_session_mw.messages import Message
from hermes_session_mw.session.new_messages import find_new, is_part, is_same, meaning_of
from hermes_session_mw.session.recording import is_incomplete
from hermes_session_mw.session.tool_calls import INSTRUCTIONS

MOST = 32
"""Conversations of one owner that may begin with the same message, and still be told apart."""

_KEPT = 2
"""Messages after a summary that have to be the same."""


def derived_ids(owner: str, scope: str | None, told: Sequence[Message]) -> Iterator[str]:
    """Yield the ids that a conversation with this beginning may have, of 72 characters each.

    They depend on the owner, the ``memory_scope``, and the first message of the user; without one
    there are none. Nobody can tell the message from an id.
    """
    first = next((message for message in told if message.get("role") == "user"), None)
    if first is None:
        return
    beginning = meaning_of(first)
    for number in range(MOST):
        named = json.dumps([owner, scope, beginning, number])
        yield f"derived-{sha256(named.encode()).hexdigest()}"


def goes_on(stored: Sequence[Message], told: Sequence[Message]) -> bool:
    """Return whether the request continues just what is stored; the table above has the cases.

    It does if the stored history, with what is new, is afterwards what the request tells.
    """
    told = [message for message in told if message.get("role") not in INSTRUCTIONS]
    try:
        new = find_new(stored, told)
    except (SessionConflict, ValueError):
        return False
    if stored and any(message.get("role") == "assistant" for message in new.messages):
        return False  # what is stored may be the beginning of more than one conversation
    whole = [*stored[: new.keep], *new.asked]
    return _is_told(whole, told) or (
        # The first message may be the summary of several, if enough of the others are the same.
        len(stored) > _KEPT
        and len(whole) <= len(told)
        and not is_same(whole[0], told[0])
        and _is_told(whole[1:], told[len(told) - len(whole) + 1 :])
    )


def _is_told(whole: Sequence[Message], told: Sequence[Message]) -> bool:
    """Return whether the messages are those that are told, but for answers that broke off."""
    at = 0
    for message in whole:
        if at < len(told) and is_same(message, told[at]):
            at += 1
        elif not is_incomplete(message):
            return False
        elif at < len(told) and is_part(told[at], message):
            at += 1
    return at == len(told)
