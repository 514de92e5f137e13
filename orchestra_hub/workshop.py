"""What a workshop, an enrolment and an invitation are: frozen models without behaviour.

All times are aware UTC datetimes; on the wire ISO 8601 with offset (RFC 3339). Durations carry their unit in the name.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from orchestra_hub.ids import server_name
from orchestra_hub.templates import TemplateSnapshot

__all__ = [
    "HUB_PROPERTY",
    "Account",
    "Enrolment",
    "Invitation",
    "JoinPolicy",
    "NewWorkshop",
    "Role",
    "State",
    "Workshop",
    "WorkshopFacts",
    "facts_of",
    "parse_time",
]

HUB_PROPERTY = "orchestra"
"""The key in a Hub group's properties under which `WorkshopFacts` stand."""


class State(StrEnum):
    """The states of a workshop, in the order of its life; `cancelled` comes from any before `expired`."""

    SCHEDULED = "scheduled"
    PREPARING = "preparing"
    OPEN = "open"
    CLOSING = "closing"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    PURGED = "purged"


class Role(StrEnum):
    """What an enrolled person is in a workshop."""

    LEARNER = "learner"
    INSTRUCTOR = "instructor"


class JoinPolicy(StrEnum):
    """How people join: by the link alone, by link and code, or only if the roster has them."""

    OPEN = "open"
    CODE = "code"
    ROSTER = "roster"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Account(_Model):
    """One account of the hub. `key` tells apart accounts of the same name made at different times."""

    name: str
    key: str


class Workshop(_Model):
    """A row of the store: one run of a template."""

    id: str
    title: str
    owner: str | None  # the user's name; None once purged, or when the platform itself made it
    owner_key: str | None = None  # the owner's account: a name used again owns nothing
    teacher: str  # shown to learners; empty once purged
    template: TemplateSnapshot
    state: State
    opens_at: AwareDatetime
    expires_at: AwareDatetime
    deadline: AwareDatetime
    purge_at: AwareDatetime
    retention_s: int
    lead_time_s: int
    warning_s: int
    idle_timeout_s: int
    seats: int = Field(ge=1)  # learners' places; instructors take none
    join_policy: JoinPolicy
    join_code: str | None
    prepared_at: AwareDatetime | None = None
    cancelled_at: AwareDatetime | None = None
    ended_early: bool = False
    created_at: AwareDatetime
    changed_at: AwareDatetime
    version: int  # grows when people or the reconciler change this row; for optimistic concurrency
    generation: int = 0  # grows with every change the reconciler has to carry out, joins and leaves too
    trouble: str | None = None  # why the reconciler is stuck with it, a sentence for its instructors
    attempts: int = 0
    due_at: AwareDatetime | None = None  # when the reconciler looks at it next; None: never again
    statistics: dict[str, int] = Field(default_factory=dict)
    purge_record: dict[str, Any] | None = None

    @property
    def server_name(self) -> str:
        """The name of its seats' servers in the hub."""
        return server_name(self.id)

    @property
    def prepared(self) -> bool:
        """Whether everything a seat needs has been made."""
        return self.prepared_at is not None


class NewWorkshop(_Model):
    """What it takes to make a workshop; None means: what the template says (`lifecycle.planned`)."""

    template: TemplateSnapshot
    session: str
    opens_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    deadline: AwareDatetime | None = None  # a cap of the platform's; the template's holds as well
    course: str | None = None
    title: str | None = Field(default=None, min_length=1, max_length=200)
    teacher: str = Field(default="", max_length=200)
    owner: Account | None = None
    seats: int | None = Field(default=None, ge=1, le=10_000)
    join_policy: JoinPolicy = JoinPolicy.CODE
    retention_s: int | None = Field(default=None, ge=0)
    idle_timeout_s: int | None = Field(default=None, ge=1)
    warning_s: int = Field(default=15 * 60, ge=0)
    lead_time_s: int = Field(default=10 * 60, ge=0)


class WorkshopFacts(_Model):
    """What the hub knows of a workshop, kept in its Hub group's properties under `HUB_PROPERTY`. Public: no code."""

    id: str
    title: str
    teacher: str
    state: State
    opens_at: AwareDatetime
    expires_at: AwareDatetime
    deadline: AwareDatetime
    purge_at: AwareDatetime
    warning_s: int
    idle_timeout_s: int
    seats: int
    join_policy: JoinPolicy
    prepared: bool
    cancelled_at: AwareDatetime | None
    ended_early: bool
    instructors: list[str]  # their accounts' keys, sorted: a name used again is nobody's teacher
    template: TemplateSnapshot
    version: int
    trouble: str | None


class Enrolment(_Model):
    """A user's place in a workshop. It belongs to the account `account_key`, not to whoever has the name."""

    workshop_id: str
    user_name: str
    account_key: str
    role: Role
    joined_at: AwareDatetime
    in_hub: bool  # the hub's group has been told


class Invitation(_Model):
    """A roster row without an account: a link that one person can use once."""

    id: int
    workshop_id: str
    label: str
    role: Role
    created_at: AwareDatetime
    used_at: AwareDatetime | None
    token: str | None = None  # only in the answer that creates it; the store keeps a hash


def facts_of(workshop: Workshop, instructors: list[str]) -> WorkshopFacts:
    """What the hub is to know of `workshop`."""
    shared = {name: getattr(workshop, name) for name in WorkshopFacts.model_fields if name in Workshop.model_fields}
    return WorkshopFacts(**shared, prepared=workshop.prepared_at is not None, instructors=sorted(instructors))


def parse_time(text: str) -> datetime:
    """An aware UTC datetime from ISO 8601; the hub's API writes naive UTC at times."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
