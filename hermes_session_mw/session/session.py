"""The session that a request carries: `HermesSession`, and `get_session`, which finds it.

A session is one request's view of its conversation. It loads the history, prepares a model's
prompt, stores new messages, and edits. Functions that need no store are in pure modules beside this
one: ``prompts`` (a model's input), ``tool_calls`` (where a history may be cut), and
``loaded_history`` (the history after a write). ``store_client`` calls the store, ``turn_lock``
takes the session's lease, ``recording`` stores an answer that streams, and ``answer`` and the
modules beside it one that goes on without its client.
"""

import logging
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal, get_args

from starlette.requests import HTTPConnection

from hermes_session_mw.exceptions import (
    ConfigurationError,
    HistoryNotLoaded,
    InvalidKey,
    OwnerRequired,
    ResponseStarted,
    SessionConflict,
    SessionMissing,
    SessionNotFound,
    StoreCorrupt,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
    TurnConflict,
)
from hermes_session_mw.ids import is_header_safe, mint_turn_id
from hermes_session_mw.logging import fingerprint, logger
from hermes_session_mw.messages import Message, copy_and_encode, copy_messages, ends_with_answer
from hermes_session_mw.session import loaded_history
from hermes_session_mw.session.answer import (
    Answer,
    OnDisconnect,
    find_by_id,
    find_by_turn,
    find_running,
)
from hermes_session_mw.session.answer_tasks import AnswerTasks
from hermes_session_mw.session.derivation import Derivation
from hermes_session_mw.session.new_messages import NewMessages, find_new, newest
from hermes_session_mw.session.prompts import (
    Count,
    WindowLimits,
    estimate_tokens,
    prompt_of,
    window_of,
)
from hermes_session_mw.session.recording import Append, Recording, break_off
from hermes_session_mw.session.repeated_requests import repeated_turn
from hermes_session_mw.session.request_digest import with_digest
from hermes_session_mw.session.store_client import StoreClient, run_uncancelled
from hermes_session_mw.session.tool_calls import find_cut, unanswered_calls
from hermes_session_mw.session.turn_lock import LEASE, PREPARATION, WAIT, Turn
from hermes_session_mw.session.turn_parts import (
    TurnParts,
    part_id,
    repeats_first,
    whole_turn,
)
from hermes_session_mw.stores.base import History, Store
from hermes_session_mw.stores.expiry import Setting, check_expiry
from hermes_session_mw.stores.label_store import LabelStore
from hermes_session_mw.stores.lifecycle import LifecycleStore
from hermes_session_mw.stores.models import StoredTurn
from hermes_session_mw.stores.validation import check_count, check_keys, check_replaced, check_title

if TYPE_CHECKING:
    from hermes_session_mw.session.answer_plan import AnswerPlan
    from hermes_session_mw.session.answer_run import AnswerRun

STATE_KEY = "hermes_session"
"""Where the session stands in the ASGI scope's ``state``."""

HistorySource = Literal["session", "request"]
"""Whose history counts: the stored one, or the one that the client sends."""

_BEFORE = 100
"""Messages that are read before those that a compaction keeps, to find where their turn begins."""

_OTHER_ANSWER = (
    "the last message is an answer to be continued, and not the one that the conversation ends "
    "with: load the conversation again"
)

_Load = Callable[[str, str, int | None], Awaitable[History]]


class HermesSession:
    """One conversation, as one request sees it.

    Every operation but reading, appending and answering needs a `LifecycleStore`; with another
    store it raises ``NotSupported``. Like ``append`` it completes even if the request is cancelled,
    and raises ``OwnerRequired``, ``SessionDeleted`` and ``StoreError`` as ``append`` does.

    Attributes:
        owner: who may see the session, 1 to 255 characters; ``""`` where the middleware has no
            ``owner`` hook, None where the hook answered None.
        is_new: the id was minted for this request, so nothing can be stored under it yet.
        degraded: the store failed and the history is empty for that reason alone.
        is_deleted: ``load()`` found that the session was deleted: nothing can be appended to it.
        is_told: the response, or the handshake, has begun, and the client knows the id.
        is_replayed: ``mark_replayed()`` was called.
        key: the client's own name for the conversation, 1 to 255 characters, where it sent one and
            the middleware has ``session_keys``.
        memory_scope: the part of the owner's long-term memory that the client names by
            ``X-Hermes-Session-Key``, 1 to 256 characters, which several conversations may share;
            None where it names none, and with ``session_keys``. It is for your own code: nothing
            here depends on it.
        idempotency_key: the request's ``Idempotency-Key``, 1 to 255 characters, which becomes its
            first turn's id; None where it has none.
        is_turn: the request is a turn of the conversation, as it is unless the client says
            ``X-Hermes-Turn: none``. Where it is none, ``append()`` and ``record()`` store nothing,
            ``turn()`` takes no lease, and the ``idempotency_key`` is not used.
        history_source: the value of ``X-Hermes-History-Source``: whose history counts.
        on_disconnect: the value of ``X-Hermes-On-Disconnect``: whether an answer ends if the client
            leaves; None where the client does not say.
    """

    # Not documented above, because only the middleware and `Turn` use them:
    #   current_turn: the turn that the request is in, or None.
    #   derivation: how ``derive()`` has found the session; None from its first turn on.
    #   response_ends_turn: whether a turn whose block has ended is released with the response.
    #   on_open: called when there is something to end after the request; None after its end.
    __slots__ = (
        "_answers",
        "_history",
        "_id",
        "_key_is_used",
        "_limit",
        "_parts",
        "_recordings",
        "_store",
        "current_turn",
        "degraded",
        "derivation",
        "history_source",
        "idempotency_key",
        "is_deleted",
        "is_new",
        "is_replayed",
        "is_told",
        "is_turn",
        "key",
        "memory_scope",
        "on_disconnect",
        "on_open",
        "owner",
        "response_ends_turn",
    )

    def __init__(
        self,
        store: Store | StoreClient,
        session_id: str,
        *,
        owner: str | None = "",
        is_new: bool = False,
        key: str | None = None,
        memory_scope: str | None = None,
        idempotency_key: str | None = None,
        history_source: HistorySource = "session",
        is_turn: bool = True,
    ) -> None:
        """Make the session of a request, as the middleware does, or a test; nothing is read yet.

        ``store`` is any `Store`, and ``session_id`` has 1 to 256 characters. The others are the
        attributes of that name; with ``is_new`` the history is empty without a ``load()``.
        """
        self.begin(store if isinstance(store, StoreClient) else StoreClient(store), session_id)
        self.owner: str | None = owner
        self.is_new: bool = is_new
        self.key: str | None = key
        self.memory_scope: str | None = memory_scope
        self.idempotency_key: str | None = idempotency_key
        self.history_source: HistorySource = history_source
        self.is_turn: bool = is_turn

    def begin(self, store: StoreClient, session_id: str) -> None:
        """Set every attribute, most of them as in most requests.

        The middleware, which makes a session for each request, calls this alone: to pass keyword
        arguments to a class takes Python longer than all that is done here.
        """
        self._store = store
        self._id = session_id
        self.owner = ""
        self.is_new = False
        self.degraded: bool = False
        self.is_deleted: bool = False
        self.is_told: bool = False
        self.is_replayed: bool = False
        self.key = self.memory_scope = self.idempotency_key = None
        self.history_source = "session"
        self.is_turn = True
        self.on_disconnect: OnDisconnect | None = None
        self.current_turn: Turn | None = None
        self.derivation: Derivation | None = None
        self.response_ends_turn: bool = False
        self.on_open: Callable[[HermesSession], None] | None = None
        self._history: History | None = None
        self._limit = store.limit  # what the history was loaded with
        self._key_is_used = False
        self._parts: TurnParts | None = None  # few requests have any
        self._recordings: tuple[Recording, ...] = ()
        self._answers: tuple[AnswerRun, ...] = ()  # those that end with the request

    def __repr__(self) -> str:
        """Return the state, and the id's fingerprint in place of the id."""
        known = self._known()
        state = "not loaded" if known is None else f"{known.length} messages"
        degraded = ", degraded" if self.degraded else ""
        return f"<{type(self).__name__} {fingerprint(self.id)} ({state}{degraded})>"

    # What is known of the conversation

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

        With ``history_limit`` they may be more than are loaded. Give it to
        ``append(expected_length=...)``. Raises ``HistoryNotLoaded`` as ``history`` does.
        """
        return self._loaded().length

    @property
    def unanswered_calls(self) -> list[Message]:
        """The calls of tools at the history's end that have no result yet.

        Each is a dict as the answer's ``tool_calls`` has it, with its ``id``; or the answer's
        ``function_call``. Until their results are appended a model cannot continue:
        ``prompt()`` leaves such calls out. An answer that broke off has none. Raises
        ``HistoryNotLoaded`` as ``history`` does.
        """
        return unanswered_calls(self.history)

    @property
    def was_found(self) -> bool | None:
        """Whether ``load()`` found anything stored under the id; None where it was not called."""
        known = None if self.degraded else self._history
        return None if known is None else known.exists

    @property
    def is_recording(self) -> bool:
        """Whether there is a recording that has not ended."""
        return not all(recording.ended for recording in self._recordings)

    def known_owner(self) -> str:
        """Return the owner, or raise ``OwnerRequired`` if the ``owner`` hook answered None."""
        if self.owner is None:
            raise OwnerRequired
        return self.owner

    def _loaded(self) -> History:
        if self._history is None:
            if not self.is_new:
                raise HistoryNotLoaded
            self._history = History([], 0, exists=False)
        return self._history

    def _known(self) -> History | None:
        """Return the history if it is known without asking the store, or None."""
        return self._loaded() if self.is_new else self._history

    # Loading

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
        most = self._store.limit if isinstance(limit, EllipsisType) else limit
        if most is not None and most <= 0:
            raise ValueError(f"limit: {most} is not more than 0; give None for all messages")
        history = await self._read(self._store.load_turns, most) or History([], 0, exists=False)
        self._history, self._limit, self.is_deleted = history, most, history.deleted
        return history.messages

    async def is_stored(self) -> bool:
        """Return whether anything is stored under the id, asking the store only if needed.

        True also if the store failed and ``on_store_error`` is ``"empty"``: then it is not known.
        Raises ``OwnerRequired`` and ``StoreError`` as ``load()`` does.
        """
        history = self._known() or await self._read(self._store.load, 0)
        return self.degraded or (history is not None and history.exists)

    async def _read(self, load: _Load, limit: int | None) -> History | None:
        """Return what is stored, or None if the store failed and the session is now degraded."""
        owner = self.known_owner()
        try:
            history = await load(self._id, owner, limit)
        except StoreError as error:
            if not self._store.degrade:
                raise
            for_operator = isinstance(error, StoreMisconfigured | StoreCorrupt)
            level = logging.ERROR if for_operator else logging.WARNING
            name = fingerprint(self.id)
            logger.log(level, "session %s continues with an empty history: %s", name, error)
            logger.debug("the store's failure in full", exc_info=error)
            self.degraded = True
            return None
        self.degraded = False
        return history

    # What a request tells

    def new_messages(self, told: Sequence[Message]) -> NewMessages:
        """Return what is new in the messages of a request's body, and where it belongs.

        A client may send the whole conversation, its newest part, or only what is new: the result
        is the same. Messages are compared by meaning with the stored ones. The stored history
        counts, unless the client asks for its own with ``X-Hermes-History-Source: request`` or the
        session is new; `NewMessages` says what becomes of the stored history then.

        ``session.record(*new.messages, replace_from=new.replace_from)`` stores the turn.

        Args:
            told: messages in the shape of Chat Completions; system and developer messages, which
                belong to no history, are left out.

        Raises:
            ValueError: there are only instructions, or the last message calls tools.
            SessionConflict: the last message is an answer, to be continued, but the stored history
                counts and ends with another complete answer.
            HistoryNotLoaded: as for ``history``; or the client's history counts and with
                ``history_limit`` not all of the stored one is loaded: call ``load(limit=None)``.
            StoreUnavailable: the session is degraded, so that the stored history is not known, and
                the client's history counts or ends with an answer to continue.
        """
        known, told_counts = self._loaded(), self.is_new or self.history_source == "request"
        skipped = loaded_history.count_unloaded(known)
        if self.degraded:  # what was told before the newest messages may be stored already
            told = [] if told_counts else newest(told)
            if not told:
                raise StoreUnavailable(
                    "the stored history could not be loaded, to be compared with the request's: "
                    "try again"
                )
        if told_counts and skipped:
            raise HistoryNotLoaded(
                f"the first {skipped} messages are not loaded, to be compared with the request's: "
                "call 'await session.load(limit=None)' before"
            )
        try:
            new = find_new(known.messages, told, told_counts=told_counts)
        except SessionConflict as exc:
            raise SessionConflict(exc.expected, exc.actual, problem=_OTHER_ANSWER) from None
        keep = skipped + new.keep
        return replace(new, keep=keep, replace_from=None if new.replace_from is None else keep)

    # What a model is given

    def prompt(self, *new: Message, replace_from: int | None = None) -> list[Message]:
        """Return the history and the new messages as a model accepts them (Chat Completions).

        Every message is given as it was stored, except for what a strict provider refuses: keys
        that are for the store alone (``status``, ``metadata``, ``finish_reason``, ``model``,
        ``usage``, ``request_digest``, and those that Hermes Agent keeps beside a message), tool
        calls without a result, results without a call, and answers in which nothing remains. The
        stored messages stay as they are.

        Args:
            new: messages that are not stored yet, such as the user's.
            replace_from: use only so many messages of the history's beginning, as ``append`` does.

        Raises:
            HistoryNotLoaded: as for ``history``; or, with ``history_limit``, none of the messages
                before ``replace_from`` is loaded: call ``load(limit=None)`` first.
            StoreUnavailable: the session is degraded, so that the messages to keep are not known.
            SessionConflict: the history is shorter than ``replace_from``.
            TypeError, ValueError: ``replace_from`` is no int, or negative.
        """
        history, _ = self._first(replace_from)
        return prompt_of([*self._store.sent(history), *_check_dicts(new)])

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
        system and developer messages at the conversation's beginning stay in front of it. Its
        beginning moves in steps, so that most requests begin like the one before and hit the
        provider's prompt cache: between half of the limits and all of them are used. The ``new``
        messages are always included, and count.

        In a turn that is longer than the limits, the window never begins with a tool's result.

        Args:
            new: as for ``prompt``.
            max_messages: messages, more than 0; None for any number.
            max_tokens: tokens, more than 0; None for any number.
            count: returns the tokens that a message takes; called once for each message that may
                be in the window. By default a token is counted for 4 bytes of text.
            replace_from: as for ``prompt``.

        Raises:
            HistoryNotLoaded, StoreUnavailable, SessionConflict: as for ``prompt``.
            TypeError: a limit or ``replace_from`` is no int.
            ValueError: a limit is not more than 0, or ``replace_from`` is negative.
            InvalidMessage: without ``count``: a message nests too deep to be stored.
        """
        limits = WindowLimits(max_messages, max_tokens, count or estimate_tokens, self._limit)
        history, skipped = self._first(replace_from)
        return window_of(self._store.sent(history), _check_dicts(new), limits, skipped=skipped)

    def _first(self, count: int | None) -> tuple[list[Message], int]:
        """Return the history's first ``count`` messages, and how many of them are not loaded."""
        known = self._loaded()
        unloaded = loaded_history.count_unloaded(known)
        if count is None:
            return known.messages, unloaded
        check_count("replace_from", count)
        if count and self.degraded:
            raise StoreUnavailable(
                "the conversation could not be loaded, so that what replace_from keeps of it is "
                "not known: try again"
            )
        loaded_history.check_loaded(known, count)
        return loaded_history.loaded_of_first(known, count), min(unloaded, count)

    # Storing

    def check(self, *messages: Message) -> None:
        """Check that the messages can be stored, before a model is called; no database is asked.

        The limits are the store's own: give the messages of one turn. For a store without a
        ``check`` method, only that they are JSON is checked. The database server's limit on packets
        is not checked. Without messages this does nothing, so that an endpoint for both editing
        and regenerating may always call it.

        Raises:
            InvalidMessage: one cannot be stored as it is.
            MessageTooLarge, TurnTooLong: kinds of it.
        """
        if messages:
            self._store.check(messages)

    async def append(
        self,
        *messages: Message,
        turn_id: str | None = None,
        expected_length: int | None = None,
        replace_from: int | None = None,
        digest: str | None = None,
        expires_after: Setting | None = None,
        title: str | None = None,
    ) -> int:
        """Store ``messages`` at the conversation's end, all or none, and return its new length.

        Once begun it runs to its end even if the request is cancelled, so that a client that
        disconnects cannot leave half a turn.

        If the request is no turn (``is_turn``), nothing is stored, and only this object's
        ``history`` and ``length`` are what they would be.

        Args:
            messages: JSON objects, in order.
            turn_id: 1 to 255 characters that make the append idempotent: repeated with the same
                messages, it stores nothing and returns the length that the first one returned.
                Where the request has an ``Idempotency-Key``, that is the id of the first turn that
                it stores, unless another is given. An append that fails leaves the key to the next
                one; where it may have been stored (``StoreTimeout``,
                ``AppendInDoubt``), the same messages are stored once, and others are a
                ``TurnConflict`` if it was.
            expected_length: store only if the conversation has just that many messages.
            replace_from: keep so many messages of the conversation's beginning, and replace the
                rest by these in one step: to edit a question, or to regenerate an answer. The
                replaced messages are kept for audit, as with ``rewind``.
            digest: the request's `request_digest`, which ``find_turn`` compares. It is stored with
                a turn that has an id, as the last message's ``request_digest``; where the store
                has no such key (`HermesStateStore`), it is left out.
            expires_after: what ``expire_after`` takes, set in the same step; None leaves it.
            title: becomes the session's, in the same step, if it has none.

        Raises:
            InvalidMessage: a message cannot be stored unchanged.
            InvalidKey: the turn id cannot be stored.
            SessionConflict: the conversation has another length than ``expected_length``, or is
                shorter than ``replace_from``.
            TypeError, ValueError: ``replace_from`` is no int, or negative.
            NotSupported: the store cannot replace, sessions do not expire in it, or it sets no
                title in that step.
            TurnConflict: the turn id is taken by other messages.
            TurnLost: inside ``turn()``: another has taken the turn since.
            SessionDeleted: the conversation was deleted, also where that was after ``load()``.
            SessionFull: the conversation has as many turns as the store allows.
            OwnerRequired: the middleware's ``owner`` hook answered None.
            StoreError: the store failed; ``StoreTimeout``: it may still have happened.
        """
        self._check_replacement(replace_from)
        append = self._appending(expected_length, replace_from, expires_after, title)
        if digest is not None:
            messages = (*with_digest(messages, self._storable_digest(digest, turn_id)),)
        return await self._append_named(append, turn_id, *messages)

    def record(
        self,
        *question: Message,
        turn_id: str | None = None,
        expected_length: int | None = None,
        replace_from: int | None = None,
        begun: Message | None = None,
        digest: str | None = None,
        expires_after: Setting | None = None,
        title: str | None = None,
    ) -> Recording:
        """Begin a turn whose answer streams: give it the question, and write the answer to it.

        ``async with session.record(user) as answer:`` stores the turn when the block ends:
        complete, or marked as incomplete if the client has disconnected or the answer failed; see
        `Recording`. Called before the response begins, it keeps the question of a client that
        disconnects at once.

        The arguments are those of ``append``. ``begun`` is the beginning of the answer, which what
        is written continues: the last answer, if ``replace_from`` replaces it, or one that the
        client has given. See ``new_messages``.

        Raises:
            InvalidMessage, InvalidKey, TypeError, ValueError, NotSupported, OwnerRequired: as for
                ``append``; at once, before anything is answered.
            SessionConflict: at once, where the history is known to be shorter than
                ``replace_from``; else as for ``append``, at the end.
        """
        check_keys(self.id, self.known_owner(), turn_id)
        self._check_replacement(replace_from)
        known = self._known()
        if replace_from is not None and known is not None and not self.degraded:
            check_replaced(replace_from, known.length)
        self.check(*question)
        append = self._appending(expected_length, replace_from, expires_after, title)
        # The whole and the partial turn get different ids, so that each can be retried.
        recording = Recording(
            partial(self._append_named, append, turn_id, made_id=mint_turn_id()),
            partial(self._append_made, append, mint_turn_id()),
            copy_messages(question) if question else [],
            limits=self._store.limits,
            replaces=replace_from is not None,
            begun=begun,
            digest=self._storable_digest(digest, turn_id),
        )
        self._recordings += (recording,)
        self.register_open()
        return recording

    # Answers that go on without the client

    async def answer(
        self,
        pieces: AsyncIterable[Any],
        *question: Message,
        turn_id: str | None = None,
        replace_from: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # of the answer, not of this call
        on_disconnect: OnDisconnect = "continue",
        assemble: Callable[[Sequence[Any]], Message] | None = None,
        digest: str | None = None,
        begun: Message | None = None,
        discard_on: tuple[type[Exception], ...] = (),
        on_end: Callable[[Answer], Awaitable[object]] | None = None,
        expires_after: Setting | None = None,
        title: str | None = None,
    ) -> Answer:
        """Store the question, and begin an answer that goes on if the client leaves.

        The question is durable when this returns. A task of the middleware then takes the pieces,
        and stores question and answer as one turn at the end; meanwhile they are in a log, from
        which clients get them, also later and in other processes. ``return answer.response()``
        sends them to this client.

        The answer holds the session's lease until it ends, and takes it over from a ``turn()`` that
        the request is in. This object's ``history`` does not get the turn: ``load()`` it. If the
        request is no turn (``is_turn``), nothing is stored, no other request finds the answer, and
        it stops if the client leaves.

        Where the middleware's lifespan does not run, as in a mounted application, the answer ends
        with the request, as incomplete.

        Over a store that is no `AnswerStore` the log is in memory alone: the turn is stored at its
        end, and the answer is known to this process alone.

        Args:
            pieces: the answer's text in pieces; or, with ``assemble``, any JSON values, as clients
                are to get them. It is closed when the answer ends.
            question: the messages that are answered, in order.
            turn_id: as for ``append``; by default the request's ``Idempotency-Key``. A turn that is
                not completed does not use it up.
            replace_from: as for ``append``; the old turn stays until the answer has ended.
            timeout: seconds after which the answer ends as incomplete; None for any time.
            on_disconnect: ``"stop"`` to stop the answer if this client leaves ``response()`` before
                its end. ``X-Hermes-On-Disconnect`` takes precedence.
            assemble: returns the answer's message for the pieces that have come. It is called for
                every write, with all of them: ever more pieces of this answer alone, so that it may
                keep what it has made of the earlier ones.
            digest: as for ``append``, up to 64 characters; also known while the answer runs, as its
                ``digest``.
            begun: as for ``record``.
            discard_on: exceptions of ``pieces`` after which nothing of the turn is stored, such as
                that of a model that refuses the question for good.
            on_end: an async function that is called once with the answer after it has ended, and
                its turn is stored or is known not to be; such as to give the conversation a title.
                What it raises is logged. It is cancelled when the middleware has waited for it at
                the lifespan's end, or the request's where the answer ends with it. A process that
                dies does not call it.
            expires_after: as for ``append``; set with the question.
            title: as for ``append``; set with the turn, at the answer's end. A process that dies
                sets none.

        Raises:
            SessionBusy: another turn or answer of the session is going on.
            TurnLost: the turn that the request is in has lost its lease.
            TurnConflict: a turn is stored under the turn id already.
            NotSupported: the store cannot replace, sessions do not expire in it, or it sets no
                title in that step.
            ValueError: ``on_disconnect``, ``timeout``, ``expires_after`` or ``title`` cannot be.
            InvalidMessage, InvalidKey, SessionConflict, SessionDeleted, SessionFull, OwnerRequired,
                StoreError, TypeError: as for ``append``; before a piece is asked for.
        """
        from hermes_session_mw.session import answer_plan, answer_run  # noqa: PLC0415  # few need it

        if on_disconnect not in get_args(OnDisconnect):
            raise ValueError(f"on_disconnect: {on_disconnect!r} is neither 'continue' nor 'stop'")
        self._check_replacement(replace_from)
        self._check_settings(
            ("begin_answer", "end_answer") if self._store.keeps_answers else ("append", "append"),
            expires_after,
            title,
        )
        takes_key = turn_id is None and self.is_turn and not self._key_is_used
        plan = answer_plan.AnswerPlan(
            pieces=pieces,
            question=question,
            turn_id=self.idempotency_key if takes_key else turn_id,
            replace_from=replace_from,
            timeout=timeout,
            assemble=assemble,
            request_digest=digest,
            digest=self._storable_digest(digest, turn_id),
            begun=begun,
            discard_on=discard_on,
            on_end=on_end,
            expires_after=expires_after,
            title=title,
        )
        plan.check()
        self._key_is_used = self._key_is_used or takes_key
        try:
            # Cancelled halfway, an answer would be open whose task has not begun.
            run = await run_uncancelled(partial(self._begin_answer, answer_run.begin, plan))
        except Exception:
            self._key_is_used = self._key_is_used and not takes_key
            raise
        stops = (self.on_disconnect or on_disconnect) == "stop" or not self.is_turn
        return Answer(run, stops=stops)

    async def _begin_answer(
        self, begin: "Callable[..., Awaitable[AnswerRun]]", plan: "AnswerPlan"
    ) -> "AnswerRun":
        owner, tasks = self.known_owner(), self._store.answers
        if not tasks.are_owned:
            tasks.warn_unowned()
        run = await begin(
            self._store, tasks, self.id, owner, plan, fence=self.fence, is_turn=self.is_turn
        )
        if self.is_turn:
            self.current_turn = None  # the answer has its lease
            self.derivation = None
        if not tasks.are_owned:
            self._answers += (run,)
            self.register_open()
        return run

    async def turn_or_answer(
        self,
        digest: str,
        *,
        turn_id: str | None = None,
        is_made_id: Callable[[str], bool] = lambda _: False,
        lease: float = PREPARATION,
        wait: float = WAIT,
    ) -> Answer | None:
        """Take the turn and return None; or return the request's own answer, if it runs already.

        A request may be repeated while its answer runs, in whatever process: it joins it then, from
        its beginning, and the response says ``Idempotency-Replayed: true``. It is the same request
        if it has the same ``Idempotency-Key`` as the answer, or neither has one, and the same
        digest.

        Otherwise this is ``turn().acquire()``: it waits for the turn, and loads the history. With a
        store without leases it only loads.

        Args:
            digest: the request's `request_digest`, which ``answer()`` was given too.
            turn_id: the id that the turn has under a key, unless it is the key itself.
            is_made_id: tells the turn ids that the application makes where there is no key; by
                default it makes none.
            lease: as for ``turn``, but 10 seconds by default, so that a process that is killed does
                not leave the conversation taken for long. ``answer()`` takes the lease over, and
                renews it; whoever prepares for longer than that gives more.
            wait: as for ``turn``.

        Raises:
            TurnConflict: the running answer is another request's, under the same key.
            SessionBusy: no other turn or answer ended within ``wait`` seconds.
            ConfigurationError, RuntimeError, OwnerRequired, StoreError: as for ``turn``.
        """
        from hermes_session_mw.session.joining import (  # noqa: PLC0415  # few need it
            take_turn_or_find_answer,
        )

        return await take_turn_or_find_answer(
            self, digest, turn_id, is_made_id, lease=lease, wait=wait
        )

    async def running_answer(self) -> Answer | None:
        """Return the session's running answer, in whatever process it runs; None if there is none.

        A request that is repeated under its ``Idempotency-Key`` finds its own so, by its
        ``turn_id``, and can join it. Raises ``OwnerRequired`` and ``StoreError``.
        """
        stops = self.on_disconnect == "stop"
        owner, tasks = self.known_owner(), self._store.answers
        return await find_running(self._store, tasks, self.id, owner, stops=stops)

    async def find_answer(
        self, answer_id: str | None = None, *, turn_id: str | None = None
    ) -> Answer | None:
        """Return an answer of the same owner by its id, or the session's newest by a turn id.

        It is found while it runs, and for the middleware's ``answer_retention`` after its end, by
        the turn id also if it broke off. Raises as ``running_answer`` does; ``TypeError`` unless
        one of both is given.
        """
        stops = self.on_disconnect == "stop"
        owner, tasks = self.known_owner(), self._store.answers
        if (answer_id is None) == (turn_id is None):
            raise TypeError("find_answer takes an answer's id, or turn_id=")
        if answer_id is None:
            return await find_by_turn(
                self._store, tasks, self.id, turn_id or "", owner, stops=stops
            )
        return await find_by_id(self._store, tasks, answer_id, owner, stops=stops)

    @property
    def answers(self) -> AnswerTasks:
        """The answers that run in this process, for the package's own routes."""
        return self._store.answers

    @property
    def store_client(self) -> StoreClient:
        """What calls the store, for the package's own adapters."""
        return self._store

    @property
    def fence(self) -> int | None:
        """The fence of the turn that the request is in; None without one."""
        return None if self.current_turn is None else self.current_turn.fence

    # For the package's own adapters

    @contextmanager
    def part_key(self) -> Iterator[str | None]:
        """Give an id to a part of the turn that an adapter stores inside.

        The first one is the ``Idempotency-Key``, unless another turn has it; the later ones follow
        from it. Without a key, and where the request is no turn, it is None. A part that fails
        leaves its id to the next one.
        """
        key = self.idempotency_key
        if key is None or not self.is_turn:
            yield None
            return
        parts = self._turn_parts()
        # Before it is stored, so that of two parts at once only one takes it.
        number = parts.take(2 if self._key_is_used else 1)
        self._key_is_used = True
        try:
            yield part_id(key, number)
        except BaseException as exc:
            if not isinstance(exc, TurnConflict):  # else it is an earlier attempt's
                parts.taken.discard(number)
                self._key_is_used = self._key_is_used and number > 1
            raise

    async def append_part(
        self,
        *messages: Message,
        turn_id: str | None = None,
        expected_length: int | None = None,
        replace_from: int | None = None,
    ) -> int:
        """Do what ``append`` does, for one of several appends of a run.

        In a request with an ``Idempotency-Key`` each of them has an id. Of an endpoint only the
        first has, since what it appends after that is another turn, which may be another one when
        the request is repeated. An adapter's appends are one turn in parts, in the same order.
        """
        self._check_replacement(replace_from)
        append = partial(self._append, length=expected_length, replace_from=replace_from)
        if turn_id is not None or self.idempotency_key is None or not self.is_turn:
            return await self._append_named(append, turn_id, *messages)
        parts = self._turn_parts()
        parts.left = None
        while not parts.is_answered:
            name: str | None = None
            try:
                with self.part_key() as name:
                    return await append(*self.with_part_digest(messages, name), turn_id=name)
            except TurnConflict:
                if await self._is_stored(name, messages, parts):
                    break
        known = self._known()
        return (
            await self._store.load(self._id, self.known_owner(), 0) if known is None else known
        ).length

    def with_part_digest(self, messages: Sequence[Message], name: str | None) -> Sequence[Message]:
        """Return the messages with the digest that ``find_turn`` was given, in the first part."""
        if self._parts is None or name is None or name != self.idempotency_key:
            return messages
        return with_digest(messages, self._storable_digest(self._parts.digest, None))

    async def _is_stored(
        self, name: str | None, messages: Sequence[Message], parts: TurnParts
    ) -> bool:
        """Tell whether a part that differs from the stored one is not to be stored.

        Raises ``TurnConflict`` if the key is another request's.
        """
        key = self.idempotency_key or ""
        first = await self._find_stored(key)
        if first is None:
            raise TurnConflict
        if name == key:
            if not repeats_first(first, messages, parts.digest):
                raise TurnConflict
            if not ends_with_answer(messages):
                return True
        parts.is_answered = (await whole_turn(first, self._find_stored)).is_answered
        if name == key and not parts.is_answered:
            raise TurnConflict
        return parts.is_answered

    @property
    def left_by_earlier_attempt(self) -> StoredTurn | None:
        """What ``find_turn`` found of this request without an answer, until it is gone on with."""
        return None if self._parts is None else self._parts.left

    async def note_write(self, appended: Sequence[Message] = (), length: int | None = None) -> None:
        """Know what an adapter has written to the store itself, after which it has the length.

        Without a length, or where others have written too, the history is loaded again.
        """
        self.derivation = None
        known = self._known()
        if known is None or length == known.length:
            return
        if length == known.length + len(appended):
            self._history = History([*known.messages, *appended], length, exists=True)
            return
        with suppress(StoreError):  # what was written is stored
            self._history = await self._store.load_turns(self._id, self.known_owner(), self._limit)

    def _turn_parts(self) -> TurnParts:
        if self._parts is None:
            self._parts = TurnParts()
        return self._parts

    async def _find_stored(self, turn_id: str) -> StoredTurn | None:
        owner = self.known_owner()
        return await self._store.call(LifecycleStore.find_turn, self._id, turn_id, owner)

    @contextmanager
    def _turn_key(self) -> Iterator[str | None]:
        """Give the ``Idempotency-Key`` to a turn; None where another turn has it.

        A turn that fails leaves it to the next one.
        """
        if self._key_is_used or self.idempotency_key is None or not self.is_turn:
            yield None
            return
        # Before it is stored, so that of two turns at once only one takes it.
        self._key_is_used = True
        try:
            yield self.idempotency_key
        except BaseException:
            self._key_is_used = False
            raise

    def _appending(
        self,
        length: int | None,
        replace_from: int | None,
        expires_after: Setting | None,
        title: str | None,
    ) -> Append:
        """Return `_append` with these arguments, which are checked but for ``replace_from``."""
        self._check_settings(("append", "append"), expires_after, title)
        return partial(
            self._append,
            length=length,
            replace_from=replace_from,
            expires_after=expires_after,
            title=title,
        )

    def _check_settings(
        self, operations: tuple[str, str], expires_after: Setting | None, title: str | None
    ) -> None:
        """Check what a turn sets of its session, and that the store's operations take it."""
        sets_expiry, sets_title = operations
        if expires_after is not None:
            check_expiry(expires_after)
            self._store.expiry  # noqa: B018  # raises where sessions do not expire
            self._store.check_takes(sets_expiry, "expires_after")
        if title is not None:
            check_title(title)
            self._store.check_takes(sets_title, "title")

    def _check_replacement(self, replace_from: int | None) -> None:
        if replace_from is not None:
            check_count("replace_from", replace_from)
            self._store.check_replaces()

    def _storable_digest(self, digest: str | None, turn_id: str | None) -> str | None:
        """Return the digest if a turn that has it can be found by an id, and can be stored."""
        if digest is None or (turn_id is None and self.idempotency_key is None):
            return None
        answer = {"role": "assistant", "content": ""}
        return digest if self._store.limits.allow(*with_digest([answer], digest)) else None

    async def _append_named(
        self, append: Append, turn_id: str | None, *messages: Message, made_id: str | None = None
    ) -> int:
        """Store a turn under its id, the request's key if no turn has that yet, or ``made_id``."""
        if turn_id is not None:
            return await append(*messages, turn_id=turn_id)
        if self._key_is_used or self.idempotency_key is None:
            return await self._append_made(append, made_id, *messages)
        with self._turn_key() as key:
            return await append(*messages, turn_id=key)

    async def _append_made(self, append: Append, made_id: str | None, *messages: Message) -> int:
        try:
            return await append(*messages, turn_id=made_id)
        except StoreMisconfigured:
            if made_id is None:
                raise
            return await append(*messages, turn_id=None)  # an old Hermes database stores no ids

    async def _append(
        self,
        *messages: Message,
        turn_id: str | None,
        length: int | None,
        replace_from: int | None = None,
        expires_after: Setting | None = None,
        title: str | None = None,
    ) -> int:
        owner, fence = self.known_owner(), self.fence
        taken = copy_and_encode(messages)
        if not self.is_turn:
            return await self._append_here(taken, replace_from)
        stored = await self._store.append(
            self._id, taken, owner, turn_id, length, fence, replace_from, expires_after, title
        )
        self.derivation = None
        known = self._loaded() if self.is_new else self._history
        if known is None:
            return stored
        if replace_from is not None:
            is_repeatable = turn_id is not None
            await self._note_replaced(known, taken, replace_from, is_repeatable=is_repeatable)
        elif stored > known.length:  # else the turn was there already
            # If other requests stored meanwhile, the length stays the one that this object has
            # seen, so that an append with ``expected_length`` is refused.
            seen = known.length + len(taken)
            self._history = History([*known.messages, *taken], seen, exists=True)
        return stored

    async def _append_here(self, messages: list[Message], replace_from: int | None) -> int:
        """Append to the history that this object has seen, and store nothing."""
        if self._known() is None:
            await self.load()
        known = self._loaded()
        keep = known.length if replace_from is None else replace_from
        check_replaced(keep, known.length)
        self._history = loaded_history.after_replacement(known, messages, keep)
        return self._history.length

    async def _note_replaced(
        self, known: History, messages: list[Message], replace_from: int, *, is_repeatable: bool
    ) -> None:
        owner = self.known_owner()
        if is_repeatable and loaded_history.may_be_repetition(known, messages, replace_from):
            with suppress(StoreError):  # the replacement itself is stored
                self._history = await self._store.load_turns(self._id, owner, self._limit)
                return
        self._history = loaded_history.after_replacement(known, messages, replace_from)

    # Turns

    def turn(self, *, lease: float = LEASE, wait: float = WAIT) -> Turn:
        """Allow one turn at a time: ``async with session.turn():``.

        Of all requests of the session that enter this block, on all machines, one holds the lease;
        the others wait. On entering, the history is loaded. Once the lease has expired and another
        request has entered, writes are refused (``TurnLost``). Requests that do not enter the block
        do not wait, nor does one that is no turn (``is_turn``).

        Leaving the block releases the turn. In an HTTP request whose response has not begun, the
        response does that, so that an answer which is returned from the block streams within the
        turn; see `Turn`.

        Args:
            lease: seconds after which another request may enter in any case: more than 0, up to
                2,592,000 (30 days), and 60 by default; ``Turn.extend()`` extends it.
            wait: seconds to wait for the lease: 10 by default, 0 not to wait.

        Raises:
            ConfigurationError: at once: a number is out of range.
            SessionBusy: on entering: no other turn ended within ``wait`` seconds.
            RuntimeError: on leaving: an answer is still recorded, and no response is to follow.
        """
        return Turn(self, self._store, lease=lease, wait=wait)

    async def find_turn(
        self,
        turn_id: str | None = None,
        *,
        question: Sequence[Message] = (),
        told: Sequence[Message] | None = None,
        digest: str | None = None,
    ) -> StoredTurn | None:
        """Return the turn that this session has stored under an id, or None.

        So an endpoint can answer a repeated request without calling the model again; see
        ``mark_replayed``. The turn of an agent framework's run, which is stored in several parts,
        is returned as a whole; if the run was cut, its ``is_answered`` is False: the agent is to
        be run again.

        Args:
            turn_id: by default the request's ``Idempotency-Key``; without one nothing is found, nor
                if the request is no turn.
            question: the messages that the turn has to begin with.
            told: the messages that the request's body tells, as for ``new_messages``: the turn has
                to answer them. If they end with the beginning of an answer, the returned turn has
                the rest of the stored one, as it was answered the first time.
            digest: the request's `request_digest`. If the turn was stored with one, they have to
                be the same, and ``question`` and ``told`` are not compared. An adapter stores it
                with what it then appends under the request's key.

        Raises:
            TurnConflict: the id belongs to another request.
        """
        name = turn_id or (self.idempotency_key if self.is_turn else None)
        self.known_owner()
        is_own = name is not None and name == self.idempotency_key and self.is_turn
        if is_own and digest is not None:
            self._turn_parts().digest = digest
        if name is None or (self.is_new and self._history is None):
            return None
        turn = await self._find_stored(name)
        if turn is None:
            return None
        if is_own and not turn.is_answered:
            turn = await whole_turn(turn, self._find_stored)
            if not turn.is_answered:
                self._turn_parts().left = turn
        return repeated_turn(turn, question, told, digest)

    def mark_replayed(self) -> None:
        """Have the response say ``Idempotency-Replayed: true``: it answers an earlier attempt.

        Call it once it is certain that the answer is the stored one. A response of status 400 or
        more does not say it, nor does a WebSocket's handshake.

        Raises:
            ResponseStarted: the response has begun.
        """
        self._check_untold()
        self.is_replayed = True

    def register_open(self) -> None:
        """Register with the middleware, which then calls ``end`` after the request."""
        if self.on_open is not None:
            self.on_open(self)

    async def release_answered_turn(self) -> None:
        """Release the turn before the answer's last part is sent, unless it is still in use."""
        turn = self.current_turn
        if turn is not None and not turn.is_in_block and not self.is_recording:
            await turn.release()

    async def end(self) -> None:
        """Store what is still being recorded, and release the turn."""
        try:
            if self._recordings:
                await break_off(self._recordings, self._store.retry_timeout)
            for run in self._answers:
                await run.end_with_request()
        finally:
            if self.current_turn is not None:
                await self.current_turn.release()

    # Editing

    async def rewind(self, length: int) -> int:
        """Remove all messages but the first ``length`` from the history, and return its length.

        They are kept for audit (`LifecycleStore.archived`), and their turn ids stay taken.

        Raises:
            ValueError: ``length`` is negative.
            TurnLost: inside ``turn()``: another has taken the turn since.
        """
        owner, fence = self.known_owner(), self.fence
        kept = await self._store.call(LifecycleStore.rewind, self.id, length, owner, fence=fence)
        if self._history is not None:
            self._history = loaded_history.after_rewind(self._history, kept)
        return kept

    async def compact(self, *, keep: int, summary: Sequence[Message]) -> int:
        """Replace all but the newest ``keep`` messages by ``summary``; return the new length.

        The cut is rounded to a turn: more messages stay, back to where a turn begins; fewer, from
        the next turn on, if no turn begins before; and a turn is cut only if it is the only one. A
        tool call and its result are never separated. ``keep=0`` replaces everything.

        Only messages that this object has seen are replaced: those that other requests append
        meanwhile are kept, in order. The replaced messages are kept for audit, as with ``rewind``.

        Raises:
            HistoryNotLoaded: as for ``history``.
            ValueError: ``keep`` is negative, or leaves nothing to replace.
            SessionConflict: the history was rewound or compacted since it was loaded.
            InvalidMessage: the summary cannot be stored.
            TurnLost: inside ``turn()``: another has taken the turn since.
        """
        self._store.require("compact")
        known = self._loaded()
        if keep < 0:
            raise ValueError(f"keep: {keep} is negative; it is how many messages stay")
        if keep >= known.length:
            raise ValueError(f"keep: {keep} of {known.length} messages leaves none to replace")
        replaced = await self._find_cut(keep) if keep else known.length
        length = await self._store.call(
            LifecycleStore.compact,
            self.id,
            loaded_history.loaded_of_first(known, replaced),
            summary,
            self.known_owner(),
            skipped=min(loaded_history.count_unloaded(known), replaced),
            fence=self.fence,
        )
        self._history = loaded_history.after_compaction(known, replaced, summary)
        return length

    async def _find_cut(self, keep: int) -> int:
        """Return how many messages come before the newest ``keep``, rounded to whole turns."""
        known = self._loaded()
        messages, wanted = known.messages, known.length - keep
        if wanted < loaded_history.count_unloaded(known):  # those turns are not loaded
            older = await self._store.load(self.id, self.known_owner(), keep + _BEFORE)
            if older.length < known.length:
                raise SessionConflict(known.length, older.length)
            messages = older.messages[: len(older.messages) - (older.length - known.length)]
        skipped = known.length - len(messages)
        cut = find_cut(messages, wanted - skipped, first=0 if skipped else 1)
        if cut is None:
            raise ValueError(f"keep: {keep} parts a call of a tool from its result, wherever cut")
        return skipped + cut

    async def fork(self, length: int | None = None) -> "HermesSession":
        """Create another session with the first ``length`` messages, all by default; return it.

        It is loaded, belongs to the same owner, and is independent of this one.

        Raises:
            ValueError: ``length`` is negative.
            SessionNotFound: nothing is stored in this one.
        """
        new_id, owner = self._store.new_id(), self.known_owner()
        await self._store.call(LifecycleStore.fork, self.id, new_id, owner, length)
        child = HermesSession(self._store, new_id, owner=owner)
        await child.load()
        return child

    async def expire_after(self, expires_after: Setting | None) -> None:
        """Set how long after its last change the session is removed: a timedelta, or `NEVER`.

        None removes the session's own setting: its owner's counts then, else the store's. Before
        the first message it makes a temporary chat of the session. Give it to ``append`` to set it
        with a turn. Who may call it is the application's decision.

        Raises:
            ValueError: it is not above 0, or more than 36,500 days.
            SessionDeleted: the conversation was deleted.
            NotSupported: sessions do not expire in this store.
        """
        owner, expiry = self.known_owner(), self._store.expiry
        setting = expiry.set(self._id, expires_after, owner)
        await self._store.complete("expire_after", self._id, setting)

    # Labels

    async def label(
        self,
        *,
        title: str | EllipsisType | None = ...,
        tags: Collection[str] | None = None,
        add_tags: Collection[str] = (),
        remove_tags: Collection[str] = (),
        pinned: bool | None = None,
        shelved: bool | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Change the session's title, tags, pin, shelf and pairs of metadata, in one step.

        What is not given stays. The arguments are those of `LabelStore.label`.

        Raises:
            SessionNotFound: nothing is stored in the session yet.
            InvalidLabel: a tag or a pair cannot be stored, or there are too many.
            TypeError, ValueError: as for `LabelStore.label`.
        """
        found = await self._store.call(
            LabelStore.label,
            self._id,
            self.known_owner(),
            title=title,
            tags=tags,
            add_tags=add_tags,
            remove_tags=remove_tags,
            pinned=pinned,
            shelved=shelved,
            metadata=metadata,
        )
        if not found:
            raise SessionNotFound

    # Going on under another id

    async def rotate(self, *, owner: str | None = None) -> str:
        """Give the session a new id, which is stamped on this response, and return it.

        For a login, or another change of privilege: nothing is found under the old id any more.
        ``owner`` gives the session to another owner as well.

        Raises:
            ResponseStarted: the client was told the old id already.
        """
        self._check_untold()
        new_id, old_owner = self._store.new_id(), self.known_owner()
        moved = await self._store.call(LifecycleStore.rotate, self.id, new_id, old_owner, owner)
        turn = self.current_turn
        if turn is not None and not moved:
            await turn.release()  # nothing was moved: the old id's turn still holds its lease
        self._become(new_id, is_new=not moved)
        self.owner = old_owner if owner is None else owner
        if turn is not None:
            await turn.take()
        return new_id

    async def renew(self) -> str:
        """Begin a new conversation with this request, and return its id, which is stamped.

        The old one is unchanged. If the client named it by a key, the key leads to the new one from
        now on.

        Raises:
            ResponseStarted: the client was told the old id already.
        """
        self._check_untold()
        new_id, owner = self._store.new_id(), self.known_owner()
        if self.key is not None:
            await self._store.run(LifecycleStore.move_key, new_id, self.key, new_id, owner)
        await self._go_on_in(new_id, is_new=True)
        return new_id

    async def switch(self, session_id: str) -> None:
        """Switch to another session of the same owner, whose id is stamped on this response.

        For an endpoint whose requests may name their conversation in the body. Call it before
        anything is recorded. The other history is not loaded, and a turn is released.

        Raises:
            ResponseStarted: the client was told the old id already.
            InvalidKey: the middleware's ``valid_id`` refuses the id, or no header can carry it: ask
                ``is_session_id`` of what a client has sent, before.
        """
        self._check_untold()
        if not (is_header_safe(session_id) and self._store.valid_id(session_id)):
            raise InvalidKey(
                "session_id: no request could name it by the header; ask is_session_id() of what a "
                "client has sent"
            )
        await self._go_on_in(session_id, is_new=False)

    async def go_on_in(self, session_id: str) -> None:
        """Switch, for the routes, to an id of the package's own, whatever a header may have."""
        self._check_untold()
        await self._go_on_in(session_id, is_new=False)

    async def derive(self, told: Sequence[Message], *, turn_id: str | None = None) -> None:
        """Find the session of a client that sends the whole conversation, and neither id nor key.

        Its id is derived from the owner and the user's first message, so that such a client's
        requests are one session. It is found if what is stored is just what ``told`` has before its
        new messages, compared by meaning, or if the request repeats an ``Idempotency-Key``; so two
        conversations that begin alike remain two, and an edited one becomes another. The id is
        stamped on the response. If the request names its session, this does nothing. One that is no
        turn continues a stored conversation, or else keeps the id that was minted for it.

        Call it before ``turn()``, which looks again once it has the lease; without a turn, two
        first requests at once may be stored as one conversation.

        Args:
            told: as for ``new_messages``: all messages of the conversation.
            turn_id: the id that the request's turn has under an ``Idempotency-Key``, unless it is
                the key itself.

        Raises:
            ConfigurationError: the middleware has no ``owner`` hook: everybody who begins a
                conversation alike would be led to the same one.
            OwnerRequired, ResponseStarted, StoreError: as for ``load`` and ``switch``.
        """
        if not self.is_new or self.key is not None:
            return
        if not self.known_owner():
            raise ConfigurationError("derive() needs an owner: give the middleware an owner hook")
        self._check_untold()
        await Derivation(self, self._store, told, turn_id).search()

    def sibling(self, session_id: str) -> "HermesSession":
        """Return another session of the same owner, which is not loaded, for the same request."""
        key = self.idempotency_key if self.is_turn else None
        return HermesSession(self._store, session_id, owner=self.owner, idempotency_key=key)

    async def become(self, session_id: str, history: History, derivation: Derivation) -> None:
        """Continue the request in another session, whose history was loaded."""
        await self._go_on_in(session_id, is_new=False)
        self._history, self.derivation = history, derivation

    async def resolve_key(self) -> bool:
        """Become the session that the client's key leads to; return whether it is a new one."""
        key, owner = self.key or "", self.known_owner()
        session_id = await self._store.run(LifecycleStore.bind_key, self.id, key, self.id, owner)
        self._become(session_id, is_new=session_id == self.id)
        return self.is_new

    def _check_untold(self) -> None:
        if self.is_told:
            raise ResponseStarted

    async def _go_on_in(self, session_id: str, *, is_new: bool) -> None:
        if self.current_turn is not None:
            await self.current_turn.release()
        self._become(session_id, is_new=is_new)
        self._history = None

    def begin_anew(self, new_id: str) -> None:
        """Become a new session, for the middleware: the client's key does not lead to it."""
        self._become(new_id, is_new=True)
        self._history, self.key = None, None

    def _become(self, new_id: str, *, is_new: bool) -> None:
        self._id = new_id
        self.is_new = is_new
        self.derivation = None
        self.degraded = False
        self.is_deleted = False


def get_session(connection: HTTPConnection) -> HermesSession:
    """Return the session of a Starlette request or websocket; a FastAPI dependency as it is.

    Raises:
        SessionMissing: no middleware has put one there.
    """
    session = getattr(getattr(connection, "state", None), STATE_KEY, None)
    if not isinstance(session, HermesSession):
        raise SessionMissing
    return session


def _check_dicts(new: Sequence[Message]) -> Sequence[Message]:
    for message in new:
        if not isinstance(message, dict):
            raise TypeError(f"a message is a dict, not a {type(message).__name__}")
    return new
