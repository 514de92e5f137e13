"""The REST API's requests and answers: the one source of validation, of the OpenAPI document and of the client's types.

Guarantees:

- A request that validates holds no unknown field, no control character, no number or date beyond what the database and
  the calendar can take: what is refused is refused here, as 422, never later as a server error.
- Times are aware and in UTC; on the wire ISO 8601 with offset (RFC 3339). Durations carry their unit in the name.
- Answers name people by their hub user name and hold no secret but the ones they are for: a join link for those who
  may see it, an invitation's link once.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic.functional_validators import AfterValidator
from pydantic_core import PydanticCustomError

from orchestra_hub.dates import in_utc
from orchestra_hub.errors import InvalidInput
from orchestra_hub.templates import Resources
from orchestra_hub.workshop import JoinPolicy, Role, State

__all__ = [
    "Change",
    "Empty",
    "End",
    "Enrol",
    "EnrolmentPage",
    "EnrolmentView",
    "EventPage",
    "EventQuery",
    "EventView",
    "Extend",
    "FieldProblem",
    "Health",
    "InvitationView",
    "Join",
    "Joined",
    "Me",
    "MendedView",
    "Page",
    "PartHealth",
    "Problem",
    "RosterEntry",
    "SeatList",
    "SeatState",
    "SeatView",
    "TemplateList",
    "TemplateView",
    "WorkshopCreate",
    "WorkshopPage",
    "WorkshopQuery",
    "WorkshopView",
]

_FIRST_YEAR, _LAST_YEAR = 2000, 2999  # every duration of ours added to these is still a date
_EXAMPLE_ID = "rnaseq-intro-2026nov-k3x9qz"


def _moment(value: object) -> datetime:
    """An aware UTC datetime from a string or datetime; numbers are refused: seconds or milliseconds is a guess."""
    fix = "write ISO 8601 with an offset, such as 2026-11-03T09:00:00+01:00"
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise PydanticCustomError("moment", "is not a time: {fix}", {"fix": fix}) from error
    if not isinstance(value, datetime):
        raise PydanticCustomError("moment", "is not a time: {fix}", {"fix": fix})
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise PydanticCustomError(
            "moment", "must be in the years {first} to {last}", {"first": _FIRST_YEAR, "last": _LAST_YEAR}
        )
    try:
        return in_utc(value)
    except InvalidInput as error:
        raise PydanticCustomError("moment", "has no offset: {fix}", {"fix": fix}) from error


def _moment_or_now(value: object) -> datetime | Literal["now"]:
    if isinstance(value, str) and value.strip().lower() == "now":
        return "now"
    return _moment(value)


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("one_line", "must be one line without control characters")
    return text


def _written(value: datetime | str) -> str:
    return value if isinstance(value, str) else value.isoformat()


_AS_TEXT = PlainSerializer(_written, return_type=str, when_used="json")
_MOMENT_SCHEMA: dict[str, Any] = {"type": "string", "format": "date-time"}
Moment: TypeAlias = Annotated[datetime, PlainValidator(_moment), _AS_TEXT, WithJsonSchema(_MOMENT_SCHEMA)]
MomentOrNow: TypeAlias = Annotated[
    datetime | Literal["now"],
    PlainValidator(_moment_or_now),
    _AS_TEXT,
    WithJsonSchema({"anyOf": [{"const": "now"}, _MOMENT_SCHEMA]}),
]
Line: TypeAlias = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]
Code: TypeAlias = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]
Version: TypeAlias = Annotated[int, Field(ge=1, le=2**31 - 1)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Query(BaseModel):
    # not strict: every value of a query string is text
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Answer(BaseModel):
    # unknown fields are passed over: a client older than the service goes on working
    model_config = ConfigDict(frozen=True, extra="ignore")


Item = TypeVar("Item")


class Page(_Answer, Generic[Item]):
    """One page of a list."""

    items: list[Item] = Field(description="The things themselves, in the list's order.")
    next: str | None = Field(
        default=None,
        description="Send this as `after` for the next page; null when this was the last.",
        examples=[None],
    )


# ---------------------------------------------------------------------------------------------------- requests


class WorkshopCreate(_Request):
    """What it takes to make a workshop. What is left out, the template or the platform decides."""

    template: str = Field(
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40, description="Name of a template.", examples=["rnaseq-intro"]
    )
    session: str = Field(
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$",
        max_length=50,
        description="Which run of the course this is: lower case letters, digits, single hyphens. Part of the address.",
        examples=["2026nov"],
    )
    course: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$",
        max_length=40,
        description="Course name, the first part of the address. Default: the template's name.",
        examples=["rnaseq-intro"],
    )
    title: Line | None = Field(
        default=None, description="Title people see. Default: the template's.", examples=["RNA-seq for beginners"]
    )
    teacher: Annotated[str, Field(max_length=200), AfterValidator(_one_line)] | None = Field(
        default=None,
        description="Who teaches, as learners see it. Default: the user who asks.",
        examples=["Genomics team"],
    )
    opens_at: MomentOrNow = Field(
        description="When learners can start their seats: `now`, or ISO 8601 with offset.",
        examples=["now", "2026-11-03T09:00:00+01:00"],
    )
    hours: float | None = Field(
        default=None, gt=0, le=8784, description="Length in hours. Not together with `expires_at`.", examples=[4]
    )
    expires_at: Moment | None = Field(
        default=None,
        description="When it ends, ISO 8601 with offset. Default: the template's duration after the opening.",
        examples=["2026-11-03T13:00:00+01:00"],
    )
    seats: int | None = Field(
        default=None, ge=1, le=10_000, description="Learners' places; instructors take none.", examples=[30]
    )
    join_policy: JoinPolicy = Field(
        default=JoinPolicy.CODE,
        description="How people join: `open` by the link alone, `code` by link and code, `roster` only if listed.",
        examples=["code"],
    )
    retention_h: float | None = Field(
        default=None,
        ge=0,
        le=87_600,
        description="Hours the data is kept after the end, for export; then it is purged. Default: the template's.",
        examples=[336],
    )
    idle_timeout_min: float | None = Field(
        default=None,
        ge=1,
        le=10_080,
        description="Minutes a seat may stand unused before it is stopped; its files stay. Default: the template's.",
        examples=[60],
    )
    warning_min: float | None = Field(
        default=None,
        ge=0,
        le=1440,
        description="Minutes before the end at which everybody is warned. Default: the platform's.",
        examples=[15],
    )
    lead_time_min: float | None = Field(
        default=None,
        ge=0,
        le=1440,
        description="Minutes before the opening at which preparing begins. Default: the platform's.",
        examples=[10],
    )

    @model_validator(mode="after")
    def _one_end(self) -> WorkshopCreate:
        if self.hours is not None and self.expires_at is not None:
            raise PydanticCustomError("one_end", "give hours or expires_at, not both")
        return self


class Empty(_Request):
    """Nothing has to be said."""


class Change(_Request):
    """A change that needs no more than its name."""

    version: Version | None = Field(
        default=None,
        description="The workshop's version you have seen; if it has another by now, nothing is changed (409).",
        examples=[3],
    )


class End(Change):
    """The end, now."""

    damaged: bool = Field(
        default=False,
        description="End a workshop that can't be mended: what can't be read of it is replaced by stand-ins, its files "
        "are kept as after any end. Refused (409) for one that isn't damaged.",
        examples=[False],
    )


class Extend(Change):
    """A new end, as a date or as hours added to the present one; negative hours bring it forward."""

    expires_at: Moment | None = Field(
        default=None, description="The new end, ISO 8601 with offset.", examples=["2026-11-03T15:00:00+01:00"]
    )
    hours: float | None = Field(
        default=None, ge=-100_000, le=100_000, description="Hours added to the present end.", examples=[1.5]
    )

    @model_validator(mode="after")
    def _one_end(self) -> Extend:
        if (self.hours is None) == (self.expires_at is None):
            raise PydanticCustomError("one_end", "give hours or expires_at, exactly one of them")
        return self


class Join(_Request):
    """What a person has in hand to join by; nothing for a workshop whose link is enough."""

    code: Code | None = Field(default=None, description="The workshop's code.", examples=["k7mw2xqa"])
    invitation: Code | None = Field(
        default=None, description="The token of a single-use invitation.", examples=["12-Zm9vYmFyYmF6cXV4"]
    )


class Enrol(_Request):
    """A person to put on the roster. One without an account gets a single-use invitation instead."""

    user: Line = Field(description="The person's user name, or how the roster names them.", examples=["ada"])
    role: Role = Field(
        default=Role.LEARNER, description="Making instructors is for the owner and operators.", examples=["learner"]
    )


class WorkshopQuery(_Query):
    """Which workshops to list."""

    state: list[State] | None = Field(
        default=None, description="Only those in these states; may be given several times.", examples=[["open"]]
    )
    mine: bool = Field(
        default=False,
        description="Only those the asker owns or is enrolled in. That is all anybody but an operator ever sees.",
        examples=[True],
    )
    after: str | None = Field(
        default=None,
        max_length=63,
        pattern=r"^[a-z0-9-]+$",
        description="`next` of the page before.",
        examples=[_EXAMPLE_ID],
    )
    limit: int = Field(default=100, ge=1, le=500, description="Most workshops in the answer.", examples=[100])


class EventQuery(_Query):
    """Which events to list."""

    after: int = Field(default=0, ge=0, le=2**63 - 1, description="`next` of the page before.", examples=[0])
    limit: int = Field(default=100, ge=1, le=500, description="Most events in the answer.", examples=[100])


# ---------------------------------------------------------------------------------------------------- answers


class TemplateView(_Answer):
    """A kind of workshop."""

    name: str = Field(description="What `template` of a new workshop takes.", examples=["rnaseq-intro"])
    title: str = Field(description="Title of its workshops unless they have their own.", examples=["RNA-seq"])
    summary: str = Field(description="One line.", examples=["Find the genes a treatment changes."])
    description: str = Field(
        default="", description="What it teaches and for whom, Markdown.", examples=["For biologists."]
    )
    resources: Resources = Field(description="What one seat gets.")
    default_duration_h: float = Field(description="Hours a workshop lasts by default.", examples=[6])
    max_duration_h: float = Field(description="Hours from the opening to the deadline.", examples=[48])
    default_seats: int = Field(description="Learners' places by default.", examples=[20])
    idle_timeout_min: int = Field(description="Minutes a seat may stand unused, by default.", examples=[60])
    retention_d: int = Field(description="Days the data is kept after the end, by default.", examples=[14])


class TemplateList(_Answer):
    """Every template that can be used, in order of name."""

    items: list[TemplateView] = Field(description="The templates.")
    broken: dict[str, str] = Field(
        default_factory=dict,
        description="Folders that hold no valid template, with the first problem of each; for operators only.",
        examples=[{}],
    )


class WorkshopView(_Answer):
    """A workshop as the asker may see it. Fields the asker may not see are null."""

    id: str = Field(description="Its id, also the first label of its host.", examples=[_EXAMPLE_ID])
    title: str = Field(description="Title.", examples=["RNA-seq for beginners"])
    teacher: str = Field(description="Who teaches; empty once purged.", examples=["Genomics team"])
    template: str = Field(description="Name of the template it was made from.", examples=["rnaseq-intro"])
    state: State = Field(description="The state that holds at `server_time`.", examples=["open"])
    opens_at: AwareDatetime = Field(description="When learners can start seats.", examples=["2026-11-03T08:00:00Z"])
    expires_at: AwareDatetime = Field(description="When seats stop.", examples=["2026-11-03T12:00:00Z"])
    deadline: AwareDatetime = Field(description="No extension goes past this.", examples=["2026-11-05T08:00:00Z"])
    purge_at: AwareDatetime = Field(description="When the data is removed.", examples=["2026-11-17T12:00:00Z"])
    cancelled_at: AwareDatetime | None = Field(default=None, description="When it was cancelled.", examples=[None])
    ended_early: bool = Field(default=False, description="Whether somebody ended it before its time.", examples=[False])
    created_at: AwareDatetime = Field(description="When it was made.", examples=["2026-10-20T10:00:00Z"])
    seats: int = Field(description="Learners' places.", examples=[30])
    join_policy: JoinPolicy = Field(description="How people join.", examples=["code"])
    warning_s: int = Field(description="Seconds before the end at which everybody is warned.", examples=[900])
    lead_time_s: int = Field(description="Seconds before the opening at which preparing begins.", examples=[600])
    idle_timeout_s: int = Field(description="Seconds a seat may stand unused.", examples=[3600])
    retention_s: int = Field(description="Seconds the data is kept after the end.", examples=[1209600])
    prepared: bool = Field(description="Whether everything a seat needs has been made.", examples=[True])
    version: int = Field(description="Grows with every change; see `version` of the changes.", examples=[3])
    url: str = Field(description="Its public page.", examples=[f"http://{_EXAMPLE_ID}.localhost:8000/"])
    launch_url: str = Field(
        description="Where enrolled people start their seat.",
        examples=[f"http://app.localhost:8000/hub/workshops/{_EXAMPLE_ID}"],
    )
    manage_url: str = Field(
        description="The instructors' page.", examples=[f"http://app.localhost:8000/services/workshops/{_EXAMPLE_ID}"]
    )
    join_url: str | None = Field(
        default=None,
        description="The link to give to learners, with the code if there is one; null for who may not see it.",
        examples=[f"http://{_EXAMPLE_ID}.localhost:8000/?code=k7mw2xqa"],
    )
    join_code: str | None = Field(
        default=None, description="The code; null if there is none or the asker may not see it.", examples=["k7mw2xqa"]
    )
    my_role: Role | None = Field(default=None, description="What the asker is in it.", examples=["learner"])
    owner: str | None = Field(default=None, description="Who made it; for those who run it.", examples=["teacher"])
    learners: int | None = Field(default=None, description="Places taken; for those who run it.", examples=[12])
    instructors: int | None = Field(
        default=None, description="Instructors enrolled; for those who run it.", examples=[1]
    )
    trouble: str | None = Field(
        default=None, description="Why the platform is stuck with it; for those who run it.", examples=[None]
    )
    warnings: list[str] = Field(
        default=[],
        description="What may go wrong, with the figures: seats that don't fit into the machine beside what is "
        "promised to other workshops. Nothing is refused for it. Of one workshop, for those who run it.",
        examples=[[]],
    )
    statistics: dict[str, int] | None = Field(
        default=None, description="Anonymous counts; for those who run it.", examples=[{"joined": 12}]
    )
    purge_record: dict[str, Any] | None = Field(
        default=None, description="What was removed and how that was checked; for operators.", examples=[None]
    )
    hub_informed: bool = Field(
        default=True,
        description="False when the hub did not answer just now: the change is made, and reaches it within a minute.",
        examples=[True],
    )
    server_time: AwareDatetime = Field(description="The moment of this answer.", examples=["2026-11-03T09:15:00Z"])


class MendedView(_Answer):
    """What was put right in a workshop."""

    mended: list[str] = Field(
        description="What was damaged and where the good value is from; empty when nothing was.",
        examples=[["seats, from the Hub group"]],
    )
    workshop: WorkshopView = Field(description="The workshop, as it can be read again.")


class WorkshopPage(Page[WorkshopView]):
    """Workshops, newest first."""

    damaged: dict[str, str] = Field(
        default_factory=dict,
        description="Workshops that would be among these and can't be read, with what is wrong and what to do; for "
        "those who answer for them.",
        examples=[{}],
    )


class EnrolmentView(_Answer):
    """A person's place in a workshop."""

    user: str = Field(description="User name.", examples=["ada"])
    role: Role = Field(description="Role.", examples=["learner"])
    joined_at: AwareDatetime = Field(description="Since when.", examples=["2026-11-03T08:05:00Z"])
    in_hub: bool = Field(
        description="Whether the hub knows; if not, it will within a minute and the seat can be started then.",
        examples=[True],
    )


class InvitationView(_Answer):
    """A roster row without an account."""

    id: int = Field(description="Number of the invitation.", examples=[12])
    label: str = Field(description="How the roster names the person.", examples=["Ada from the first row"])
    role: Role = Field(description="The role it gives.", examples=["learner"])
    created_at: AwareDatetime = Field(description="When it was made.", examples=["2026-11-02T10:00:00Z"])
    used_at: AwareDatetime | None = Field(default=None, description="When it was used.", examples=[None])
    url: str | None = Field(
        default=None,
        description="The single-use link; only in the answer that makes the invitation.",
        examples=[f"http://app.localhost:8000/services/workshops/join/{_EXAMPLE_ID}?invitation=12-Zm9vYmFyYmF6cXV4"],
    )


class EnrolmentPage(_Answer):
    """Everybody in a workshop and the invitations not used yet."""

    items: list[EnrolmentView] = Field(description="People, in the order they joined.")
    invitations: list[InvitationView] = Field(default_factory=list, description="Invitations nobody has used.")


class RosterEntry(_Answer):
    """What became of a person put on the roster: exactly one of the two."""

    enrolment: EnrolmentView | None = Field(default=None, description="The place of somebody who has an account.")
    invitation: InvitationView | None = Field(default=None, description="The invitation for somebody who has none.")


class Joined(EnrolmentView):
    """The asker's own place, and where to go on."""

    launch_url: str = Field(
        description="Where to start the seat.", examples=[f"http://app.localhost:8000/hub/workshops/{_EXAMPLE_ID}"]
    )


class SeatState(StrEnum):
    """What a seat's server is doing."""

    STOPPED = "stopped"
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


class SeatView(_Answer):
    """A person's seat. One that was never started has none in lists."""

    user: str = Field(description="User name.", examples=["ada"])
    state: SeatState = Field(description="What it is doing.", examples=["ready"])
    url: str | None = Field(
        default=None,
        description="Where it is opened.",
        examples=[f"http://{_EXAMPLE_ID}--ada.localhost:8000/user/ada/{_EXAMPLE_ID}/"],
    )
    started: AwareDatetime | None = Field(
        default=None, description="Since when it runs.", examples=["2026-11-03T08:06:00Z"]
    )
    last_activity: AwareDatetime | None = Field(
        default=None, description="When it was last in use.", examples=["2026-11-03T09:10:00Z"]
    )
    failure: str | None = Field(
        default=None, description="Why its last start failed, or why it ended unasked.", examples=[None]
    )
    place: int | None = Field(
        default=None, description="Where a waiting start stands in the hub's line, from 1.", examples=[None]
    )
    wait_s: float | None = Field(
        default=None, description="About how many seconds until its turn comes.", examples=[None]
    )


class SeatList(_Answer):
    """Seats in order of user name: all for those who run the workshop, the asker's own for everybody else in it."""

    items: list[SeatView] = Field(description="The seats.")


class EventView(_Answer):
    """One thing that happened. People appear under a pseudonym of this workshop."""

    id: int = Field(description="Grows with time.", examples=[41])
    at: AwareDatetime = Field(description="When.", examples=["2026-11-03T08:05:00Z"])
    kind: str = Field(description="What.", examples=["enrolled"])
    actor: str = Field(
        description="By whom: `system`, a pseudonym, or `operator:` and a pseudonym.", examples=["system"]
    )
    subject: str | None = Field(default=None, description="To whom, a pseudonym.", examples=["p-3f9a0c"])
    detail: dict[str, Any] = Field(default_factory=dict, description="More about it.", examples=[{"role": "learner"}])


class EventPage(Page[EventView]):
    """Events, oldest first."""


class Me(_Answer):
    """Who is asking."""

    name: str = Field(description="Hub user name.", examples=["ada"])
    operator: bool = Field(description="Whether they run the platform.", examples=[False])
    may_create: bool = Field(description="Whether they may make workshops.", examples=[False])


class PartHealth(_Answer):
    """One thing the service needs."""

    ok: bool = Field(description="Whether it answers.", examples=[True])
    detail: str = Field(default="", description="What is wrong.", examples=[""])


class Health(_Answer):
    """Whether the service can do its work (200) or not (503)."""

    status: Literal["ok", "unavailable"] = Field(description="All parts together.", examples=["ok"])
    version: str = Field(description="Version of Orchestra Hub.", examples=["0.1.0"])
    parts: dict[str, PartHealth] = Field(
        description="`database` and `hub`.", examples=[{"database": {"ok": True}, "hub": {"ok": True}}]
    )


class FieldProblem(_Answer):
    """One field at fault."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the request's body or query.", examples=["/seats"])
    detail: str = Field(description="What is wrong with it.", examples=["Input should be greater than or equal to 1"])


class Problem(_Answer):
    """Why a request was refused (RFC 9457, `application/problem+json`)."""

    type: str = Field(
        description="Names the kind of problem; it stays the same between releases.",
        examples=["urn:orchestra-hub:problem:workshop-full"],
    )
    title: str = Field(description="The kind in words.", examples=["The workshop is full"])
    status: int = Field(description="HTTP status.", examples=[409])
    detail: str = Field(
        description="What was refused and what to do.", examples=["All 30 places of this workshop are taken."]
    )
    instance: str | None = Field(
        default=None, description="This very request, as in `X-Request-ID`.", examples=["urn:uuid:0b8f9a52-…"]
    )
    errors: list[FieldProblem] = Field(default_factory=list, description="Fields at fault.", examples=[[]])
