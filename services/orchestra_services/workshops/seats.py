"""Seats: seen, started and stopped through the hub, which checks every start again."""

from __future__ import annotations

import asyncio

from orchestra_hub.api_models import SeatList, SeatState, SeatView
from orchestra_hub.errors import NotFound, WrongState
from orchestra_hub.ids import server_name
from orchestra_hub.lifecycle import may_start_seat
from orchestra_hub.permissions import Action
from orchestra_hub.workshop import Enrolment
from orchestra_services.workshops.context import Context, Standing, log
from orchestra_services.workshops.people import known_to_hub, user_of_hub
from orchestra_services.workshops.views import seat_view

__all__ = ["seat_list", "start", "stop"]


async def seat_list(context: Context, standing: Standing) -> SeatList:
    """Every seat for those who may see them, the person's own for others who are enrolled."""
    standing.demand(Action.SEE_SEATS, Action.START_OWN_SEAT)
    found = await context.hub.seats(standing.id)
    if not standing.may(Action.SEE_SEATS):
        found = [seat for seat in found if seat.user == standing.person.name]
    return SeatList(items=[seat_view(seat) for seat in found])


async def start(context: Context, standing: Standing, user_name: str) -> SeatView:
    """The seat, starting or ready. Raises `WrongState` with the reason when it may not, and the hub's refusals."""
    place = await _place(context, standing, user_name, Action.START_OWN_SEAT, Action.START_ANY_SEAT)
    refusal = may_start_seat(standing.workshop, place.role, context.now)
    if refusal is not None:
        log.info("start refused workshop=%s user=%s: %s", standing.id, user_name, refusal)
        raise WrongState(refusal)
    await known_to_hub(context, place)
    await context.hub.start(place.user_name, server_name(standing.id))
    log.info("start workshop=%s user=%s by=%s", standing.id, user_name, standing.person.name)
    return await _seat(context, standing.id, place.user_name)


async def stop(context: Context, standing: Standing, user_name: str) -> SeatView:
    """The seat, stopping or stopped; its files stay."""
    place = await _place(context, standing, user_name, Action.STOP_OWN_SEAT, Action.STOP_ANY_SEAT)
    await context.hub.stop(place.user_name, server_name(standing.id))
    log.info("stop workshop=%s user=%s by=%s", standing.id, user_name, standing.person.name)
    return await _seat(context, standing.id, place.user_name)


async def _place(context: Context, standing: Standing, user_name: str, own: Action, others: Action) -> Enrolment:
    if user_name == standing.person.name:
        standing.demand(own, others)
        place = standing.enrolment
    else:
        standing.demand(others)
        place = await asyncio.to_thread(context.store.enrolment, standing.id, user_name)
        user = None if place is None else await user_of_hub(context, user_name)
        if place is not None and (user is None or user.key != place.account_key):
            place = None
    if place is None:
        raise NotFound(f"Nobody called {user_name[:80]!r} is enrolled in {standing.id}.")
    return place


async def _seat(context: Context, workshop_id: str, user_name: str) -> SeatView:
    for seat in await context.hub.seats(workshop_id):
        if seat.user == user_name:
            return seat_view(seat)
    return SeatView(user=user_name, state=SeatState.STOPPED)
