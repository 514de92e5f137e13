"""What the hub says about a seat's workshop, and what the page is told about it: pure, all times aware UTC.

Guarantees: a time the page gets was reckoned on the hub's clock (`seconds_left`), however wrong the seat's own is;
a warning says "stops at" only by the newest activity that either side knows of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestra_hub.errors import HubUnavailable

__all__ = [
    "HubAnswer",
    "WorkshopNotice",
    "idle_stops_at",
    "idle_warning_s",
    "page_notices",
    "read_answer",
    "report_due",
]

IDLE_WARNING_S = 300


@dataclass(frozen=True)
class WorkshopNotice:
    """The workshop as its seats may know it. `idle_timeout_s` is None where idle seats are never stopped."""

    id: str
    title: str
    state: str
    expires_at: datetime
    warning_s: int
    idle_timeout_s: int | None
    page_url: str


@dataclass(frozen=True)
class HubAnswer:
    """One answer of the hub; `workshop` is None for a server that is no seat.

    `version` stands for all it says, `sign_ins` for the sign-ins that this seat may have believed: another string once
    one of them has ended. Both are None from a hub that tells neither.
    """

    server_time: datetime
    workshop: WorkshopNotice | None
    last_activity: datetime | None
    version: str | None = None
    sign_ins: str | None = None


def read_answer(body: object) -> HubAnswer:
    """The hub's JSON (`GET /hub/api/orchestra/notices`) as an answer; `HubUnavailable` if it isn't one."""
    try:
        if not isinstance(body, Mapping):
            raise TypeError(f"a JSON object was expected, not {type(body).__name__}")
        facts = body["workshop"]
        return HubAnswer(
            server_time=_time(body["server_time"]),
            workshop=None if facts is None else _workshop(facts),
            last_activity=None if body.get("last_activity") is None else _time(body["last_activity"]),
            version=body.get("version"),
            sign_ins=body.get("sign_ins"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise HubUnavailable(f"The hub's answer about notices can't be read: {error!r}.") from error


def _workshop(facts: Mapping[str, Any]) -> WorkshopNotice:
    idle_timeout_s = facts.get("idle_timeout_s")
    return WorkshopNotice(
        id=str(facts["id"]),
        title=str(facts["title"]),
        state=str(facts["state"]),
        expires_at=_time(facts["expires_at"]),
        warning_s=int(facts["warning_s"]),
        idle_timeout_s=int(idle_timeout_s) if idle_timeout_s else None,
        page_url=str(facts["page_url"]),
    )


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} has no offset")
    return moment.astimezone(UTC)


def idle_warning_s(idle_timeout_s: int) -> float:
    """How long before an idle seat stops its page says so: 5 minutes, at most half of a short limit."""
    return min(IDLE_WARNING_S, idle_timeout_s / 2)


def idle_stops_at(answer: HubAnswer, last_activity: datetime) -> datetime | None:
    """When the seat stops if nothing happens any more. `last_activity` is the seat's own, on the hub's clock."""
    if answer.workshop is None or answer.workshop.idle_timeout_s is None:
        return None
    newest = max(last_activity, answer.last_activity or last_activity)
    return newest + timedelta(seconds=answer.workshop.idle_timeout_s)


def report_due(answer: HubAnswer, last_activity: datetime, hub_now: datetime) -> bool:
    """Whether the hub must hear of `last_activity` at once: by what it knows, it would stop the seat before long.

    JupyterHub's own report comes every 5 minutes, too late for a seat whose kernel has just become busy.
    """
    if answer.workshop is None or answer.workshop.idle_timeout_s is None or answer.last_activity is None:
        return False
    if last_activity <= answer.last_activity:
        return False
    idle_timeout_s = answer.workshop.idle_timeout_s
    by_the_hub = answer.last_activity + timedelta(seconds=idle_timeout_s)
    return (by_the_hub - hub_now).total_seconds() <= idle_warning_s(idle_timeout_s)


def page_notices(
    answer: HubAnswer | None, *, last_activity: datetime, hub_now: datetime, refresh_s: float
) -> dict[str, Any]:
    """The JSON the page gets; every part is None while the hub hasn't been heard or the server is no seat."""
    told: dict[str, Any] = {
        "title": None,
        "state": None,
        "page_url": None,
        "ends_at": None,
        "seconds_left": None,
        "warn_from_s": None,
        "idle": None,
        "messages": [],
        "refresh_s": refresh_s,
    }
    if answer is None or answer.workshop is None:
        return told
    workshop = answer.workshop
    told |= {
        "title": workshop.title,
        "state": workshop.state,
        "page_url": workshop.page_url,
        "ends_at": workshop.expires_at.isoformat(),
        "seconds_left": _seconds_between(hub_now, workshop.expires_at),
        "warn_from_s": workshop.warning_s,
    }
    stops_at = idle_stops_at(answer, last_activity)
    if stops_at is not None and workshop.idle_timeout_s is not None:
        told["idle"] = {
            "stops_at": stops_at.isoformat(),
            "seconds_left": _seconds_between(hub_now, stops_at),
            "warn_from_s": idle_warning_s(workshop.idle_timeout_s),
        }
    return told


def _seconds_between(now: datetime, then: datetime) -> float:
    return max(0.0, round((then - now).total_seconds(), 1))
