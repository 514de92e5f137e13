"""The slow look at everything: what is to be looked at closely, found without looking closely at everything.

Of each workshop the sweep remembers under which version of its row and which digest of its Hub group all was as it
should be. While both stand, and nobody's seat runs who has no place, nothing is asked for it. The memory only saves
work: a process that has just begun to lead has none, and looks at more.

What the rows say is read again too, a part each time, so that a row somebody damaged by hand is found within an hour;
one that is due, or asked for, is found at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from orchestra_hub.group_digest import group_digest
from orchestra_hub.hub_api import GroupOutline
from orchestra_hub.lifecycle import LIVING, due_at
from orchestra_hub.store import Damage
from orchestra_hub.store.sweeping import Outline, Whole
from orchestra_hub.workshop import HUB_PROPERTY, Role, State, Workshop, facts_of
from orchestra_services.reconciler.steps import World

__all__ = ["Sweep", "is_due_wrongly"]

_PAGE = 100
_LEAST_READ = 100
_ROUNDS_FOR_ALL = 60
_WITH_FOLDER = frozenset({State.PREPARING.value, State.OPEN.value, State.CLOSING.value})
_LIVING = frozenset(state.value for state in LIVING)
_log = logging.getLogger(__name__)


def is_due_wrongly(outline: Outline, now: datetime, retry_most_s: float) -> bool:
    """Whether a retry is further away than any pause: the clock was ahead when it was written, and went back."""
    if outline.attempts == 0 or outline.due_at is None:
        return False
    return outline.due_at > now + timedelta(seconds=retry_most_s)


class Sweep:
    """Finds what needs a closer look. One for each leadership."""

    def __init__(self, world: World, retry_most_s: float) -> None:
        self._world = world
        self._retry_most_s = retry_most_s
        self._good: dict[str, tuple[int, int, str]] = {}
        self._suspected: dict[str, tuple[int, int, str]] = {}
        self._read_after = ""

    async def suspects(self) -> tuple[list[Workshop], list[Damage]]:
        """The workshops to be looked at, and those whose rows can't be read."""
        now = self._world.clock()
        outlines = await asyncio.to_thread(self._world.store.outlines)
        groups = {group.id: group for group in await self._world.hub.group_outlines()}
        sound = await self._sound(outlines)
        known = {outline.id for outline in outlines}
        self._suspected.clear()
        self._good = {workshop_id: seen for workshop_id, seen in self._good.items() if workshop_id in known}
        asked = [each for each in outlines if self._asks(each, groups.get(each.id), sound, now)]
        to_read = {each.id for each in asked} | self._part(outlines)
        wanted = sorted(to_read)
        suspects: list[Workshop] = []
        bad: list[Damage] = []
        for at in range(0, len(wanted), _PAGE):
            page = await asyncio.to_thread(self._world.store.whole, wanted[at : at + _PAGE])
            bad += page.damaged
            suspects += [each.workshop for each in page if not self._as_it_should_be(each, groups, sound, now)]
            await asyncio.sleep(0)  # others have their turn
        if suspects or bad:
            _log.debug("sweep: %d of %d to be looked at, %d damaged", len(suspects), len(outlines), len(bad))
        return suspects, bad

    def _asks(self, outline: Outline, group: GroupOutline | None, sound: Mapping[str, bool], now: datetime) -> bool:
        if outline.attempts and not is_due_wrongly(outline, now, self._retry_most_s):
            return False  # it has a date of its own
        if group is None or group.strangers or (group.running and outline.state not in _LIVING):
            return True
        if not sound.get(outline.id, True):
            return True
        return self._good.get(outline.id) != (outline.version, outline.generation, group.digest)

    def _as_it_should_be(
        self, whole: Whole, groups: Mapping[str, GroupOutline], sound: Mapping[str, bool], now: datetime
    ) -> bool:
        """Whether nothing more has to be asked: the group's digest is the one it must have."""
        workshop, group = whole.workshop, groups.get(whole.workshop.id)
        if workshop.attempts:
            due = workshop.due_at
            return due is not None and due <= now + timedelta(seconds=self._retry_most_s)
        if workshop.trouble is not None or group is None or group.strangers:
            return False
        if group.running and workshop.state not in LIVING:
            return False
        if not sound.get(workshop.id, True) or not all(place.in_hub for place in whole.enrolments):
            return False
        if workshop.due_at is None or (workshop.due_at > now and not _is_timely(workshop, now)):
            return False
        instructors = [place.account_key for place in whole.enrolments if place.role is Role.INSTRUCTOR]
        properties = json.dumps({HUB_PROPERTY: facts_of(workshop, instructors).model_dump(mode="json")})
        expected = group_digest(properties, (place.user_name for place in whole.enrolments))
        now_seen = (workshop.version, workshop.generation, group.digest)
        if group.digest != expected and self._good.get(workshop.id) != now_seen:
            self._suspected[workshop.id] = now_seen
            return False
        self._good[workshop.id] = now_seen
        return True

    def found_good(self, workshop: Workshop) -> None:
        """A close look found nothing to do: the digest seen before it is as good as the expected one."""
        seen = self._suspected.pop(workshop.id, None)
        if seen is not None and seen[:2] == (workshop.version, workshop.generation):
            self._good[workshop.id] = seen

    async def _sound(self, outlines: Iterable[Outline]) -> dict[str, bool]:
        """Whether the resources of those that people can be in are there."""
        asked = [each.id for each in outlines if each.prepared and each.state in _WITH_FOLDER]
        return await self._world.provisioner.standing(asked) if asked else {}

    def _part(self, outlines: list[Outline]) -> set[str]:
        """The next part of all rows, to be read whatever is known of them."""
        ids = sorted(outline.id for outline in outlines)
        number = max(_LEAST_READ, -(-len(ids) // _ROUNDS_FOR_ALL))
        following = [workshop_id for workshop_id in ids if workshop_id > self._read_after][:number]
        self._read_after = following[-1] if len(following) == number else ""
        return set(following)


def _is_timely(workshop: Workshop, now: datetime) -> bool:
    """Whether its next look is no later than its next date: the clock may have been ahead when that was written."""
    due = due_at(workshop, now)
    return due is None or (workshop.due_at is not None and workshop.due_at <= due)
