"""LlamaIndex's messages as stored ones, and stored ones as LlamaIndex's.

A ``ChatMessage`` is one stored message, the chat message of the same, with its own form beside it.
Where nothing more is in it than in the chat message, that is stored alone. Thinking, cache points
and files on a server's disk have no chat form: only LlamaIndex reads them. So it is with a message
that is added as an archived one, which no model is to be given.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ToolCallBlock,
    VideoBlock,
)

from hermes_session_mw.adapters.chat_messages import read_chat, store_item, stored_item
from hermes_session_mw.adapters.escaping import escape
from hermes_session_mw.adapters.plain_values import as_text, plain
from hermes_session_mw.messages import Message, text_of

__all__ = ["FORMAT", "is_archived", "read_message", "store_message"]

FORMAT = "llama_index"
"""The name that the items have."""

_ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}
_READ_ROLES = ("system", "developer", "user", "assistant")
_AUDIO = ("wav", "mp3")
_FILES = ("image", "audio", "video", "data")  # of a block, as bytes of base64


def store_message(message: ChatMessage, *, archived: bool = False) -> Message:
    """Return the message that keeps one of LlamaIndex's.

    Raises:
        PydanticSerializationError: it holds an object that LlamaIndex could not store either.
    """
    item = _item_of(message)
    if archived:
        return store_item(FORMAT, {"message": item, "archived": True})
    form = _chat_form(message, item)
    if form is not None and escape(form) is form and _is_all(form, item):
        return form
    return store_item(FORMAT, {"message": item}, form)


def read_message(stored: Message) -> ChatMessage | None:
    """Return a stored message, of whichever framework; None for one that is not for LlamaIndex."""
    item = stored_item(stored, FORMAT)
    if isinstance(item, dict):
        try:
            return ChatMessage.model_validate(item.get("message"))
        except ValueError:  # another version's
            pass
    chat = read_chat(stored)
    return None if chat is None else _of_chat(chat)


def is_archived(stored: Message) -> bool:
    """Return whether a message was added as an archived one."""
    item = stored_item(stored, FORMAT)
    return isinstance(item, dict) and item.get("archived") is True


def _is_all(form: Message, item: Message) -> bool:
    read = _of_chat(form)
    return read is not None and _item_of(read) == item


def _item_of(message: ChatMessage) -> Message:
    return {
        "role": message.role.value,
        "additional_kwargs": plain(message.additional_kwargs),
        "blocks": [_block_data(block.model_dump()) for block in message.blocks],
    }


def _block_data(block: Message) -> Message:
    """Return a block's values, with its file as the text of base64 that its bytes are."""
    files = () if block.get("block_type") == "tool_call" else _FILES
    return {
        key: value.decode("ascii")
        if key in files and isinstance(value, bytes) and value.isascii()
        else _nested(value)
        for key, value in block.items()
    }


def _nested(value: Any) -> Any:
    if isinstance(value, list):
        return [_nested(child) for child in value]
    is_block = isinstance(value, dict) and "block_type" in value
    return _block_data(value) if is_block else plain(value)


# To chat messages


def _chat_form(message: ChatMessage, item: Message) -> Message | None:
    role, extra = _ROLES[message.role.value], item["additional_kwargs"]
    text = "\n".join(each.text for each in message.blocks if isinstance(each, TextBlock))
    if role == "tool":
        call_id = extra.get("tool_call_id")
        if not isinstance(call_id, str) or not call_id:
            return None
        return {"role": role, "tool_call_id": call_id, "content": text}
    parts = list(_parts(message.blocks))
    form: Message = {"role": role}
    if role == "assistant":
        calls = list(_calls(message, extra))
        texts = [part["text"] for part in parts if part["type"] == "text"]
        form["content"] = "\n".join(texts) if texts else None
        if calls:
            form["tool_calls"] = calls
        elif not texts:
            return None
    elif not parts:
        return None
    else:
        is_text = len(parts) == 1 and parts[0]["type"] == "text"
        form["content"] = parts[0]["text"] if is_text else parts
    if isinstance(extra.get("name"), str):
        form["name"] = extra["name"]
    return form


def _calls(message: ChatMessage, extra: Message) -> Iterator[Message]:
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    for block in blocks:
        arguments = block.tool_kwargs
        if not isinstance(arguments, str):
            arguments = as_text(arguments)
        yield _call(block.tool_call_id or "", block.tool_name, arguments)
    kept = extra.get("tool_calls")
    if blocks or not isinstance(kept, list):
        return
    for call in kept:  # as LlamaIndex kept them before it had blocks for them
        match call:
            case {"id": str(call_id), "function": {"name": str(name), "arguments": str(text)}}:
                yield _call(call_id, name, text)


def _call(call_id: str, name: str, arguments: str) -> Message:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _parts(blocks: Sequence[Any]) -> Iterator[Message]:
    for block in blocks:
        if isinstance(block, CitableBlock):
            yield from _parts(block.content)
        elif isinstance(block, CitationBlock):
            yield from _parts([block.cited_content])
        elif (part := _part(block)) is not None:
            yield part


def _part(block: Any) -> Message | None:
    match block:
        case TextBlock():
            return {"type": "text", "text": block.text}
        case ImageBlock():
            url = _uri(block.image, block.image_mimetype or "image/png") or block.url
            return {"type": "image_url", "image_url": {"url": str(url)}} if url else None
        case AudioBlock() if isinstance(block.audio, bytes) and block.format in _AUDIO:
            audio = {"data": block.audio.decode("ascii"), "format": block.format}
            return {"type": "input_audio", "input_audio": audio}
        case DocumentBlock() if isinstance(block.data, bytes):
            uri = _uri(block.data, block.document_mimetype or "application/octet-stream")
            return {"type": "file", "file": {"file_data": uri, "filename": block.title}}
        case DocumentBlock() | VideoBlock() | AudioBlock() if block.url:
            return {"type": "text", "text": str(block.url)}  # there is no part for it
    return None


def _uri(data: Any, media_type: str) -> str | None:
    if not data or not isinstance(data, bytes):
        return None
    return f"data:{media_type};base64,{data.decode('ascii')}"


# From chat messages


def _of_chat(chat: Message) -> ChatMessage | None:
    role, name = chat.get("role"), chat.get("name")
    if role == "tool":
        extra = {"tool_call_id": chat.get("tool_call_id") or ""}
        return ChatMessage(role="tool", content=text_of(chat), additional_kwargs=extra)
    if role not in _READ_ROLES:
        return None
    blocks = _blocks(chat.get("content"))
    if role == "assistant":
        calls = list(_call_blocks(chat.get("tool_calls")))
        if calls and chat.get("content") == "":  # as some frameworks and providers have it
            blocks = []
        if not blocks and isinstance(chat.get("refusal"), str):
            blocks = [TextBlock(text=chat["refusal"])]
        blocks += calls
    if not blocks:
        return None
    kept = {"name": name} if isinstance(name, str) else {}
    return ChatMessage(role=role, blocks=blocks, additional_kwargs=kept)


def _call_blocks(calls: Any) -> Iterator[ToolCallBlock]:
    for call in calls if isinstance(calls, list) else []:
        match call:
            case {"id": str(call_id), "function": {"name": str(name), **function}}:
                arguments = function.get("arguments")
            case {"id": str(call_id), "custom": {"name": str(name), **custom}}:
                arguments = custom.get("input")
            case _:
                continue
        if not isinstance(arguments, str):
            arguments = "{}"
        yield ToolCallBlock(tool_call_id=call_id, tool_name=name, tool_kwargs=arguments)


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [TextBlock(text=content)]
    parts = content if isinstance(content, list) else []
    return [block for part in parts if (block := _block(part)) is not None]


def _block(part: Any) -> Any:
    try:
        match part:
            case {"text": str(text)}:
                return TextBlock(text=text)
            case {"image_url": {"url": str(url)}}:
                media_type, data = _split_uri(url)
                if data is None:
                    return ImageBlock(url=url)
                return ImageBlock(image=data, image_mimetype=media_type)
            case {"input_audio": {"data": str(audio), "format": str(kind)}}:
                return AudioBlock(audio=audio.encode(), format=kind)
            case {"file": {"file_data": str(uri), **file}} if uri.startswith("data:"):
                media_type, data = _split_uri(uri)
                title = file.get("filename")
                return DocumentBlock(data=data, document_mimetype=media_type, title=title)
    except ValueError:  # no address
        pass
    return None


def _split_uri(uri: str) -> tuple[str | None, bytes | None]:
    """Return the type and the base64 of a data URI; nothing of any other."""
    head, _, data = uri.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64"):
        return None, None
    return head[len("data:") : -len(";base64")] or None, data.encode()
