"""What the API answers, made from the store's rows and the hub's words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from orchestra_hub.api_models import (
    EnrolmentView,
    EventView,
    InvitationView,
    SeatState,
    SeatView,
    TemplateView,
    WorkshopView,
)
from orchestra_hub.hub.hosts import Hosts
from orchestra_hub.hub_api import SeatStatus
from orchestra_hub.lifecycle import effective_state
from orchestra_hub.permissions import Action, Asker
from orchestra_hub.store import Event
from orchestra_hub.templates import Template
from orchestra_hub.workshop import Enrolment, Invitation, JoinPolicy, Role, Workshop
from orchestra_services.workshops.context import Standing

__all__ = [
    "PREFIX",
    "Counts",
    "Links",
    "counted",
    "enrolment_view",
    "event_view",
    "invitation_view",
    "seat_view",
    "template_view",
    "workshop_view",
]

PREFIX = "/services/workshops/"
"""Where the pages are on the hub's host."""


@dataclass(frozen=True)
class Links:
    """The addresses of one workshop."""

    hosts: Hosts
    workshop_id: str

    @property
    def public(self) -> str:
        """Its own page, on its own host."""
        return f"{self.hosts.workshop(self.workshop_id)}/"

    @property
    def launch(self) -> str:
        """Where enrolled people start their seat."""
        return f"{self.hosts.app}/hub/workshops/{self.workshop_id}"

    @property
    def manage(self) -> str:
        """The instructors' page."""
        return f"{self.hosts.app}{PREFIX}{self.workshop_id}"

    def join(self, workshop: Workshop) -> str:
        """The link for learners, with the code if there is one."""
        code = workshop.join_code if workshop.join_policy is JoinPolicy.CODE else None
        return f"{self.public}?code={quote(code, safe='')}" if code else self.public

    def invitation(self, token: str) -> str:
        """The link for one person."""
        return f"{self.hosts.app}{PREFIX}join/{self.workshop_id}?invitation={quote(token, safe='')}"


@dataclass(frozen=True)
class Counts:
    """How many are in a workshop."""

    learners: int
    instructors: int


def counted(enrolments: Iterable[Enrolment]) -> Counts:
    """The counts of these places."""
    roles = [place.role for place in enrolments]
    return Counts(roles.count(Role.LEARNER), roles.count(Role.INSTRUCTOR))


def workshop_view(
    standing: Standing,
    hosts: Hosts,
    now: datetime,
    counts: Counts | None = None,
    *,
    hub_informed: bool = True,
    warnings: Sequence[str] = (),
) -> WorkshopView:
    """The workshop as the person may see it; `counts` and `warnings` are shown to those who may see the roster."""
    workshop = standing.workshop
    links = Links(hosts, workshop.id)
    plain = {name: getattr(workshop, name) for name in _PLAIN}
    runs_it = standing.may(Action.SEE_ENROLMENTS)
    sees_code = standing.may(Action.SEE_JOIN_CODE)
    shown = counts if runs_it and counts is not None else None
    return WorkshopView(
        **plain,
        template=workshop.template.name,
        state=effective_state(workshop, now),
        url=links.public,
        launch_url=links.launch,
        manage_url=links.manage,
        join_url=links.join(workshop) if sees_code or workshop.join_policy is not JoinPolicy.CODE else None,
        join_code=workshop.join_code if sees_code else None,
        my_role=standing.role,
        owner=workshop.owner if runs_it else None,
        learners=None if shown is None else shown.learners,
        instructors=None if shown is None else shown.instructors,
        trouble=workshop.trouble if standing.may(Action.SEE_TROUBLE) else None,
        statistics=workshop.statistics if runs_it else None,
        purge_record=workshop.purge_record if Asker.OPERATOR in standing.askers else None,
        warnings=list(warnings) if runs_it else [],
        hub_informed=hub_informed,
        server_time=now,
    )


_PLAIN = (
    "id", "title", "teacher", "opens_at", "expires_at", "deadline", "purge_at", "cancelled_at", "ended_early",
    "created_at", "seats", "join_policy", "warning_s", "lead_time_s", "idle_timeout_s", "retention_s", "prepared",
    "version",
)  # fmt: skip


def template_view(template: Template) -> TemplateView:
    """A template for somebody who chooses one."""
    return TemplateView(**{name: getattr(template, name) for name in TemplateView.model_fields})


def enrolment_view(place: Enrolment) -> EnrolmentView:
    """A place; the account's key stays inside."""
    return EnrolmentView(user=place.user_name, role=place.role, joined_at=place.joined_at, in_hub=place.in_hub)


def invitation_view(invitation: Invitation, hosts: Hosts) -> InvitationView:
    """An invitation; its link only when it was made just now."""
    token = invitation.token
    url = None if token is None else Links(hosts, invitation.workshop_id).invitation(token)
    plain = invitation.model_dump(exclude={"token", "workshop_id"})
    return InvitationView(**plain, url=url)


def seat_view(seat: SeatStatus) -> SeatView:
    """A seat as the hub sees it."""
    if seat.pending == "stop":
        state = SeatState.STOPPING
    elif seat.ready:
        state = SeatState.READY
    elif seat.place is not None:
        state = SeatState.WAITING
    elif seat.pending is not None:
        state = SeatState.STARTING
    else:
        state = SeatState.FAILED if seat.failure else SeatState.STOPPED
    return SeatView(
        user=seat.user, state=state, url=seat.url or None, started=seat.started, last_activity=seat.last_activity,
        failure=seat.failure, place=seat.place, wait_s=seat.wait_s,
    )  # fmt: skip


def event_view(event: Event) -> EventView:
    """An event; it names nobody already."""
    return EventView(**event.model_dump(exclude={"workshop_id"}))
