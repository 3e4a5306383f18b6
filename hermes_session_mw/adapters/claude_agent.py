"""`StoredSessionStore`, which mirrors Claude's transcripts to a store.

A transcript is a session, and each of its entries one message, or several: the entry itself beside
the chat message that it is. The entry's ``uuid`` is the message's id, so that an entry is stored
once, however often it is sent. The session's id is Claude's; a transcript with a subpath is a
session of its own, ``SESSION/SUBPATH``. The owner is the project's key, unless another is given.

The summary that the SDK lists sessions by is in the session's metadata, under ``claude_agent``. It
is folded anew for each append, and written in its transaction, compared with what was read.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

from hermes_session_mw.adapters.framework_import import needing

with needing("claude-agent-sdk", "claude_agent_sdk"):
    from claude_agent_sdk import fold_session_summary
    from claude_agent_sdk.types import (
        SessionKey,
        SessionListSubkeysKey,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
    )

from hermes_session_mw.adapters.claude_agent_entries import entries_of, messages_of
from hermes_session_mw.adapters.escaping import escape_id
from hermes_session_mw.adapters.sessions import Sessions
from hermes_session_mw.adapters.target import StoreOrSession, retry_conflicts
from hermes_session_mw.exceptions import SessionDeleted
from hermes_session_mw.messages import MAX_TURN_MESSAGES, Message
from hermes_session_mw.stores.message_store import MessageStore
from hermes_session_mw.stores.models import SessionInfo

__all__ = ["StoredSessionStore"]

_METADATA = "claude_agent"
_PAGE = 500
_SAFE = "!$&'()*+,;=:@-._~[]{}^`|<>?#\" "


class StoredSessionStore:
    """A ``SessionStore`` of Claude's Agent SDK over a store, with all of its optional methods."""

    def __init__(self, store_or_session: StoreOrSession, owner: str | None = None) -> None:
        """Raise ``NotSupported`` if the store has no single messages; nothing is read.

        Args:
            store_or_session: a `MessageStore`; or, inside a request,
                ``request.state.hermes_session``, whose owner counts, and whose lease for its own
                conversation.
            owner: whose the sessions are, with a store; then projects are not told apart. By
                default each project's sessions are an owner's whose name is the project's key.
        """
        self._sessions = Sessions(store_or_session)
        self._owner = self._sessions.request_owner if owner is None else self._sessions.owner(owner)
        self._most = getattr(store_or_session, "max_turn_messages", MAX_TURN_MESSAGES)

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Store the entries at the transcript's end, those with a known ``uuid`` not again.

        All or none, if they are at most the store's ``max_turn_messages``; else in several parts,
        which may all be sent again. Nothing is stored of the conversation of a request that is no
        turn.

        Raises:
            MessageTooLarge: an entry takes more bytes than the store's ``max_message_bytes``.
            SessionDeleted: the conversation was deleted, and not by ``delete``.
        """
        main = _id_of({"session_id": key["session_id"]})
        if self._sessions.is_no_turn(main, self._owner_of(key)):
            return
        new = messages_of(entries)
        for start in range(0, len(new), self._most):
            is_last = start + self._most >= len(new)
            await self._append(key, new[start : start + self._most], entries if is_last else [])

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return all entries, oldest first; None if there is nothing.

        What another framework or an endpoint has added to the conversation becomes entries too.
        """
        found = await self._sessions.call(
            MessageStore.load_range, _id_of(key), owner=self._owner_of(key)
        )
        return entries_of(key["session_id"], found.messages) if found.length else None

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """Return the project's sessions, the most recently changed ones first."""
        owner = self._owner_of({"project_key": project_key})
        return [
            {"session_id": unquote(info.id, errors="surrogatepass"), "mtime": _mtime(info)}
            async for info in self._main_sessions(owner)
        ]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """Return the summaries of the project's sessions, as the SDK has folded them."""
        owner = self._owner_of({"project_key": project_key})
        summaries: list[SessionSummaryEntry] = []
        async for info in self._main_sessions(owner):
            kept = await self._summary(info.id, owner)
            if kept is not None:
                summaries.append({**kept, "mtime": _mtime(info)})
        return summaries

    async def delete(self, key: SessionKey) -> None:
        """Remove a transcript for good, and with a session's those below it."""
        owner, session_id = self._owner_of(key), _id_of(key)
        names = [] if key.get("subpath") else await self._subsessions(session_id, owner)
        for name in (*names, session_id):
            with suppress(SessionDeleted):
                await self._sessions.write(MessageStore.clear, name, owner=owner)

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the subpaths of the session's other transcripts."""
        session_id = _id_of(key)
        names = await self._subsessions(session_id, self._owner_of(key))
        return [unquote(name[len(session_id) + 1 :], errors="surrogatepass") for name in names]

    def _owner_of(self, key: Any) -> str:
        return escape_id(key["project_key"]) if self._owner is None else self._owner

    async def _append(
        self,
        key: SessionKey,
        new: Sequence[tuple[str | None, Message]],
        folded: list[SessionStoreEntry],
    ) -> None:
        session_id, owner = _id_of(key), self._owner_of(key)
        append = partial(
            self._sessions.write,
            MessageStore.append,
            session_id,
            [message for _, message in new],
            owner=owner,
            message_ids=[name for name, _ in new],
        )
        if key.get("subpath") or not folded:
            await append()
            return

        async def append_and_fold() -> None:
            known = await self._sessions.call(MessageStore.find_metadata, session_id, owner=owner)
            summary = fold_session_summary(_summary_in(known), key, folded)
            metadata = {**(known or {}), _METADATA: summary}
            await append(metadata=metadata, expected_metadata=known)

        await retry_conflicts(append_and_fold)

    async def _summary(self, session_id: str, owner: str) -> Any:
        known = await self._sessions.call(MessageStore.find_metadata, session_id, owner=owner)
        return _summary_in(known)

    async def _main_sessions(self, owner: str) -> AsyncIterator[SessionInfo]:
        async for info in self._list(owner, ""):
            if "/" not in info.id:
                yield info

    async def _subsessions(self, session_id: str, owner: str) -> list[str]:
        return [info.id async for info in self._list(owner, f"{session_id}/")]

    async def _list(self, owner: str, prefix: str) -> AsyncIterator[SessionInfo]:
        cursor = None
        while True:
            page = await self._sessions.call(MessageStore.list, owner, _PAGE, cursor, prefix=prefix)
            for info in page.sessions:
                yield info
            cursor = page.cursor
            if cursor is None:
                return


def _summary_in(metadata: Message | None) -> Any:
    """Return the summary; None without one, also where a client has set another value."""
    kept = (metadata or {}).get(_METADATA)
    return kept if isinstance(kept, dict) else None


def _id_of(key: Any) -> str:
    main = quote(key["session_id"], safe=_SAFE, errors="surrogatepass")
    subpath = key.get("subpath")
    return f"{main}/{quote(subpath, safe=_SAFE + '/', errors='surrogatepass')}" if subpath else main


def _mtime(info: SessionInfo) -> int:
    return round(info.updated_at.timestamp() * 1000)
