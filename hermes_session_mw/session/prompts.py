"""Builds a model's input from a stored conversation: valid messages, within its limits.

Rules of this file: pure functions; stored messages are never changed, and ``prompt_of`` and
``window_of`` return new dicts. A window is found from its end: messages before it are not read,
except for the instructions at the conversation's beginning.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

from hermes_session_mw.exceptions import InvalidMessage
from hermes_session_mw.messages import ITEM, MAX_DEPTH, Message, has_chat_form
from hermes_session_mw.session.recording import INCOMPLETE
from hermes_session_mw.session.request_digest import REQUEST_DIGEST
from hermes_session_mw.session.tool_calls import (
    INSTRUCTIONS,
    find_calling_message,
    find_non_result,
    find_turn_start,
    is_result,
    paired,
)
from hermes_session_mw.stores.validation import check_int

STORED_ONLY = frozenset(
    {
        *INCOMPLETE,
        REQUEST_DIGEST,
        ITEM,
        "metadata",  # the application's own
        *("finish_reason", "model", "usage", "response"),  # of the response with the message
        # Hermes Agent stores these beside a message, and does not send them either.
        *("timestamp", "message_id", "tool_name", "observed", "effect_disposition"),
        *("api_content", "codex_reasoning_items", "codex_message_items"),
        *("display_kind", "display_metadata"),
    }
)
"""Keys of a message that are stored, and not sent to a provider."""

HERMES_ONLY = frozenset({"reasoning"})
"""Keys that are not sent either if Hermes Agent has written them, to a message with a timestamp.

Hermes has its own copy of each provider's reasoning there, and sends none. Elsewhere it is the
provider's, as OpenRouter's, vLLM's and Ollama's, which take it back.
"""

_CONTENT_KEYS = ("content", "tool_calls", "function_call", "refusal", "audio")
_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_FILE = 1000
_COARSE = 1 << 62  # where no limit counts messages: larger than any history

Count = Callable[[Message], int]
"""Returns how many tokens a message takes."""


def prompt_of(messages: Sequence[Message]) -> list[Message]:
    """Return the messages as a model accepts them.

    Keys that are for the store alone are removed, and so are other frameworks' items, tool calls
    without a result, results without a call, and answers in which nothing remains.
    """
    given = [_without_stored_only(each) for each in messages if has_chat_form(each)]
    return [message for message in paired(given) if _has_content(message)]


def estimate_tokens(message: Message) -> int:
    """Estimate how many tokens a message takes, without a tokenizer.

    A token for every 4 bytes of UTF-8 in its keys and texts, 4 for the message itself, and 1,000
    for a file that is inline as a ``data:`` URL. English takes about as many; other languages and
    code may take a third more or less.

    Raises:
        InvalidMessage: the message nests deeper than a store takes, or contains itself.
    """
    tokens, size = _TOKENS_PER_MESSAGE, 0
    for text in _texts(message):
        if text.startswith("data:"):
            tokens += _TOKENS_PER_FILE
        else:
            size += len(text) if text.isascii() else len(text.encode(errors="replace"))
    return tokens + size // _BYTES_PER_TOKEN


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """How large a window may be.

    Attributes:
        max_messages: messages, more than 0; None for any number.
        max_tokens: tokens, more than 0; None for any number.
        count: returns a message's tokens; called once for each message that may be in the window.
        loaded: the ``history_limit`` that the history was loaded with, None for all of it.
    """

    max_messages: int | None = None
    max_tokens: int | None = None
    count: Count = estimate_tokens
    loaded: int | None = None

    def __post_init__(self) -> None:
        """Raise ``TypeError`` for a limit that is no int, ``ValueError`` for one below 1."""
        for name in ("max_messages", "max_tokens"):
            most = getattr(self, name)
            check_int(name, most)
            if most is not None and most <= 0:
                raise ValueError(f"{name}: {most} is not more than 0; give None for any number")


def window_of(
    history: Sequence[Message], new: Sequence[Message], limits: WindowLimits, *, skipped: int = 0
) -> list[Message]:
    """Return the end of the history and what is new, in whole turns, as a model accepts them.

    The instructions that the conversation begins with stay in front, as many as there is room for
    beside the new messages, which are always given. ``skipped`` is the number of the conversation's
    messages that come before ``history``.

    So that a provider's prompt cache keeps hitting, the window does not slide with each turn: it
    begins at the same message until that is out of the limits, and then moves on at once, so far
    that about half of them is used. To do so without keeping anything, let ``lo`` be the earliest
    beginning that is within the limits, and ``hi`` the earliest within half of them. The window
    begins between the two, at a multiple of half of ``max_messages``; or, where it is tokens that
    limit it, at the multiple of the greatest power of two. Both count from the conversation's
    beginning, and so are the same for the next request.
    """
    return _Window(history, new, limits, skipped).messages()


class _Window:
    """The search for one window; places count in the history followed by the new messages."""

    def __init__(
        self, history: Sequence[Message], new: Sequence[Message], limits: WindowLimits, skipped: int
    ) -> None:
        self._history = history
        self._new = new
        self._limits = limits
        self._skipped = skipped
        self._all = _Joined(history, new)
        self._counted: dict[int, int] = {}
        self._last, self._is_last_needed = self._last_start()
        self._front = self._length_of_front()

    def messages(self) -> list[Message]:
        """Return the window."""
        front = self._history[: self._front]
        return prompt_of([*front, *self._history[self._start() :], *self._new])

    def _length_of_front(self) -> int:
        """Return how many of the instructions at the conversation's beginning stay in front."""
        most = 0 if self._skipped else len(self._history)
        if self._limits.max_messages is not None:
            most = min(most, self._limits.max_messages - len(self._needed))
        for at in range(most):
            is_instruction = self._history[at].get("role") in INSTRUCTIONS
            if not is_instruction or not self._has_room(at + 1):
                return at
        return max(most, 0)

    @property
    def _needed(self) -> range:
        """The places that are always included: the new messages, and the call that they answer."""
        return range(self._last if self._is_last_needed else len(self._history), len(self._all))

    def _has_room(self, front: int) -> bool:
        most = self._limits.max_tokens
        if most is None:
            return True
        return sum(map(self._tokens, chain(range(front), self._needed))) <= most

    def _tokens(self, at: int) -> int:
        message = self._all[at]
        if not has_chat_form(message):
            return 0
        if at not in self._counted:
            self._counted[at] = self._limits.count(_without_stored_only(message))
        return self._counted[at]

    def _start(self) -> int:
        """Return the place where the window begins."""
        lo, hi, step = self._bounds()
        if lo <= self._front and not self._skipped:
            return self._front  # the whole history is within the limits
        last, is_needed = self._last, self._is_last_needed
        lo, hi = min(lo, last), min(hi, last)
        wanted = _step(lo + self._skipped, hi + self._skipped, step) - self._skipped
        lo, wanted = max(lo, 0), max(wanted, 0)
        end = last + 1 if is_needed else last
        earlier = range(wanted - 1, lo - 1, -1)
        middle = range(wanted, min(hi + 1, end))
        turns = chain(middle, earlier, range(max(hi + 1, wanted), end))
        start = find_turn_start(self._all, turns)
        if start is None:  # a turn that is longer than the limits
            start = find_non_result(self._all, chain(range(wanted, end), earlier))
        return last if start is None else start

    def _bounds(self) -> tuple[int, int, int]:
        """Return the earliest places within the limits and within half of them, and the step."""
        lo, hi, step = self._front, self._front, _COARSE
        if self._skipped and self._limits.loaded is not None:
            # More may have been loaded, where a turn is longer than the limit.
            lo = min(0, len(self._history) - self._limits.loaded)
            hi = len(self._history) - self._limits.loaded // 2
            step = self._limits.loaded - self._limits.loaded // 2
        if self._limits.max_messages is not None:
            most = self._limits.max_messages - self._front
            lo = max(lo, len(self._all) - most)
            hi = max(hi, len(self._all) - most // 2)
            step = min(step, max(most - most // 2, 1))
        if self._limits.max_tokens is not None:
            most = self._limits.max_tokens - sum(map(self._tokens, range(self._front)))
            lo, half = self._token_bounds(lo, most)
            hi = max(hi, half)
        return lo, max(lo, hi), step

    def _token_bounds(self, lo: int, most: int) -> tuple[int, int]:
        taken, half = 0, len(self._all)
        for at in range(len(self._all) - 1, max(lo, 0) - 1, -1):
            taken += self._tokens(at)
            if taken > most:
                return at + 1, half
            if taken <= most // 2:
                half = at
        return lo, half

    def _last_start(self) -> tuple[int, bool]:
        """Return the last place to begin at, and whether the message there has to be included."""
        if self._new and is_result(self._new[0]):
            calling = find_calling_message(self._history)
            if calling is not None:
                return calling, True
        return len(self._history), False


class _Joined(Sequence[Message]):
    """Two sequences as one, without copying them."""

    def __init__(self, first: Sequence[Message], second: Sequence[Message]) -> None:
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, at: Any) -> Any:
        is_first = at < len(self._first)
        return self._first[at] if is_first else self._second[at - len(self._first)]


def _step(lo: int, hi: int, step: int) -> int:
    """Return a multiple of ``step``, or else of half of it, a quarter, ..., from lo to hi."""
    for halved in count():
        at = -(-(lo << halved) // step) * step >> halved
        if at <= hi:
            return at
    raise AssertionError  # pragma: no cover  # steps of one do not miss lo


def _without_stored_only(message: Message) -> Message:
    left_out = STORED_ONLY | HERMES_ONLY if "timestamp" in message else STORED_ONLY
    return {name: value for name, value in message.items() if name not in left_out}


def _has_content(message: Message) -> bool:
    return message.get("role") != "assistant" or any(message.get(name) for name in _CONTENT_KEYS)


def _texts(message: Message) -> Iterator[str]:
    """Yield the message's keys and texts; ``InvalidMessage`` if it nests too deep."""
    found: list[tuple[Any, int]] = [(message, 1)]
    while found:
        value, depth = found.pop()
        if depth > MAX_DEPTH:
            raise InvalidMessage(f"a message nests deeper than {MAX_DEPTH} levels")
        children = value
        if isinstance(value, dict):
            yield from (key for key in value if isinstance(key, str))
            children = value.values()
        for child in children:
            if isinstance(child, str):
                yield child
            elif isinstance(child, (dict, list)):
                found.append((child, depth + 1))
