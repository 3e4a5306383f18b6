"""A model's failures: an HTTP status, and an error in OpenAI's shape."""

from collections.abc import Mapping

from hermes_session_mw import Answer, HermesSessionError, InvalidMessage, MessageTooLarge
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api import InvalidRequest, server_sent_event
from hermes_session_mw.openai_api.response_log import BROKE_OFF

FINAL = {"X-Should-Retry": "false"}
"""Without this header OpenAI's SDKs retry every request that was answered 409."""


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


REFUSED = (ModelRefused, InvalidRequest)
"""What is raised for a question that is not to be stored."""


def upstream_failed(message: str, status: int = 502, code: str = "upstream_error") -> ModelFailed:
    """Return a failure of the upstream, which the request did not cause."""
    return ModelFailed(error_body(message, "server_error", code=code), status)


def error_event(exc: Exception) -> str | None:
    """Return the event that ends a stream, or None for an exception that is nobody's but ours."""
    is_known = isinstance(exc, ModelFailed | InvalidRequest | HermesSessionError)
    return server_sent_event(as_failure(exc).body) if is_known else None


def error_payload(exc: Exception) -> Message:
    """Return what an answer's log has of its failure, for who follows it in another process."""
    failure = as_failure(exc)
    return {**failure.body, "status": failure.status, "headers": dict(failure.headers or {})}


def as_failure(exc: Exception) -> ModelFailed:
    """Return an exception as the failure that ends a stream; an unexpected one is not quoted."""
    if isinstance(exc, ModelFailed):
        return exc
    if isinstance(exc, InvalidRequest):
        body = error_body(str(exc), "invalid_request_error", exc.param, exc.code)
        return ModelFailed(body, exc.status)
    if isinstance(exc, InvalidMessage):
        is_long = isinstance(exc, MessageTooLarge)
        problem = "is too long to be stored" if is_long else "cannot be stored"
        return upstream_failed(f"the answer {problem}")
    told = str(exc) if isinstance(exc, HermesSessionError) else "The server failed to answer."
    return ModelFailed(error_body(told, "server_error"), 500)


def failure_of(answer: Answer, logged: Message | None = None) -> Exception:
    """Return why an answer that has ended is not whole.

    ``logged`` is the `error_payload` of its log, from which it is known in other processes than the
    answer's own.
    """
    error = answer.error
    if error is not None:
        return as_failure(error) if isinstance(error, InvalidMessage) else error
    if logged is not None:
        return ModelFailed({"error": logged["error"]}, logged["status"], logged["headers"])
    if answer.state == "stopped":
        stopped = error_body("the answer was stopped", "server_error", code="answer_stopped")
        return ModelFailed(stopped, 409, FINAL)
    return ModelFailed({"error": BROKE_OFF["error"]}, BROKE_OFF["status"], {"Retry-After": "1"})
