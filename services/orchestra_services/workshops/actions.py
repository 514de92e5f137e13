"""Workshops as people ask for them: make, find, change. The store decides; the hub hears of it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path

from orchestra_hub import templates
from orchestra_hub.api_models import (
    Change,
    End,
    EventPage,
    EventQuery,
    Extend,
    TemplateList,
    TemplateView,
    WorkshopCreate,
    WorkshopPage,
    WorkshopQuery,
    WorkshopView,
)
from orchestra_hub.content import pack
from orchestra_hub.errors import (
    InvalidInput,
    NotAllowed,
    NotFound,
    StaleVersion,
    StoreUnavailable,
    Temporary,
    WrongState,
)
from orchestra_hub.lifecycle import LIVING, effective_state
from orchestra_hub.permissions import Action, Asker, allowed
from orchestra_hub.store import Damage
from orchestra_hub.templates import TemplateError, TemplateSnapshot
from orchestra_hub.workshop import NewWorkshop, State, Workshop
from orchestra_services.workshops import promises
from orchestra_services.workshops.context import Context, Person, Standing, log, may_mend
from orchestra_services.workshops.views import counted, event_view, template_view, workshop_view

__all__ = [
    "cancel",
    "create",
    "end",
    "events",
    "extend",
    "may_create",
    "seen",
    "template",
    "template_list",
    "workshop_page",
    "workshops_of",
]

_EXTEND_TRIES = 5
_SCANNED = 200  # workshops read at a time while looking for those in a state


def may_create(person: Person) -> bool:
    """Whether the person may make workshops."""
    askers = (
        {Asker.VISITOR}
        | {Asker.OPERATOR for _ in [0] if person.operator}
        | {Asker.CREATOR for _ in [0] if person.creator}
    )
    return allowed(Action.CREATE, askers)


async def template_list(context: Context, person: Person) -> TemplateList:
    """Every template; operators also hear which are broken."""
    found = await asyncio.to_thread(templates.list_templates, context.templates_root)
    broken = {name: _without_path(error, context.templates_root) for name, error in found.errors.items()}
    return TemplateList(
        items=[template_view(template) for template in found.templates.values()],
        broken=broken if person.operator else {},
    )


async def template(context: Context, name: str) -> TemplateView:
    """One template; raises `NotFound`."""
    found = await asyncio.to_thread(templates.list_templates, context.templates_root)
    if name not in found.templates:
        raise NotFound(f"There is no template {name[:80]!r}.")
    return template_view(found.templates[name])


def _without_path(error: TemplateError, root: Path) -> str:
    return str(error).replace(f"{root}/", "")


async def create(context: Context, person: Person, wanted: WorkshopCreate) -> WorkshopView:
    """A new workshop and its Hub group. Raises `InvalidInput` for a template or dates that can't be."""
    if not may_create(person):
        raise NotAllowed("Making workshops is for operators and the people they let. Ask an operator.")
    found, content = await asyncio.to_thread(_loaded, context.templates_root, wanted.template)
    new = _new_workshop(context, person, wanted, found)
    actor = f"operator:{person.account.key}" if person.operator else person.account.key
    workshop = await asyncio.to_thread(context.store.create_workshop, new, content, actor)
    log.info("created workshop=%s user=%s template=%s", workshop.id, person.name, found.name)
    informed = await context.tell_hub(workshop.id)
    standing = context.standing_in(person, workshop, None)
    warnings = await promises.warnings_of(context, workshop)
    return workshop_view(standing, context.hosts, context.now, counted([]), hub_informed=informed, warnings=warnings)


def _loaded(root: Path, name: str) -> tuple[TemplateSnapshot, bytes]:
    folder = root / name
    if not (folder / templates.TEMPLATE_FILE).is_file():
        known = ", ".join(sorted(templates.list_templates(root).templates))
        raise InvalidInput(f"There is no template {name!r}. There are: {known or 'none'}.", field="/template")
    try:
        found = templates.snapshot(folder)
        content = pack(folder / found.content)
        changed = templates.content_digest(folder / found.content) != found.content_digest
    except TemplateError as error:
        log.error("template=%s is broken: %s", name, error)
        raise InvalidInput(
            f"The template {name!r} is broken, so no workshop can be made from it. Ask an operator to run "
            f"`orchestra-hub template lint`.",
            field="/template",
        ) from error
    if changed:
        raise Temporary(f"The template {name!r} is being changed just now. Try again.")
    return found, content


def _new_workshop(context: Context, person: Person, wanted: WorkshopCreate, found: TemplateSnapshot) -> NewWorkshop:
    opens_at = context.now if wanted.opens_at == "now" else wanted.opens_at
    expires_at = wanted.expires_at if wanted.hours is None else opens_at + timedelta(hours=wanted.hours)
    warning_min = context.defaults.warning_min if wanted.warning_min is None else wanted.warning_min
    lead_time_min = context.defaults.lead_time_min if wanted.lead_time_min is None else wanted.lead_time_min
    return NewWorkshop(
        template=found,
        session=wanted.session,
        course=wanted.course,
        title=wanted.title,
        teacher=person.name if wanted.teacher is None else wanted.teacher,
        owner=person.account,
        opens_at=opens_at,
        expires_at=expires_at,
        seats=wanted.seats,
        join_policy=wanted.join_policy,
        retention_s=None if wanted.retention_h is None else round(wanted.retention_h * 3600),
        idle_timeout_s=None if wanted.idle_timeout_min is None else round(wanted.idle_timeout_min * 60),
        warning_s=round(warning_min * 60),
        lead_time_s=round(lead_time_min * 60),
    )


async def seen(context: Context, standing: Standing) -> WorkshopView:
    """The workshop as the person may see it."""
    return await _view(context, standing)


async def _view(context: Context, standing: Standing, *, hub_informed: bool = True) -> WorkshopView:
    counts, warnings = None, list[str]()
    if standing.may(Action.SEE_ENROLMENTS):
        counts = counted(await asyncio.to_thread(context.store.enrolments, standing.id))
        warnings = await promises.warnings_of(context, standing.workshop, counts.instructors)
    return workshop_view(standing, context.hosts, context.now, counts, hub_informed=hub_informed, warnings=warnings)


async def workshops_of(
    context: Context,
    person: Person,
    *,
    everything: bool,
    states: frozenset[State] | None,
    after: str | None,
    limit: int,
) -> Standings:
    """Up to `limit` workshops, newest first, of the person's own or (`everything`) of the platform.

    `states` are those that hold now, whether or not the reconciler has written them yet.
    """
    mine = {
        place.workshop_id: place
        for place in await asyncio.to_thread(context.store.enrolments_of, person.name)
        if place.account_key == person.account.key
    }
    account = None if everything else person.account
    read = partial(context.store.workshops, _written(states), account, account)
    found: list[Workshop] = []
    damaged: list[Damage] = []
    while len(found) < limit:
        scanned = await asyncio.to_thread(read, after, _SCANNED)
        found += [each for each in scanned if states is None or effective_state(each, context.now) in states]
        damaged += [damage for damage in scanned.damaged if may_mend(person, damage)]
        if len(scanned.ids) < _SCANNED:
            break
        after = scanned.ids[-1]
    standings = (context.standing_in(person, workshop, mine.get(workshop.id)) for workshop in found[:limit])
    return Standings(standings, damaged)


class Standings(list[Standing]):
    """What a person is to workshops. `damaged` are those among them that can't be read and the person answers for."""

    def __init__(self, standings: Iterable[Standing], damaged: Iterable[Damage]) -> None:
        super().__init__(standings)
        self.damaged = tuple(damaged)


def _written(states: frozenset[State] | None) -> frozenset[State] | None:
    """The written states in which those that hold now can stand."""
    return states | LIVING if states is not None and states & (LIVING | {State.EXPIRED}) else states


async def workshop_page(context: Context, person: Person, query: WorkshopQuery) -> WorkshopPage:
    """A page of the workshops the person may list: all for operators, their own for everybody else."""
    found = await workshops_of(
        context,
        person,
        everything=person.operator and not query.mine,
        states=None if query.state is None else frozenset(query.state),
        after=query.after,
        limit=query.limit + 1,
    )
    shown = found[: query.limit]
    return WorkshopPage(
        items=[workshop_view(standing, context.hosts, context.now) for standing in shown],
        next=shown[-1].id if len(found) > len(shown) else None,
        damaged={damage.id: damage.sentence for damage in found.damaged},
    )


async def extend(context: Context, standing: Standing, wanted: Extend) -> WorkshopView:
    """The workshop with another end. Hours count from the one that stands when they are added."""
    standing.demand(Action.EXTEND)
    for _ in range(_EXTEND_TRIES - 1):
        try:
            return await _extended(context, standing, wanted)
        except StaleVersion:
            if wanted.version is not None:
                raise
            workshop = await asyncio.to_thread(context.store.workshop, standing.id)
            standing = context.standing_in(standing.person, workshop, standing.enrolment)
    return await _extended(context, standing, wanted)


async def _extended(context: Context, standing: Standing, wanted: Extend) -> WorkshopView:
    version = wanted.version
    expires_at = wanted.expires_at
    if expires_at is None:
        expires_at = standing.workshop.expires_at + timedelta(hours=wanted.hours or 0)
        version = version or standing.workshop.version
    store = context.store
    return await _changed(
        context, standing, lambda: store.extend(standing.id, expires_at, standing.actor, version), "extended"
    )


async def cancel(context: Context, standing: Standing, wanted: Change) -> WorkshopView:
    """The workshop, cancelled."""
    standing.demand(Action.CANCEL)
    change = partial(context.store.cancel, standing.id, standing.actor, wanted.version)
    return await _changed(context, standing, change, "cancelled")


async def end(context: Context, standing: Standing, wanted: End) -> WorkshopView:
    """The workshop with its end now."""
    if wanted.damaged:
        raise WrongState(f"{standing.id} isn't damaged. End it without `damaged`, or cancel it.")
    standing.demand(Action.END)
    change = partial(context.store.end, standing.id, standing.actor, wanted.version)
    return await _changed(context, standing, change, "ended")


async def _changed(context: Context, standing: Standing, change: Callable[[], Workshop], what: str) -> WorkshopView:
    workshop = await asyncio.to_thread(change)
    log.info(
        "%s workshop=%s user=%s expires_at=%s", what, workshop.id, standing.person.name, workshop.expires_at.isoformat()
    )
    informed = await context.tell_hub(workshop.id)
    after = context.standing_in(standing.person, workshop, standing.enrolment)
    try:
        return await _view(context, after, hub_informed=informed)
    except StoreUnavailable:  # it is done: it isn't refused because nobody could be counted
        return workshop_view(after, context.hosts, context.now, hub_informed=informed)


async def events(context: Context, standing: Standing, query: EventQuery) -> EventPage:
    """A page of what happened in the workshop."""
    standing.demand(Action.SEE_EVENTS)
    found = await asyncio.to_thread(context.store.events, standing.id, query.after, query.limit + 1)
    shown = found[: query.limit]
    return EventPage(
        items=[event_view(event) for event in shown], next=str(shown[-1].id) if len(found) > len(shown) else None
    )
