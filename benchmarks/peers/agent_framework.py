"""agent-framework's ``FileHistoryProvider``.

A file of JSON lines for every session, written from a thread and not synced: a turn that is said to
be stored is lost with the machine's power. Before it appends, it reads the file, to leave out what
a replay of the whole transcript would repeat; so each message has an id of its own here. A load
returns all messages.
"""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent_framework import Content, FileHistoryProvider, Message

from benchmarks.peers import peer


class AgentFramework:
    """One provider for all sessions."""

    def __init__(self) -> None:
        self._provider: Any = None

    async def open(self, url: str, directory: Path) -> None:  # noqa: ARG002  # it has files only
        """Name the directory."""
        self._provider = FileHistoryProvider(directory / "agent_framework")

    def convert(self, messages: Sequence[peer.Message]) -> list[Any]:
        """Return roles and contents; messages are made when they are, since each has an id."""
        return [(message["role"], _contents(message)) for message in messages]

    async def fill(self, session_id: str, messages: Sequence[peer.Message]) -> None:
        """Save all messages at once."""
        await self.append(session_id, self.convert(messages))

    async def load(self, session_id: str) -> Sequence[Any]:
        """Get all messages."""
        messages: Sequence[Any] = await self._provider.get_messages(session_id)
        return messages

    async def load_last(self, session_id: str, count: int) -> Sequence[Any]:
        """Get all messages, and keep the newest."""
        return (await self.load(session_id))[-count:]

    async def append(self, session_id: str, turn: list[Any]) -> None:
        """Save the messages of a turn."""
        messages = [
            Message(role=role, contents=contents, message_id=uuid.uuid4().hex)
            for role, contents in turn
        ]
        await self._provider.save_messages(session_id, messages)

    async def first_sight(self, session_id: str) -> Sequence[Any]:
        """Get all messages: a session needs nothing of its own."""
        return await self.load(session_id)

    async def aclose(self) -> None:
        """Do nothing: it has no connection."""


def _contents(message: peer.Message) -> list[Any]:
    contents = [Content.from_text(message["content"])]
    for call in message.get("tool_calls", ()):
        function = call["function"]
        contents.append(
            Content.from_function_call(
                call["id"], function["name"], arguments=function["arguments"]
            )
        )
    return contents
