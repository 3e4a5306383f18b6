"""A model's failures: an HTTP status, and an error in OpenAI's shape."""

from collections.abc import Mapping

from hermes_session_mw import HermesSessionError
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api import server_sent_event


def error_body(
    message: str, error_type: str, param: str | None = None, code: str | None = None
) -> Message:
    """Return the JSON object of an error."""
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


class ModelFailed(Exception):
    """The model sent no answer, or an incomplete one.

    Attributes:
        body: the error in OpenAI's shape.
        status: the response's status, if it has not begun.
        headers: the response's headers.
        said: what the upstream said, as it is; it is not sent on.
    """

    said = ""

    def __init__(
        self, body: Message, status: int = 502, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(body["error"]["message"])
        self.body = body
        self.status = status
        self.headers = headers


class ModelRefused(ModelFailed):
    """The model refuses the request permanently: nothing of it is stored.

    A refused message would make it refuse every later request of the conversation, too.
    """


def upstream_failed(message: str, status: int = 502, code: str = "upstream_error") -> ModelFailed:
    """Return a failure of the upstream, which the request did not cause."""
    return ModelFailed(error_body(message, "server_error", code=code), status)


def error_event(exc: Exception) -> str | None:
    """Return the event that ends a stream, or None for an exception that is nobody's but ours."""
    is_known = isinstance(exc, ModelFailed | HermesSessionError)
    return server_sent_event(as_failure(exc).body) if is_known else None


def as_failure(exc: Exception) -> ModelFailed:
    """Return an exception as the failure that ends a stream."""
    if isinstance(exc, ModelFailed):
        return exc
    return ModelFailed(error_body(str(exc), "server_error"), 500)
