"""Finds where a turn begins, and keeps tool calls together with their results.

Rules of this file: pure functions over messages in the shape of OpenAI's Chat Completions. They
read ``role``, ``tool_calls``, ``function_call``, ``tool_call_id`` and ``name``; a message of any
other shape is a turn of its own, except that items of other frameworks, which have no chat form,
are read as if they were not there.

Providers accept a tool's result only right after the message that calls the tool, and such a
message only with all its results. So a history may be cut only where no call is separated from its
results, and is best cut where a turn begins. In these cases u is a user's message, s a system or
developer message, a an answer, c an answer that calls a tool, r a result, x a message of another
shape, and o an item without a chat form; a turn begins after each |:

    |ua|ua      a question and its answer
    |ucra|ua    calls and results are in the middle of a turn
    |uccra      a call without a result is in the middle of a turn, too
    |sua|sua    instructions belong to the question after them
    |ua|us      instructions or questions without an answer are a turn
    |ua|uua     questions in a row begin one turn
    a|ua        an answer without a question does not begin a turn
    |ucrsa      instructions without a question after them do not begin a turn
    cura        a question between a call and its result does not begin a turn
    ra|ua       a result without its call does not begin a turn
    |x|x|ua|x   a message of another shape is a turn of its own
    o|uoao|uoa  an item does not begin a turn
    |uoucoroa   an item in the middle of a turn does not end it
    o|soou|x    an item between instructions and their question changes nothing
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from hermes_session_mw.messages import Message, has_chat_form
from hermes_session_mw.session.recording import is_incomplete

INSTRUCTIONS = ("system", "developer")
_OPENING = ("user", *INSTRUCTIONS)
_RESULTS = ("tool", "function")
_CALLS = ("tool_calls", "function_call")

_NOTHING: Message = {}

_Key = tuple[str, str | None]
"""Matches a call with its result: the result's role, and the id or the name."""


def is_result(message: Message) -> bool:
    """Return whether the message is the result of a tool, or of a function in the older API."""
    return message.get("role") in _RESULTS


def stands_alone(message: Message) -> bool:
    """Return whether the message is neither a tool's result nor calls a tool."""
    return not is_result(message) and not _calls(message)


def starts_turn(messages: Sequence[Message], at: int) -> bool:
    """Return whether a turn begins with ``messages[at]``; the table above has the cases."""
    if not has_chat_form(messages[at]):
        return False
    role = messages[at].get("role")
    if role == "assistant" or role in _RESULTS:
        return False
    if role not in _OPENING:
        return True
    if next(_chat_of(messages, range(at - 1, -1, -1)), _NOTHING).get("role") in _OPENING:
        return False
    asks = False
    for message in _chat_of(messages, range(at, len(messages))):
        if message.get("role") not in _OPENING:
            return asks and not is_result(message)
        asks = asks or message.get("role") not in INSTRUCTIONS
    return True


def _chat_of(messages: Sequence[Message], places: Iterable[int]) -> Iterator[Message]:
    """Yield the messages at the places, but for items without a chat form."""
    return (message for at in places if has_chat_form(message := messages[at]))


def find_turn_start(messages: Sequence[Message], places: Iterable[int]) -> int | None:
    """Return the first of the places where a turn begins, or None."""
    return next((at for at in places if starts_turn(messages, at)), None)


def find_load_start(messages: Sequence[Message], limit: int, *, is_all: bool) -> int:
    """Return where to begin so that turns are whole, with ``limit`` messages if possible.

    ``is_all`` says that ``messages`` are the whole conversation.
    """
    newest = max(len(messages) - limit, 0)
    before, after = range(newest, -1, -1), range(newest, len(messages))
    start = find_turn_start(messages, before)
    if start is None and is_all:
        return 0  # the conversation's beginning
    start = find_non_result(messages, [*after, *before]) if start is None else start
    return len(messages) if start is None else start


def find_non_result(messages: Sequence[Message], places: Iterable[int]) -> int | None:
    """Return the first of the places from where no tool's result is the first, or None."""
    return next((at for at in places if not _begins_with_result(messages, at)), None)


def find_calling_message(messages: Sequence[Message]) -> int | None:
    """Return the place of the message whose calls may still be answered at the end, or None."""
    for at in range(len(messages) - 1, -1, -1):
        if has_chat_form(messages[at]) and not is_result(messages[at]):
            return at if _calls(messages[at]) else None
    return None


def unanswered_calls(messages: Sequence[Message]) -> list[Message]:
    """Return the calls at the end that have no result yet, as the calling message has them.

    An answer that broke off has none: its calls may be incomplete.
    """
    at = find_calling_message(messages)
    if at is None or is_incomplete(messages[at]):
        return []
    results = _chat_of(messages, range(at + 1, len(messages)))
    answered = Counter(map(_key_of_result, results))
    return [call for key, call in _calls(messages[at]) if not _use_one(answered, key)]


def paired(messages: Sequence[Message]) -> list[Message]:
    """Return the messages without calls that have no result, and results that have no call.

    Of several results for one call the newest is kept. Messages that change are copied.
    """
    kept: list[Message] = []
    at = 0
    while at < len(messages):
        end = at + 1
        while end < len(messages) and is_result(messages[end]):
            end += 1
        if not is_result(messages[at]):
            kept += _paired(messages[at], messages[at + 1 : end])
        at = end
    return kept


def find_cut(messages: Sequence[Message], last: int, *, first: int = 1) -> int | None:
    """Return where to cut a history in two, from ``first`` to ``last`` if possible, or None.

    It is cut where a turn begins, the nearest before ``last`` or else the nearest after it; within
    a turn only if there is no other, and never between a call and its result, however far apart
    they are.
    """
    safe, reach, ends = [], -1, _far_results(messages)
    for at in range(len(messages)):
        if at > reach:
            safe.append(at)
        reach = max(reach, ends.get(at, -1))
    before = [at for at in reversed(safe) if first <= at <= last]
    after = [at for at in safe if at > last]
    start = find_turn_start(messages, [*before, *after])
    return find_non_result(messages, before) if start is None else start


def _begins_with_result(messages: Sequence[Message], at: int) -> bool:
    return is_result(next(_chat_of(messages, range(at, len(messages))), _NOTHING))


def _calls(message: Message) -> list[tuple[_Key, Message]]:
    """Return the message's calls, each with the key that its result has to have."""
    if message.get("role") != "assistant":
        return []
    given, function = message.get("tool_calls"), message.get("function_call")
    several = given if isinstance(given, list) else []
    calls = [*((call, "id", "tool") for call in several), (function, "name", "function")]
    return [
        ((kind, call.get(name)), call)
        for call, name, kind in calls
        if isinstance(call, dict) and _is_name(call.get(name))
    ]


def _key_of_result(message: Message) -> _Key:
    kind = message["role"]
    name = message.get("tool_call_id" if kind == "tool" else "name")
    return (kind, name) if _is_name(name) else ("", None)


def _is_name(value: object) -> bool:
    # Some local servers give no ids: then calls and results are matched by number.
    return value is None or isinstance(value, str)


def _paired(message: Message, results: Sequence[Message]) -> list[Message]:
    if message.get("role") != "assistant" or not any(name in message for name in _CALLS):
        return [message]
    answered = Counter[_Key](map(_key_of_result, results))
    both = Counter(key for key, _ in _calls(message)) & answered
    due = both.copy()
    kept = [result for result in reversed(results) if _use_one(due, _key_of_result(result))]
    return [_with_calls(message, both), *reversed(kept)]


def _with_calls(message: Message, due: Counter[_Key]) -> Message:
    """Return the message with only its ``due`` calls, without keys that become empty."""
    kept: dict[str, list[Message]] = {"tool": [], "function": []}
    for (kind, name), call in _calls(message):
        if _use_one(due, (kind, name)):
            kept[kind].append(call)
    calls = {"tool_calls": kept["tool"], "function_call": next(iter(kept["function"]), None)}
    changed = {name: calls.get(name, value) for name, value in message.items()}
    return {name: value for name, value in changed.items() if value or name not in _CALLS}


def _use_one(due: Counter[_Key], key: _Key) -> bool:
    due[key] -= 1
    return due[key] >= 0


def _far_results(messages: Sequence[Message]) -> dict[int, int]:
    """Return where the last result of each message's calls is, by the message's own place."""
    called: dict[_Key | None, int] = {}
    last: dict[int, int] = {}
    for at, message in enumerate(messages):
        called.update((key, at) for key, _ in _calls(message))
        if is_result(message) and (place := called.get(_key_of_result(message))) is not None:
            last[place] = at
    return last
