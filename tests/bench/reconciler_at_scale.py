"""What a reconciler costs with many workshops, nearly all of them quiet, and how that grows.

    python -m tests.bench.reconciler_at_scale [--postgresql] [NUMBER...]

By default 100, 1,000 and 10,000 workshops on SQLite, each with five people: half of them scheduled, a quarter open with
their folders, a quarter over and kept. The reconciler is a real process; the hub is `tests/hub_wire.py`, which speaks
the Hub API over HTTP. Printed are: the seconds from its start until it has looked at everything; its share of a core at
rest, over 65 s, in which it sweeps at least once; its memory; and the seconds it takes for 100 workshops whose end has
come.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
from sqlalchemy import insert, update

from orchestra_hub.content import pack
from orchestra_hub.dates import utcnow
from orchestra_hub.ids import new_workshop_id
from orchestra_hub.store import Store
from orchestra_hub.store.engine import Database
from orchestra_hub.store.models import EnrolmentRow, PseudonymKeyRow, WorkshopRow
from orchestra_hub.workshop import HUB_PROPERTY, Role, State, facts_of
from orchestra_spawner.folders import SeatFolders
from tests.hub_wire import TOKEN, Group, HubWire, hub_wire
from tests.postgresql import cluster, fresh_database
from tests.unit.workshops import a_new_workshop

NUMBERS = (100, 1_000, 10_000)
PEOPLE = 5
DUE = 100
REST_S = 65.0
QUIET_SHARE = 0.02


@dataclass(frozen=True)
class Figures:
    """What was seen."""

    number: int
    all_seen_s: float
    rest_share: float
    rss_mib: float
    due_s: float
    calls_at_rest: int


def _rows(store: Store, url: str, number: int, folder: Path) -> list[str]:
    """One workshop by the store itself, and the others after its pattern."""
    template = folder / "template"
    template.mkdir()
    (template / "start.ipynb").write_text("{}")
    now = utcnow()
    new = a_new_workshop(opens_at=now + timedelta(days=30), retention_s=30 * 86_400)
    first = store.create_workshop(new, pack(template), "system")
    plain = first.model_dump(mode="python", exclude={"statistics"}) | {
        "template": first.template.model_dump(mode="json")
    }
    open_dates = {"opens_at": now - timedelta(hours=1), "prepared_at": now - timedelta(hours=1),
                  "expires_at": now + timedelta(hours=8), "deadline": now + timedelta(days=2)}  # fmt: skip
    kinds = [
        {"state": State.SCHEDULED, "due_at": new.opens_at - timedelta(hours=1)},
        {"state": State.OPEN, "due_at": now + timedelta(hours=7, minutes=45), **open_dates},
        {"state": State.SCHEDULED, "due_at": new.opens_at - timedelta(hours=1)},
        {"state": State.EXPIRED, "due_at": first.purge_at, **open_dates, "expires_at": now - timedelta(minutes=1)},
    ]
    ids = [new_workshop_id("counting", f"s{index}") for index in range(number)]
    rows = [{**plain, **kinds[index % 4], "id": each} for index, each in enumerate(ids)]
    places = [
        {"workshop_id": each, "user_name": f"u{person}", "account_key": f"u{person}-0", "role": Role.LEARNER,
         "joined_at": now, "in_hub": True}
        for each in ids for person in range(PEOPLE)
    ]  # fmt: skip
    database = Database(url, utcnow)
    with database.write() as session:
        session.execute(update(WorkshopRow.__table__).values(state=State.PURGED, due_at=None))
        session.execute(insert(WorkshopRow), rows)
        session.execute(insert(PseudonymKeyRow), [{"workshop_id": each, "key": b"k" * 32} for each in ids])
        session.execute(insert(EnrolmentRow), places)
    database.close()
    return ids


def _groups(store: Store, ids: list[str], wire: HubWire, folder: Path) -> None:
    """The groups and folders as an earlier reconciler left them."""
    wire.sign_up(*(f"u{person}" for person in range(PEOPLE)))
    members = {f"u{person}" for person in range(PEOPLE)}
    folders = SeatFolders(folder)
    for at in range(0, len(ids), 500):
        for whole in store.whole(ids[at : at + 500]):
            facts = facts_of(whole.workshop, []).model_dump(mode="json")
            wire.groups[whole.workshop.id] = Group(set(members), {HUB_PROPERTY: facts})
            if whole.workshop.state is State.OPEN:
                folders.content(whole.workshop.id).mkdir(parents=True)
                folders.prepared(whole.workshop.id).write_text("{}")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _until_quiet(process: psutil.Process) -> float:
    """Seconds until the process did next to nothing for two seconds (they don't count)."""
    began = quiet_since = time.perf_counter()
    before = _cpu_s(process)
    while time.perf_counter() - quiet_since < 2:
        await asyncio.sleep(0.25)
        now = _cpu_s(process)
        if now - before > 0.25 * QUIET_SHARE + 0.01:
            quiet_since = time.perf_counter()
        before = now
    return quiet_since - began


async def measured(number: int, url: str, folder: Path) -> Figures:
    """One size."""
    store = Store.open(url)
    async with hub_wire() as wire:
        ids = await asyncio.to_thread(_rows, store, url, number, folder)
        await asyncio.to_thread(_groups, store, ids, wire, folder)
        environment = {
            **os.environ, "ORCHESTRA_DATABASE_URL": url, "ORCHESTRA_DATA_DIR": str(folder),
            "JUPYTERHUB_API_URL": wire.url, "JUPYTERHUB_API_TOKEN": TOKEN,
        }  # fmt: skip
        log = folder / "reconciler.log"
        with log.open("wb") as stream:
            program = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "orchestra_services.reconciler", env=environment, stderr=stream
            )
        try:
            while "leading" not in log.read_text():
                await asyncio.sleep(0.05)
            process = psutil.Process(program.pid)
            all_seen_s = await _until_quiet(process)
            assert not wire.writes(), wire.writes()[:3]
            calls, before, began = len(wire.calls), _cpu_s(process), time.perf_counter()
            await asyncio.sleep(REST_S)
            rest_share = (_cpu_s(process) - before) / (time.perf_counter() - began)
            calls_at_rest = len(wire.calls) - calls
            due_s = await _time_of_due(store, url, ids)
            rss_mib = process.memory_info().rss / 2**20
        finally:
            program.terminate()
            await program.wait()
    store.close()
    return Figures(number, all_seen_s, rest_share, rss_mib, due_s, calls_at_rest)


async def _time_of_due(store: Store, url: str, ids: list[str]) -> float:
    """Seconds until what an end asks for is done for the open ones among the first 400, which are 100."""
    now = utcnow()
    ending = ids[1 : 4 * DUE : 4]
    database = Database(url, utcnow)
    with database.write() as session:
        values = {"expires_at": now, "due_at": now, "generation": 2}
        session.execute(update(WorkshopRow.__table__).where(WorkshopRow.id.in_(ending)).values(values))
    database.close()
    began = time.perf_counter()
    while await asyncio.to_thread(store.due, utcnow(), 1):
        await asyncio.sleep(0.05)
    took = time.perf_counter() - began
    states = {whole.workshop.state for whole in store.whole(ending)}
    assert states == {State.EXPIRED}, states
    return took


@contextmanager
def _database(folder: Path, *, postgresql: bool) -> Iterator[str]:
    if not postgresql:
        yield f"sqlite:///{folder}/orchestra.sqlite"
        return
    with cluster() as server, fresh_database(server) as url:
        yield url


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("numbers", nargs="*", type=int, default=list(NUMBERS), metavar="NUMBER")
    parser.add_argument("--postgresql", action="store_true")
    asked = parser.parse_args()
    print(f"{'workshops':>10} {'all seen':>9} {'at rest':>9} {'memory':>9} {f'{DUE} due':>9} {'calls at rest':>22}")
    for number in asked.numbers:
        with tempfile.TemporaryDirectory() as made, _database(Path(made), postgresql=asked.postgresql) as url:
            seen = asyncio.run(measured(number, url, Path(made)))
        print(
            f"{seen.number:>10} {seen.all_seen_s:>7.1f} s {100 * seen.rest_share:>7.2f} % {seen.rss_mib:>5.0f} MiB "
            f"{seen.due_s:>7.1f} s {seen.calls_at_rest:>15} in {REST_S:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
