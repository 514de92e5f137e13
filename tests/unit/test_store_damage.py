"""Damaged rows, on both databases: told, kept apart, mended from elsewhere, or ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from orchestra_hub.errors import LeaseLost, StoreUnavailable, WorkshopDamaged
from orchestra_hub.store import Sources, Store
from orchestra_hub.store.deadline import deadline_in
from orchestra_hub.store.engine import Database
from orchestra_hub.workshop import State, Workshop, facts_of
from tests.postgresql import fresh_database
from tests.unit.workshops import NOON, SettableClock, a_new_workshop, a_template, account

CONTENT = b"packed"


class Bench:
    def __init__(self, url: str) -> None:
        self.clock = SettableClock(NOON - timedelta(hours=1))
        self.store = Store.open(url, clock=self.clock)
        self.database = Database(url, self.clock)

    def a_workshop(self, **fields: Any) -> Workshop:
        return self.store.create_workshop(a_new_workshop(**fields), CONTENT, "system")

    def by_hand(self, workshop: Workshop, column: str, value: Any) -> None:
        with self.database.connection() as connection:
            if self.database.is_sqlite:
                connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            kind = "CAST(:value AS JSON)" if column == "template" and not self.database.is_sqlite else ":value"
            statement = text(f"UPDATE workshops SET {column} = {kind} WHERE id = :id")
            connection.execute(statement, {"value": value, "id": workshop.id})
            if self.database.is_sqlite:
                connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")

    def fence(self) -> int:
        lease = self.store.acquire_lease("reconciler", "test", 60)
        assert lease is not None
        return lease.fence


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "sqlite":
        made = Bench(f"sqlite:///{tmp_path}/orchestra.sqlite")
        yield made
    else:
        with fresh_database(request.getfixturevalue("postgresql_url")) as url:
            made = Bench(url)
            yield made
            made.store.close()
            made.database.close()
            return
    made.store.close()
    made.database.close()


WAYS = [("state", "half-open"), ("template", '{"name": "counting"}'), ("join_policy", "by-mood")]
SQLITE_WAYS = [
    ("template", "{broken"), ("template", "[]"), ("seats", 0), ("seats", "many"), ("expires_at", "next tuesday"),
    ("purge_at", ""), ("created_at", "yesterday"), ("retention_s", "long"), ("version", "one"), ("due_at", "soon"),
    ("prepared_at", "x"),
]  # fmt: skip


def _ways(bench: Bench) -> list[tuple[str, Any]]:
    return WAYS + (SQLITE_WAYS if bench.database.is_sqlite else [])


def test_every_kind_of_damage_is_told_keeps_no_other_back_and_is_mended_from_the_facts(bench: Bench) -> None:
    healthy = bench.a_workshop()
    for column, value in _ways(bench):
        workshop = bench.a_workshop()
        bench.by_hand(workshop, column, value)
        damage = bench.store.damage(workshop.id)
        assert damage is not None and list(damage.faults) == [column], (column, value, damage)
        assert column in damage.sentence and f"workshop mend {workshop.id}" in damage.sentence
        listed = bench.store.workshops()
        assert healthy.id in [each.id for each in listed] and [each.id for each in listed.damaged] == [workshop.id]
        assert workshop.id in listed.ids
        due = bench.store.due(bench.clock() + timedelta(days=1), 100)
        assert healthy.id in [each.id for each in due]
        assert healthy.id in [each.workshop.id for each in bench.store.whole([healthy.id, workshop.id])]
        assert workshop.id in [outline.id for outline in bench.store.outlines()]
        bench.store.counters()
        for read in (bench.store.workshop, bench.store.enrolments):
            with pytest.raises(WorkshopDamaged, match="Tell your instructor"):
                read(workshop.id)
        with pytest.raises(WorkshopDamaged):
            bench.store.enrol(workshop.id, account("ada"), by_roster=True, actor="system")
        mended = bench.store.mend(workshop.id, Sources(facts=facts_of(workshop, [])), "system")
        assert mended.what and column in mended.what[0]
        was = workshop.model_dump(include={"state", "template", "seats", "opens_at", "expires_at", "purge_at"})
        assert bench.store.workshop(workshop.id).model_dump(include=set(was)) == was, column
        assert bench.store.workshop(workshop.id).due_at == bench.clock()
        assert bench.store.mend(workshop.id, Sources(), "system").what == ()


def test_without_the_hubs_facts_the_events_and_the_template_have_it(bench: Bench) -> None:
    workshop = bench.a_workshop()
    bench.by_hand(workshop, "state", "?")
    bench.by_hand(workshop, "template", '{"content_digest": "%s"}' % ("0" * 64))
    damage = bench.store.damage(workshop.id)
    assert damage is not None and damage.content_digest == "0" * 64
    with pytest.raises(WorkshopDamaged, match=r"template stands nowhere else.*--damaged"):
        bench.store.mend(workshop.id, Sources(), "system")
    assert bench.store.damage(workshop.id) is not None, "nothing was written"
    mended = bench.store.mend(workshop.id, Sources(template=a_template(), content=b"new"), "system")
    assert mended.what[-1] == "the content, from the templates' folder"
    assert mended.workshop.template == workshop.template and mended.workshop.state is State.SCHEDULED
    assert bench.store.content_of("0" * 64) == b"new"
    if bench.database.is_sqlite:
        bench.store.extend(workshop.id, workshop.expires_at + timedelta(hours=1), "system")
        bench.by_hand(workshop, "expires_at", "late")
        assert bench.store.mend(workshop.id, Sources(), "system").what == ("expires_at, from the events",)
        assert bench.store.workshop(workshop.id).expires_at == workshop.expires_at + timedelta(hours=1)


def test_what_cannot_be_mended_is_ended_with_its_files_kept(bench: Bench) -> None:
    workshop = bench.a_workshop()
    with pytest.raises(WorkshopDamaged, match="isn't damaged"):
        bench.store.end_damaged(workshop.id, Sources(), "system")
    bench.by_hand(workshop, "template", "{}")
    bench.by_hand(workshop, "state", "lost")
    ended = bench.store.end_damaged(workshop.id, Sources(), "system").workshop
    assert ended.state is State.EXPIRED and ended.expires_at == bench.clock() and ended.ended_early
    assert ended.purge_at == bench.clock() + timedelta(seconds=workshop.retention_s)
    assert bench.store.events(workshop.id)[-1].kind == "ended-damaged"
    bench.clock.now = ended.purge_at
    assert bench.store.record_purge(workshop.id, {}, fence=bench.fence()).state is State.PURGED


def test_damage_is_noted_once_and_only_by_the_leader(bench: Bench) -> None:
    workshop = bench.a_workshop()
    bench.by_hand(workshop, "state", "?")
    damage = bench.store.damage(workshop.id)
    assert damage is not None
    fence = bench.fence()
    assert bench.store.note_damage(damage, fence=fence)
    again = bench.store.damage(workshop.id)
    assert again is not None and not bench.store.note_damage(again, fence=fence)
    assert [event.kind for event in bench.store.events(workshop.id)].count("damaged") == 1
    assert bench.store.due(bench.clock() + timedelta(days=99)) == []
    with pytest.raises(LeaseLost):
        bench.store.note_damage(damage, fence=fence - 1)


def test_what_nobody_waits_for_any_more_is_not_done(bench: Bench) -> None:
    before = len(bench.store.workshops())
    with deadline_in(-1), pytest.raises(StoreUnavailable, match="too slow"):
        bench.a_workshop()
    with deadline_in(-1), pytest.raises(StoreUnavailable):
        bench.store.workshops()
    assert len(bench.store.workshops()) == before
    bench.a_workshop()
    assert len(bench.store.workshops()) == before + 1
