"""Converts the fields of a Responses request to those of Chat Completions, and tells them again.

Rules of this file: pure functions over JSON values. A field of the API is converted, kept, or
refused by its name; a field that the API does not have is passed on as it is, since servers have
fields of their own (``top_k``, ``chat_template_kwargs``). What can only be one way here is accepted
where it is that way: a ``max_tool_calls``, which counts hosted tools alone.
"""

from collections.abc import Mapping
from typing import Any

from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.characters import whole
from hermes_session_mw.openai_api.invalid_request import InvalidRequest, unsupported

_OWN = (
    *("input", "instructions", "conversation_history", "previous_response_id", "conversation"),
    *("store", "stream", "stream_options", "background", "truncation", "include", "metadata"),
    *("tools", "tool_choice", "text", "reasoning", "max_output_tokens", "max_tool_calls"),
    "top_logprobs",
)
"""Fields that are handled here, or by the endpoint; all others are passed on by their names."""

_REFUSED = (
    *("prompt", "context_management", "moderation", "access_programs", "image", "messages"),
    "background_options",
)
_INCLUDED = (
    # Nothing here is left out that these ask for: such items do not occur, or are whole.
    *("file_search_call.results", "web_search_call.results", "web_search_call.action.sources"),
    *("computer_call_output.output.image_url", "code_interpreter_call.outputs"),
    *("message.input_image.image_url", "reasoning.encrypted_content"),
    _LOGPROBS := "message.output_text.logprobs",
)
_TEXTS = (
    *("model", "user", "safety_identifier", "prompt_cache_key", "service_tier"),
    *("instructions", "previous_response_id"),
)
_NUMBERS = ("temperature", "top_p", "max_output_tokens", "max_tool_calls", "top_logprobs")
_OBJECTS = ("text", "reasoning", "metadata", "stream_options", "prompt_cache_options")
_FLAGS = ("parallel_tool_calls", "background", "store", "stream")
_KINDS: tuple[tuple[tuple[str, ...], Any, str], ...] = (
    (_TEXTS, str, "a string"),
    (_NUMBERS, int | float, "a number"),
    (_OBJECTS, dict, "an object"),
    (_FLAGS, bool, "true or false"),
    (("conversation_history",), list, "a list"),
)

_DEFAULTS: Message = {
    "background": False,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "prompt_cache_options": None,
    "prompt_cache_retention": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""The fields that a response tells again, as they are where a request does not have them."""

MAX_METADATA = 16
_MAX_NAME, _MAX_VALUE = 64, 512


def check_supported(data: Mapping[str, Any]) -> None:
    """Refuse what is of a wrong type, and what is not supported.

    Raises:
        InvalidRequest: by the field's name.
    """
    for names, kind, shown in _KINDS:
        for name in names:
            _check_kind(name, data.get(name), kind, shown)
    for name in _REFUSED:
        if data.get(name) is not None:
            raise unsupported(name)
    if data.get("background") and data.get("store") is False:
        raise InvalidRequest("'background' needs 'store': true, to be found again", "background")
    if data.get("n") not in (None, 1):
        raise unsupported("n")
    _check_stream_options(data.get("stream_options") or {})
    if data.get("truncation") not in (None, "auto", "disabled"):
        raise InvalidRequest("'truncation' is neither 'auto' nor 'disabled'", "truncation")
    _check_included(data.get("include"))
    check_metadata(data.get("metadata"))


def options_of(data: Mapping[str, Any]) -> Message:
    """Return the fields for a model, in the shape of Chat Completions.

    Raises:
        InvalidRequest: a tool, a choice or a format is of a wrong shape, or not supported.
    """
    passed_on = {name: value for name, value in data.items() if name not in _OWN}
    top, include = data.get("top_logprobs"), data.get("include") or []
    converted = {
        "max_completion_tokens": data.get("max_output_tokens"),
        "tools": [_nested_tool(tool, where) for tool, where in _tools(data)] or None,
        "tool_choice": _nested_choice(data.get("tool_choice")),
        "logprobs": True if top or _LOGPROBS in include else None,
        "top_logprobs": top or None,
        **_text_options(data.get("text") or {}),
        **_reasoning_options(data.get("reasoning") or {}),
    }
    return _given(passed_on) | _given(converted)


def told_again(data: Mapping[str, Any]) -> Message:
    """Return the fields that a response tells as they were asked for, without the defaults."""
    told = {name: data[name] for name in _DEFAULTS if data.get(name) is not None}
    if "tools" in told:
        told["tools"] = [_flat_tool(tool) for tool in told["tools"]]
    if "text" in told:
        told["text"] = _DEFAULTS["text"] | _given(told["text"])
    if "reasoning" in told:
        told["reasoning"] = _DEFAULTS["reasoning"] | told["reasoning"]
    return {name: value for name, value in told.items() if value != _DEFAULTS[name]}


def response_defaults() -> Message:
    """Return all fields that a response tells, as they are by default."""
    return {name: dict(v) if isinstance(v, dict) else v for name, v in _DEFAULTS.items()}


def check_metadata(value: Any, param: str = "metadata") -> dict[str, str]:
    """Return the metadata of a response or a conversation; an empty dict for None.

    Raises:
        InvalidRequest: it is no object of up to 16 texts, of 512 characters under names of 64; or
            one holds half of a character.
    """
    pairs = {} if value is None else value
    problem = (
        f"'{param}' is not an object of up to {MAX_METADATA} texts, "
        f"of {_MAX_VALUE} characters under names of {_MAX_NAME}"
    )
    if not isinstance(pairs, dict) or len(pairs) > MAX_METADATA:
        raise InvalidRequest(problem, param)
    for name, text in pairs.items():
        if not isinstance(text, str) or len(text) > _MAX_VALUE or len(name) > _MAX_NAME:
            raise InvalidRequest(problem, param)
    if whole(pairs) != pairs:
        raise InvalidRequest(f"'{param}' holds a lone surrogate, which is not Unicode text", param)
    return pairs


def _check_kind(name: str, value: Any, kind: Any, shown: str) -> None:
    if value is None:
        return
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InvalidRequest(f"'{name}' is not {shown}", name)
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidRequest(f"'{name}' holds a lone surrogate", name)


def _check_stream_options(options: Message) -> None:
    for name, value in options.items():
        if value and name != "include_usage":  # the usage is told in any case
            raise unsupported(f"stream_options.{name}")


def _check_included(value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, list):
        raise InvalidRequest("'include' is not a list", "include")
    for name in value:
        if name not in _INCLUDED:
            raise unsupported("include", repr(name))


def _tools(data: Mapping[str, Any]) -> list[tuple[Message, str]]:
    tools = data.get("tools")
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise InvalidRequest("'tools' is not a list", "tools")
    return [(_checked(tool, f"tools[{at}]"), f"tools[{at}]") for at, tool in enumerate(tools)]


def _checked(value: Any, where: str) -> Message:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise InvalidRequest(f"'{where}' is not an object with a type", where)
    return value


def _nested_tool(tool: Message, where: str) -> Message:
    kind = tool["type"]
    if kind not in ("function", "custom"):
        raise unsupported(f"{where}.type", repr(kind))
    inner = _given(_flat_tool(tool), without=("type",))
    if not isinstance(inner.get("name"), str):
        raise InvalidRequest(f"'{where}.name' is not a string", f"{where}.name")
    grammar = inner.get("format")
    if kind == "custom" and isinstance(grammar, dict) and grammar.get("type") == "grammar":
        rules = _given(grammar, without=("type",))
        inner["format"] = {"type": "grammar", "grammar": rules.get("grammar", rules)}
    return {"type": kind, kind: inner}


def _flat_tool(tool: Message) -> Message:
    """Return a tool as Responses has it; some clients send it as Chat Completions has it."""
    inner = tool.get(tool["type"])
    flat = {"type": tool["type"]} | inner if isinstance(inner, dict) else tool
    required = {"parameters": None, "strict": None} if flat["type"] == "function" else {}
    return required | flat


def _nested_choice(choice: Any) -> Any:
    if choice is None or choice in ("none", "auto", "required"):
        return choice
    kind = _checked(choice, "tool_choice")["type"]
    if kind == "allowed_tools":
        tools = choice.get("tools")
        if not isinstance(tools, list):
            raise InvalidRequest("'tool_choice.tools' is not a list", "tool_choice.tools")
        chosen = [_nested_name(tool, f"tool_choice.tools[{at}]") for at, tool in enumerate(tools)]
        return {"type": kind, kind: {"mode": choice.get("mode", "auto"), "tools": chosen}}
    return _nested_name(choice, "tool_choice")


def _nested_name(chosen: Any, where: str) -> Message:
    kind = _checked(chosen, where)["type"]
    if kind not in ("function", "custom"):
        raise unsupported(f"{where}.type", repr(kind))
    inner = chosen.get(kind)
    name = (inner if isinstance(inner, dict) else chosen).get("name")
    if not isinstance(name, str):
        raise InvalidRequest(f"'{where}.name' is not a string", f"{where}.name")
    return {"type": kind, kind: {"name": name}}


def _text_options(text: Message) -> Message:
    """Return the options for ``text``: its format and its verbosity."""
    unknown = [name for name in text if name not in ("format", "verbosity")]
    if unknown:
        raise unsupported(f"text.{unknown[0]}")
    options: Message = {"verbosity": text.get("verbosity")}
    if text.get("format") is None:
        return options
    form = _checked(text["format"], "text.format")
    kind = form["type"]
    if kind == "json_schema":
        inner = form.get(kind)
        schema = inner if isinstance(inner, dict) else _given(form, without=("type",))
        if not isinstance(schema.get("name"), str) or not isinstance(schema.get("schema"), dict):
            raise InvalidRequest("'text.format' has no name or no schema", "text.format")
        options["response_format"] = {"type": kind, kind: schema}
    elif kind == "json_object":
        options["response_format"] = {"type": kind}
    elif kind != "text":
        raise unsupported("text.format.type", repr(kind))
    return options


def _reasoning_options(reasoning: Message) -> Message:
    """Return the options for ``reasoning``.

    Summaries cannot be asked for in Chat Completions: what reasoning the model tells is told.
    """
    accepted = {
        "summary": ("auto",),
        "generate_summary": ("auto",),
        "context": ("auto",),
        "mode": ("standard",),
    }
    for name, value in reasoning.items():
        if name != "effort" and value is not None and value not in accepted.get(name, ()):
            raise unsupported(f"reasoning.{name}", repr(value) if name in accepted else None)
    return {"reasoning_effort": reasoning.get("effort")}


def _given(fields: Message, without: tuple[str, ...] = ()) -> Message:
    return {name: v for name, v in fields.items() if v is not None and name not in without}
