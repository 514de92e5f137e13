"""Mending a workshop that somebody damaged by hand, and ending one that can't be mended."""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestra_hub import templates
from orchestra_hub.api_models import End, MendedView, WorkshopView
from orchestra_hub.content import pack
from orchestra_hub.errors import HubUnavailable, NotAllowed, NotFound, ProvisionFailed, WorkshopDamaged
from orchestra_hub.ids import is_workshop_id
from orchestra_hub.permissions import Action
from orchestra_hub.store import Damage, Mended, Sources
from orchestra_hub.templates import TemplateError, TemplateSnapshot
from orchestra_hub.workshop import State, Workshop, WorkshopFacts, facts_of
from orchestra_services.workshops import actions
from orchestra_services.workshops.context import Context, Person, log

__all__ = ["end", "mend"]

_PREPARED = frozenset({State.PREPARING, State.OPEN, State.CLOSING})


async def mend(context: Context, person: Person, workshop_id: str) -> MendedView:
    """What was put right. Raises `WorkshopDamaged` for what stands nowhere else."""
    damage = await _allowed(context, person, workshop_id)
    sources = await _sources(context, workshop_id, damage)
    mended = await asyncio.to_thread(context.store.mend, workshop_id, sources, _actor(person))
    what = [*mended.what, *await _folder(context, mended.workshop)]
    return await _told(context, person, mended, what)


async def end(context: Context, person: Person, workshop_id: str, wanted: End) -> WorkshopView:
    """The workshop, ended; with `damaged` one that can't be read."""
    if not wanted.damaged:
        return await actions.end(context, await context.standing(person, workshop_id), wanted)
    damage = await _allowed(context, person, workshop_id)
    sources = await _sources(context, workshop_id, damage)
    ended = await asyncio.to_thread(context.store.end_damaged, workshop_id, sources, _actor(person))
    return (await _told(context, person, ended, list(ended.what))).workshop


async def _allowed(context: Context, person: Person, workshop_id: str) -> Damage | None:
    """What is wrong with the row, for a person who answers for the workshop; raises for everybody else."""
    if not is_workshop_id(workshop_id):
        raise NotFound(f"There is no workshop {workshop_id[:80]!r}.")
    damage = await asyncio.to_thread(context.store.damage, workshop_id)
    if damage is None:
        (await context.standing(person, workshop_id)).demand(Action.MEND)
        return None
    if await context.answers_for(person, workshop_id) is None:
        log.info("refused workshop=%s user=%s action=%s", workshop_id, person.name, Action.MEND)
        raise NotAllowed("Only the person who made this workshop and operators may mend it.")
    return damage


def _actor(person: Person) -> str:
    return f"operator:{person.account.key}" if person.operator else person.account.key


async def _sources(context: Context, workshop_id: str, damage: Damage | None) -> Sources:
    """Where good values can be had: the Hub group's facts, and the template of the same content."""
    try:
        group = await context.hub.group(workshop_id)
    except HubUnavailable as error:
        log.warning("workshop=%s is mended without its Hub group: %s", workshop_id, error)
        group = None
    facts = None if group is None else group.facts
    digest = await _digest(context, workshop_id, damage, facts)
    found = None if digest is None else await asyncio.to_thread(_template_of, context.templates_root, digest)
    if found is None:
        return Sources(facts=facts)
    return Sources(facts=facts, template=found[0], content=found[1])


async def _digest(context: Context, workshop_id: str, damage: Damage | None, facts: WorkshopFacts | None) -> str | None:
    if damage is None:
        return (await asyncio.to_thread(context.store.workshop, workshop_id)).template.content_digest
    return damage.content_digest or (None if facts is None else facts.template.content_digest)


def _template_of(root: Path, digest: str) -> tuple[TemplateSnapshot, bytes] | None:
    """The template of the folder whose content has that digest."""
    for name in templates.list_templates(root).templates:
        try:
            found = templates.snapshot(root / name)
            if found.content_digest == digest:
                return found, pack(root / name / found.content)
        except TemplateError as error:
            log.warning("template=%s can't be read: %s", name, error)
    return None


async def _folder(context: Context, workshop: Workshop) -> list[str]:
    """Let the reconciler make the content again when it isn't what it was."""
    if workshop.state not in _PREPARED or not workshop.prepared:
        return []
    try:
        if await context.provisioner.sound(facts_of(workshop, [])):
            return []
        await context.provisioner.distrust(workshop.id)
    except ProvisionFailed as error:
        raise WorkshopDamaged(f"Its files can't be looked at: {error}") from error
    return ["the folder, made again within a minute; seats' files are not touched"]


async def _told(context: Context, person: Person, mended: Mended, what: list[str]) -> MendedView:
    log.info("mended workshop=%s user=%s: %s", mended.workshop.id, person.name, "; ".join(what) or "nothing to mend")
    await context.tell_hub(mended.workshop.id)
    return MendedView(
        mended=what, workshop=await actions.seen(context, await context.standing(person, mended.workshop.id))
    )
