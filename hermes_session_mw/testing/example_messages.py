"""Messages that every store has to keep exactly, and values that every store has to refuse."""

import math
import random
from collections import OrderedDict
from decimal import Decimal
from typing import Any

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

# Characters that databases and drivers were found to change or refuse.
_TEXTS = ["", " ", "\x00", "\x1f", "\x7f", "\u2028", "\ufeff", "\uffff", "\U0001f44b", "\U0010ffff"]
_TEXTS += ["e\u0301", "\u05e9\u05dc", "'", '"', "\\", "\\u0000", "%s", ":name", "NULL", "\r\n"]
_NUMBERS = [0, -1, 2**31, 2**53 + 1, 2**63, -(2**64), 10**40, 0.0, -0.0, 0.1, 5e-324, 1.7e308]


def random_messages(chosen: random.Random, count: int) -> list[dict[str, Any]]:
    """Return ``count`` messages of any JSON, the same ones for a generator of the same seed."""
    return [_random_object(chosen, 4) for _ in range(count)]


def _random_object(chosen: random.Random, depth: int) -> dict[str, Any]:
    return {_random_text(chosen): _random_value(chosen, depth) for _ in range(chosen.randint(0, 5))}


def _random_value(chosen: random.Random, depth: int) -> Any:
    kind = chosen.randrange(7 if depth else 5)
    if kind == 0:
        return chosen.choice([None, True, False])
    if kind == 1:
        return chosen.choice(_NUMBERS)
    if kind == 2:
        return chosen.choice([chosen.getrandbits(70), chosen.uniform(-1e9, 1e9)])
    if kind in (3, 4):
        return _random_text(chosen)
    if kind == 5:
        return [_random_value(chosen, depth - 1) for _ in range(chosen.randint(0, 4))]
    return _random_object(chosen, depth - 1)


def _random_text(chosen: random.Random) -> str:
    """Return known traps and random characters, but no surrogates."""
    planes = [(0, 0x7F), (0x80, 0xD7FF), (0xE000, 0x10FFFF)]
    odd = [chr(chosen.randint(*chosen.choice(planes))) for _ in range(chosen.randint(0, 8))]
    return "".join(chosen.sample(_TEXTS, chosen.randint(0, 2)) + odd)
