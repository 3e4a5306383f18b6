"""The parameter type of ages and times; anything ambiguous is refused."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

_AGE = re.compile(r"([1-9][0-9]{0,8})([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d))?", re.ASCII)
_EPOCH = datetime(1970, 1, 2, tzinfo=UTC)


if TYPE_CHECKING:
    _Type = click.ParamType[timedelta | datetime]
else:
    _Type = click.ParamType  # earlier versions of click have it without a parameter


class Age(_Type):
    """An age such as ``30d``, or a time: a date, which is midnight UTC, or a time with its zone."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta | datetime:
        """Return an age, or a time in the past."""
        try:
            if age := _AGE.fullmatch(value):
                return timedelta(**{_UNITS[age[2]]: int(age[1])})
            # Python would take other spellings of a time too.
            time = datetime.fromisoformat(value if _TIME.fullmatch(value) else "")
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is neither an age such as 30d or 12h, nor a time with its zone.",
                param,
                ctx,
            )
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        if not _EPOCH <= time < datetime.now(UTC):
            self.fail(f"{value!r} is not in the past, or before 1970.", param, ctx)
        return time


AGE = Age()
