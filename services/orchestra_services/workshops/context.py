"""What every action needs: the store, the hub, the clock, and what the asker is to a workshop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from orchestra_hub.attempts import Attempts
from orchestra_hub.dates import Clock
from orchestra_hub.errors import (
    NotAllowed,
    NotFound,
    OrchestraError,
    StoreUnavailable,
    Temporary,
    WorkshopDamaged,
)
from orchestra_hub.hub.hosts import Hosts
from orchestra_hub.hub_api import HubAPI
from orchestra_hub.ids import is_workshop_id
from orchestra_hub.lifecycle import LIVING, effective_state
from orchestra_hub.permissions import Action, Asker, allowed, askers_of
from orchestra_hub.store import Damage, Store
from orchestra_hub.workshop import Account, Enrolment, Role, Workshop, WorkshopFacts, facts_of
from orchestra_spawner.provisioner import Provisioner

__all__ = ["Context", "Defaults", "Person", "Standing", "log", "may_mend"]

log = logging.getLogger("orchestra.workshops")

_HUB_WAIT_S = 5.0
"""How long a person waits for the hub to hear of what is written already; then the reconciler tells it."""


@dataclass(frozen=True)
class Defaults:
    """What the platform decides when the asker of a new workshop doesn't."""

    warning_min: float = 15
    lead_time_min: float = 10


@dataclass(frozen=True)
class Person:
    """Who asks: an account of the hub and what it is to the platform."""

    account: Account
    operator: bool
    creator: bool

    @property
    def name(self) -> str:
        """The hub's user name."""
        return self.account.name


def may_mend(person: Person, damage: Damage) -> bool:
    """Whether a person answers for a workshop that can't be read: by the columns that can."""
    owner = damage.values.get("owner"), damage.values.get("owner_key")
    askers = {Asker.OPERATOR} if person.operator else set()
    if owner == (person.account.name, person.account.key):
        askers.add(Asker.OWNER)
    return allowed(Action.MEND, askers)


@dataclass(frozen=True)
class Standing:
    """What a person is to a workshop. `enrolment` is theirs: one of an earlier account of that name doesn't count."""

    person: Person
    workshop: Workshop
    enrolment: Enrolment | None
    askers: frozenset[Asker]

    @property
    def id(self) -> str:
        """The workshop's id."""
        return self.workshop.id

    @property
    def role(self) -> Role | None:
        """The person's role; None when they aren't enrolled."""
        return None if self.enrolment is None else self.enrolment.role

    @property
    def actor(self) -> str:
        """How the person stands in the events: as operator only where they act by nothing else."""
        by_nothing_else = self.askers <= {Asker.OPERATOR, Asker.CREATOR, Asker.VISITOR}
        key = self.person.account.key
        return f"operator:{key}" if by_nothing_else and Asker.OPERATOR in self.askers else key

    def may(self, *actions: Action) -> bool:
        """Whether the person may do any of `actions`."""
        return any(allowed(action, self.askers) for action in actions)

    def demand(self, *actions: Action) -> None:
        """Raises unless the person may do any of `actions`: `NotAllowed`, `NotFound` for those with no part in it."""
        if self.may(*actions):
            return
        log.info("refused workshop=%s user=%s action=%s", self.id, self.person.name, "|".join(actions))
        if self.askers <= {Asker.CREATOR, Asker.VISITOR}:
            raise NotFound(f"There is no workshop {self.id!r} that you have a part in.")
        raise NotAllowed("You may not do this in this workshop. Ask the person who made it, or an operator.")


@dataclass(frozen=True)
class Context:
    """The service's parts, opened and closed by whoever made it."""

    store: Store
    hub: HubAPI
    provisioner: Provisioner
    hosts: Hosts
    clock: Clock
    templates_root: Path
    defaults: Defaults
    code_attempts: Attempts
    request_timeout_s: float = 10.0

    @property
    def now(self) -> datetime:
        """The present moment."""
        return self.clock()

    async def standing(self, person: Person, workshop_id: str) -> Standing:
        """What `person` is to the workshop; raises `NotFound`."""
        if not is_workshop_id(workshop_id):
            raise NotFound(f"There is no workshop {workshop_id[:80]!r}.")
        try:
            workshop = await asyncio.to_thread(self.store.workshop, workshop_id)
        except WorkshopDamaged as error:
            damage = await self.answers_for(person, workshop_id)
            raise WorkshopDamaged(damage.sentence) if damage is not None else error from error
        enrolment = await asyncio.to_thread(self.store.enrolment, workshop_id, person.name)
        return self.standing_in(person, workshop, enrolment)

    async def answers_for(self, person: Person, workshop_id: str) -> Damage | None:
        """What is wrong with a workshop, for a person who may mend it; None for others, and when nothing is."""
        damage = await asyncio.to_thread(self.store.damage, workshop_id)
        return damage if damage is not None and may_mend(person, damage) else None

    def standing_in(self, person: Person, workshop: Workshop, enrolment: Enrolment | None) -> Standing:
        """The same for a workshop and a place that were read already."""
        if enrolment is not None and enrolment.account_key != person.account.key:
            enrolment = None
        askers = askers_of(
            person.account, admin=person.operator, creator=person.creator, workshop=workshop, enrolment=enrolment
        )
        return Standing(person, workshop, enrolment, askers)

    async def tell_hub(self, workshop_id: str) -> bool:
        """Whether the hub heard at once what it is to know of the workshop; if not, the reconciler tells it."""
        try:
            workshop = await asyncio.to_thread(self.store.workshop, workshop_id)
            places = await asyncio.to_thread(self.store.enrolments, workshop_id)
        except StoreUnavailable as error:  # what is to be told is written already: it isn't refused for this
            log.warning("workshop=%s facts: left to repair: %s", workshop_id, error)
            return False
        facts = facts_of(workshop, [place.account_key for place in places if place.role is Role.INSTRUCTOR])
        over = effective_state(workshop, self.now) not in LIVING  # its group may be gone: never made again
        return await self.at_once(
            self._tell_if_there(facts) if over else self.hub.ensure_group(facts), "facts", workshop_id
        )

    async def _tell_if_there(self, facts: WorkshopFacts) -> None:
        with suppress(NotFound):
            await self.hub.put_facts(facts)

    async def at_once(self, step: Awaitable[object], what: str, workshop_id: str) -> bool:
        """Whether `step` was done now; whatever stops it is logged and left to the reconciler."""
        try:
            async with asyncio.timeout(_HUB_WAIT_S):
                await step
        except TimeoutError:
            log.warning(
                "workshop=%s %s: no answer from the hub in %s s, left to repair", workshop_id, what, _HUB_WAIT_S
            )
        except OrchestraError as error:
            level = logging.WARNING if isinstance(error, Temporary) else logging.ERROR
            log.log(level, "workshop=%s %s: left to repair: %s", workshop_id, what, error)
        else:
            return True
        return False
