"""Google ADK's sessions: `StoredSessionService`, a ``BaseSessionService`` over a store.

The user is the owner, and a session is one of the store's: its id has the app's name in front, as
in ``"shop:s1"``, or is ADK's own for a service of one app. Each event is a turn, whose id is the
event's (``google_adk_events.py`` has the messages). State stands in the session's metadata, under
``"google_adk"``, and is set in the append that stores the event.

What is shared, ``app:`` and ``user:`` state, has a session of its own without messages, which is
not listed, and whose id no client can name. It is set right after the event was stored: a process
that dies between the two leaves the event without it.

An append expects the history that the session was read with, so that of two that have read the same
one gets ``StaleSessionError``, whatever their clocks say; so it does if others, such as an
endpoint, have added a message. A session that others have begun is ADK's without having been
created.
"""

from asyncio import gather  # ADK runs on asyncio alone
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from hermes_session_mw.adapters.framework_import import needing

with needing("google-adk>=2.5", "google"):
    from google.adk.errors._stale_session_error import StaleSessionError
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.errors.session_not_found_error import SessionNotFoundError
    from google.adk.events import Event
    from google.adk.platform import time as platform_time
    from google.adk.platform import uuid as platform_uuid
    from google.adk.sessions import BaseSessionService, Session, State
    from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse

from hermes_session_mw.adapters.chat_messages import store_item
from hermes_session_mw.adapters.escaping import escape, escape_id, unescape, unescape_id
from hermes_session_mw.adapters.google_adk_events import (
    FORMAT,
    find_events,
    own_events,
    store_event,
)
from hermes_session_mw.adapters.plain_values import plain
from hermes_session_mw.adapters.sessions import Recent, Sessions
from hermes_session_mw.adapters.target import StoreOrSession
from hermes_session_mw.exceptions import SessionConflict, TurnConflict
from hermes_session_mw.ids import mint_turn_id
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.message_store import HistoryRange, MessageStore
from hermes_session_mw.stores.models import MAX_KEY_LENGTH, SessionPage

__all__ = ["StoredSessionService"]

_PAGE = 500
_TRIES = 32
"""Times that a write is tried again while others change the same metadata."""

_SHARED = "google_adk\n"  # no header's value has a line's end, nor has an escaped id
_Scope = Literal["app", "user"]
_Place = tuple[str, str]  # owner, session id


@dataclass(frozen=True, slots=True)
class _State:
    """What an append has to know of a session."""

    metadata: Message | None
    length: int

    @property
    def kept(self) -> Message:
        """What is ADK's in the metadata; empty for a session that ADK did not create."""
        kept = (self.metadata or {}).get(FORMAT)
        return kept if isinstance(kept, dict) else {}

    @property
    def marker(self) -> str:
        """What is another for each state of the history, also if it was deleted and begun again."""
        return f"{self.kept.get('created_as', '')}:{self.length}"

    def with_event(self, event: Event, count: int, delta: dict[str, Any]) -> Message:
        """Return the metadata after an event of ``count`` messages."""
        changed = {**self.kept.get("state", {}), **_storable(delta)}
        kept = {
            **self.kept,
            "state": changed,
            "update_time": event.timestamp,
            "length": self.length + count,
        }
        return {**(self.metadata or {}), FORMAT: kept}


class StoredSessionService(BaseSessionService):
    """ADK's sessions, each a conversation of the store's.

    ``delete_session`` removes a session for good, and its id can be used again. ``list_sessions``
    reads the state of each session that it returns.
    """

    def __init__(
        self,
        store_or_session: StoreOrSession,
        app_name: str | None = None,
        *,
        agent_name: str = "user",
    ) -> None:
        """Keep sessions in a store; nothing is read.

        Args:
            store_or_session: a store; or ``request.state.hermes_session``, for its owner's
                sessions: its own is written under its lease. Its ``Idempotency-Key`` is not used,
                since a run that is repeated has other events.
            app_name: the only app; its sessions have their ids as they are, and are all that a user
                has. None for any number of apps.
            agent_name: the author that answers of others get, which is the agent that is to take
                them for its own. By default they are the user's events, with the role of the model.

        Raises:
            NotSupported: the store has no single messages.
        """
        self._all = Sessions(store_or_session)
        self._app_name = app_name
        self._agent_name = agent_name
        self._states: Recent[_Place, _State] = Recent()
        self._unstored: Session | None = None  # of a request that is no turn, as it has gone on

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session; raise ``AlreadyExistsError`` if there is anything under its id."""
        made_id = (session_id or "").strip() or platform_uuid.new_uuid()
        place = self._place(app_name, user_id, made_id)
        own, shared = _split(state or {})
        now = platform_time.get_time()
        kept = {
            "created_as": mint_turn_id(),
            "state": _storable(own),
            "update_time": now,
            "length": 1,
        }
        created = _State({FORMAT: kept}, 1)
        if self._is_no_turn(place):
            before = await self.get_session(app_name=app_name, user_id=user_id, session_id=made_id)
            if before is not None:
                raise AlreadyExistsError("There is a session with this id already.")
            merged = {**(state or {}), **await self._shared(app_name, user_id)}
            self._unstored = _session_of(app_name, user_id, made_id, created, merged, now)
            return self._unstored.model_copy(deep=True)
        try:
            await self._write(
                MessageStore.append,
                place,
                [store_item(FORMAT, {"kind": "created"})],  # what has no message is not listed
                turn_id=mint_turn_id(),
                expected_length=0,
                metadata=created.metadata,
                expected_metadata=None,
            )
        except SessionConflict:
            raise AlreadyExistsError("There is a session with this id already.") from None
        self._states.put(place, created)
        await self._share(app_name, user_id, shared)
        merged = {**_own(created), **await self._shared(app_name, user_id)}
        return _session_of(app_name, user_id, made_id, created, merged, now)

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """Return a session with its events, or the newest of them; None where there is none."""
        session_id = session_id.strip() if session_id else session_id
        place = self._place(app_name, user_id, session_id)
        if self._unstored is not None and self._is_no_turn(place):
            again = self._unstored.model_copy(deep=True)
            again.events = _chosen(again.events, config or GetSessionConfig())
            return again
        (state, events, newest), shared = await gather(
            self._events(place, config or GetSessionConfig()), self._shared(app_name, user_id)
        )
        if not state.kept and not state.length:
            return None
        self._states.put(place, state)
        updated = _updated(state, newest)
        session = _session_of(
            app_name, user_id, session_id, state, {**_own(state), **shared}, updated
        )
        session.events.extend(events)
        return session

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """Return a user's sessions, or all users', without events; the last changed one is last."""
        prefix = self._prefix(app_name)
        sessions: list[Session] = []
        async for page in self._pages(user_id, prefix):
            for info in page.sessions:
                found = await self._load((info.owner, info.id), 0, 0)
                state = _State(found.metadata, found.length)
                if not state.kept and not state.length:
                    continue  # it was deleted since
                own_id = unescape_id(info.id.removeprefix(prefix))
                updated = _updated(state, info.updated_at.timestamp())
                owner = unescape_id(info.owner)
                sessions.append(_session_of(app_name, owner, own_id, state, _own(state), updated))
        shared: dict[str, dict[str, Any]] = {}
        for session in sessions:
            if session.user_id not in shared:
                shared[session.user_id] = await self._shared(app_name, session.user_id)
            session.state.update(shared[session.user_id])
        sessions.sort(key=lambda each: (each.last_update_time, each.user_id, each.id))
        return ListSessionsResponse(sessions=sessions)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Remove a session with its events and state for good; its id can be used again."""
        place = self._place(app_name, user_id, session_id.strip() if session_id else session_id)
        self._states.pop(place, None)
        await self._write(MessageStore.clear, place)

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return what is shared by a user's sessions, by keys without ``user:``."""
        return await self._scope(self._scope_place("user", app_name, user_id))

    async def append_event(self, session: Session, event: Event) -> Event:
        """Store an event with what it changes of the session's state, and add it to ``session``.

        An event that is stored already is not stored again. In a request that is no turn, none of
        its own session is: this object alone goes on with it. Raises ``SessionNotFoundError`` or
        ``StaleSessionError``, and stores nothing then.
        """
        if event.partial:
            return event
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        own, shared = _split(event.actions.state_delta if event.actions else {})
        place = self._place(session.app_name, session.user_id, session.id)
        if self._is_no_turn(place):
            event = self._commit_event_to_session(session, event)
            self._unstored = session.model_copy(deep=True)
            return event
        stored = await self._append(place, session, event, own)
        if stored is None:
            return event
        await self._share(session.app_name, session.user_id, shared)
        session.last_update_time = event.timestamp
        session._storage_update_marker = stored.marker  # noqa: SLF001  # as ADK's own services do
        return self._commit_event_to_session(session, event)

    # Writing

    async def _append(
        self, place: _Place, session: Session, event: Event, delta: dict[str, Any]
    ) -> _State | None:
        """Store an event, and return what is stored then; None if it was stored before."""
        messages = store_event(event)
        turn_id = event.id if len(event.id) <= MAX_KEY_LENGTH["turn_id"] else mint_turn_id()
        turn_id = escape_id(turn_id)
        marker: str | None = session._storage_update_marker  # noqa: SLF001
        state = self._states.get(place)
        if state is None or marker != state.marker:
            state = await self._read(place)
        for _ in range(_TRIES):
            _check_there(state)
            if _is_stale(session, state):
                return await self._check_stored(place, turn_id, messages, session)
            metadata = state.with_event(event, len(messages), delta)
            try:
                length = await self._write(
                    MessageStore.append,
                    place,
                    messages,
                    turn_id=turn_id,
                    expected_length=state.length,
                    metadata=metadata,
                    expected_metadata=state.metadata,
                )
            except TurnConflict:
                turn_id = mint_turn_id()  # another event with this id
            except SessionConflict:
                state = await self._read(place)
            else:
                if length != state.length + len(messages):
                    return None
                appended = _State(metadata, length)
                self._states.put(place, appended)
                return appended
        raise _stale()

    async def _check_stored(
        self, place: _Place, turn_id: str, messages: list[Message], session: Session
    ) -> _State | None:
        """Return what was stored if it is this event, whose caller did not learn of it."""
        owner, session_id = place
        turn = await self._all.call(MessageStore.find_turn, session_id, turn_id, owner)
        if turn is None or turn.start is None or turn.messages != messages:
            raise _stale()
        state = await self._read(place)
        before, at = _State(state.metadata, turn.start), turn.start + len(messages)
        if session._storage_update_marker != before.marker:  # noqa: SLF001
            return None
        return _State(state.metadata, at)

    async def _share(
        self, app_name: str, user_id: str, shared: dict[_Scope, dict[str, Any]]
    ) -> None:
        for scope, delta in shared.items():
            if delta:
                await self._merge(self._scope_place(scope, app_name, user_id), _storable(delta))

    async def _merge(self, place: _Place, delta: dict[str, Any]) -> None:
        owner, session_id = place
        for tried in range(1, _TRIES + 1):
            known = await self._all.call(MessageStore.find_metadata, session_id, owner)
            state = {**(known or {}).get(FORMAT, {}), **delta}
            try:
                await self._write(MessageStore.set_metadata, place, {FORMAT: state}, expected=known)
            except SessionConflict:
                if tried == _TRIES:
                    raise
            else:
                return

    async def _write(
        self,
        operation: Callable[..., Awaitable[Any]],
        place: _Place,
        *args: Any,
        **options: Any,
    ) -> Any:
        owner, session_id = place
        return await self._all.write(operation, session_id, *args, owner=owner, **options)

    # Reading

    async def _events(
        self, place: _Place, config: GetSessionConfig
    ) -> tuple[_State, list[Event], float]:
        """Return the events that are asked for, and when the newest message was appended."""
        most, since = config.num_recent_events, config.after_timestamp
        count = None if most is None or since is not None else 2 * most + 1
        while True:
            state, events, newest = await self._newest(place, count)
            if count is None or count >= state.length or len(events) >= (most or 0):
                break
            count *= 4
        return state, _chosen(events, config), newest

    async def _newest(self, place: _Place, count: int | None) -> tuple[_State, list[Event], float]:
        """Return the events of the newest ``count`` messages, or of all of them."""
        owner, session_id = place
        metadata = await self._all.call(MessageStore.find_metadata, session_id, owner)
        if metadata is not None:
            # A load is twice as fast as one of a range, which has the times that others' need.
            history = await self._all.call(MessageStore.load, session_id, owner, count)
            state = _State(metadata, history.length)
            events = own_events(history.messages)
            if events is not None and state.kept.get("length") == state.length:
                return state, events, 0.0
        found = await self._load(place, -count if count else 0, None)
        newest = found.messages[-1].created_at.timestamp() if found.messages else 0.0
        events = find_events(found.messages, self._agent_name)
        return _State(found.metadata, found.length), events, newest

    async def _shared(self, app_name: str, user_id: str) -> dict[str, Any]:
        app, user = await gather(
            self._scope(self._scope_place("app", app_name, user_id)),
            self._scope(self._scope_place("user", app_name, user_id)),
        )
        return {
            **{State.APP_PREFIX + key: value for key, value in app.items()},
            **{State.USER_PREFIX + key: value for key, value in user.items()},
        }

    async def _scope(self, place: _Place) -> dict[str, Any]:
        owner, session_id = place
        metadata = await self._all.call(MessageStore.find_metadata, session_id, owner)
        return _plain_state((metadata or {}).get(FORMAT, {}))

    async def _read(self, place: _Place) -> _State:
        found = await self._load(place, 0, 0)
        return _State(found.metadata, found.length)

    def _load(self, place: _Place, start: int, limit: int | None) -> Awaitable[HistoryRange]:
        owner, session_id = place
        return self._all.call(MessageStore.load_range, session_id, owner, start, limit)

    async def _pages(self, user_id: str | None, prefix: str) -> AsyncIterator[SessionPage]:
        owner = self._all.request_owner if user_id is None else self._owner(user_id)
        cursor: str | None = None
        while True:
            if owner is None:
                page = await self._all.call(MessageStore.list_all, _PAGE, cursor, prefix=prefix)
            else:
                page = await self._all.call(MessageStore.list, owner, _PAGE, cursor, prefix=prefix)
            yield page
            cursor = page.cursor
            if cursor is None:
                return

    # Places

    def _owner(self, user_id: str) -> str:
        owner = escape_id(user_id)
        self._all.check_owner(owner)
        return owner

    def _place(self, app_name: str, user_id: str, session_id: str) -> _Place:
        return self._owner(user_id), self._prefix(app_name) + escape_id(session_id)

    def _is_no_turn(self, place: _Place) -> bool:
        owner, session_id = place
        return self._all.is_no_turn(session_id, owner)

    def _prefix(self, app_name: str) -> str:
        if self._app_name is None:
            return f"{_quoted(app_name)}:"
        if app_name != self._app_name:
            raise ValueError("app_name: this service is for another app")
        return ""

    def _scope_place(self, scope: _Scope, app_name: str, user_id: str) -> _Place:
        owner = self._owner(user_id) if scope == "user" else ""
        return owner, f"{_SHARED}{scope}:{_quoted(app_name)}"


def _chosen(events: list[Event], config: GetSessionConfig) -> list[Event]:
    most, since = config.num_recent_events, config.after_timestamp
    if since is not None:
        events = [event for event in events if event.timestamp >= since]
    return events if most is None else events[max(len(events) - most, 0) :]


def _split(delta: dict[str, Any]) -> tuple[dict[str, Any], dict[_Scope, dict[str, Any]]]:
    """Return what is the session's own in a change of state, and what is shared."""
    own: dict[str, Any] = {}
    shared: dict[_Scope, dict[str, Any]] = {"app": {}, "user": {}}
    for key, value in delta.items():
        if key.startswith(State.APP_PREFIX):
            shared["app"][key.removeprefix(State.APP_PREFIX)] = value
        elif key.startswith(State.USER_PREFIX):
            shared["user"][key.removeprefix(State.USER_PREFIX)] = value
        elif not key.startswith(State.TEMP_PREFIX):
            own[key] = value
    return own, shared


def _storable(state: dict[str, Any]) -> dict[str, Any]:
    """Return state as JSON alone, key by key, so that it can be merged as it is stored."""
    plainly = {str(key): plain(value, serialize_unknown=True) for key, value in state.items()}
    return {escape_id(key): escape(value) for key, value in plainly.items()}


def _plain_state(stored: Any) -> dict[str, Any]:
    return {unescape_id(key): unescape(value) for key, value in stored.items()}


def _own(state: _State) -> dict[str, Any]:
    return _plain_state(state.kept.get("state", {}))


def _updated(state: _State, newest: float) -> float:
    """Return when a session was updated: as ADK said, unless others have changed it since."""
    known = float(state.kept.get("update_time", 0.0))
    return known if state.kept.get("length") == state.length else max(known, newest)


def _session_of(
    app_name: str, user_id: str, session_id: str, state: _State, values: Any, updated: float
) -> Session:
    session = Session(
        app_name=app_name,
        user_id=user_id,
        id=session_id,
        state=values,
        last_update_time=updated,
    )
    session._storage_update_marker = state.marker  # noqa: SLF001  # as ADK's own services do
    return session


def _check_there(state: _State) -> None:
    if not state.kept and not state.length:
        raise SessionNotFoundError("The session is not stored.")


def _is_stale(session: Session, state: _State) -> bool:
    marker = session._storage_update_marker  # noqa: SLF001
    if marker is not None:
        return bool(marker != state.marker)
    return bool(state.kept.get("update_time", 0.0) > session.last_update_time)


def _stale() -> StaleSessionError:
    return StaleSessionError(
        "The session was changed since it was read: get it again, and repeat the turn."
    )


def _quoted(app_name: str) -> str:
    return quote(app_name, safe="", errors="surrogatepass")
