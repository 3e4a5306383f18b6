"""The parts in which an agent framework stores the turn of one request.

An endpoint stores a request's turn at once, under the ``Idempotency-Key``. A framework appends
several times in a run: the question, then calls and results, then the answer. Each part has an id
of its own, which follows from the key and the part's number, so that a repeated request stores each
part once. In these cases q is the question, c a call with its result, a the answer, and a prime
marks what a model says the second time:

    stored      the repetition appends    stored then
    q a         q a'                      q a           answered already
    q           q a'                      q a'
    q c         q c a'                    q c a'
    q c         q c' a'                   q c c' a'     goes on after what was left
    q c a       q c' a'                   q c a
    q           another question          q             TurnConflict
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count

from hermes_session_mw.messages import Message, chat_messages, ends_with_answer
from hermes_session_mw.session.request_digest import digest_of, with_digest, without_digest
from hermes_session_mw.stores.models import StoredTurn

FindTurn = Callable[[str], Awaitable[StoredTurn | None]]


@dataclass(slots=True)
class TurnParts:
    """What a request's session knows of the parts under its key.

    Attributes:
        digest: the request's, which is stored with the first part.
        taken: the numbers of the parts that this request has appended, from 1 on.
        left: what an earlier attempt has stored without coming to an answer.
        is_answered: an earlier attempt has stored the answer, so that nothing more is stored.
    """

    digest: str | None = None
    taken: set[int] = field(default_factory=set)
    left: StoredTurn | None = None
    is_answered: bool = False

    def take(self, first: int) -> int:
        """Return the next number, from ``first`` on, which is then taken."""
        number = next(each for each in count(first) if each not in self.taken)
        self.taken.add(number)
        return number


def part_id(key: str, number: int) -> str:
    """Return the turn id of a part; the first one has the key itself."""
    return key if number == 1 else sha256(f"{number} {key}".encode()).hexdigest()


async def whole_turn(first: StoredTurn, find: FindTurn) -> StoredTurn:
    """Return the turn with the parts that follow it; one that ends with an answer is whole.

    Each part takes a read, and so does finding that there is none.
    """
    if first.is_answered:
        return first
    messages, start = without_digest(first.messages), first.start
    for number in count(2):
        part = await find(part_id(first.turn_id, number))
        if part is None:
            break
        messages += part.messages
        start = None if part.start is None else start
    whole = with_digest(messages, digest_of(first.messages))
    return replace(first, messages=[*whole], start=start)


def repeats_first(stored: StoredTurn, messages: Sequence[Message], digest: str | None) -> bool:
    """Tell whether a first part that differs from the stored one asks the same all the same.

    It may have come to another answer, or be stored without the digest that the request has now.
    """
    known = digest_of(stored.messages)
    if None not in (known, digest) and known != digest:
        return False
    before = without_digest(stored.messages)
    return before == [*messages] or (
        ends_with_answer(messages) and _question(before) == _question(messages)
    )


def _question(messages: Sequence[Message]) -> list[Message]:
    chat = chat_messages(messages)
    return chat[: next(n for n, each in enumerate([*chat, {}]) if _is_no_question(each))]


def _is_no_question(message: Message) -> bool:
    return message.get("role") in (None, "assistant", "tool", "function")
