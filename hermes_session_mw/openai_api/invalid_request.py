"""`InvalidRequest`, which this folder's functions raise for a request of a wrong shape."""

from hermes_session_mw.openai_api.characters import whole_text

_LONGEST = 400  # characters


class InvalidRequest(ValueError):
    """The request is invalid, or asks for what is not supported.

    The texts may quote the name of a field: they are cut after 400 characters, and halves of
    characters, which no response can have, become U+FFFD.

    Attributes:
        param: the field at fault, such as ``input[0].content``; None for the body as a whole.
        code: OpenAI's code of the error, such as ``unsupported_parameter``; None without one.
        status: the status of the response: 400, or 404 for what is named and is not there.
    """

    def __init__(
        self, message: str, param: str | None = None, *, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(_quotable(message))
        self.param: str | None = None if param is None else _quotable(param)
        self.code = code
        self.status = status


def unsupported(param: str, what: str | None = None) -> InvalidRequest:
    """Return the refusal of a field by its name, or of a value of it, which ``what`` names."""
    shown = f"'{param}'" if what is None else f"'{param}': {what}"
    return InvalidRequest(f"{shown} is not supported here", param, code="unsupported_parameter")


def _quotable(text: str) -> str:
    whole = whole_text(text)
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 1]}\u2026"
