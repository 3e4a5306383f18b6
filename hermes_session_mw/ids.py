"""Session ids: the grammar, and minting new ones.

Rules of this file: pure functions; nothing here imports the package's other modules.
"""

import os
import re
from base64 import urlsafe_b64encode

MAX_ID_LENGTH = 256
"""Characters, and bytes: an id is ASCII."""

# RFC 3986's unreserved characters, and ":", which platforms put into their conversation keys.
# Hermes Agent refuses ".." and a drive prefix, since it names files after ids, so neither may be
# adopted here.
SESSION_ID = re.compile(r"(?![A-Za-z]:)(?!.*\.\.)[A-Za-z0-9_.:~-]{1,256}")

# VCHAR of RFC 9110, section 5.5. Servers refuse to send a header with other characters, and then
# the whole response is lost.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,256}")


def mint_session_id() -> str:
    """Return a new session id: 128 random bits as 32 hexadecimal digits."""
    return os.urandom(16).hex()  # what secrets.token_hex does, by fewer calls


def mint_turn_id() -> str:
    """Return an id for a turn that was given none: 96 random bits as 16 characters.

    It is unique among a session's turns, of which there are up to a million or so. Every message
    has it twice in a database, in its row and in an index, so that it is short.
    """
    return urlsafe_b64encode(os.urandom(12)).decode()


def is_session_id(value: str) -> bool:
    """Return whether ``value`` is a session id of the default grammar.

    That is 1 to 256 characters out of ``A-Z a-z 0-9 _ . : ~ -``, without ``..`` anywhere and
    without a drive prefix (one letter and a colon) at the start.
    """
    return SESSION_ID.fullmatch(value) is not None


def is_header_safe(value: object) -> bool:
    """Return whether ``value`` is a text of 1 to 256 visible ASCII characters.

    No other id is ever stamped, also with a custom ``valid_id`` or ``new_id``.
    """
    return isinstance(value, str) and _HEADER_SAFE.fullmatch(value) is not None
