"""`ResponseRequest`: what a request to the Responses API asks for, ready for an endpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.response_items import (
    Item,
    input_items,
    is_reference,
    messages_of,
    with_references,
)
from hermes_session_mw.openai_api.response_options import check_supported, options_of, told_again
from hermes_session_mw.session.request_digest import request_digest
from hermes_session_mw.session.tool_calls import INSTRUCTIONS


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """The fields of a request's body.

    Attributes:
        instructions: a system message for this response only.
        items: the input's items, after those of ``conversation_history``.
        previous: the response to continue from.
        conversation: the conversation to continue.
        store: store the response, and the turn.
        stream: answer with server-sent events.
        background: go on whatever the client does, and let it come back.
        truncates: leave out the oldest messages of a long conversation.
        options: the body's other fields for the model, by their names in Chat Completions.
        told: the fields that the response tells again.
        digest: the body's digest, by which a repeated request is known.
        system: the instructions and the system messages, which are never stored.
        new: the input's other messages, in the shape of Chat Completions, as they are stored.
    """

    instructions: str | None
    items: list[Item]
    previous: str | None
    conversation: str | None
    store: bool
    stream: bool
    background: bool
    truncates: bool
    options: dict[str, Any]
    told: dict[str, Any]
    digest: str
    system: list[Message]
    new: list[Message]

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> "ResponseRequest":
        """Read a request's body.

        Raises:
            InvalidRequest: a field or an item is invalid or not supported, or there is nothing to
                answer.
        """
        check_supported(body)
        history = body.get("conversation_history") or []
        items = [*input_items(history, "conversation_history"), *input_items(body.get("input"))]
        # As in Hermes Agent's API, a history in the body comes before the previous response.
        previous = None if history else body.get("previous_response_id")
        conversation = _conversation(body.get("conversation"))
        if previous is not None and conversation is not None:
            problem = "give 'previous_response_id' or 'conversation', and not both"
            raise InvalidRequest(problem, "previous_response_id")
        asked = cls(
            instructions=body.get("instructions"),
            items=items,
            previous=previous,
            conversation=conversation,
            store=body.get("store") is not False,
            stream=bool(body.get("stream")),
            background=bool(body.get("background")),
            truncates=body.get("truncation") == "auto",
            options=options_of(body),
            told=told_again(body),
            digest=request_digest(body),
            system=[],
            new=[],
        )
        return asked if asked.references else asked.with_messages({})

    @property
    def references(self) -> list[str]:
        """The ids of the stored items that the input refers to."""
        return [item["id"] for item in self.items if is_reference(item)]

    def with_messages(self, found: Mapping[str, Item]) -> "ResponseRequest":
        """Return the request with its messages, whose references are in ``found``.

        Raises:
            InvalidRequest: an item is invalid or missing, or there is nothing to answer.
        """
        messages = messages_of(with_references(self.items, found))
        if not any(message["role"] in ("user", "tool") for message in messages):
            raise InvalidRequest("there is no user message in 'input'", "input")
        given = self.instructions
        told = [] if given is None else [{"role": "system", "content": given}]
        system = [*told, *(each for each in messages if each["role"] in INSTRUCTIONS)]
        new = [message for message in messages if message["role"] not in INSTRUCTIONS]
        return replace(self, system=system, new=new)


def _conversation(value: Any) -> str | None:
    name = value.get("id") if isinstance(value, dict) else value
    if value is not None and not isinstance(name, str):
        raise InvalidRequest("'conversation' has no valid id", "conversation")
    return name
