"""The ``Retry-After`` that is sent to clients: between 1 and 60 seconds, whatever an upstream says.

openai's and Vercel's npm packages repeat a request at once at 0, and openai's Python package does
not repeat it at all above 120 seconds, nor npm's wait above 60.

    upstream's value                   sent
    "7"                                "7"
    "0", "-1", a date in the past      "1"
    "0.2", "1.5"                       "1", "2"
    "3600", a date in an hour          "60"
    "", "soon", "nan"                  none
"""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 60
"""Seconds."""

_SECONDS = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")
_MAX_DATE_LENGTH = 40


def read_retry_after(value: str, now: datetime | None = None) -> str | None:
    """Return what to send for an upstream's ``Retry-After``; None for no such header.

    Args:
        value: seconds or a date, as in RFC 9110.
        now: the time, with a time zone; None for the clock's.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        seconds = float(value)
    elif value.isascii() and len(value) <= _MAX_DATE_LENGTH:
        try:
            until = parsedate_to_datetime(value)
        except (ValueError, IndexError, TypeError):
            return None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        seconds = (until - (now or datetime.now(UTC))).total_seconds()
    else:
        return None
    return str(min(max(math.ceil(seconds), 1), LONGEST))
