"""Two real reconcilers on one store: one leads, and one that was thought dead and wakes up does nothing more.

Only the hub is played, at the wire, so that it can be seen which of the two asked it for what.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from orchestra_hub.content import pack
from orchestra_hub.dates import utcnow
from orchestra_hub.store import Store
from orchestra_hub.workshop import Role, State, Workshop
from orchestra_services.reconciler.leading import LEASE
from tests.hub_wire import HubWire, hub_wire
from tests.postgresql import fresh_database
from tests.unit.workshops import a_new_workshop, account

ROOT = Path(__file__).parents[2]
TTL_S = 2.0
PEOPLE = ("ada", "bob", "cleo")


async def eventually(what: Callable[[], Any], *, within_s: float, message: str) -> Any:
    """What `what()`, called in a thread, gives once it is true."""
    try:
        async with asyncio.timeout(within_s):
            while not (found := await asyncio.to_thread(what)):
                await asyncio.sleep(0.05)
            return found
    except TimeoutError:
        raise AssertionError(f"{message}: not within {within_s} s") from None


class Reconciler:
    """A reconciler's process, known to the hub by a token of its own."""

    def __init__(self, token: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.token = token
        self.process = process
        self.log = log

    def says(self, text: str) -> bool:
        return text in self.log.read_text()


@asynccontextmanager
async def reconciler(folder: Path, url: str, wire: HubWire, name: str) -> AsyncIterator[Reconciler]:
    """One that runs until the block is left."""
    token, log = f"token-of-{name}", folder / f"{name}.log"
    wire.services.add(token)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "spawner"), str(ROOT / "services")]),
        "ORCHESTRA_DATABASE_URL": url,
        "ORCHESTRA_DATA_DIR": str(folder),
        "JUPYTERHUB_API_URL": wire.url,
        "JUPYTERHUB_API_TOKEN": token,
    }
    command = ["-m", "orchestra_services.reconciler", f"--ReconcilerApp.lease_ttl_s={TTL_S:g}"]
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(sys.executable, *command, env=environment, stderr=stream)
    try:
        yield Reconciler(token, process, log)
    finally:
        process.kill()
        await process.wait()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/orchestra.sqlite"
        return
    with fresh_database(request.getfixturevalue("postgresql_url")) as url:
        yield url


@contextmanager
def nobody_writes(url: str) -> Iterator[None]:
    """Whoever is stopped here holds no lock of the database's: a write would be kept open as long as the process stands
    still, and nobody else's get through (PostgreSQL ends it after a while; SQLite can't)."""
    engine = create_engine(url)
    with engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        connection.execute(text("BEGIN IMMEDIATE" if sqlite else "LOCK TABLE leases IN EXCLUSIVE MODE"))
        try:
            yield
        finally:
            connection.rollback()
    engine.dispose()


def a_workshop_with_seats(folder: Path, store: Store, wire: HubWire) -> Workshop:
    """Open in a moment, over some seconds later; three learners are in it."""
    template = folder / "template"
    template.mkdir()
    (template / "start.ipynb").write_text("{}")
    now = utcnow()
    new = a_new_workshop(opens_at=now, expires_at=now + timedelta(seconds=6), warning_s=1, retention_s=3600)
    made = store.create_workshop(new, pack(template), "system")
    wire.sign_up(*PEOPLE)
    for name in PEOPLE:
        mine = account(name).model_copy(update={"key": wire.key(name)})
        store.enrol(made.id, mine, Role.LEARNER, by_roster=True, actor="system")
    return made


async def test_a_leader_that_stood_still_past_its_lease_does_nothing_when_it_wakes(
    tmp_path: Path, database_url: str
) -> None:
    store = Store.open(database_url)
    async with hub_wire() as wire, reconciler(tmp_path, database_url, wire, "first") as first:
        await eventually(lambda: first.says("leading, fence="), within_s=20, message="the first leads")
        workshop = await asyncio.to_thread(a_workshop_with_seats, tmp_path, store, wire)
        await eventually(
            lambda: store.workshop(workshop.id).state in (State.OPEN, State.CLOSING), within_s=10, message="open"
        )
        for name in PEOPLE:
            wire.run_seat(name, workshop.id)
        stopping, go_on = asyncio.Event(), asyncio.Event()
        decided: list[State] = []
        asked: list[str] = []

        async def stand_still(call: str) -> None:
            """The first stop of a seat that the first asks for is its last act for now."""
            if not call.startswith("DELETE users/"):
                return
            asked.append(wire.callers[-1])
            if len(asked) == 1:
                decided.append((await asyncio.to_thread(store.workshop, workshop.id)).state)
                with nobody_writes(database_url):
                    first.process.send_signal(signal.SIGSTOP)
                stopping.set()
                await go_on.wait()

        wire.before = stand_still
        async with reconciler(tmp_path, database_url, wire, "second") as second:
            async with asyncio.timeout(20):
                await stopping.wait()
            assert asked[0] == first.token
            assert decided == [State.EXPIRED], "decided and written before anything is done"
            await eventually(lambda: second.says("leading, fence="), within_s=10 * TTL_S, message="the second leads")
            await eventually(lambda: not wire.running(workshop.id), within_s=10, message="seats stopped")
            await eventually(
                lambda: (due := store.workshop(workshop.id).due_at) and due > utcnow() + timedelta(minutes=10),
                within_s=10, message="all of it done",
            )  # fmt: skip
            before, events, lease = wire.writes(first.token), store.events(workshop.id), store.lease(LEASE)
            row = store.workshop(workshop.id)
            first.process.send_signal(signal.SIGCONT)
            go_on.set()
            await eventually(lambda: first.says("no longer leading"), within_s=10, message="the first steps back")
            await eventually(lambda: first.says("another process leads"), within_s=10, message="it waits")
            assert wire.writes(first.token) == before, "it asked the hub for something after it woke"
            assert store.workshop(workshop.id) == row and store.events(workshop.id) == events
            now = store.lease(LEASE)
            assert lease is not None and now is not None and now.fence == lease.fence
            moves = [event.detail["to"] for event in events if event.kind == "moved"]
            assert moves.count("expired") == 1 and len(moves) == len(set(moves)), moves
    store.close()


async def test_a_dead_leaders_lease_ends_although_the_clock_went_back(tmp_path: Path) -> None:
    """It was written by a clock an hour ahead: by the time in it, it would be good for another hour."""
    url = f"sqlite:///{tmp_path}/orchestra.sqlite"
    ahead = Store.open(url, clock=lambda: utcnow() + timedelta(hours=1))
    dead = ahead.acquire_lease(LEASE, "dead", TTL_S)
    assert dead is not None
    async with hub_wire() as wire, reconciler(tmp_path, url, wire, "heir") as heir:
        await eventually(lambda: heir.says("another process leads"), within_s=20, message="it waits first")
        await eventually(lambda: heir.says("leading, fence="), within_s=5 * TTL_S, message="it leads")
        lease = ahead.lease(LEASE)
        assert lease is not None and lease.fence > dead.fence
    ahead.close()


async def test_a_living_leader_whose_clock_is_behind_keeps_its_lease(tmp_path: Path) -> None:
    """What one who waits sees is that it is renewed; that the time in it is long past doesn't count for a loss of
    anything: the first is fenced, and one of the two leads."""
    url = f"sqlite:///{tmp_path}/orchestra.sqlite"
    behind = Store.open(url, clock=lambda: utcnow() - timedelta(hours=1))
    old = behind.acquire_lease(LEASE, "behind", TTL_S)
    assert old is not None
    async with hub_wire() as wire, reconciler(tmp_path, url, wire, "ahead") as ahead:
        await eventually(lambda: ahead.says("leading, fence="), within_s=20, message="it takes what seems over")
        with pytest.raises(Exception, match="has gone to another"):
            behind.renew_lease(old, TTL_S)
        assert behind.acquire_lease(LEASE, "behind", TTL_S) is None, "and is not thrown out in turn"
    behind.close()
