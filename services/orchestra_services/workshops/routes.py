"""The API's table: every path with its method, models, statuses and permissions.

Handlers and the OpenAPI document are made from it; nothing about a route stands anywhere else. The functions here only
pass on: decisions are in `actions`, `people`, `seats` and `export`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel

from orchestra_hub import __version__
from orchestra_hub.api_models import (
    Change,
    Empty,
    End,
    Enrol,
    EnrolmentPage,
    EventPage,
    EventQuery,
    Extend,
    Health,
    Join,
    Joined,
    Me,
    MendedView,
    PartHealth,
    RosterEntry,
    SeatList,
    SeatState,
    SeatView,
    TemplateList,
    TemplateView,
    WorkshopCreate,
    WorkshopPage,
    WorkshopQuery,
    WorkshopView,
)
from orchestra_hub.errors import HubUnavailable, NotFound, OrchestraError
from orchestra_hub.permissions import Action
from orchestra_services.workshops import actions, export, mending, people, seats
from orchestra_services.workshops.context import Context, Person, Standing, log
from orchestra_services.workshops.export import Download

__all__ = ["ROUTES", "Call", "Reply", "Route"]

Model = TypeVar("Model", bound=BaseModel)
_HEALTH_WAIT_S = 5.0


@dataclass(frozen=True)
class Call:
    """One request, read and checked."""

    context: Context
    _person: Person | None
    path: dict[str, str]
    body: BaseModel | None
    query: BaseModel | None
    document: dict[str, Any]
    address: str  # the asker's, as the proxy tells it

    @property
    def person(self) -> Person:
        """Who asks; only public routes have nobody."""
        if self._person is None:
            raise AssertionError("a public route asked who is asking")
        return self._person

    async def standing(self) -> Standing:
        """What the asker is to the workshop of the path."""
        return await self.context.standing(self.person, self.path["workshop_id"])

    @property
    def user(self) -> str:
        """The user name of the path; one nobody can have is not found."""
        name = self.path["user"]
        if not name.isprintable() or len(name) > 255:
            raise NotFound("Nobody has such a name.")
        return name

    def sent(self, model: type[Model]) -> Model:
        """The body."""
        if not isinstance(self.body, model):
            raise AssertionError(f"the route has no body of {model.__name__}")
        return self.body

    def asked(self, model: type[Model]) -> Model:
        """The query string."""
        if not isinstance(self.query, model):
            raise AssertionError(f"the route has no query of {model.__name__}")
        return self.query


@dataclass(frozen=True)
class Reply:
    """An answer whose status or headers aren't the route's usual ones. `content` is a model or a JSON object."""

    content: BaseModel | dict[str, Any] | None
    status: int | None = None
    location: str | None = None


Result: TypeAlias = BaseModel | Reply | Download | None
Handler: TypeAlias = Callable[[Call], Awaitable[Result]]


@dataclass(frozen=True)
class Route:
    """One operation. `actions`: the asker may do one of these (none: anybody who is signed in; see `public`)."""

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    response: type[BaseModel] | str | None  # a model, a media type, or nothing
    request: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    statuses: tuple[int, ...] = (200,)
    conflicts: str | None = None  # what a 409 means, if it can happen
    actions: tuple[Action, ...] = ()
    public: bool = False
    needs_hub: bool = False
    guessable: bool = False  # takes a secret, so wrong ones are counted (429)

    @property
    def operation_id(self) -> str:
        """The handler's name, which is unique."""
        return self.handler.__name__.removesuffix("_")


async def health(call: Call) -> Reply:
    """Whether the database and the hub answer."""

    async def asked(step: Awaitable[object]) -> PartHealth:
        try:
            async with asyncio.timeout(_HEALTH_WAIT_S):
                await step
        except TimeoutError:
            return PartHealth(ok=False, detail=f"No answer within {_HEALTH_WAIT_S:g} s.")
        except OrchestraError as error:
            log.error("health: %s", error)
            kind = "The hub" if isinstance(error, HubUnavailable) else "The database"
            return PartHealth(ok=False, detail=f"{kind} does not answer as it should; the log says why.")
        return PartHealth(ok=True)

    context = call.context
    database, hub = await asyncio.gather(asked(asyncio.to_thread(context.store.ping)), asked(context.hub.ping()))
    good = database.ok and hub.ok
    status = Health(
        status="ok" if good else "unavailable", version=__version__, parts={"database": database, "hub": hub}
    )
    return Reply(status, status=200 if good else 503)


async def openapi(call: Call) -> Reply:
    """This document."""
    return Reply(call.document)


async def me(call: Call) -> Me:
    """The asker."""
    person = call.person
    return Me(name=person.name, operator=person.operator, may_create=actions.may_create(person))


async def list_templates(call: Call) -> TemplateList:
    """Every template."""
    return await actions.template_list(call.context, call.person)


async def get_template(call: Call) -> TemplateView:
    """One template."""
    return await actions.template(call.context, call.path["name"])


async def create_workshop(call: Call) -> Reply:
    """A new workshop."""
    made = await actions.create(call.context, call.person, call.sent(WorkshopCreate))
    return Reply(made, location=f"workshops/{made.id}")


async def list_workshops(call: Call) -> WorkshopPage:
    """Workshops, newest first."""
    return await actions.workshop_page(call.context, call.person, call.asked(WorkshopQuery))


async def get_workshop(call: Call) -> WorkshopView:
    """One workshop."""
    return await actions.seen(call.context, await call.standing())


async def extend_workshop(call: Call) -> WorkshopView:
    """Another end."""
    return await actions.extend(call.context, await call.standing(), call.sent(Extend))


async def cancel_workshop(call: Call) -> WorkshopView:
    """Cancelled."""
    return await actions.cancel(call.context, await call.standing(), call.sent(Change))


async def end_workshop(call: Call) -> WorkshopView:
    """Its end now."""
    return await mending.end(call.context, call.person, call.path["workshop_id"], call.sent(End))


async def mend_workshop(call: Call) -> MendedView:
    """What was damaged, put right."""
    return await mending.mend(call.context, call.person, call.path["workshop_id"])


async def join_workshop(call: Call) -> Joined:
    """The asker's place."""
    return await people.join(call.context, await call.standing(), call.sent(Join), call.address)


async def leave_workshop(call: Call) -> None:
    """The asker's place given back."""
    await people.leave(call.context, await call.standing())


async def list_enrolments(call: Call) -> EnrolmentPage:
    """The roster."""
    return await people.enrolment_page(call.context, await call.standing())


async def enrol(call: Call) -> RosterEntry:
    """Somebody on the roster."""
    return await people.enrol(call.context, await call.standing(), call.sent(Enrol))


async def remove_enrolment(call: Call) -> None:
    """Somebody off the roster."""
    await people.remove(call.context, await call.standing(), call.user)


async def list_seats(call: Call) -> SeatList:
    """The seats."""
    return await seats.seat_list(call.context, await call.standing())


async def start_seat(call: Call) -> Reply:
    """A seat, started."""
    seat = await seats.start(call.context, await call.standing(), call.user)
    return Reply(seat, status=200 if seat.state is SeatState.READY else 202)


async def stop_seat(call: Call) -> Reply:
    """A seat, stopped."""
    seat = await seats.stop(call.context, await call.standing(), call.user)
    return Reply(seat, status=202 if seat.state is SeatState.STOPPING else 200)


async def export_files(call: Call) -> Download:
    """The asker's own files."""
    return export.own_files(call.context, await call.standing())


async def list_events(call: Call) -> EventPage:
    """What happened."""
    return await actions.events(call.context, await call.standing(), call.asked(EventQuery))


_WORKSHOP = "/v1/workshops/{workshop_id}"
_OVER = "The workshop is over, or was changed since the version that was sent."

ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/v1/health", health, "Whether the service can do its work", "platform", Health,
        statuses=(200, 503), public=True,
    ),
    Route("GET", "/v1/openapi.json", openapi, "This document", "platform", "application/json", public=True),
    Route("GET", "/v1/me", me, "Who is asking", "platform", Me),
    Route(
        "GET", "/v1/templates", list_templates, "Kinds of workshops", "templates", TemplateList,
        actions=(Action.SEE_TEMPLATES,),
    ),
    Route(
        "GET", "/v1/templates/{name}", get_template, "One kind of workshop", "templates", TemplateView,
        actions=(Action.SEE_TEMPLATES,),
    ),
    Route(
        "POST", "/v1/workshops", create_workshop, "Make a workshop", "workshops", WorkshopView, WorkshopCreate,
        statuses=(201,), actions=(Action.CREATE,),
    ),
    Route(
        "GET", "/v1/workshops", list_workshops, "Workshops, newest first", "workshops", WorkshopPage,
        query=WorkshopQuery, actions=(Action.SEE,),
    ),
    Route("GET", _WORKSHOP, get_workshop, "One workshop", "workshops", WorkshopView, actions=(Action.SEE,)),
    Route(
        "POST", f"{_WORKSHOP}/extend", extend_workshop, "Move its end, never past the deadline", "workshops",
        WorkshopView, Extend, conflicts=_OVER, actions=(Action.EXTEND,),
    ),
    Route(
        "POST", f"{_WORKSHOP}/cancel", cancel_workshop, "Cancel it", "workshops", WorkshopView, Change,
        conflicts=_OVER, actions=(Action.CANCEL,),
    ),
    Route(
        "POST", f"{_WORKSHOP}/end", end_workshop, "End it now", "workshops", WorkshopView, End,
        conflicts=_OVER, actions=(Action.END,),
    ),
    Route(
        "POST", f"{_WORKSHOP}/mend", mend_workshop, "Put right what somebody damaged by hand", "workshops", MendedView,
        Empty, conflicts="It can't be mended, or it was changed at the same moment.", actions=(Action.MEND,),
    ),
    Route(
        "POST", f"{_WORKSHOP}/join", join_workshop, "Take a place", "people", Joined, Join,
        conflicts="Every place is taken, or the workshop is over.", actions=(Action.JOIN,), guessable=True,
    ),
    Route(
        "POST", f"{_WORKSHOP}/leave", leave_workshop, "Give one's place back", "people", None, statuses=(204,),
        actions=(Action.LEAVE,),
    ),
    Route(
        "GET", f"{_WORKSHOP}/enrolments", list_enrolments, "Everybody in it, and open invitations", "people",
        EnrolmentPage, actions=(Action.SEE_ENROLMENTS,),
    ),
    Route(
        "POST", f"{_WORKSHOP}/enrolments", enrol, "Put a person on the roster", "people", RosterEntry, Enrol,
        statuses=(201,), conflicts="Every place is taken, or the workshop is over.", actions=(Action.ENROL,),
        needs_hub=True,
    ),
    Route(
        "DELETE", f"{_WORKSHOP}/enrolments/{{user}}", remove_enrolment, "Take a person's place away", "people", None,
        statuses=(204,), actions=(Action.REMOVE_ENROLMENT,),
    ),
    Route(
        "GET", f"{_WORKSHOP}/seats", list_seats, "Seats, all or one's own", "seats", SeatList,
        actions=(Action.SEE_SEATS, Action.START_OWN_SEAT), needs_hub=True,
    ),
    Route(
        "POST", f"{_WORKSHOP}/seats/{{user}}/start", start_seat, "Start a seat", "seats", SeatView,
        statuses=(200, 202), conflicts="The workshop isn't open, or the hub refused the start.",
        actions=(Action.START_OWN_SEAT, Action.START_ANY_SEAT), needs_hub=True,
    ),
    Route(
        "POST", f"{_WORKSHOP}/seats/{{user}}/stop", stop_seat, "Stop a seat; its files stay", "seats", SeatView,
        statuses=(200, 202), conflicts="The hub can't stop it just now.",
        actions=(Action.STOP_OWN_SEAT, Action.STOP_ANY_SEAT), needs_hub=True,
    ),
    Route(
        "GET", f"{_WORKSHOP}/export", export_files, "One's own files as a tar.gz", "seats", "application/gzip",
        actions=(Action.EXPORT_OWN,),
    ),
    Route(
        "GET", f"{_WORKSHOP}/events", list_events, "What happened, oldest first", "workshops", EventPage,
        query=EventQuery, actions=(Action.SEE_EVENTS,),
    ),
)  # fmt: skip
"""Every operation of the API, in the order of the documentation."""
