"""Steps that act on a plan made a moment ago: what changed meanwhile is left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestra_hub.hub_api import HubAPI
from orchestra_hub.store import Store
from orchestra_hub.workshop import Workshop
from orchestra_services.reconciler import plan
from orchestra_services.reconciler.steps import Actor, World
from orchestra_spawner.local_provisioner import LocalProvisioner
from tests.hub_wire import TOKEN, hub_wire
from tests.unit.workshops import SettableClock, a_new_workshop, account


@pytest.fixture
async def actor(tmp_path: Path) -> AsyncIterator[Actor]:
    clock = SettableClock()
    store = Store.open(f"sqlite:///{tmp_path}/orchestra.sqlite", clock=clock)
    try:
        async with hub_wire() as wire, HubAPI(wire.url, TOKEN) as hub:
            lease = store.acquire_lease("reconciler", "test", 3600)
            assert lease is not None
            yield Actor(World(store, hub, LocalProvisioner(tmp_path), clock), fence=lease.fence)
    finally:
        store.close()


@pytest.fixture
def workshop(actor: Actor) -> Workshop:
    return actor.world.store.create_workshop(a_new_workshop(), b"", "system")


async def test_the_place_of_the_names_new_account_is_neither_dropped_nor_marked(
    actor: Actor, workshop: Workshop
) -> None:
    store = actor.world.store
    old = store.enrol(workshop.id, account("ada"), by_roster=True, actor="system")
    new = store.enrol(workshop.id, account("ada", life=2), by_roster=True, actor="system")
    await actor.do(plan.DropEnrolments((old,)), workshop)
    await actor.do(plan.NoteMembers((old,)), workshop)
    assert store.enrolments(workshop.id) == [new]
    await actor.do(plan.NoteMembers((new,)), workshop)
    assert store.enrolments(workshop.id)[0].in_hub
    await actor.do(plan.DropEnrolments((new,)), workshop)
    await actor.do(plan.DropEnrolments((new,)), workshop)
    assert store.enrolments(workshop.id) == []
