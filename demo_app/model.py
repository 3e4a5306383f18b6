"""A model that needs no network: it answers always alike, and shows what it remembers."""

import re
from collections.abc import AsyncGenerator, Sequence

from anyio.lowlevel import checkpoint

from hermes_session_mw.messages import Message

MODEL_NAME = "hermes-demo"


def text_of(message: Message) -> str:
    """Return a message's text, whether its content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(part["text"] for part in content if part.get("type") == "text")
    return content or ""


def answer(messages: Sequence[Message]) -> str:
    """Return the answer to the last message, which is a user's."""
    *earlier, last = [text_of(message) for message in messages if message["role"] == "user"]
    if not earlier:
        return f"You said: {last} | This is your first message in this conversation."
    count = "1 earlier message" if len(earlier) == 1 else f"{len(earlier)} earlier messages"
    return f"You said: {last} | I remember {count}; the first was: {earlier[0]}"


async def pieces(text: str) -> AsyncGenerator[str, None]:
    """Yield the text word by word, as a model at work would; joined, they are the text."""
    for word in re.findall(r"\s*\S+|\s+", text):
        await checkpoint()
        yield word


def count_tokens(text: str) -> int:
    """Return how many tokens this model takes the text for: its words."""
    return len(text.split())
