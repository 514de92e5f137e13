"""Goes from workshop to workshop: looks, plans, does, and says why when it doesn't.

Work is proportional to what is due. Each workshop has a task of its own, bounded in time and number; what goes wrong
with one is noted on it and tried again with growing pauses, and no other waits for it. A slow sweep over all repairs
what nobody announced: a group deleted by hand, members added by hand, a folder removed (`sweep`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

from orchestra_hub.errors import Conflict, LeaseLost, OrchestraError, ProvisionFailed, WorkshopDamaged
from orchestra_hub.store import Damage
from orchestra_hub.workshop import State, Workshop
from orchestra_services.reconciler import plan
from orchestra_services.reconciler.leading import Leadership
from orchestra_services.reconciler.steps import Actor, World
from orchestra_services.reconciler.sweep import Sweep

__all__ = ["Limits", "Worker"]

_T = TypeVar("_T")
_MOST_ROUNDS = 8  # moves of a whole life, and preparing
_ON_FILES = (plan.Prepare, plan.PrepareAgain, plan.PurgeFiles)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How often, how many, how long; see the traits of `ReconcilerApp`."""

    poll_interval_s: float = 1
    sweep_interval_s: float = 60
    concurrency: int = 8
    step_timeout_s: float = 120
    prepare_timeout_s: float = 1200
    purge_timeout_s: float = 3600
    retry_first_s: float = 2
    retry_most_s: float = 300

    def timeout_s(self, step: plan.Step) -> float:
        """How long a step may take."""
        match step:
            case plan.Prepare() | plan.PrepareAgain():
                return self.prepare_timeout_s
            case plan.PurgeFiles() | plan.RecordPurge():
                return self.purge_timeout_s
            case _:
                return self.step_timeout_s


class Worker:
    """The work of one leadership. `run` until cancelled; raises `LeaseLost` when another leads."""

    def __init__(self, world: World, leadership: Leadership, limits: Limits) -> None:
        # every change of the hub asks for the lease just before: many may belong to one step
        self._world = replace(world, hub=world.hub.guarded(leadership))
        self._leadership = leadership
        self._limits = limits
        self._sweep = Sweep(self._world, limits.retry_most_s)
        self._sweeping: asyncio.Task[None] | None = None
        self._unwritten = False  # the store can't be written: no haste
        self._running: dict[str, asyncio.Task[None]] = {}
        self._free = asyncio.Semaphore(limits.concurrency)
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Look for what is due every `poll_interval_s`, and at everything every `sweep_interval_s`."""
        loop = asyncio.get_running_loop()
        next_sweep = loop.time()
        try:
            while True:
                more = False
                try:
                    if loop.time() >= next_sweep:
                        next_sweep = loop.time() + self._limits.sweep_interval_s
                        self._begin_sweep()
                    more = await self.poll()
                except LeaseLost:
                    raise
                except OrchestraError as error:
                    _log.warning("looking for work failed: %s", error)
                # the next that is due isn't kept waiting for a second once one is done
                ends = self._running.values() if more and not self._unwritten else ()
                self._unwritten = False
                await asyncio.wait(
                    (self._lost, *ends), timeout=self._limits.poll_interval_s, return_when=asyncio.FIRST_COMPLETED
                )
                if self._lost.done():
                    self._lost.result()
        finally:
            await self.stop()

    async def poll(self) -> bool:
        """Begin whatever is due and isn't being done; whether more may be due than could be begun."""
        most = len(self._running) + self._limits.concurrency  # those being done are still due
        due = await asyncio.to_thread(self._world.store.due, self._world.clock(), most)
        await self._note_damage(due.damaged)
        self._begin(due)
        return len(due.ids) == most

    def _begin_sweep(self) -> None:
        """Sweep beside what is due, which doesn't wait for it; one sweep at a time."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep_once(), name="sweep")

    async def _sweep_once(self) -> None:
        """A sweep with whatever can go wrong: the next one tries again."""
        try:
            await self.sweep()
        except LeaseLost as error:
            if not self._lost.done():
                self._lost.set_exception(error)
        except OrchestraError as error:
            _log.warning("the sweep failed: %s", error)
        except Exception:
            _log.exception("the sweep failed unexpectedly")

    async def sweep(self) -> None:
        """Begin with every workshop that isn't as it should be, except those that wait for a retry."""
        suspects, damaged = await self._sweep.suspects()
        await self._note_damage(damaged)
        self._begin(suspects, quiet=logging.DEBUG)

    async def _note_damage(self, damaged: Iterable[Damage]) -> None:
        for damage in damaged:
            note = partial(self._world.store.note_damage, damage, fence=self._leadership.fence)
            if await asyncio.to_thread(note):
                _log.error("workshop=%s %s", damage.id, damage.sentence)

    async def settle(self) -> None:
        """Wait until everything begun has ended; raises `LeaseLost`."""
        while self._running:
            await asyncio.wait(list(self._running.values()))
        if self._lost.done():
            self._lost.result()

    async def stop(self) -> None:
        """Cancel everything begun, and wait for it."""
        tasks = [*self._running.values(), *([] if self._sweeping is None else [self._sweeping])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._lost.done():
            self._lost.exception()  # seen

    def _begin(self, workshops: Iterable[Workshop], quiet: int = logging.INFO) -> None:
        for workshop in workshops:
            if workshop.id in self._running:
                continue
            task = asyncio.create_task(self._one(workshop, quiet), name=workshop.id)
            self._running[workshop.id] = task
            task.add_done_callback(lambda done: self._running.pop(done.get_name(), None))

    async def _one(self, workshop: Workshop, quiet: int) -> None:
        """One workshop, with whatever can go wrong. The boundary: nothing but cancelling gets out of here.

        `quiet` is the level at which the decision not to act is logged.
        """
        async with self._free:
            try:
                await self._handle(workshop, quiet)
            except LeaseLost as error:
                if not self._lost.done():
                    self._lost.set_exception(error)
            except WorkshopDamaged:
                await self._look_at_damage(workshop.id)
            except _Overtaken as error:
                _log.info("workshop=%s changed meanwhile, looked at again: %s", workshop.id, error)
            except OrchestraError as error:
                await self._note_trouble(workshop, str(error))
            except Exception as error:
                _log.exception("workshop=%s unexpected error", workshop.id)
                await self._note_trouble(workshop, f"Something unexpected went wrong ({type(error).__name__}).")

    async def _look_at_damage(self, workshop_id: str) -> None:
        """Somebody damaged the row while it was worked on."""
        try:
            damage = await asyncio.to_thread(self._world.store.damage, workshop_id)
            await self._note_damage([damage] if damage is not None else [])
        except OrchestraError as error:
            _log.warning("workshop=%s its damage could not be noted: %s", workshop_id, error)

    async def _handle(self, workshop: Workshop, quiet: int) -> None:
        for _ in range(_MOST_ROUNDS):
            workshop, again = await self._round(workshop, quiet)
            if not again:
                break
        if workshop.state is not State.PURGED:
            cleared = await asyncio.to_thread(self._world.store.clear, workshop, fence=self._leadership.fence)
            due = "never" if cleared.due_at is None else cleared.due_at.isoformat(timespec="seconds")
            _log.debug("workshop=%s state=%s as it should be, next look at %s", workshop.id, cleared.state.value, due)

    async def _round(self, workshop: Workshop, quiet: int) -> tuple[Workshop, bool]:
        """One look and what follows from it; whether to look once more."""
        now = self._world.clock()
        if (to := plan.due_move(workshop, now)) is not None:
            _log.info("workshop=%s state=%s moves to %s", workshop.id, workshop.state.value, to.value)
            fence = self._leadership.fence
            return await _overtakable(asyncio.to_thread(self._world.store.move, workshop, to, fence=fence)), True
        if workshop.state is State.PURGED:
            _log.log(quiet, "workshop=%s is purged: nothing is done", workshop.id)
            return workshop, False
        seen = await _bounded(self._look(workshop), self._limits.step_timeout_s, "Looking at it")
        steps = plan.plan(workshop, seen, now)
        if not steps:
            self._sweep.found_good(workshop)
            _log.log(quiet, "workshop=%s state=%s nothing to do", workshop.id, workshop.state.value)
        actor = Actor(self._world, self._leadership.fence)
        for step in steps:
            workshop = await self._do(actor, step, workshop)
        return workshop, any(isinstance(step, plan.Prepare) for step in steps)

    async def _do(self, actor: Actor, step: plan.Step, workshop: Workshop) -> Workshop:
        if isinstance(step, _ON_FILES):  # the hub's changes ask for themselves, the store's bring the fence along
            await self._leadership.check()
        _log.info("workshop=%s state=%s %s", workshop.id, workshop.state.value, _told(step))
        doing = _bounded(actor.do(step, workshop), self._limits.timeout_s(step), _told(step))
        return await (_overtakable(doing) if isinstance(step, plan.Prepare | plan.RecordPurge) else doing)

    async def _look(self, workshop: Workshop) -> plan.Seen:
        hub = self._world.hub
        enrolments = await asyncio.to_thread(self._world.store.enrolments, workshop.id)
        group = await hub.group(workshop.id)
        seats = await hub.seats(workshop.id)
        accounts: dict[str, str | None] = {seat.user: seat.account_key for seat in seats}
        for name in plan.to_look_up(group, enrolments):
            user = await hub.user(name)
            accounts[name] = None if user is None else user.key
        stands = True
        if plan.needs_resources(workshop):
            stands = (await self._world.provisioner.standing([workshop.id]))[workshop.id]
        return plan.Seen(group, tuple(seats), tuple(enrolments), accounts, stands)

    async def _note_trouble(self, workshop: Workshop, sentence: str) -> None:
        attempts = workshop.attempts + 1
        delay_s = plan.retry_delay_s(attempts, self._limits.retry_first_s, self._limits.retry_most_s)
        _log.warning("workshop=%s attempt=%d failed, again in %g s: %s", workshop.id, attempts, delay_s, sentence)
        due_at = self._world.clock() + timedelta(seconds=delay_s)
        note = self._world.store.note_trouble
        try:
            await asyncio.to_thread(note, workshop.id, sentence, attempts, due_at, fence=self._leadership.fence)
        except LeaseLost as error:
            if not self._lost.done():
                self._lost.set_exception(error)
        except OrchestraError as error:
            self._unwritten = True
            _log.warning("workshop=%s its trouble could not be noted: %s", workshop.id, error)


class _Overtaken(Exception):
    """Somebody changed the workshop between the look and the write: look again, it is nobody's trouble."""


async def _overtakable(writing: Awaitable[_T]) -> _T:
    try:
        return await writing
    except (LeaseLost, WorkshopDamaged):
        raise
    except Conflict as error:
        raise _Overtaken(str(error)) from error


async def _bounded(doing: Awaitable[_T], timeout_s: float, what: str) -> _T:
    try:
        async with asyncio.timeout(timeout_s):
            return await doing
    except TimeoutError as error:
        raise ProvisionFailed(f"{what} took longer than {timeout_s:g} s. It is tried again.") from error


def _told(step: plan.Step) -> str:
    """A step for the log and for instructors: what, and for whom."""
    what = (type(step).__doc__ or "").splitlines()[0].rstrip(".")
    names = getattr(step, "names", ())
    return f"{what} ({len(names)}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else what
