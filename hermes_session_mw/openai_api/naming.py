"""`ConversationTitle`, which names a conversation after its first answer."""

from collections.abc import Sequence
from contextlib import suppress
from typing import cast

import anyio

from hermes_session_mw.exceptions import StoreError
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.titles import title_of
from hermes_session_mw.session.answer import Answer
from hermes_session_mw.session.session import HermesSession
from hermes_session_mw.stores import LifecycleStore, Store


class ConversationTitle:
    """Gives a conversation its title once an answer is complete, unless it has one.

    Nothing is done over a store without titles, nor for a request that is no turn.

    Attributes:
        done: set once that was tried, whatever became of it.
    """

    def __init__(
        self,
        store: Store,
        session: HermesSession,
        question: Sequence[Message],
        replace_from: int | None = None,
    ) -> None:
        """Take the title from the conversation's beginning; the arguments are ``answer()``'s."""
        self.done: anyio.Event = anyio.Event()
        names = session.is_turn and hasattr(store, "rename")
        self._store = cast("LifecycleStore", store) if names else None
        self._owner = session.known_owner()
        self._title = title_of([*session.history[:replace_from], *question])

    async def on_end(self, answer: Answer) -> None:
        """Set the title, as ``session.answer(on_end=...)`` wants it."""
        try:
            if self._store is not None and self._title and answer.state == "completed":
                await self._set(self._store, answer.session_id)
        finally:
            self.done.set()

    async def _set(self, store: LifecycleStore, session_id: str) -> None:
        # The answer is stored and matters more than its title, which may be in use.
        with suppress(StoreError, ValueError):
            info = await store.info(session_id, self._owner)
            if info is not None and info.title is None:
                await store.rename(session_id, self._title, self._owner)
