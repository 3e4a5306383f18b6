"""The wire of OpenAI's APIs, for chat endpoints: read leniently, written strictly.

What a provider or a client adds is passed through whole. The core does not import this folder; its
modules are pure, but for the ones that answer a request.
"""

from hermes_session_mw.openai_api.cors import CORS_REQUEST_HEADERS, CORS_RESPONSE_HEADERS
from hermes_session_mw.openai_api.event_stream import EventStream, server_sent_event

__all__ = ["CORS_REQUEST_HEADERS", "CORS_RESPONSE_HEADERS", "EventStream", "server_sent_event"]
