"""The fields of a Responses request, for a model and told again."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.response_object import end_status, response_object, usage_of
from hermes_session_mw.openai_api.response_options import check_supported, options_of, told_again
from tests.support import json_values

Fields = dict[str, Any]

FUNCTION: Fields = {
    "name": "f",
    "description": "d",
    "strict": True,
    "parameters": {"type": "object"},
}
TOOL: Fields = {"type": "function"} | FUNCTION
CUSTOM: Fields = {
    "type": "custom", "name": "c",
    "format": {"type": "grammar", "syntax": "regex", "definition": "a+"},
}  # fmt: skip
SCHEMA: Fields = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}

PASSED: dict[str, tuple[Fields, Fields]] = {
    "numbers": (
        {"temperature": 0, "top_p": 0.5, "max_output_tokens": 9},
        {"temperature": 0, "top_p": 0.5, "max_completion_tokens": 9},
    ),
    "names that are the same": (
        {"model": "m", "user": "u", "prompt_cache_key": "k", "safety_identifier": "s",
         "service_tier": "flex", "parallel_tool_calls": False},
        {"model": "m", "user": "u", "prompt_cache_key": "k", "safety_identifier": "s",
         "service_tier": "flex", "parallel_tool_calls": False},
    ),
    "a server's own": ({"top_k": 4, "seed": None}, {"top_k": 4}),
    "names of Chat Completions": (
        {"reasoning_effort": "low", "verbosity": "low", "max_completion_tokens": 3,
         "response_format": {"type": "text"}, "n": 1, "logprobs": True},
        {"reasoning_effort": "low", "verbosity": "low", "max_completion_tokens": 3,
         "response_format": {"type": "text"}, "n": 1, "logprobs": True},
    ),
    "names of both": (
        {"reasoning_effort": "low", "reasoning": {"effort": "high"}}, {"reasoning_effort": "high"},
    ),
    "a function": (
        {"tools": [TOOL]},
        {"tools": [{"type": "function", "function": FUNCTION}]},
    ),
    "a function without parameters": (
        {"tools": [{"type": "function", "name": "f", "parameters": None, "strict": None}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
    ),
    "a function as chat has it": (
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
    ),
    "a custom tool": (
        {"tools": [CUSTOM]},
        {"tools": [{"type": "custom", "custom": {"name": "c", "format": {
            "type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}}}}]},
    ),
    "a choice": ({"tool_choice": "required"}, {"tool_choice": "required"}),
    "a chosen function": (
        {"tool_choice": {"type": "function", "name": "f"}},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    ),
    "a chosen custom tool": (
        {"tool_choice": {"type": "custom", "name": "c"}},
        {"tool_choice": {"type": "custom", "custom": {"name": "c"}}},
    ),
    "allowed tools": (
        {"tool_choice": {"type": "allowed_tools", "mode": "required",
                         "tools": [{"type": "function", "name": "f"}]}},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {
            "mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}}},
    ),
    "a schema": (
        {"text": {"format": SCHEMA, "verbosity": "low"}},
        {"verbosity": "low", "response_format": {"type": "json_schema", "json_schema": {
            "name": "n", "schema": {"type": "object"}, "strict": True}}},
    ),
    "json": (
        {"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}},
    ),
    "text": ({"text": {"format": {"type": "text"}}}, {}),
    "effort": ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
    "log probabilities": (
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"logprobs": True, "top_logprobs": 2},
    ),
    "kept": (
        {"input": "a", "metadata": {"a": "b"}, "store": True, "stream": True, "truncation": "auto",
         "include": ["reasoning.encrypted_content"], "max_tool_calls": 3, "background": True,
         "top_logprobs": 0, "stream_options": {"include_obfuscation": False}, "tools": [],
         "instructions": "i", "previous_response_id": "r", "conversation": "c",
         "conversation_history": []},
        {},
    ),
}  # fmt: skip


def read(fields: Fields) -> Fields:
    """Return the options for a model; raise the refusal of a field."""
    check_supported(fields)
    return options_of(fields)


@pytest.mark.parametrize(("fields", "options"), PASSED.values(), ids=PASSED.keys())
def test_fields_are_passed_on_as_chat_has_them(fields: Fields, options: Fields) -> None:
    """What Chat Completions has is converted, and what neither API has is passed on."""
    assert read(fields) == options


REFUSED: dict[str, Fields] = {
    "prompt": {"prompt": {"id": "p"}},
    "context_management": {"context_management": [{"type": "compaction"}]},
    "moderation": {"moderation": {}},
    "messages": {"messages": []},
    "stream_options.include_obfuscation": {"stream_options": {"include_obfuscation": True}},
    "stream_options.other": {"stream_options": {"include_usage": True, "other": 1}},
    "n": {"n": 2},
    "include": {"include": ["message.other"]},
    "tools[1].type": {"tools": [TOOL, {"type": "web_search"}]},
    "tool_choice.type": {"tool_choice": {"type": "file_search"}},
    "tool_choice.tools[0].type": {
        "tool_choice": {"type": "allowed_tools", "tools": [{"type": "mcp", "server_label": "s"}]}
    },
    "text.format.type": {"text": {"format": {"type": "grammar"}}},
    "text.other": {"text": {"other": 1}},
    "reasoning.summary": {"reasoning": {"summary": "detailed"}},
    "reasoning.mode": {"reasoning": {"mode": "pro"}},
    "reasoning.other": {"reasoning": {"other": 1}},
}


@pytest.mark.parametrize(("param", "fields"), REFUSED.items(), ids=REFUSED.keys())
def test_what_is_not_supported_is_refused_by_name(param: str, fields: Fields) -> None:
    """Nothing that the API has is ignored."""
    with pytest.raises(InvalidRequest) as refused:
        read(fields)
    assert (refused.value.param, refused.value.code) == (param, "unsupported_parameter")
    assert param in str(refused.value)


HOSTED = [
    *("web_search", "web_search_preview", "file_search", "computer", "computer_use_preview"),
    *("mcp", "code_interpreter", "image_generation", "local_shell", "shell", "apply_patch"),
    *("namespace", "tool_search"),
]


@pytest.mark.parametrize("kind", HOSTED)
def test_a_hosted_tool_is_refused_by_its_name(kind: str) -> None:
    """The message says which tool it is."""
    with pytest.raises(InvalidRequest, match=repr(kind)):
        options_of({"tools": [{"type": kind}]})


WRONG: dict[str, Fields] = {
    "tools": {"tools": {}},
    "tools[0]": {"tools": ["f"]},
    "tools[0].name": {"tools": [{"type": "function"}]},
    "tool_choice": {"tool_choice": 1},
    "tool_choice.name": {"tool_choice": {"type": "function"}},
    "tool_choice.tools": {"tool_choice": {"type": "allowed_tools"}},
    "text.format": {"text": {"format": {"type": "json_schema", "name": "n"}}},
    "text": {"text": "json"},
    "reasoning": {"reasoning": "low"},
    "include": {"include": "all"},
    "metadata": {"metadata": {"a": 1}},
    "truncation": {"truncation": "middle"},
    "parallel_tool_calls": {"parallel_tool_calls": "yes"},
    "model": {"model": "\ud800"},
    "temperature": {"temperature": True},
}


@pytest.mark.parametrize(("param", "fields"), WRONG.items(), ids=WRONG.keys())
def test_a_field_of_a_wrong_shape_is_named(param: str, fields: Fields) -> None:
    """The error says which field is at fault."""
    with pytest.raises(InvalidRequest) as refused:
        read(fields)
    assert (refused.value.param, refused.value.code) == (param, None)


@pytest.mark.parametrize(
    "metadata", [{str(n): "" for n in range(17)}, {"a" * 65: ""}, {"a": "b" * 513}, ["a"]]
)
def test_metadata_is_as_large_as_the_apis(metadata: Any) -> None:
    """Sixteen texts of 512 characters, under names of 64."""
    check_supported({"metadata": {f"{n:064}": "b" * 512 for n in range(16)}})
    with pytest.raises(InvalidRequest, match="'metadata' is not an object"):
        check_supported({"metadata": metadata})


FULL: Fields = {
    "tools": [TOOL, CUSTOM],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": SCHEMA, "verbosity": "low"},
    "reasoning": {"effort": "low"},
    "metadata": {"a": "b"},
    "parallel_tool_calls": False,
    "max_output_tokens": 9,
    "max_tool_calls": 2,
    "service_tier": "flex",
    "truncation": "auto",
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "temperature": 0,
    "top_p": 1,
}


@pytest.mark.parametrize("fields", [{}, FULL], ids=["none", "all"])
def test_a_response_tells_its_request_again(fields: Fields) -> None:
    """A response has all fields of the SDK's type, as they were asked for or by default."""
    details = {"id": "resp_1", "model": "m"} | told_again(fields)
    shape = response_object("completed", details)
    parsed = Response.model_validate(shape, strict=True)
    assert parsed.status == "completed"
    for name, value in fields.items():
        if isinstance(value, dict):
            assert shape[name].items() >= value.items()
        else:
            assert shape[name] == value
    assert told_again({}) == {}


@pytest.mark.parametrize("store", [None, True])
def test_what_is_made_in_the_background_is_stored(store: bool | None) -> None:
    """It could not be found again otherwise, and is refused as OpenAI's API does."""
    assert read({"background": True, "store": store}) == {}
    with pytest.raises(InvalidRequest, match="'store'") as refused:
        read({"background": True, "store": False})
    assert refused.value.param == "background"


def test_every_field_of_the_api_has_been_decided() -> None:
    """A field that the SDK has and that is neither refused, kept nor passed on is noticed."""
    passed = {
        *("model", "temperature", "top_p", "user", "service_tier", "safety_identifier"),
        *("parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention"),
        *("prompt_cache_options",),
    }
    known = ResponseCreateParamsBase.__annotations__.keys()
    for name in known - passed:
        try:
            assert read({name: "x"}) == {}, name
        except InvalidRequest:
            continue


@given(st.sampled_from([*FULL, "include", "background", "stream_options"]), json_values.values)
def test_any_field_is_taken_or_refused(name: str, value: Any) -> None:
    """Whatever a field holds, it is an option or a refusal."""
    param: str | None = name
    try:
        read({name: value})
        told_again({name: value})
    except InvalidRequest as exc:
        param = exc.param
    assert str(param).startswith(name)


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_a_response_says_why_it_is_incomplete(reason: str, status: str, details: Any) -> None:
    """An answer that ended early is incomplete, and the response says for what reason."""
    assert end_status(reason) == status
    shape = response_object(end_status(reason), {"id": "r", "model": "m"}, finish_reason=reason)
    assert (shape["status"], shape["incomplete_details"]) == (status, details)


def test_usage_has_its_details() -> None:
    """Cached and reasoning tokens are told as they were counted; none counted are 0."""
    counts = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    details = {
        "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    assert usage_of(counts | details) == {
        "input_tokens": 5, "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 12,
    }  # fmt: skip
    plain = usage_of(counts | {"prompt_tokens_details": None})
    assert plain is not None
    assert plain["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}
    assert usage_of(None) is None
