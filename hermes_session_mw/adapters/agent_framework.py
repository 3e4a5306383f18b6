"""`StoredHistoryProvider`, the history of Microsoft's Agent Framework in any store.

The conversation is the one with the ``AgentSession``'s id, or the one of a request. A run is one
append: what was asked and what was answered, together or not at all.

Clients may send a whole transcript with each question. As in the framework's own providers, what
overlaps the history's end is not stored again, but the answer of a run is never taken for such a
repetition: whoever asks the same twice, and is answered the same, is stored twice.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from hermes_session_mw.adapters.framework_import import needing

with needing("agent-framework-core", "agent_framework"):
    from agent_framework import AgentSession, HistoryProvider, SessionContext, SupportsAgentRun
    from agent_framework import Message as AgentMessage

from hermes_session_mw.adapters.agent_framework_messages import (
    item_of,
    read_messages,
    store_message,
)
from hermes_session_mw.adapters.escaping import escape, escape_id
from hermes_session_mw.adapters.target import StoreOrSession, Target, retry_conflicts
from hermes_session_mw.messages import as_json
from hermes_session_mw.session.session import HermesSession
from hermes_session_mw.stores.base import History, Store
from hermes_session_mw.stores.validation import check_keys

__all__ = ["StoredHistoryProvider"]


# How many of the messages that are saved may be stored already; None if all of them may.
_GIVEN: ContextVar[int | None] = ContextVar("hermes_agent_framework_given", default=None)


class StoredHistoryProvider(HistoryProvider):
    """A ``HistoryProvider`` whose messages are a stored conversation.

    Attributes:
        skip_excluded: whether ``get_messages`` leaves out what a compaction has marked so.
    """

    DEFAULT_SOURCE_ID = "stored_history"

    def __init__(
        self,
        store_or_session: StoreOrSession,
        owner: str = "",
        *,
        source_id: str = DEFAULT_SOURCE_ID,
        load_messages: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        store_outputs: bool = True,
        skip_excluded: bool = False,
    ) -> None:
        """Check the owner; nothing is read.

        Args:
            store_or_session: a store, for every ``AgentSession``; or, inside a request,
                ``request.state.hermes_session``: then there is this conversation alone, whichever
                id the ``AgentSession`` has, and its owner, lease and ``Idempotency-Key`` count.
            owner: whose the conversations are, with a store.
            source_id: the provider's name in the framework.
            load_messages: whether the model is given the history.
            store_inputs: whether to store what was asked.
            store_context_messages: whether to store what other providers have added.
            store_context_from: only what these have added.
            store_outputs: whether to store what was answered.
            skip_excluded: see the attribute.

        Raises:
            TypeError: a session comes with an owner.
            InvalidKey: the owner cannot be stored.
        """
        super().__init__(
            source_id,
            load_messages=load_messages,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            store_outputs=store_outputs,
        )
        self._place = store_or_session
        self._owner = owner
        self._only: Target | None = None
        if isinstance(store_or_session, HermesSession):
            self._only = Target(store_or_session, owner=owner)
        else:
            check_keys("any", owner)
        self.skip_excluded = skip_excluded

    async def get_messages(
        self,
        session_id: str | None,
        *,
        state: dict[str, Any] | None = None,  # noqa: ARG002  # the protocol's
        **kwargs: Any,  # noqa: ARG002  # the protocol's
    ) -> list[AgentMessage]:
        """Return the conversation, by whichever framework it was stored.

        Raises:
            ValueError: there is no id.
        """
        history = await self._target(session_id).conversation()
        messages = read_messages(history.messages)
        if not self.skip_excluded:
            return messages
        return [each for each in messages if not each.additional_properties.get("_excluded")]

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[AgentMessage],
        *,
        state: dict[str, Any] | None = None,  # noqa: ARG002  # the protocol's
        **kwargs: Any,  # noqa: ARG002  # the protocol's
    ) -> None:
        """Store what is new of the messages, at once.

        Raises:
            ValueError: there is no id.
            InvalidMessage: a message cannot be stored.
            SessionDeleted: the conversation was deleted.
        """
        given = _GIVEN.get()
        known = len(messages) if given is None else given
        await retry_conflicts(partial(_save, self._target(session_id), messages, known))

    async def after_run(
        self,
        *,
        agent: SupportsAgentRun,
        session: AgentSession,
        context: SessionContext,
        state: dict[str, Any],
    ) -> None:
        """Store a run's messages, as the options say."""
        asked = context.input_messages if self.store_inputs else []
        reset = _GIVEN.set(len(self._get_context_messages_to_store(context)) + len(asked))
        try:
            await super().after_run(agent=agent, session=session, context=context, state=state)
        finally:
            _GIVEN.reset(reset)

    def _target(self, session_id: str | None) -> Target:
        if self._only is not None:
            return self._only
        if not session_id:
            raise ValueError("session_id is missing: run the agent with a session")
        return Target(self._place, escape_id(session_id), self._owner)


async def _save(target: Target, messages: Sequence[AgentMessage], given: int) -> None:
    """Append what is new; of the messages the first ``given`` may be known."""
    history, stored = await _load(target, given + 1)
    known = _count_known([_Compared.of(each) for each in stored], messages[:given])
    new = [kept for message in messages[known:] for kept in store_message(message)]
    if new:
        await target.append(new, expected_length=history.length)


async def _load(target: Target, count: int) -> tuple[History, list[AgentMessage]]:
    """Return so many of the newest messages, or all, and the history that they are of."""
    limit = count
    while True:
        history = await target.read(Store.load, limit=limit)
        messages = read_messages(history.messages)
        if len(messages) >= count or len(history.messages) >= history.length:
            return history, messages
        limit *= 2


@dataclass(frozen=True, slots=True)
class _Compared:
    """What of a message says whether another one is the same: their ids, or else all of it."""

    role: str
    message_id: str | None
    contents: str

    @classmethod
    def of(cls, message: AgentMessage) -> "_Compared":
        contents = as_json(escape(item_of(message)["contents"]))
        return cls(message.role, message.message_id, contents)

    def is_same(self, other: "_Compared") -> bool:
        if self.message_id and other.message_id:
            return self.message_id == other.message_id
        return (self.role, self.contents) == (other.role, other.contents)


def _count_known(stored: Sequence[_Compared], messages: Sequence[AgentMessage]) -> int:
    """Return how many of the messages repeat what is stored, as the framework's providers do.

    That is all up to a repetition of the whole history, or else what overlaps its end. A question
    alone that is asked again, without an id, is not taken for a repetition.
    """
    given = [_Compared.of(each) for each in messages]
    if not stored:
        return 0
    for start in range(len(given) - len(stored) + 1):
        end = start + len(stored)
        if _are_same(stored, given[start:end]):
            return 0 if start == 0 and _is_asked_again(stored, given) else end
    for overlap in range(min(len(stored), len(given)), 0, -1):
        is_known = overlap > 1 or not _is_asked_again(stored[-1:], given)
        if is_known and _are_same(stored[-overlap:], given[:overlap]):
            return overlap
    return 0


def _are_same(some: Sequence[_Compared], others: Sequence[_Compared]) -> bool:
    return all(one.is_same(other) for one, other in zip(some, others, strict=True))


def _is_asked_again(stored: Sequence[_Compared], given: Sequence[_Compared]) -> bool:
    is_question = len(stored) == 1 and stored[0].role == "user"
    return is_question and not (stored[0].message_id and given[0].message_id)
