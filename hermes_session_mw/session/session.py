"""The session that a request carries."""

import json
from collections.abc import Sequence

from starlette.requests import HTTPConnection

from hermes_session_mw.exceptions import (
    InvalidKey,
    ResponseStarted,
    SessionConflict,
    SessionMissing,
    TurnConflict,
)
from hermes_session_mw.ids import is_header_safe
from hermes_session_mw.messages import Message
from hermes_session_mw.session.conversation import Conversation, as_they_are
from hermes_session_mw.session.tool_calls import find_cut
from hermes_session_mw.session.turn_lock import LEASE, WAIT, Turn
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.models import StoredTurn

_BEFORE = 100
"""Messages that are read before those that a compaction keeps, to find where their turn begins."""

STATE_KEY = "hermes_session"
"""Where the session stands in the ASGI scope's ``state``."""


class HermesSession(Conversation):
    """One conversation, as one request sees it.

    What goes beyond reading and appending asks for a `LifecycleStore`; with another store it raises
    ``NotSupported``. Like ``append`` it runs to its end where the request is cancelled, and raises
    ``OwnerRequired``, ``SessionDeleted`` and ``StoreError`` as ``append`` does.

    Attributes:
        owner: who may see the session, 1 to 255 characters; ``""`` where the middleware has no
            ``owner`` hook, None where the hook answered None.
        is_new: the id was minted for this request, so nothing can be stored under it yet.
        degraded: the store failed and the history is empty for that reason alone.
        is_told: the response, or the handshake, has begun, and the client knows the id.
        key: the client's own name for the conversation, 1 to 255 characters, where it sent one and
            the middleware has ``session_keys``.
        idempotency_key: the request's ``Idempotency-Key``, 1 to 255 characters, which becomes its
            first turn's id; None where it has none.
        history_source: what the client says in ``X-Hermes-History-Source``.
    """

    __slots__ = ()

    def turn(self, *, lease: float = LEASE, wait: float = WAIT) -> Turn:
        """Have one turn at a time: ``async with session.turn():``.

        Of all requests of the session that ask for it, on all machines, one is inside; the others
        wait. Once inside, the history is loaded, and what is written is refused (``TurnLost``) if
        another has come inside since, because the lease ran out. Requests that do not ask for it
        wait for nobody.

        Leaving the block gives the turn back. In an HTTP request whose response has not begun, that
        is left to the response, so that an answer which is returned from the block streams inside
        of the turn; see `Turn`.

        Args:
            lease: seconds after which another may come inside, however this one fares: more than
                0, up to 2,592,000 (30 days), and 60 by default; ``Turn.extend()`` begins them anew.
            wait: seconds to wait for the others: 0 for none, and 10 by default.

        Raises:
            ConfigurationError: at once: a number is none of these.
            SessionBusy: on entering: the others took longer.
            RuntimeError: on leaving: an answer is still recorded, and there is no response to come.
        """
        return Turn(self, self._access, lease=lease, wait=wait)

    async def find_turn(
        self, turn_id: str | None = None, *, question: Sequence[Message] = ()
    ) -> StoredTurn | None:
        """Return the turn that this session has stored under an id, None where there is none.

        So an endpoint can answer a repeated request without asking the model again.

        Args:
            turn_id: by default the request's ``Idempotency-Key``; without one nothing is found.
            question: what the turn has to begin with to be the same request's.

        Raises:
            TurnConflict: it begins otherwise: the id was used for another request.
        """
        name = turn_id or self.idempotency_key
        owner = self.known_owner()
        if name is None or (self.is_new and self._history is None):
            return None
        store = self._access.having("find_turn")
        turn = await self._access.whole("find_turn", self.id, store.find_turn(self.id, name, owner))
        if turn is not None and not _begins_with(turn.messages, question):
            raise TurnConflict
        return turn

    async def rewind(self, length: int) -> int:
        """Drop all messages but the first ``length`` from the history, and return its length.

        They are kept for audit (`LifecycleStore.archived`), and their turn ids stay taken.

        Raises:
            ValueError: ``length`` is negative.
            TurnLost: inside ``turn()``: another has taken the turn since.
        """
        store = self._access.having("rewind")
        work = store.rewind(self.id, length, self.known_owner(), fence=self._fence())
        left = await self._access.whole("rewind", self.id, work)
        known = self._history
        if known is not None and left < known.length:
            unseen = known.length - len(known.messages)
            messages = known.messages[: max(left - unseen, 0)]
            self._history = History(messages, left, exists=known.exists)
        return left

    async def compact(self, *, keep: int, summary: Sequence[Message]) -> int:
        """Replace all but the newest ``keep`` messages by ``summary``; return the new length.

        More of them stay, as far back as to where a turn begins; fewer, from the next turn on,
        where no turn begins before; and part of a turn only where it is the only one. A call of a
        tool and its result are never parted. ``keep=0`` replaces everything.

        It is about the messages that this object has seen: what others append meanwhile is kept,
        in order. What was replaced is kept for audit, as with ``rewind``.

        Raises:
            HistoryNotLoaded: as for ``history``.
            ValueError: ``keep`` is negative, or leaves nothing that could be replaced.
            SessionConflict: the history was rewound or compacted since it was loaded.
            InvalidMessage: the summary cannot be stored.
            TurnLost: inside ``turn()``: another has taken the turn since.
        """
        store, known = self._access.having("compact"), self._loaded()
        if keep < 0:
            raise ValueError(f"keep: {keep} is negative; it is how many messages stay")
        if keep >= known.length:
            raise ValueError(f"keep: {keep} of {known.length} messages leaves none to replace")
        replaced = await self._cut(keep) if keep else known.length
        unseen = known.length - len(known.messages)
        seen = known.messages[: max(replaced - unseen, 0)]
        work = store.compact(
            self.id,
            seen,
            summary,
            self.known_owner(),
            skipped=min(unseen, replaced),
            fence=self._fence(),
        )
        length = await self._access.whole("compact", self.id, work)
        # Of an older part that was not loaded, neither is the summary.
        before = summary if replaced >= unseen else ()
        left = [*before, *known.messages[len(seen) :]]
        self._history = History(left, len(summary) + known.length - replaced, exists=True)
        return length

    async def _cut(self, keep: int) -> int:
        """Return how many messages come before the newest ``keep``, rounded to whole turns."""
        known = self._loaded()
        messages, wanted = known.messages, known.length - keep
        if wanted < known.length - len(messages):  # the turns there are not loaded
            older = await self._access.load(self.id, self.known_owner(), keep + _BEFORE)
            if older.length < known.length:
                raise SessionConflict(known.length, older.length)
            messages = older.messages[: len(older.messages) - (older.length - known.length)]
        skipped = known.length - len(messages)
        cut = find_cut(messages, wanted - skipped, first=0 if skipped else 1)
        if cut is None:
            raise ValueError(f"keep: {keep} parts a call of a tool from its result, wherever cut")
        return skipped + cut

    async def fork(self, length: int | None = None) -> "HermesSession":
        """Begin another session with the first ``length`` messages, all by default; return it.

        It is loaded, belongs to the same owner, and goes its own way from there.

        Raises:
            ValueError: ``length`` is negative.
            SessionNotFound: nothing is stored in this one.
        """
        new_id, owner = self._access.new_id(), self.known_owner()
        store = self._access.having("fork")
        await self._access.whole("fork", self.id, store.fork(self.id, new_id, owner, length))
        child = HermesSession(self._access, new_id, owner=owner)
        await child.load()
        return child

    async def rotate(self, *, owner: str | None = None) -> str:
        """Give the session a new id, which is stamped on this response, and return it.

        For a login, or another change of privilege: who knew the old id alone finds nothing under
        it any more. ``owner`` gives the session to another owner with it.

        Raises:
            ResponseStarted: the client was told the old id already.
        """
        self._check_untold()
        new_id, whose = self._access.new_id(), self.known_owner()
        store = self._access.having("rotate")
        work = store.rotate(self.id, new_id, whose, owner)
        moved = await self._access.whole("rotate", self.id, work)
        held = self.held
        if held is not None and not moved:
            await held.release()  # nothing went along, so that the old id's turn is still taken
        self._become(new_id, is_new=not moved)
        self.owner: str | None = whose if owner is None else owner
        if held is not None:
            await held.take()
        return new_id

    async def renew(self) -> str:
        """Begin a new conversation with this request, and return its id, which is stamped.

        The old one stays where it is. Where the client named it by a key, the key leads to the new
        one from now on.

        Raises:
            ResponseStarted: the client was told the old id already.
        """
        self._check_untold()
        new_id, owner = self._access.new_id(), self.known_owner()
        if self.key is not None:
            store = self._access.having("move_key")
            work = store.move_key(self.key, new_id, owner)
            await self._access.whole("move_key", new_id, work)
        if self.held is not None:
            await self.held.release()
        self._become(new_id, is_new=True)
        self._history = None
        return new_id

    async def switch(self, session_id: str) -> None:
        """Go on in another session of the same owner, whose id is stamped on this response.

        For an endpoint whose requests may name their conversation in the body. It comes before
        anything is recorded; the other history is not loaded, and a turn that is held is released.

        Raises:
            ResponseStarted: the client was told the old id already.
            InvalidKey: no header can carry the id.
        """
        self._check_untold()
        if not is_header_safe(session_id):
            raise InvalidKey("session_id is not 1 to 256 visible ASCII characters")
        if self.held is not None:
            await self.held.release()
        self._become(session_id, is_new=False)
        self._history = None

    async def follow_key(self) -> bool:
        """Become the session that the client's key leads to; tell whether this is its first.

        Raises:
            StoreError: the store failed.
        """
        store, owner = self._access.having("bind_key"), self.known_owner()
        work = store.bind_key(self.key or "", self.id, owner)
        session_id = await self._access.whole("bind_key", self.id, work)
        self._become(session_id, is_new=session_id == self.id)
        return self.is_new

    def _check_untold(self) -> None:
        if self.is_told:
            raise ResponseStarted

    def _become(self, new_id: str, *, is_new: bool) -> None:
        self._id = new_id
        self.is_new: bool = is_new
        self.degraded: bool = False


def _begins_with(messages: Sequence[Message], question: Sequence[Message]) -> bool:
    if not question:
        return True
    first, asked = messages[: len(question)], as_they_are(question)
    # Not by ==, for which 1, 1.0 and true are one value.
    return json.dumps(first, sort_keys=True) == json.dumps(asked, sort_keys=True)


def get_session(connection: HTTPConnection) -> HermesSession:
    """Return the session of a Starlette request or websocket; a FastAPI dependency as it is.

    Raises:
        SessionMissing: no middleware has put one there.
    """
    session = getattr(getattr(connection, "state", None), STATE_KEY, None)
    if not isinstance(session, HermesSession):
        raise SessionMissing
    return session
