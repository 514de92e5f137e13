"""Workshops, templates and a clock for the unit tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestra_hub.templates import Resources, TemplateSnapshot
from orchestra_hub.workshop import Account, JoinPolicy, NewWorkshop, State, Workshop

__all__ = ["NOON", "SettableClock", "a_new_workshop", "a_template", "a_workshop", "account"]

NOON = datetime(2030, 5, 6, 12, 0, tzinfo=UTC)


@dataclass
class SettableClock:
    """A clock that stands still until it is moved."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> datetime:
        """Moves the clock by a `timedelta` of these parts."""
        self.now += timedelta(**by)
        return self.now


def account(name: str, life: int = 1) -> Account:
    """An account; another `life` is another account under the same name."""
    return Account(name=name, key=f"{name}-{life:010x}")


def a_template(**fields: Any) -> TemplateSnapshot:
    """A small valid template."""
    plain: dict[str, Any] = {
        "schema_version": 1,
        "name": "counting",
        "title": "Counting",
        "summary": "Counts.",
        "landing": "start.ipynb",
        "image": "example/seat:1",
        "resources": Resources(cpu=1, memory="1Gi", storage="1Gi"),
        "default_duration_h": 4,
        "max_duration_h": 48,
        "content_digest": "0" * 64,
    }
    return TemplateSnapshot(**{**plain, **fields})


def a_new_workshop(**fields: Any) -> NewWorkshop:
    """A workshop to be made: it opens at noon for four hours, anybody may join."""
    plain: dict[str, Any] = {
        "template": a_template(),
        "session": "may",
        "opens_at": NOON,
        "owner": account("grace"),
        "teacher": "the teacher",
        "seats": 3,
        "join_policy": JoinPolicy.OPEN,
        "retention_s": 86_400,
    }
    return NewWorkshop(**{**plain, **fields})


def a_workshop(**fields: Any) -> Workshop:
    """A workshop in the dates of `a_new_workshop`: opens at noon, ends at four, deadline after two days."""
    plain: dict[str, Any] = {
        "id": "counting-may-abcdef",
        "title": "Counting",
        "owner": "grace",
        "owner_key": account("grace").key,
        "teacher": "the teacher",
        "template": a_template(),
        "state": State.SCHEDULED,
        "opens_at": NOON,
        "expires_at": NOON + timedelta(hours=4),
        "deadline": NOON + timedelta(hours=48),
        "purge_at": NOON + timedelta(hours=28),
        "retention_s": 86_400,
        "lead_time_s": 600,
        "warning_s": 900,
        "idle_timeout_s": 3600,
        "seats": 3,
        "join_policy": JoinPolicy.OPEN,
        "join_code": None,
        "created_at": NOON - timedelta(days=1),
        "changed_at": NOON - timedelta(days=1),
        "version": 1,
    }
    return Workshop(**{**plain, **fields})
