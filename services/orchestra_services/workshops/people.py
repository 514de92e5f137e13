"""People in a workshop: join, leave, put others on the roster. The store gives the places; the hub hears at once."""

from __future__ import annotations

import asyncio

from orchestra_hub.api_models import Enrol, EnrolmentPage, EnrolmentView, Join, Joined, RosterEntry
from orchestra_hub.errors import HubUnavailable, NotAllowed, NotFound, OrchestraError
from orchestra_hub.hub_api import HubUser
from orchestra_hub.ids import server_name
from orchestra_hub.permissions import Action
from orchestra_hub.workshop import Enrolment, Role
from orchestra_services.workshops.context import Context, Standing, log
from orchestra_services.workshops.views import Links, enrolment_view, invitation_view

__all__ = ["enrol", "enrolment_page", "join", "known_to_hub", "leave", "remove", "user_of_hub"]


async def join(context: Context, standing: Standing, wanted: Join, address: str) -> Joined:
    """The person's place, new or as it was. Raises `NotAllowed`, `WorkshopFull`, `WrongState`, `TooManyAttempts`.

    Codes and invitations may be guessed only so often by an account from `address`.
    """
    standing.demand(Action.JOIN)
    person = standing.person

    def enrol() -> Enrolment:
        return context.store.enrol(
            standing.id, person.account, code=wanted.code, invitation=wanted.invitation, actor=person.account.key
        )

    if wanted.code is None and wanted.invitation is None:
        place = await asyncio.to_thread(enrol)
    else:
        with context.code_attempts.one(person.account.key, address) as attempt:
            try:
                place = await asyncio.to_thread(enrol)
            except OrchestraError as error:
                attempt.right = not isinstance(error, NotAllowed)
                raise
            attempt.right = True
    log.info("joined workshop=%s user=%s role=%s", standing.id, person.name, place.role)
    place = await known_to_hub(context, place)
    return Joined(**enrolment_view(place).model_dump(), launch_url=Links(context.hosts, standing.id).launch)


async def known_to_hub(context: Context, place: Enrolment, *, sure: bool = False) -> Enrolment:
    """The place after the hub was told of it. `sure`: ask the hub even if it was told before."""
    if place.in_hub and not sure:
        return place
    told = await context.at_once(_add(context, place), "member", place.workshop_id)
    if place.role is Role.INSTRUCTOR:
        told = await context.tell_hub(place.workshop_id) and told
    if told != place.in_hub:
        note = asyncio.to_thread(context.store.mark_in_hub, place.workshop_id, place.user_name, told)
        await context.at_once(note, "noted as member", place.workshop_id)
    return place.model_copy(update={"in_hub": told})


async def _add(context: Context, place: Enrolment) -> None:
    try:
        await context.hub.add_members(place.workshop_id, [place.user_name])
    except NotFound:  # the group isn't made yet
        if not await context.tell_hub(place.workshop_id):
            raise HubUnavailable("The workshop's group could not be made.") from None
        await context.hub.add_members(place.workshop_id, [place.user_name])


async def leave(context: Context, standing: Standing) -> None:
    """The person's place is free again; a seat of theirs stops."""
    standing.demand(Action.LEAVE)
    await _remove(context, standing, standing.person.name)


async def remove(context: Context, standing: Standing, user_name: str) -> None:
    """Somebody's place is free again; their seat stops. Raises `NotFound`."""
    standing.demand(Action.REMOVE_ENROLMENT)
    place = await asyncio.to_thread(context.store.enrolment, standing.id, user_name)
    if place is not None and place.role is Role.INSTRUCTOR and user_name != standing.person.name:
        standing.demand(Action.SET_ROLE)
    await _remove(context, standing, user_name)


async def _remove(context: Context, standing: Standing, user_name: str) -> None:
    await asyncio.to_thread(context.store.remove_enrolment, standing.id, user_name, standing.actor)
    log.info("left workshop=%s user=%s by=%s", standing.id, user_name, standing.person.name)
    if await context.at_once(context.hub.remove_members(standing.id, [user_name]), "member gone", standing.id):
        await context.at_once(context.hub.stop(user_name, server_name(standing.id)), "seat stopped", standing.id)
    await context.tell_hub(standing.id)


async def enrolment_page(context: Context, standing: Standing) -> EnrolmentPage:
    """Everybody in the workshop and the invitations nobody has used."""
    standing.demand(Action.SEE_ENROLMENTS)
    places = await asyncio.to_thread(context.store.enrolments, standing.id)
    invitations = await asyncio.to_thread(context.store.invitations, standing.id)
    return EnrolmentPage(
        items=[enrolment_view(place) for place in sorted(places, key=lambda place: place.joined_at)],
        invitations=[invitation_view(each, context.hosts) for each in invitations if each.used_at is None],
    )


async def enrol(context: Context, standing: Standing, wanted: Enrol) -> RosterEntry:
    """A place for somebody with an account, an invitation for somebody without.

    Nobody is enrolled by a name alone: who takes that name later would have the place.
    """
    standing.demand(Action.ENROL)
    if wanted.role is Role.INSTRUCTOR:
        standing.demand(Action.SET_ROLE)
    user = await user_of_hub(context, wanted.user)
    if user is None:
        invitation = await asyncio.to_thread(
            context.store.invite, standing.id, wanted.user, wanted.role, standing.actor
        )
        log.info("invited workshop=%s invitation=%s by=%s", standing.id, invitation.id, standing.person.name)
        return RosterEntry(invitation=invitation_view(invitation, context.hosts))
    return RosterEntry(enrolment=await _enrol_account(context, standing, user, wanted.role))


async def _enrol_account(context: Context, standing: Standing, user: HubUser, role: Role) -> EnrolmentView:
    store, actor = context.store, standing.actor
    place = await asyncio.to_thread(lambda: store.enrol(standing.id, user.account, role, by_roster=True, actor=actor))
    if place.role is not role and standing.may(Action.SET_ROLE):
        place = await asyncio.to_thread(store.set_role, standing.id, user.name, role, actor)
        await context.tell_hub(standing.id)
    log.info("enrolled workshop=%s user=%s role=%s by=%s", standing.id, user.name, place.role, standing.person.name)
    return enrolment_view(await known_to_hub(context, place))


async def user_of_hub(context: Context, name: str) -> HubUser | None:
    """The hub's user of that name; None when there is none."""
    if name in (".", ".."):  # would be another path of the hub's API
        return None
    try:
        return await context.hub.user(name)
    except HubUnavailable:
        raise
    except OrchestraError:  # the hub finds the name impossible
        return None
