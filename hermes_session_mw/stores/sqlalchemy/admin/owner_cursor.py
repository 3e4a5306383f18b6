"""The cursor of a search of all owners: whose messages are next, and from where on."""

import base64
import json


def encode_owner(owner: str, cursor: str | None) -> str:
    """Return the cursor that leads on with an owner, from the cursor of that owner's own search."""
    return base64.urlsafe_b64encode(json.dumps([owner, cursor]).encode()).decode()


def decode_owner(cursor: str | None) -> tuple[str | None, str | None]:
    """Return the owner and cursor that another was made of, None and None for no cursor.

    Raises:
        ValueError: it was not made by `encode_owner`.
    """
    if cursor is None:
        return None, None
    try:
        owner, inner = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        if isinstance(owner, str) and isinstance(inner, str | None):
            return owner, inner
    except (ValueError, TypeError, RecursionError):
        pass
    raise ValueError("cursor: it does not come from a page of this search")
