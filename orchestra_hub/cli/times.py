"""Dates as people type and read them on a terminal. Pure: the time and the local zone are parameters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from orchestra_hub.errors import InvalidInput

__all__ = ["Localize", "machine_zone", "shown", "typed"]

Localize = Callable[[datetime], datetime]
"""Gives a moment in the local zone: an aware one moved there, a naive one read as local time."""


def machine_zone(moment: datetime) -> datetime:
    """`Localize` for the zone this machine is set to."""
    return moment.astimezone()


def typed(text: str, option: str, localize: Localize) -> tuple[datetime, bool]:
    """The moment that ISO 8601 `text` means, aware, and whether it had no zone and was read as local time."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidInput(
            f"{option} {text[:60]!r} is no date-time; write one like 2026-11-03T09:00 or 2026-11-03T09:00+01:00."
        ) from error
    return (moment, False) if moment.tzinfo is not None else (localize(moment), True)


def shown(moment: datetime, localize: Localize) -> str:
    """A moment for people in the local zone, with its offset: `2026-11-03 09:00 +01:00`."""
    local = localize(moment)
    offset = local.utcoffset() or timedelta()
    minutes = round(abs(offset).total_seconds() / 60)
    sign = "-" if offset < timedelta() else "+"
    zone = f"{sign}{minutes // 60:02}:{minutes % 60:02}" if minutes else "UTC"
    return f"{local:%Y-%m-%d %H:%M} {zone}"
