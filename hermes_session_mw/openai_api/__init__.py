"""The wire of OpenAI's APIs, for chat endpoints: read leniently, written strictly.

What a provider or a client adds is passed through whole. The core does not import this folder; its
modules are pure, but for the ones that answer a request.
"""

from hermes_session_mw.openai_api.assembly import MessageAssembly, as_delta
from hermes_session_mw.openai_api.body_limit import BodyLimit
from hermes_session_mw.openai_api.capabilities import capabilities
from hermes_session_mw.openai_api.chunks import Chunk, InvalidChunk, read_chunk, split_delta
from hermes_session_mw.openai_api.conversations import (
    conversation_routes,
    conversation_session_id,
)
from hermes_session_mw.openai_api.cors import CORS_REQUEST_HEADERS, CORS_RESPONSE_HEADERS
from hermes_session_mw.openai_api.event_reader import EventReader, EventTooLarge
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.item_ids import answer_items, page_of, placed_items
from hermes_session_mw.openai_api.response_events import ResponseEvents
from hermes_session_mw.openai_api.response_items import (
    input_items,
    items_of,
    messages_of,
    with_references,
)
from hermes_session_mw.openai_api.response_log import known_events
from hermes_session_mw.openai_api.response_object import response_object, usage_of
from hermes_session_mw.openai_api.response_options import (
    check_supported,
    options_of,
    told_again,
)
from hermes_session_mw.openai_api.response_request import ResponseRequest
from hermes_session_mw.openai_api.response_stream import FollowedResponse
from hermes_session_mw.openai_api.retry_after import read_retry_after
from hermes_session_mw.openai_api.stored_responses import (
    StoredResponses,
    new_response_id,
    response_turn_id,
)
from hermes_session_mw.openai_api.titles import title_of
from hermes_session_mw.openai_api.transcript import (
    answers_calls,
    for_upstream,
    in_plain_form,
    refused_parts,
)
from hermes_session_mw.openai_api.usage import estimated_usage
from hermes_session_mw.session.event_stream import EventStream, server_sent_event

__all__ = [
    "CORS_REQUEST_HEADERS",
    "CORS_RESPONSE_HEADERS",
    "BodyLimit",
    "Chunk",
    "EventReader",
    "EventStream",
    "EventTooLarge",
    "FollowedResponse",
    "InvalidChunk",
    "InvalidRequest",
    "MessageAssembly",
    "ResponseEvents",
    "ResponseRequest",
    "StoredResponses",
    "answer_items",
    "answers_calls",
    "as_delta",
    "capabilities",
    "check_supported",
    "conversation_routes",
    "conversation_session_id",
    "estimated_usage",
    "for_upstream",
    "in_plain_form",
    "input_items",
    "items_of",
    "known_events",
    "messages_of",
    "new_response_id",
    "options_of",
    "page_of",
    "placed_items",
    "read_chunk",
    "read_retry_after",
    "refused_parts",
    "response_object",
    "response_turn_id",
    "server_sent_event",
    "split_delta",
    "title_of",
    "told_again",
    "usage_of",
    "with_references",
]
