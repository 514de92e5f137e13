"""Doing one step. Each can be repeated, and broken off anywhere: the next look finds what is left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from orchestra_hub.dates import Clock
from orchestra_hub.errors import NotFound, ProvisionFailed
from orchestra_hub.hub_api import HubAPI, SeatStatus
from orchestra_hub.store import Store
from orchestra_hub.workshop import Enrolment, Workshop, facts_of
from orchestra_services.reconciler import plan
from orchestra_spawner.provisioner import Provisioner, PurgeReport

__all__ = ["Actor", "World"]

_AT_ONCE = 8
_LOOK_AGAIN_S = 0.25


@dataclass(frozen=True)
class World:
    """Everything the reconciler acts on."""

    store: Store
    hub: HubAPI
    provisioner: Provisioner
    clock: Clock
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass
class Actor:
    """Does the steps of one plan for one workshop."""

    world: World
    fence: int

    async def do(self, step: plan.Step, workshop: Workshop) -> Workshop:
        """Do `step`; the workshop as it stands then."""
        hub, store = self.world.hub, self.world.store
        match step:
            case plan.EnsureGroup(facts):
                await hub.ensure_group(facts)
            case plan.WriteFacts(facts):
                await hub.put_facts(facts)
            case plan.DropEnrolments(enrolments):
                for place in enrolments:
                    await asyncio.to_thread(self._drop, place)
            case plan.AddMembers(names):
                await hub.add_members(workshop.id, names)
            case plan.NoteMembers(enrolments):
                for place in enrolments:
                    name, key = place.user_name, place.account_key
                    note = partial(store.mark_in_hub, workshop.id, name, True, account_key=key, fence=self.fence)
                    await asyncio.to_thread(note)
            case plan.RemoveMembers(names):
                await hub.remove_members(workshop.id, names)
            case plan.StopSeats(names):
                await self._stop(workshop, names, remove=False)
            case plan.Prepare():
                return await self._prepare(workshop)
            case plan.PrepareAgain():
                await self._make(workshop)
            case plan.ForgetSeats(names):
                await self._note_removal(workshop, servers=len(names))
                await self._stop(workshop, names, remove=True)
            case plan.DeleteGroup():
                await self._note_removal(workshop, group=1)
                await hub.delete_group(workshop.id)
            case plan.PurgeFiles():
                await self._purge_files(workshop)
            case plan.RecordPurge():
                return await self._record_purge(workshop)
        return workshop

    def _drop(self, place: Enrolment) -> None:
        with suppress(NotFound):  # it is gone already, or the new account of that name has joined
            key = place.account_key
            self.world.store.remove_enrolment(
                place.workshop_id, place.user_name, "system", account_key=key, fence=self.fence
            )

    async def _prepare(self, workshop: Workshop) -> Workshop:
        await self._make(workshop)
        return await asyncio.to_thread(self.world.store.mark_prepared, workshop.id, fence=self.fence)

    async def _make(self, workshop: Workshop) -> None:
        content = await asyncio.to_thread(self.world.store.content_of, workshop.template.content_digest)
        await self.world.provisioner.prepare(facts_of(workshop, []), content)

    async def _stop(self, workshop: Workshop, names: Sequence[str], *, remove: bool) -> None:
        """Stop seats, then wait until the hub says that they are (the caller bounds the time)."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def stop(name: str) -> None:
            async with at_once:
                await self.world.hub.stop(name, workshop.server_name, remove=remove)

        for result in await asyncio.gather(*map(stop, names), return_exceptions=True):
            if isinstance(result, BaseException):  # only now: one that can't be stopped keeps no other running
                raise result
        while any(_is_left(seat, names, remove) for seat in await self.world.hub.seats(workshop.id)):
            await self.world.pause(_LOOK_AGAIN_S)

    async def _note_removal(self, workshop: Workshop, **numbers: int) -> None:
        """Written before the removal: a purge that is killed and begun again still records what there was."""
        await asyncio.to_thread(self.world.store.note_removal, workshop.id, numbers, fence=self.fence)

    async def _purge_files(self, workshop: Workshop) -> None:
        there = await self.world.provisioner.inspect(workshop.id)
        await self._note_removal(workshop, seats=len(there.seats), files=there.files, bytes=there.bytes)
        report: PurgeReport = await self.world.provisioner.purge(workshop.id)
        await self._note_removal(workshop, seats=report.seats, files=report.files, bytes=report.bytes)

    async def _record_purge(self, workshop: Workshop) -> Workshop:
        """Look once more on all three; only then write that it is purged."""
        group = await self.world.hub.group(workshop.id)
        seats = await self.world.hub.seats(workshop.id)
        inspection = await self.world.provisioner.inspect(workshop.id)
        checked = [
            {"what": "hub group", "how": "asked the Hub API for it", "found": int(group is not None)},
            {"what": "seats' servers", "how": "asked the Hub API for all of them", "found": len(seats)},
            {"what": "files", "how": "looked for the workshop's resources", "found": int(inspection.exists)},
        ]
        left = [str(check["what"]) for check in checked if check["found"]]
        if left:
            raise ProvisionFailed(f"The purge of {workshop.id} left something: {', '.join(left)}. It is tried again.")
        removed = {"servers": 0, "group": 0, "seats": 0, "files": 0, "bytes": 0}
        removed |= await asyncio.to_thread(self.world.store.removed, workshop.id)
        record = {"removed": removed, "checked": checked, "at": self.world.clock().isoformat()}
        return await asyncio.to_thread(self.world.store.record_purge, workshop.id, record, fence=self.fence)


def _is_left(seat: SeatStatus, names: Sequence[str], remove: bool) -> bool:
    return seat.user in names and (remove or seat.active)
