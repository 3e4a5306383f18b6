"""Finds what is new in the messages of a request's body.

Rules of this file: pure functions over messages in the shape of OpenAI's Chat Completions.

Clients send the whole conversation with every request, its newest part, or only what is new: the
messages *told*. They are aligned with the stored ones from the end, message by message, and are
compared by meaning: servers add keys, clients drop them, and both write the same text in more than
one way. Other frameworks' items, which no client has got, are read as if they were not there.

In these cases u, v, w are messages of the user, a, b answers, i an answer that broke off, j the
part of it that the client has, c an answer that calls a tool, r its result, and e an edited u.
Where the stored history counts:

    stored  told    keeps   adds    begins  kind
    -       u       -       u       -       adds
    -       uav     -       uav     -       adds        nothing is stored yet
    ua      uav     ua      v       -       adds
    ua      v       ua      v       -       adds        only what is new
    ua      av      ua      v       -       adds        a truncated tail
    ua      eav     ua      v       -       adds        what is stored counts
    uavb    uaw     uavb    w       -       adds        another client has gone on
    uava    uavaw   uava    w       -       adds        the same answer twice
    ua      u       ua      u       -       adds        the same question twice
    ua      vw      ua      vw      -       adds        several at once
    uc      ucr     uc      r       -       adds
    uc      rv      uc      rv      -       adds
    uc      ucrv    uc      rv      -       adds
    u       u       -       u       -       repeats     it was never answered
    ucr     ucr     uc      r       -       repeats
    uavi    uav     ua      v       -       repeats
    uavi    v       ua      v       -       repeats
    uavi    uavw    uavi    w       -       adds
    uavi    uavjw   uavi    w       -       adds
    ua      uw      ua      w       -       adds        the client never got the answer
    uavb    uavw    uavb    w       -       adds        nor this one
    uavb    uvw     uavb    w       -       adds        nor both
    ucra    ucrv    ucra    v       -       adds
    ucra    rv      ucra    v       -       adds        a call has one result
    ucra    ucr     uc      r       -       repeats
    ucra    r       uc      r       -       repeats
    ucravb  ucrv    ucravb  v       -       adds        the same question twice
    ua      ua      u       -       a       continues
    ua      a       u       -       a       continues
    uai     uai     ua      -       i       continues
    u       ua      u       -       a       continues   the answer is not stored
    -       ub      -       u       b       adds        the answer's beginning is given

Where the history in the request counts, which replaces what differs:

    stored  told    keeps   adds    begins  kind
    -       uav     -       uav     -       adds
    uavb    uaw     ua      w       -       edits
    uavb    ev      -       ev      -       edits
    uavb    uav     ua      v       -       repeats     answered anew
    uavb    uavbw   uavb    w       -       adds
    uavb    bw      uavb    w       -       adds        a truncated tail
    uavb    aw      ua      w       -       edits
    uavb    uavb    uav     -       b       continues
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from hermes_session_mw.exceptions import InvalidMessage, SessionConflict
from hermes_session_mw.messages import (
    MAX_DEPTH,
    Message,
    chat_messages,
    has_chat_form,
    text_of,
)
from hermes_session_mw.session.recording import is_incomplete
from hermes_session_mw.session.tool_calls import INSTRUCTIONS, is_result, stands_alone

Kind = Literal["adds", "repeats", "edits", "continues"]

_TEXTS = ("text", "input_text", "output_text")
# Keys that servers add to a part, and that clients leave out or move.
_BESIDE = ("annotations", "logprobs", "cache_control", "prompt_cache_breakpoint")


@dataclass(frozen=True, slots=True)
class NewMessages:
    """What a request adds to its conversation.

    Attributes:
        keep: how many of the stored messages stay.
        messages: the turn's own messages after them, before its answer.
        kind: ``adds`` to all that is stored; ``repeats`` a question that is stored, with no answer
            or one to be made anew; ``edits`` what was stored; ``continues`` the last answer.
        begun: the beginning of the answer, which the answer goes on from; None without one.
        replace_from: what to give ``session.record`` and ``session.append``: ``keep`` where stored
            messages are replaced, and None where all stay.
    """

    keep: int
    messages: list[Message]
    kind: Kind
    begun: Message | None = None
    replace_from: int | None = None

    @property
    def asked(self) -> list[Message]:
        """The new messages and ``begun``: a model's input after the messages that stay."""
        return self.messages if self.begun is None else [*self.messages, self.begun]


def find_new(
    stored: Sequence[Message], told: Sequence[Message], *, told_counts: bool = False
) -> NewMessages:
    """Return what ``told`` adds to ``stored``; the table above has the cases.

    Args:
        stored: the history, without a gap at its end; all of it if ``told_counts``.
        told: what the request tells, in any of the ways above. Instructions are no part of a
            conversation's history, and are left out.
        told_counts: whether the history in the request counts, and replaces what differs.

    Raises:
        ValueError: ``told`` has no message but instructions, or ends with an answer that calls
            tools, which only their results can follow.
        SessionConflict: ``told`` ends with an answer that the history has changed since: the
            stored history counts, and its last answer is another one.
    """
    told, begun = split_told(told)
    if not told and begun is None:
        raise ValueError("there is no message of a user, a tool or a model")
    known = chat_messages(stored)
    if told and not known:  # however many: there is nothing to compare
        return NewMessages(len(stored), told, "adds", begun)
    find = _against_told if told_counts else _against_stored
    new = find(known, told, begun)
    if new.keep == len(known):
        return replace(new, keep=len(stored))
    keep = _place_of(stored, new.keep)
    return replace(new, keep=keep, replace_from=keep)


def _place_of(stored: Sequence[Message], count: int) -> int:
    """Return the place in the history that is after its first ``count`` chat messages.

    An item without a chat form goes with the answer after it, and else with what is before it.
    """
    places = [at for at, message in enumerate(stored) if has_chat_form(message)]
    if stored[places[count]].get("role") == "user":
        return places[count]
    return places[count - 1] + 1 if count else 0


def newest(told: Sequence[Message]) -> list[Message]:
    """Return the messages after the last answer; none where the last message is an answer."""
    told, begun = split_told(told)
    return told[len(told) - _count_open(told) :] if begun is None else []


def is_same(one: Message, other: Message) -> bool:
    """Tell whether two messages mean the same, as where a client repeats a stored one."""
    return meaning_of(one) == meaning_of(other)


def is_part(told: Message, broken: Message) -> bool:
    """Tell whether a client may have seen so much of an answer that broke off."""
    seen, stored = text_of(told).rstrip(), text_of(broken)
    return told.get("role") == "assistant" and (stored.startswith(seen) or seen.startswith(stored))


def _against_stored(
    stored: Sequence[Message], told: list[Message], begun: Message | None
) -> NewMessages:
    """Return what is new where the stored history counts."""
    if begun is not None:
        return _begun(stored, told, begun)
    end = len(stored)
    meant, asked, answered = _meanings(stored), _meanings(told), len(told) - _count_open(told)
    known, run = _find_end(meant, asked, answered)
    if stored and is_incomplete(stored[-1]):
        # A client may repeat the question of an answer that broke off.
        retried = _find_end(meant[:-1], asked, answered)
        if retried[1] > run:
            end, (known, run) = end - 1, retried
            known += known < len(told) and is_part(told[known], stored[-1])
    if known < len(told):
        return _after_lost_answers(stored, told, meant, asked, known)
    repeated = min(run, _count_open(stored[:end]))
    return NewMessages(end - repeated, told[-repeated:], "repeats")


def _after_lost_answers(
    stored: Sequence[Message], told: list[Message], meant: list[str], asked: list[str], known: int
) -> NewMessages:
    """Return what is new after the first ``known`` messages told, if the client lacks answers.

    It then tells again what they answer. No call waits for a result where an answer is the last.
    """
    start, lost = _find_lost(stored, told, meant, asked, known)
    new = told[known + len(lost) :]
    if lost and not new and is_result(told[-1]):
        return NewMessages(start, told[known:], "repeats")
    if lost and not new:  # the same question again
        results = (at for at, message in enumerate(told) if at >= known and is_result(message))
        new = told[max(results, default=known - 1) + 1 :]
    elif is_result(new[0]) and _is_answered(stored, len(stored)) and asked[known] in meant:
        raise SessionConflict(meant.index(asked[known]) + 1, len(stored))
    return NewMessages(len(stored), new, "adds")


def _find_lost(
    stored: Sequence[Message], told: list[Message], meant: list[str], asked: list[str], known: int
) -> tuple[int, list[str]]:
    """Return where the turns begin whose answers the client lacks, and what it repeats of them."""
    found: tuple[int, list[str]] = len(stored), []
    end, repeated = len(stored), list[str]()
    while _is_answered(stored, end):
        start = end - 1
        while start and stored[start - 1].get("role") != "assistant":
            start -= 1
        repeated = meant[start : end - 1] + repeated
        if len(repeated) > len(told) - known:
            break
        if asked[known : known + len(repeated)] == repeated and (
            # What the client tells before is stored before; or a result, whose call is known.
            meant[max(start - 1, 0) : start] == asked[max(known - 1, 0) : known]
            or (not known and is_result(stored[start]))
        ):
            found = start, repeated
        end = start
    return found


def _is_answered(stored: Sequence[Message], end: int) -> bool:
    """Tell whether the last message before ``end`` is an answer that calls no tool."""
    return end > 0 and stored[end - 1].get("role") == "assistant" and stands_alone(stored[end - 1])


def split_told(told: Sequence[Message]) -> tuple[list[Message], Message | None]:
    """Return the messages without instructions, and apart from them the answer at their end.

    An empty answer, which some clients put there for the one to come, is none.
    """
    told = [message for message in chat_messages(told) if message.get("role") not in INSTRUCTIONS]
    if not told or told[-1].get("role") != "assistant":
        return told, None
    begun = told.pop()
    if begun.get("tool_calls") or begun.get("function_call"):
        raise ValueError("the last message calls tools: their results have to follow it")
    return told, begun if _content(begun, is_answer=True) else None


def _begun(stored: Sequence[Message], told: list[Message], begun: Message) -> NewMessages:
    """Return what is new where the answer's beginning is told: the last one's, or a new one's."""
    last = stored[-1] if stored and stored[-1].get("role") == "assistant" else None
    end = len(stored) - (last is not None)
    meant, asked, answered = _meanings(stored), _meanings(told), len(told) - _count_open(told)
    known, _ = _find_end(meant[:end], asked, answered)
    if known == len(told):
        is_stored = last is not None and is_same(last, begun)
        if last is not None and not is_stored and not is_incomplete(last):
            raise SessionConflict(end, len(stored))  # a complete answer is not the client's to edit
        return NewMessages(end, [], "continues", last if is_stored else begun)
    if _stands_earlier(stored, told[-1:], begun):
        raise SessionConflict(end, len(stored))
    known, _ = _find_end(meant, asked, answered)
    return NewMessages(len(stored), told[known:], "adds", begun)


def _stands_earlier(
    stored: Sequence[Message], question: Sequence[Message], answer: Message
) -> bool:
    """Tell whether the answer, after this question, is stored before the end of the history."""
    places = (at for at in range(len(stored) - 1) if is_same(stored[at], answer))
    return any(all(map(is_same, question, stored[at - 1 : at])) for at in places if at)


def _against_told(
    stored: Sequence[Message], told: list[Message], begun: Message | None
) -> NewMessages:
    """Return what is new where the request's history counts."""
    start, run = _find_start(stored, told if begun is None else [*told, begun])
    run = min(run, len(told))
    # The question is always part of the turn, unless the request continues its answer.
    kept = min(run, len(told) - _count_open(told)) if begun is None else run
    keep, new = start + kept, told[kept:]
    replaced = stored[keep:]
    if begun is not None and not new:
        is_stored = bool(replaced) and is_same(replaced[0], begun)
        return NewMessages(keep, [], "continues", replaced[0] if is_stored else begun)
    if not replaced:
        return NewMessages(keep, new, "adds", begun)
    is_repeated = len(replaced) >= len(new) and all(map(is_same, replaced, new))
    return NewMessages(keep, new, "repeats" if is_repeated else "edits", begun)


def _find_end(stored: Sequence[str], told: Sequence[str], answered: int) -> tuple[int, int]:
    """Return how many of the messages told are stored, and how many of these were recognised.

    The messages are given by their meanings. If none is at the history's end, those after the last
    answer are new, which are those after the first ``answered``.
    """
    answered = answered if stored else 0
    ends = _runs(stored[::-1], told[::-1])
    best = max(
        ((run, len(told) - at) for at, run in enumerate(ends) if run),
        default=(0, answered),
    )
    run, known = best
    # One equal message in the middle of both is no match: "ok" is common.
    is_sure = run > 1 or run in (known, len(stored)) or known >= answered
    return (known, run) if run and is_sure else (answered, 0)


def _find_start(stored: Sequence[Message], told: Sequence[Message]) -> tuple[int, int]:
    """Return where in the history the first message told is, and how many from there are the same.

    A client that tells the newest part alone is recognised by an answer at its beginning, or by
    two messages; a question by itself may be one that was edited, and begins the history.
    """
    runs = _runs(_meanings(told), _meanings(stored))
    if not any(runs):
        return 0, 0
    begins_inside = told[0].get("role") != "user"
    to_end = [(run, at) for at, run in enumerate(runs) if run and at + run == len(stored)]
    run, start = max(to_end, default=(0, 0))
    if run > runs[0] and (run > 1 or begins_inside):
        return start, run
    if runs[0]:
        return 0, runs[0]
    run, start = max((run, at) for at, run in enumerate(runs))
    return (start, run) if run > 1 or begins_inside else (0, 0)


def _count_open(messages: Sequence[Message]) -> int:
    """Return how many messages come after the model's last one."""
    at = len(messages)
    while at and messages[at - 1].get("role") != "assistant":
        at -= 1
    return len(messages) - at


def _runs(pattern: Sequence[str], text: Sequence[str]) -> list[int]:
    """Return for each place of ``text`` how long it goes on as ``pattern`` begins, in linear time.

    It is the Z-algorithm: D. Gusfield, Algorithms on Strings, Trees and Sequences, 1.4.
    """
    both: list[str | None] = [*pattern, None, *text]
    runs = [0] * len(both)
    left = right = 0
    for at in range(1, len(both)):
        run = min(runs[at - left], right - at) if at < right else 0
        while at + run < len(both) and both[run] == both[at + run]:
            run += 1
        runs[at] = run
        if at + run > right:
            left, right = at, at + run
    return runs[len(pattern) + 1 :]


def _meanings(messages: Iterable[Message]) -> list[str]:
    return [meaning_of(message) for message in messages]


def meaning_of(message: Message) -> str:
    """Return a text that is the same for every way to write a message.

    Raises:
        InvalidMessage: it nests so deep that no store keeps it.
    """
    role, calls = message.get("role"), message.get("tool_calls") or []
    said = [
        "system" if role == "developer" else role,
        _content(message, is_answer=role == "assistant"),
        message.get("name") or None,
        message.get("tool_call_id") or None,
        [_call(call) for call in calls] if isinstance(calls, list) else calls,
        _call(message.get("function_call")),
    ]
    # Not by ==, for which 1, 1.0 and true are one value.
    try:
        return json.dumps(said, sort_keys=True)
    except RecursionError:
        raise InvalidMessage(f"a message nests deeper than {MAX_DEPTH} levels") from None


def _content(message: Message, *, is_answer: bool) -> list[Any]:
    content = message.get("content") or message.get("refusal") or ()
    parts = [_part(part) for part in (content if isinstance(content, list) else [content])]
    parts = [part for part in parts if part not in ("", ())]
    if is_answer and parts and isinstance(parts[-1], str):
        parts[-1] = parts[-1].rstrip()
    return [part for part in parts if part != ""]


def _part(part: Any) -> Any:
    """Return a text part's text; any other part without the keys of `_BESIDE`."""
    if not isinstance(part, dict):
        return part
    if part.get("type") in _TEXTS:
        return part.get("text")
    if part.get("type") == "refusal":
        return part.get("refusal")
    return {name: value for name, value in part.items() if value and name not in _BESIDE}


def _call(call: Any) -> Any:
    """Return a call, its arguments in one way to write them, where they are JSON."""
    if not isinstance(call, dict):
        return call
    called = call.get("function") or call.get("custom") or call
    if not isinstance(called, dict):
        return called
    arguments = called.get("arguments", called.get("input"))
    with suppress(ValueError, RecursionError):
        read = json.loads(arguments) if isinstance(arguments, str) else arguments
        arguments = json.dumps(read, sort_keys=True)
    return [call.get("id"), called.get("name"), arguments]
