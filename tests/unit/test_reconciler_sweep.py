"""The sweep asks little when all is as it should be, and misses nothing."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from orchestra_hub.workshop import State
from orchestra_services.reconciler.worker import Worker
from tests.hub_wire import hub_wire
from tests.unit.test_reconciler_worker import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with hub_wire() as wire:
        made = Bench(tmp_path, wire)
        try:
            yield made
        finally:
            await made.hub.aclose()
            made.store.close()


async def test_at_rest_a_sweep_is_one_call_and_reads_only_a_part(bench: Bench) -> None:
    workshops = [bench.a_workshop() for _ in range(12)]
    bench.enrol(workshops[0], "ada")
    await bench.turn()
    worker = Worker(bench.world, bench.leadership(), bench.limits)
    try:
        for _ in range(3):
            bench.wire.calls.clear()
            bench.wire.callers.clear()
            await worker.sweep()
            await worker.settle()
            assert bench.wire.calls == ["GET orchestra/workshops"]
        bench.wire.groups[workshops[5].id].properties["orchestra"]["title"] = "Another"
        await worker.sweep()
        await worker.settle()
        assert bench.facts(workshops[5]).title == workshops[5].title
        assert all(workshops[5].id in call for call in bench.wire.writes())
    finally:
        await worker.stop()


async def test_a_digest_made_of_other_text_is_looked_at_once(bench: Bench) -> None:
    """The same facts in another order of keys, as another database might keep them."""
    workshop = bench.a_workshop()
    await bench.turn()
    group = bench.wire.groups[workshop.id]
    group.properties = {"orchestra": dict(reversed(group.properties["orchestra"].items()))}
    worker = Worker(bench.world, bench.leadership(), bench.limits)
    try:
        asked = []
        for _ in range(3):
            bench.wire.calls.clear()
            bench.wire.callers.clear()
            await worker.sweep()
            await worker.settle()
            asked.append(len(bench.wire.calls))
        assert asked[0] > 1 and asked[1:] == [1, 1] and bench.wire.writes() == []
    finally:
        await worker.stop()


async def test_what_seats_need_is_made_again_and_seats_files_are_left(bench: Bench) -> None:
    workshop = bench.a_workshop()
    bench.enrol(workshop, "ada")
    bench.clock.forward(hours=1, minutes=1)
    await bench.turn()
    assert bench.again(workshop).state is State.OPEN
    layout = bench.folders.lay_out_seat(workshop.id, bench.wire.key("ada"))
    (layout.home / "mine.txt").write_text("mine")
    shutil.rmtree(bench.folders.content(workshop.id))
    bench.folders.prepared(workshop.id).unlink()
    await bench.turn(sweep=True)
    assert (bench.folders.content(workshop.id) / "start.ipynb").is_file()
    assert bench.folders.prepared(workshop.id).is_file() and (layout.home / "mine.txt").read_text() == "mine"
    events = [event.kind for event in bench.store.events(workshop.id)]
    assert events.count("prepared") == 1, events


async def test_a_retry_far_away_because_the_clock_went_back_is_tried_now(bench: Bench) -> None:
    workshop = bench.a_workshop(opens_at=bench.clock() + timedelta(hours=20))
    await bench.turn()
    fence = bench.leadership().fence
    now = bench.clock()
    bench.store.note_trouble(workshop.id, "It hung.", 3, now + timedelta(hours=1), fence=fence)
    await bench.turn(sweep=True)
    assert bench.again(workshop).trouble is None and bench.again(workshop).attempts == 0
    bench.store.note_trouble(workshop.id, "It hung.", 3, now + timedelta(seconds=200), fence=bench.leadership().fence)
    await bench.turn(sweep=True)
    assert bench.again(workshop).attempts == 3, "an ordinary retry has its own date"
