"""What one request knows of its conversation, and reading it."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from types import EllipsisType
from typing import Literal, Protocol

from hermes_session_mw.exceptions import (
    HistoryNotLoaded,
    OwnerRequired,
    StoreCorrupt,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
)
from hermes_session_mw.logging import fingerprint, logger
from hermes_session_mw.messages import Message
from hermes_session_mw.session.prompts import Count, Limits, estimate_tokens, prompt_of, window_of
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.session.tool_calls import (
    find_standing,
    find_turn_start,
    stands_alone,
    unanswered_calls,
)
from hermes_session_mw.stores.base import History, Store
from hermes_session_mw.stores.validation import check_count, check_replaced

MORE = 10
"""How many times ``history_limit`` is read where a turn is longer than that, and at least 100."""

HistorySource = Literal["session", "request"]
"""Whose history counts: the stored one, or the one that the client sends."""


Read = Callable[[int | None], Awaitable[History | None]]
"""Reads the newest so many messages, or all."""


class HeldTurn(Protocol):
    """A turn that a request is in.

    ``fence`` is its number; ``is_in_block`` tells whether it is inside of its ``async with`` block,
    and ``is_left`` whether it has outlasted that.
    """

    fence: int
    is_in_block: bool
    is_left: bool

    async def take(self) -> None:
        """Take it again, under the id that the session has now."""
        ...

    async def release(self) -> None:
        """Give it back."""
        ...


class StoredConversation:
    """The part of a `HermesSession` that knows and reads.

    Attributes:
        owner: who may see the session; ``""`` where the middleware has no ``owner`` hook, None
            where the hook answered None.
        is_new: the id was minted for this request, so nothing can be stored under it yet.
        degraded: the store failed and the history is empty for that reason alone.
        is_told: the response, or the handshake, has begun, and the client knows the id.
        has_open: whether there is something for the middleware to end after the request.
        unended: the middleware's sessions of which that is so; None where it serves none of them.
        held: the turn that the request is in, None outside of any.
        keeps_turns: whether the answer gives a turn back that was left before: in an HTTP request
            that the middleware serves.
        key: the client's own name for the conversation, where it sent one and it is looked for.
        idempotency_key: the request's ``Idempotency-Key``, which becomes its first turn's id.
        history_source: what the client says in ``X-Hermes-History-Source``.
    """

    __slots__ = (
        "_access",
        "_history",
        "_id",
        "_key_is_used",
        "_limit",
        "degraded",
        "has_open",
        "held",
        "history_source",
        "idempotency_key",
        "is_new",
        "is_told",
        "keeps_turns",
        "key",
        "owner",
        "unended",
    )

    def __init__(
        self,
        store: Store | StoreClient,
        session_id: str,
        *,
        owner: str | None = "",
        is_new: bool = False,
        key: str | None = None,
        idempotency_key: str | None = None,
        history_source: HistorySource = "session",
    ) -> None:
        """Keep what a request needs to know of its session; nothing is read yet.

        The middleware makes it, and a test may.

        Args:
            store: any `Store`.
            session_id: 1 to 256 characters.
            owner: as the attribute.
            is_new: as the attribute; the history is then empty without a ``load()``.
            key: as the attribute.
            idempotency_key: as the attribute.
            history_source: as the attribute.
        """
        self._id = session_id
        self.owner: str | None = owner
        self.is_new: bool = is_new
        self.key: str | None = key
        self.idempotency_key: str | None = idempotency_key
        self.history_source: HistorySource = history_source
        self.degraded: bool = False
        self.is_told: bool = False
        self.has_open: bool = False
        self.unended: set[StoredConversation] | None = None
        self._access = store if isinstance(store, StoreClient) else StoreClient(store)
        self._history: History | None = None
        self._limit: int | None = self._access.limit  # what the history was loaded with
        self.held: HeldTurn | None = None
        self.keeps_turns: bool = False
        self._key_is_used = False

    @property
    def id(self) -> str:
        """The session's id, as it is stamped on the response."""
        return self._id

    @property
    def history(self) -> list[Message]:
        """The conversation so far, oldest message first, each exactly as it was appended.

        The list is the session's own: leave it as it is, and give a model ``prompt(user)``.
        It is what ``load()`` found, and after it what this object appended; a turn that another
        request stored meanwhile is seen by the next ``load()``.

        Raises:
            HistoryNotLoaded: autoload is off and ``load()`` was not awaited yet.
        """
        return self._loaded().messages

    @property
    def length(self) -> int:
        """The number of messages stored as far as this object has seen them.

        ``history_limit`` may make it more than are loaded.

        Give it to ``append(expected_length=...)``.

        Raises:
            HistoryNotLoaded: as for ``history``.
        """
        return self._loaded().length

    @property
    def unanswered_calls(self) -> list[Message]:
        """The calls of tools at the history's end that have no result yet.

        Each is a dict as the answer's ``tool_calls`` has it, with its ``id``; or the answer's
        ``function_call``. Until their results are appended a model cannot go on from here:
        ``prompt()`` leaves such calls out. An answer that broke off has none.

        Raises:
            HistoryNotLoaded: as for ``history``.
        """
        return unanswered_calls(self.history)

    def prompt(self, *new: Message, replace_from: int | None = None) -> list[Message]:
        """Return the history and what is new as a model takes them, in Chat Completions' shape.

        Every message is there as it was stored, but for what a strict provider refuses: keys that
        are for the store alone (``status``, ``metadata``, ``finish_reason``, ``model``, ``usage``,
        and what Hermes Agent keeps beside a message), calls of tools that have no result, results
        that have no call, and answers in which nothing is left. What is stored stays as it is.

        Args:
            new: messages that are not stored yet, such as the user's.
            replace_from: take the history's first so many messages alone, as ``append`` does.

        Raises:
            HistoryNotLoaded: as for ``history``; or with ``history_limit`` nothing of the messages
                before ``replace_from`` is loaded: call ``load(limit=None)`` before.
            StoreUnavailable: the session is degraded, so that nobody knows what is to be kept.
            SessionConflict: the history is shorter than ``replace_from``.
            TypeError, ValueError: ``replace_from`` is no int, or negative.
        """
        history, _ = self._first(replace_from)
        return prompt_of([*history, *_given(new)])

    def window(
        self,
        *new: Message,
        max_messages: int | None = None,
        max_tokens: int | None = None,
        count: Count | None = None,
        replace_from: int | None = None,
    ) -> list[Message]:
        """Return the newest part of ``prompt(*new)`` that is within the limits, in whole turns.

        The window begins where a turn does, so that no call is without its result; the
        system and developer messages that the conversation begins with stay in front of it. Its
        beginning moves in steps, so that most requests begin as the one before, and a provider's
        prompt cache hits: between half of the limits and all of them are used. What is ``new`` is
        always given, and counts.

        A turn that is longer than the limits is begun at a later message, which is no result.

        Args:
            new: as for ``prompt``.
            max_messages: messages, more than 0; None for any number.
            max_tokens: tokens, more than 0; None for any number.
            count: returns the tokens that a message takes; it is asked once for each message that
                may be in the window. By default a token for 4 bytes of its texts is counted.
            replace_from: as for ``prompt``.

        Raises:
            HistoryNotLoaded, StoreUnavailable, SessionConflict, TypeError: as for ``prompt``.
            ValueError: a limit is not more than 0, or ``replace_from`` is negative.
        """
        limits = Limits(max_messages, max_tokens, count or estimate_tokens, self._limit)
        history, skipped = self._first(replace_from)
        return window_of(history, _given(new), limits, skipped=skipped)

    async def load(self, *, limit: int | EllipsisType | None = ...) -> list[Message]:
        """Read the conversation from the store, and return it as ``history``.

        With a limit it is the newest messages, from where a turn begins; where the last
        turn alone has more, it is all of that turn, or else a part that begins with no result of
        a tool.

        Args:
            limit: the number of newest messages to read, more than 0, or None for all; by default
                the middleware's ``history_limit``. It counts until the next ``load``, which
                entering ``turn()`` is too.

        Raises:
            ValueError: ``limit`` is not more than 0.
            OwnerRequired: the middleware's ``owner`` hook answered None.
            StoreError: the store failed or did not answer in time, and the middleware's
                ``on_store_error`` is ``"unavailable"``.
        """
        most = self._access.limit if isinstance(limit, EllipsisType) else limit
        if most is not None and most <= 0:
            raise ValueError(f"limit: {most} is not more than 0; give None for all messages")
        self._history = await self._read_turns(most) or History([], 0, exists=False)
        self._limit = most
        return self.history

    @property
    def was_found(self) -> bool | None:
        """Whether ``load()`` found anything stored under the id; None where nobody has looked."""
        known = None if self.degraded else self._history
        return None if known is None else known.exists

    def open_up(self) -> None:
        """Have the middleware end this session after the request, before it closes the store."""
        self.has_open = True
        if self.unended is not None:
            self.unended.add(self)

    @property
    def is_deleted(self) -> bool:
        """Whether ``load()`` found that the session was deleted: nothing can be appended to it."""
        return self._history is not None and self._history.deleted

    async def is_stored(self) -> bool:
        """Tell whether anything is stored under the id, asking the store only if need be.

        True also where the store failed and ``on_store_error`` is ``"empty"``: then nobody knows.

        Raises:
            OwnerRequired, StoreError: as for ``load()``.
        """
        known = self._loaded() if self.is_new else self._history
        history = known or await self._read(limit=0)
        return self.degraded or (history is not None and history.exists)

    def __repr__(self) -> str:
        """Say the state, and name the session without giving its id away."""
        is_loaded = self.is_new or self._history is not None
        state = f"{self.length} messages" if is_loaded else "not loaded"
        degraded = ", degraded" if self.degraded else ""
        return f"<{type(self).__name__} {fingerprint(self.id)} ({state}{degraded})>"

    def _loaded(self) -> History:
        if self._history is None:
            if not self.is_new:
                raise HistoryNotLoaded
            self._history = History([], 0, exists=False)
        return self._history

    def _first(self, count: int | None) -> tuple[list[Message], int]:
        """Return the history's first ``count`` messages, and how many of them are not loaded."""
        known = self._loaded()
        skipped = known.length - len(known.messages)
        if count is None:
            return known.messages, skipped
        check_count("replace_from", count)
        if count and self.degraded:
            raise StoreUnavailable(
                "the conversation could not be loaded, so that what replace_from keeps of it is "
                "not known: try again"
            )
        check_replaced(count, known.length)
        if 0 < count <= skipped:
            raise HistoryNotLoaded(
                f"the first {skipped} messages are not loaded, and replace_from={count} keeps "
                "none but these: call 'await session.load(limit=None)' before, inside of turn()"
            )
        return known.messages[: max(count - skipped, 0)], min(skipped, count)

    def _check_known(self, replace_from: int) -> None:
        """Refuse to keep more messages than there are, as far as this object knows."""
        known = self._loaded() if self.is_new else self._history
        if known is not None and not self.degraded:
            check_replaced(replace_from, known.length)

    async def _read_turns(self, limit: int | None, read: Read | None = None) -> History | None:
        """Return what is stored, as much as is to be loaded; None as for ``_read``, or ``read``."""
        read = read or self._read
        history = await read(limit)
        if limit is None or history is None or history.length <= len(history.messages):
            return history
        start = find_turn_start(history.messages, range(len(history.messages)))
        if start is not None:
            return _from(history, start)
        if history.messages and stands_alone(history.messages[0]):
            return history  # the last answer alone, as a rule
        history = await read(max(MORE * limit, 100))
        return history and _from(history, _start_before(history, limit))

    async def _read(self, limit: int | None) -> History | None:
        """Return what is stored; None where the store failed and the session is degraded."""
        owner = self.known_owner()
        try:
            history = await self._access.load(self.id, owner, limit)
        except StoreError as error:
            if not self._access.degrade:
                raise
            self._log_degraded(error)
            self.degraded = True
            return None
        self.degraded = False
        return history

    def _log_degraded(self, error: StoreError) -> None:
        for_a_person = isinstance(error, StoreMisconfigured | StoreCorrupt)
        logger.log(
            logging.ERROR if for_a_person else logging.WARNING,
            "session %s goes on with an empty history: %s",
            fingerprint(self.id),
            error,
        )
        logger.debug("the store's failure in full", exc_info=error)

    def known_owner(self) -> str:
        """Return whose the session is.

        Raises:
            OwnerRequired: the middleware's ``owner`` hook answered None.
        """
        if self.owner is None:
            raise OwnerRequired
        return self.owner


def _start_before(history: History, limit: int) -> int:
    """Return where to begin so that a turn is whole, and there are ``limit`` messages if can be."""
    messages = history.messages
    newest = max(len(messages) - limit, 0)
    before, after = range(newest, -1, -1), range(newest, len(messages))
    start = find_turn_start(messages, before)
    if start is None and history.length == len(messages):
        return 0  # the conversation's beginning, whatever it is
    start = find_standing(messages, [*after, *before]) if start is None else start
    return len(messages) if start is None else start


def _from(history: History, start: int) -> History:
    return History(history.messages[start:], history.length, history.exists, history.deleted)


def _given(new: Sequence[Message]) -> Sequence[Message]:
    for message in new:
        if not isinstance(message, dict):
            raise TypeError(f"a message is a dict, not a {type(message).__name__}")
    return new
