"""How a model fails: as an HTTP status, and an error in OpenAI's shape."""

from collections.abc import Mapping

from hermes_session_mw.messages import Message


def error_body(
    message: str, error_type: str, param: str | None = None, code: str | None = None
) -> Message:
    """Return the JSON object of an error."""
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


class ModelFailed(Exception):
    """The model gave no answer, or not all of it.

    Attributes:
        body: the error in OpenAI's shape.
        status: what it is before the response begins.
        headers: what goes with it.
    """

    def __init__(
        self, body: Message, status: int = 502, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(body["error"]["message"])
        self.body = body
        self.status = status
        self.headers = headers


class ModelRefused(ModelFailed):
    """The model takes no such request, now or later: nothing of it is stored.

    A message that is refused would be so with every later request of its conversation.
    """


def upstream_failed(message: str, status: int = 502, code: str = "upstream_error") -> ModelFailed:
    """Return a failure that is the upstream's own, and none of the request."""
    return ModelFailed(error_body(message, "server_error", code=code), status)


def as_failure(exc: Exception) -> ModelFailed:
    """Return what a stream that has begun says of an exception at its end."""
    if isinstance(exc, ModelFailed):
        return exc
    return ModelFailed(error_body(str(exc), "server_error"), 500)
