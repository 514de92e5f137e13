"""The reconciler with the real store and the real folders; only the hub is played, at the wire."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from orchestra_hub.content import pack
from orchestra_hub.errors import LeaseLost
from orchestra_hub.hub_api import HubAPI
from orchestra_hub.store import Store
from orchestra_hub.workshop import Role, State, Workshop, WorkshopFacts
from orchestra_services.reconciler.app import ReconcilerApp
from orchestra_services.reconciler.leading import LEASE, Leadership, lead
from orchestra_services.reconciler.steps import World
from orchestra_services.reconciler.worker import Limits, Worker
from orchestra_spawner.folders import SeatFolders
from orchestra_spawner.local_provisioner import LocalProvisioner
from tests.hub_wire import TOKEN, HubWire, hub_wire
from tests.running import until
from tests.unit.workshops import NOON, SettableClock, a_new_workshop, a_template, account

TTL_S = 3600.0
LIMITS = Limits(poll_interval_s=0.01, sweep_interval_s=3600, step_timeout_s=20)
ROOT = Path(__file__).parents[2]


class Bench:
    """A store, folders, a hub, and a reconciler that takes one turn at a time."""

    def __init__(self, folder: Path, wire: HubWire) -> None:
        self.clock = SettableClock(NOON - timedelta(hours=1))
        self.url = f"sqlite:///{folder}/orchestra.sqlite"
        self.store = Store.open(self.url, clock=self.clock)
        self.folders = SeatFolders(folder)
        self.wire = wire
        self.hub = HubAPI(wire.url, TOKEN)
        self.world = World(self.store, self.hub, LocalProvisioner(folder), self.clock)
        self.limits = LIMITS
        self.content = _packed(folder)

    def leadership(self, holder: str = "here:1:a") -> Leadership:
        lease = self.store.acquire_lease(LEASE, holder, TTL_S)
        assert lease is not None
        return Leadership(self.store, lease, TTL_S, time.monotonic())

    async def turn(self, leadership: Leadership | None = None, *, sweep: bool = False) -> None:
        """Everything that is due now, until nothing is."""
        worker = Worker(self.world, leadership or self.leadership(), self.limits)
        try:
            if sweep:
                await worker.sweep()
                await worker.settle()
            for _ in range(10):
                if not self.store.due(self.clock(), 1):
                    return
                await worker.poll()
                await worker.settle()
            raise AssertionError("there is always more to do")
        finally:
            await worker.stop()

    def a_workshop(self, **fields: object) -> Workshop:
        return self.store.create_workshop(a_new_workshop(**fields), self.content, "system")

    def enrol(self, workshop: Workshop, name: str, role: Role = Role.LEARNER) -> None:
        self.wire.sign_up(name)
        mine = account(name).model_copy(update={"key": self.wire.key(name)})
        self.store.enrol(workshop.id, mine, role, by_roster=True, actor="system")

    def facts(self, workshop: Workshop) -> WorkshopFacts:
        return WorkshopFacts.model_validate(self.wire.groups[workshop.id].properties["orchestra"])

    def again(self, workshop: Workshop) -> Workshop:
        return self.store.workshop(workshop.id)


def _packed(folder: Path) -> bytes:
    template = folder / "template"
    template.mkdir()
    (template / "start.ipynb").write_text("{}")
    return pack(template)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with hub_wire() as wire:
        made = Bench(tmp_path, wire)
        try:
            yield made
        finally:
            await made.hub.aclose()
            made.store.close()


async def test_a_whole_life(bench: Bench) -> None:
    workshop = bench.a_workshop()
    bench.enrol(workshop, "grace", Role.INSTRUCTOR)
    bench.enrol(workshop, "ada")
    await bench.turn()
    assert bench.again(workshop).state is State.SCHEDULED
    assert bench.facts(workshop).state is State.SCHEDULED and bench.facts(workshop).instructors == [
        bench.wire.key("grace")
    ]
    assert bench.wire.groups[workshop.id].members == {"ada", "grace"}
    assert all(place.in_hub for place in bench.store.enrolments(workshop.id))

    bench.clock.forward(minutes=51)
    await bench.turn()
    assert bench.again(workshop).state is State.PREPARING and bench.again(workshop).prepared
    assert bench.facts(workshop).prepared
    layout = bench.folders.lay_out_seat(workshop.id, bench.wire.key("ada"))

    bench.clock.forward(minutes=10)
    await bench.turn()
    assert bench.facts(workshop).state is State.OPEN
    bench.wire.run_seat("ada", workshop.id)
    bench.wire.run_seat("grace", workshop.id, slow=2)

    bench.clock.forward(hours=3, minutes=50)
    await bench.turn()
    assert bench.facts(workshop).state is State.CLOSING
    assert bench.wire.running(workshop.id) == {"ada", "grace"}

    bench.clock.forward(minutes=10)
    await bench.turn()
    assert bench.facts(workshop).state is State.EXPIRED
    assert bench.wire.running(workshop.id) == set() and len(bench.wire.servers) == 2
    assert layout.home.is_dir()

    bench.clock.forward(days=1)
    await bench.turn()
    assert_purged(bench, workshop)
    record = bench.again(workshop).purge_record
    assert record is not None
    assert record["removed"]["servers"] == 2 and record["removed"]["seats"] == 1 and record["removed"]["files"] > 5
    assert [check["found"] for check in record["checked"]] == [0, 0, 0]
    assert "ada" not in json.dumps(record)


def assert_purged(bench: Bench, workshop: Workshop) -> None:
    assert bench.again(workshop).state is State.PURGED
    assert bench.again(workshop).due_at is None
    assert workshop.id not in bench.wire.groups and not bench.wire.servers
    assert not bench.folders.workshop(workshop.id).exists()
    assert bench.store.enrolments(workshop.id) == []


async def live_on(bench: Bench, workshop: Workshop) -> None:
    """The rest of a life, in big steps, with somebody's seat running whenever it may."""
    for hours in (0, 1, 1, 5, 24):
        bench.clock.forward(hours=hours)
        await bench.turn()
        if bench.again(workshop).state is State.OPEN:
            bench.folders.lay_out_seat(workshop.id, bench.wire.key("ada"))
            bench.wire.run_seat("ada", workshop.id)


@pytest.mark.parametrize("how", ["before", "after"])
async def test_broken_off_at_any_call_of_the_hub_it_ends_the_same(bench: Bench, how: str) -> None:
    """Cancelled in the middle of every request in turn: as it came in (`before`), and after it was carried out."""
    count = 0
    while True:
        workshop = bench.a_workshop(opens_at=bench.clock() + timedelta(hours=1))
        bench.enrol(workshop, "ada")
        if not await _broken_off_once(bench, workshop, count, how):
            break
        assert_purged(bench, workshop)
        count += 1
    assert count > 15
    assert_purged(bench, workshop)


@pytest.mark.parametrize("killed_at", range(1, 9))
async def test_a_purge_begun_again_records_what_there_was_at_first(bench: Bench, killed_at: int) -> None:
    """Each call of the hub during the purge in turn is the last of one reconciler; the next has to finish."""
    workshop = bench.a_workshop(opens_at=bench.clock() + timedelta(minutes=5))
    bench.enrol(workshop, "ada")
    bench.enrol(workshop, "bob")
    await bench.turn()
    bench.clock.forward(minutes=6)
    await bench.turn()
    for name in ("ada", "bob"):
        bench.folders.lay_out_seat(workshop.id, bench.wire.key(name))
        bench.wire.run_seat(name, workshop.id)
    bench.clock.forward(hours=12)
    await bench.turn()
    bench.clock.now = bench.again(workshop).purge_at
    reached, calls = asyncio.Event(), 0

    async def hang(_: str) -> None:
        nonlocal calls
        calls += 1
        if calls == killed_at:
            reached.set()
            await asyncio.Event().wait()

    bench.wire.before = hang
    purging = asyncio.create_task(bench.turn())
    async with asyncio.timeout(10):
        await reached.wait()
    bench.wire.before = None
    purging.cancel()
    await asyncio.gather(purging, return_exceptions=True)
    await bench.turn()
    assert_purged(bench, workshop)
    purged = bench.again(workshop)
    assert purged.purge_record is not None
    removed = purged.purge_record["removed"]
    assert (removed["servers"], removed["group"], removed["seats"]) == (2, 1, 2) and removed["files"] > 5
    assert purged.statistics["seats_used"] == 2


async def _broken_off_once(bench: Bench, workshop: Workshop, at: int, how: str) -> bool:
    """A whole life, broken off at the `at`-th call; False when there are not so many."""
    reached, seen = asyncio.Event(), 0

    async def hang(_: str) -> None:
        nonlocal seen
        seen += 1
        if seen == at + (1 if how == "before" else 2):  # after the call before this one was carried out
            reached.set()
            await asyncio.Event().wait()

    bench.wire.before = hang
    living = asyncio.create_task(live_on(bench, workshop))
    reaching = asyncio.create_task(reached.wait())
    await asyncio.wait((living, reaching), return_when=asyncio.FIRST_COMPLETED)
    bench.wire.before = None
    reaching.cancel()
    if not reached.is_set():
        await living
        return False
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)
    await live_on(bench, workshop)
    return True


@pytest.mark.parametrize("name", ["_unpack", "_inspect"])
async def test_a_failing_disk_is_told_and_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    workshop = bench.a_workshop()

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device", "folder")

    bench.clock.forward(hours=30 if name == "_inspect" else 1)
    with monkeypatch.context() as patched:
        patched.setattr(LocalProvisioner, name, fails)
        await bench.turn()
    stuck = bench.again(workshop)
    assert stuck.trouble is not None and "No space left on device" in stuck.trouble and stuck.attempts == 1
    bench.clock.forward(seconds=3)
    await bench.turn()
    assert bench.again(workshop).trouble is None and bench.again(workshop).attempts == 0
    assert bench.again(workshop).state is (State.PURGED if name == "_inspect" else State.OPEN)
    if name == "_unpack":
        assert bench.facts(workshop).trouble is None


async def test_a_workshop_that_cannot_be_prepared_still_expires_and_is_purged(bench: Bench) -> None:
    broken = bench.a_workshop(template=a_template(content_digest="1" * 64))
    bench.store.content_of("1" * 64)
    other = bench.store.create_workshop(
        a_new_workshop(template=a_template(content_digest="2" * 64)), b"damaged", "system"
    )
    bench.clock.forward(hours=1)
    await bench.turn()
    assert bench.again(broken).state is State.OPEN
    stuck = bench.again(other)
    assert stuck.state is State.PREPARING and stuck.attempts == 1 and "could not be prepared" in (stuck.trouble or "")
    assert stuck.due_at == bench.clock() + timedelta(seconds=2)
    bench.clock.forward(seconds=2)
    await bench.turn()
    assert bench.again(other).attempts == 2
    assert bench.facts(other).trouble == stuck.trouble
    bench.clock.forward(hours=5)
    await bench.turn()
    assert bench.again(other).state is State.EXPIRED
    bench.clock.forward(days=2)
    await bench.turn()
    assert_purged(bench, other)


async def test_one_that_hangs_delays_no_other(bench: Bench) -> None:
    slow, quick = bench.a_workshop(), bench.a_workshop()

    async def hang(call: str) -> None:
        if slow.id in call:
            await asyncio.Event().wait()

    bench.wire.before = hang
    bench.clock.forward(hours=1)
    worker = Worker(bench.world, bench.leadership(), LIMITS)
    running = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(10):
            while bench.again(quick).state is not State.OPEN:
                await asyncio.sleep(0.01)
        assert bench.again(slow).state is State.PREPARING and not bench.again(slow).prepared
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_step_that_takes_too_long_is_told(bench: Bench) -> None:
    workshop = bench.a_workshop()

    async def hang(call: str) -> None:
        if call.startswith("POST"):
            await asyncio.Event().wait()

    bench.wire.before = hang
    bench.limits = Limits(step_timeout_s=0.2)
    await bench.turn()
    assert (
        bench.again(workshop).trouble == "Make the Hub group, with its facts took longer than 0.2 s. It is tried again."
    )


async def test_an_unexpected_error_is_told_logged_and_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    odd, other = bench.a_workshop(), bench.a_workshop()
    bench.wire.sign_up("ada")
    bench.wire.run_seat("ada", odd.id)
    bench.wire.servers["ada", odd.server_name].pending = 17  # type: ignore[assignment]  # no such state
    original = bench.wire.users
    bench.wire.users = {}  # the seats route then fails
    await bench.turn()
    bench.wire.users = original
    assert bench.again(odd).trouble and not bench.again(other).trouble
    assert "attempt=1 failed" in caplog.text


async def test_the_hub_away_is_told_and_moves_are_written_all_the_same(bench: Bench) -> None:
    workshop = bench.a_workshop()
    await bench.turn()

    async def broken(_: str) -> None:
        raise RuntimeError

    bench.wire.before = broken
    bench.clock.forward(hours=6)
    await bench.turn()
    assert bench.again(workshop).state is State.EXPIRED
    assert "status 500" in (bench.again(workshop).trouble or "")


async def test_a_leader_that_was_overtaken_writes_nothing(bench: Bench) -> None:
    workshop = bench.a_workshop()
    stale = bench.leadership("here:1:a")
    bench.clock.forward(seconds=TTL_S + 1)
    fresh = bench.leadership("there:2:b")
    before = bench.again(workshop)
    with pytest.raises(LeaseLost):
        await bench.turn(stale)
    assert bench.again(workshop) == before and bench.wire.writes() == []
    await bench.turn(fresh)
    assert bench.wire.writes()


async def test_overtaken_in_the_middle_it_stops_before_the_next_step(bench: Bench) -> None:
    workshop = bench.a_workshop()
    bench.enrol(workshop, "ada")
    stale = bench.leadership("here:1:a")
    fences: list[Leadership] = []

    async def overtake(call: str) -> None:
        if call.startswith("POST groups/") and not fences:
            bench.clock.forward(seconds=TTL_S + 1)
            fences.append(bench.leadership("there:2:b"))

    bench.wire.before = overtake
    with pytest.raises(LeaseLost):
        await bench.turn(stale)
    assert bench.wire.groups[workshop.id].members == set()
    assert not bench.store.enrolments(workshop.id)[0].in_hub


async def test_the_sweep_repairs_what_was_changed_by_hand(bench: Bench) -> None:
    workshop = bench.a_workshop()
    bench.enrol(workshop, "ada")
    await bench.turn()
    bench.wire.sign_up("eve")
    bench.wire.groups[workshop.id].members.add("eve")
    bench.wire.groups[workshop.id].properties["orchestra"]["expires_at"] = "2099-01-01T00:00:00Z"
    bench.wire.run_seat("eve", workshop.id)
    await bench.turn()
    assert bench.wire.running(workshop.id) == {"eve"}
    await bench.turn(sweep=True)
    assert bench.wire.groups[workshop.id].members == {"ada"}
    assert bench.facts(workshop).expires_at == workshop.expires_at
    assert bench.wire.running(workshop.id) == set()
    del bench.wire.groups[workshop.id]
    await bench.turn(sweep=True)
    assert bench.wire.groups[workshop.id].members == {"ada"}


async def test_a_deleted_account_loses_its_place_and_its_name_inherits_nothing(bench: Bench) -> None:
    workshop = bench.a_workshop()
    for name in ("ada", "bob"):
        bench.enrol(workshop, name)
    await bench.turn()
    bench.wire.delete_user("ada")
    bench.wire.delete_user("bob")
    bench.wire.sign_up("bob", created=NOON + timedelta(seconds=1))
    await bench.turn(sweep=True)
    assert bench.store.enrolments(workshop.id) == []
    assert bench.wire.groups[workshop.id].members == set()


async def test_work_is_in_proportion_to_what_is_due(bench: Bench) -> None:
    for _ in range(30):
        bench.a_workshop()
    await bench.turn()
    bench.wire.calls.clear()
    changed = bench.a_workshop()
    await bench.turn()
    assert all(changed.id in call for call in bench.wire.calls) and len(bench.wire.calls) < 10


@pytest.fixture
def two_leaders() -> Iterator[list[str]]:
    yield []


async def test_one_leads_and_the_other_takes_over_when_it_goes(bench: Bench, two_leaders: list[str]) -> None:
    def work(name: str) -> Callable[[Leadership], Awaitable[None]]:
        async def working(_: Leadership) -> None:
            two_leaders.append(name)
            await asyncio.Event().wait()

        return working

    first = asyncio.create_task(lead(bench.store, "a", 0.2, work("a")))
    async with asyncio.timeout(10):
        while two_leaders != ["a"]:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(lead(bench.store, "b", 0.2, work("b")))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        while two_leaders != ["a", "b"]:  # at once: the first released the lease, and the clock stands still
            await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


def test_the_program_needs_its_settings_and_says_which() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "orchestra_services.reconciler"], env=_environment({}), capture_output=True, text=True
    )
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "does not know ORCHESTRA_DATABASE_URL, ORCHESTRA_DATA_DIR, JUPYTERHUB_API_URL" in ended.stderr


async def test_the_program_works_and_ends_soon_after_a_signal(bench: Bench) -> None:
    workshop = bench.a_workshop(opens_at=NOON + timedelta(days=3650))
    settings = {
        "ORCHESTRA_DATABASE_URL": bench.url, "ORCHESTRA_DATA_DIR": str(bench.folders.root),
        "JUPYTERHUB_API_URL": bench.wire.url, "JUPYTERHUB_API_TOKEN": TOKEN,
    }  # fmt: skip
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestra_services.reconciler", env=_environment(settings),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(20):
            while workshop.id not in bench.wire.groups or bench.store.due(bench.clock(), 1):
                await asyncio.sleep(0.05)
        asked = time.monotonic()
        program.send_signal(signal.SIGTERM)
        _, errors = await program.communicate()
        assert program.returncode == 0 and time.monotonic() - asked < 2, errors.decode()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    assert f"workshop={workshop.id}" in errors.decode() and TOKEN not in errors.decode()
    assert bench.store.acquire_lease(LEASE, "next", 10) is not None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_leader_killed_or_standing_still_is_followed_within_its_leases_time(
    bench: Bench, tmp_path: Path, how: signal.Signals
) -> None:
    """Two processes. The one that stood still finds another leading when it wakes, and writes nothing."""
    ttl_s = 2
    settings = {
        "ORCHESTRA_DATABASE_URL": bench.url, "ORCHESTRA_DATA_DIR": str(bench.folders.root),
        "JUPYTERHUB_API_URL": bench.wire.url, "JUPYTERHUB_API_TOKEN": TOKEN,
    }  # fmt: skip
    command = [sys.executable, "-m", "orchestra_services.reconciler", f"--ReconcilerApp.lease_ttl_s={ttl_s}"]
    programs: list[subprocess.Popen[bytes]] = []

    def begin(name: str) -> Path:
        log = tmp_path / f"{name}.log"
        with log.open("wb") as stream:
            programs.append(subprocess.Popen(command, env=_environment(settings), stderr=stream))
        return log

    try:
        one = begin("one")
        until(lambda: "leading, fence=" in one.read_text(), within_s=20, message="the first leads")
        two = begin("two")
        until(lambda: "another process leads" in two.read_text(), within_s=20, message="the second waits")
        programs[0].send_signal(how)
        until(lambda: "leading, fence=" in two.read_text(), within_s=2 * ttl_s, message="the second leads")
        if how is signal.SIGSTOP:
            programs[0].send_signal(signal.SIGCONT)
            until(lambda: "no longer leading" in one.read_text(), within_s=10, message="the first steps back")
            assert "no longer leading" not in two.read_text()
    finally:
        for program in programs:
            program.kill()
            program.wait()


def _environment(settings: dict[str, str]) -> dict[str, str]:
    places = [str(ROOT), str(ROOT / "spawner"), str(ROOT / "services")]
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(places), **settings}


def test_every_trait_is_described() -> None:
    for name, trait in ReconcilerApp.class_own_traits(config=True).items():
        assert trait.help, name
