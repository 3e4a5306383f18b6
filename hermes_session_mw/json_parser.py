"""`parse_json`: by msgspec if the extra ``fast`` has brought it, else by the standard library.

Both return the same: msgspec refuses some texts that the standard library takes (``NaN``, a lone
surrogate, a number beyond a float's range, deep nesting), which are given to that one then.
"""

import json
from collections.abc import Callable
from typing import Any

Parse = Callable[[str], Any]


def fast_parser() -> Parse:
    """Return msgspec's parser, with the standard library behind it; that one alone without it."""
    try:
        from msgspec import MsgspecError  # noqa: PLC0415  # an extra
        from msgspec.json import Decoder  # noqa: PLC0415
    except ImportError:
        return json.loads
    decode = Decoder().decode

    def parse(text: str) -> Any:
        try:
            return decode(text)
        except (MsgspecError, RecursionError, UnicodeEncodeError):
            return json.loads(text)

    return parse


parse_json: Parse = fast_parser()
"""Returns a JSON text's value; raises ``ValueError`` or ``RecursionError`` as ``json.loads``."""
