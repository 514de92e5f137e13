"""Clocks and dates: aware, in UTC, everywhere.

A clock is a parameter of whatever needs the time, so tests set it and never sleep.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

from orchestra_hub.errors import InvalidInput

__all__ = ["Clock", "in_utc", "moment_from", "told", "utcnow"]

Clock: TypeAlias = Callable[[], datetime]
"""Answers the present moment, aware."""


def utcnow() -> datetime:
    """The present moment of the machine's clock, in UTC."""
    return datetime.now(UTC)


def in_utc(moment: datetime, *, field: str | None = None) -> datetime:
    """`moment` in UTC; raises `InvalidInput` when it has no offset, as nobody can know what it means then."""
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidInput(
            f"The time {moment.isoformat()} was refused: it has no offset. Write it with one, such as "
            f"{moment.isoformat(timespec='seconds')}+00:00 or ...Z.",
            field=field,
        )
    return moment.astimezone(UTC)


def moment_from(text: str, now: datetime, *, field: str | None = None) -> datetime:
    """The moment `text` names, in UTC: the word `now`, or ISO 8601 with an offset; otherwise `InvalidInput`."""
    if text.strip().lower() == "now":
        return in_utc(now)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidInput(
            f"{text[:80]!r} is not a time: write 'now' or ISO 8601 with an offset, such as 2026-11-03T09:00+01:00.",
            field=field,
        ) from error
    return in_utc(moment, field=field)


def told(moment: datetime) -> str:
    """`moment` for a sentence that any reader may get: `2026-11-03 08:00 UTC`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
