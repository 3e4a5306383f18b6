"""JSON as Hypothesis makes it, and values that are none."""

import math
from collections import OrderedDict
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4)
)
messages = st.dictionaries(text, values, max_size=5)

REALISTIC: list[dict[str, Any]] = [
    {"role": "user", "content": "Gr\xfc\xdfe \U0001f44b \u65e5\u672c \u05e9\u05dc\u05d5\u05dd"},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": None, "refusal": None},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "call_abc123",
                "type": "function",
                "function": {"name": "web_search", "arguments": '{"query": "weather Paris"}'},
            }
        ],
        "reasoning_content": "",
    },
    {"role": "tool", "tool_call_id": "call_abc123", "content": '{"temp": 7}'},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        ],
    },
    {"z": 1, "a": 2, "m": {"y": 1, "b": [1, 2.5, -0.0, 1e300, 10**40, True, False, None]}},
    {},
    {"": ""},
    {"content": "NUL \x00, escape \x1b, line separator \u2028, quote \" and backslash \\"},
]  # fmt: skip


def nested(depth: int) -> dict[str, Any]:
    """Return a message that nests ``depth`` levels deep."""
    message: dict[str, Any] = {}
    for _ in range(depth - 1):
        message = {"in": message}
    return message


def circular() -> dict[str, Any]:
    """Return a message that contains itself."""
    message: dict[str, Any] = {}
    message["me"] = message
    return message


NOT_STORABLE: dict[str, tuple[Any, str]] = {
    "a string": ("hello", "not a dict"),
    "a list": ([{"role": "user"}], r"a list, not a dict: .*append\(\*messages\)"),
    "None": (None, "not a dict"),
    "NaN": ({"x": math.nan}, "not JSON"),
    "infinity": ({"x": -math.inf}, "not JSON"),
    "bytes": ({"x": b"x"}, "not JSON"),
    "a set": ({"x": {1}}, "not JSON"),
    "a decimal": ({"x": Decimal(1)}, "not JSON"),
    "an object": ({"x": object()}, "not JSON"),
    "itself": (circular(), "not JSON"),
    "an integer of 5,000 digits": ({"x": 10**5000}, "not JSON"),
    "a key of bytes": ({b"x": 1}, "not JSON"),
    "a key that is a number": ({1: "x"}, "come back changed"),
    "a key that is None": ({"x": {None: 1}}, "come back changed"),
    "two keys that become one": ({1: "x", "1": "x"}, "come back changed"),
    "a tuple": ({"x": (1, 2)}, "come back changed"),
    "a lone surrogate": ({"x": "\ud800"}, "lone surrogate"),
    "a lone surrogate in a key": ({"\udfff": 1}, "lone surrogate"),
    "a list at level 101": ({"x": [nested(99)]}, "deeper than 100"),
    "101 levels": (nested(101), "deeper than 100"),
    "100,000 levels": (nested(100_000), "deeper than 100"),
}

FINE: dict[str, dict[str, Any]] = {
    "100 levels": nested(100),
    "an ordered dict": OrderedDict(b=1, a=2),
    "many brackets in text": {"content": "[{" * 500},
    "wide": {"content": [{"n": n} for n in range(500)]},
}
