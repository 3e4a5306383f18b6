"""Finds out whether a stored turn is the one of a repeated request, and what was answered.

Rules of this file: pure functions over a `StoredTurn` and the messages that a request tells, in the
shape of OpenAI's Chat Completions.

In these cases u, v are messages of the user, a an answer with the text "bc", b one with the text
"b", x another one, k an answer that calls a tool, and r its result:

    turn    told    is   rest
    ua      u       yes  bc
    ua      vbu     yes  bc    with the history before it
    uva     uv      yes  bc
    uva     v       no   -     it asked more
    ua      v       no   -
    ra      ukr     yes  bc
    ukra    u       yes  bc    the tool was called in the turn
    uava    uav     yes  bc    the client told its whole conversation
    ua      ub      yes  c     the client has begun the answer
    a       ub      yes  c     the answer is continued
    ua      ua      yes  -
    ux      ub      no   -     the answer begins otherwise
    a       u       no   -     the answer is continued, and the request asks for another
    ua      uk      no   -     calls are followed by their results alone
    ua      -       no   -
"""

from collections.abc import Sequence
from dataclasses import replace

from hermes_session_mw.exceptions import TurnConflict
from hermes_session_mw.messages import Message, chat_messages, text_of
from hermes_session_mw.session.loaded_history import begins_with
from hermes_session_mw.session.new_messages import is_same, split_told
from hermes_session_mw.session.request_digest import digest_of, without_digest
from hermes_session_mw.stores.models import StoredTurn


def repeated_turn(
    turn: StoredTurn,
    question: Sequence[Message],
    told: Sequence[Message] | None,
    digest: str | None,
) -> StoredTurn:
    """Return the turn as it was answered; the arguments are those of `HermesSession.find_turn`.

    If both have a digest, these are compared, and otherwise the messages. Other frameworks' items,
    which no client has got, are left out.

    Raises:
        TurnConflict: the turn is another request's.
    """
    known = digest_of(turn.messages)
    turn = replace(turn, messages=chat_messages(without_digest(turn.messages)))
    if known is not None and digest is not None:
        is_repeated = known == digest
    else:
        is_repeated = begins_with(turn.messages, question)
        is_repeated = is_repeated and (told is None or answers(turn.messages, told))
    # A turn of another framework's items alone answers no request.
    if not is_repeated or (told is not None and not turn.messages):
        raise TurnConflict
    return turn if told is None else first_answer(turn, told)


def answers(turn: Sequence[Message], told: Sequence[Message]) -> bool:
    """Return whether the turn may have been made for the request; the table above has the cases."""
    if not turn:
        return False
    try:
        asked, begun = split_told(told)
    except ValueError:
        return False
    if begun is not None and _rest(turn[-1], begun) is None:
        return False
    for count in range(min(len(asked), len(turn) - 1), 0, -1):
        is_end = all(map(is_same, asked[-count:], turn))
        if is_end and not any(map(_is_asked, turn[count:])):
            return True
    return begun is not None and len(turn) == 1


def first_answer(turn: StoredTurn, told: Sequence[Message]) -> StoredTurn:
    """Return the turn with the answer that the first attempt was given.

    If the request tells the answer's beginning, that is the rest of the stored answer.
    """
    *before, answer = turn.messages
    begun = told[-1] if told else {}
    if begun.get("role") != "assistant" or not text_of(begun):
        return turn
    rest = _rest(answer, begun)
    return turn if rest is None else replace(turn, messages=[*before, {**answer, "content": rest}])


def _is_asked(message: Message) -> bool:
    return message.get("role") not in ("assistant", "tool", "function")


def _rest(answer: Message, begun: Message) -> str | None:
    """Return the answer's text after its beginning; None if it begins otherwise."""
    text, beginning = text_of(answer), text_of(begun)
    for start in (beginning, beginning.rstrip()):  # a client may have stripped it
        if text.startswith(start):
            return text[len(start) :]
    return None
