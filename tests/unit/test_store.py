"""The store keeps its promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import DBAPIError

from orchestra_hub import lifecycle
from orchestra_hub.dates import utcnow
from orchestra_hub.errors import (
    InvalidInput,
    LeaseLost,
    NotAllowed,
    NotFound,
    OrchestraError,
    StaleVersion,
    StoreUnavailable,
    WorkshopFull,
    WrongState,
)
from orchestra_hub.store import Store
from orchestra_hub.workshop import Enrolment, JoinPolicy, Role, State, Workshop
from tests.postgresql import fresh_database
from tests.unit.workshops import NOON, SettableClock, a_new_workshop, a_template, account

ADA, BOB, CY, DEE = (account(name) for name in ("ada-lovelace", "bob-the-second", "cy-young", "dee-dee"))
ADA_AGAIN = account(ADA.name, life=2)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/orchestra.sqlite"
        return
    with fresh_database(request.getfixturevalue("postgresql_url")) as database:
        yield database


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(NOON - timedelta(hours=1))


@pytest.fixture
def store(url: str, clock: SettableClock) -> Iterator[Store]:
    opened = Store.open(url, clock=clock)
    yield opened
    opened.close()


def _driver_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


def _everything_in(url: str) -> str:
    """Every value of every table, as text."""
    engine = create_engine(_driver_url(url))
    try:
        with engine.connect() as connection:
            tables = inspect(connection).get_table_names()
            return "\n".join(
                f"{table}: {tuple(row)!r}"
                for table in tables
                for row in connection.execute(text(f"SELECT * FROM {table}"))
            )
    finally:
        engine.dispose()


def _execute(url: str, statement: str) -> None:
    engine = create_engine(_driver_url(url))
    try:
        with engine.begin() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()


def _made(store: Store, **fields: Any) -> Workshop:
    return store.create_workshop(a_new_workshop(**fields), b"packed", f"operator:{account('grace').key}")


def _join(store: Store, workshop: Workshop, who: Any, **how: Any) -> Enrolment:
    return store.enrol(workshop.id, who, actor=who.key, **how)


def _fence(store: Store, holder: str = "one") -> int:
    lease = store.acquire_lease("reconciler", holder, 30)
    assert lease is not None
    return lease.fence


def _opened(store: Store, clock: SettableClock, **fields: Any) -> tuple[Workshop, int]:
    """A workshop in the state `open`, at noon, and the leader's fence."""
    workshop, fence = _made(store, **fields), _fence(store)
    clock.now = max(clock.now, NOON)
    workshop = store.move(workshop, State.PREPARING, fence=fence)
    workshop = store.mark_prepared(workshop.id, fence=fence)
    return store.move(workshop, State.OPEN, fence=fence), fence


def _at_once(number: int, act: Callable[[int], Any]) -> list[Any]:
    """What `act` answers or raises for each of 0 … number-1, started together."""
    together = threading.Barrier(number, timeout=30)

    def run(index: int) -> Any:
        together.wait()
        try:
            return act(index)
        except OrchestraError as error:
            return error

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(run, range(number)))


# ── Workshops ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_workshop_is_read_as_it_was_made(store: Store, clock: SettableClock) -> None:
    made = _made(store, session="2030may", join_policy=JoinPolicy.CODE)
    assert store.workshop(made.id) == made
    assert made.id.startswith("counting-2030may-")
    assert (made.state, made.version, made.due_at, made.owner) == (State.SCHEDULED, 1, clock(), "grace")
    assert made.template == a_template() and made.join_code is not None and len(made.join_code) == 8
    assert store.content_of(made.template.content_digest) == b"packed"
    assert [event.kind for event in store.events(made.id)] == ["created"]


def test_the_content_of_one_template_is_kept_once(store: Store) -> None:
    first, second = _made(store), store.create_workshop(a_new_workshop(), b"packed", "system")
    assert first.id != second.id and store.content_of("0" * 64) == b"packed"


def test_what_isnt_there_is_not_found(store: Store) -> None:
    for ask in (store.workshop, store.content_of, store.enrolments, store.invitations):
        with pytest.raises(NotFound):
            ask("nothing")
    with pytest.raises(NotFound):
        store.remove_enrolment(_made(store).id, "nobody", "system")
    with pytest.raises(NotFound):
        store.workshops(after="nothing")


def test_dates_that_cant_be_are_refused_and_leave_nothing(store: Store) -> None:
    with pytest.raises(InvalidInput):
        _made(store, expires_at=NOON - timedelta(hours=2))
    assert store.workshops() == [] and store.events() == []


def test_workshops_are_listed_newest_first_in_pages(store: Store, clock: SettableClock) -> None:
    made = []
    for _ in range(5):
        made.append(_made(store).id)
        clock.forward(seconds=1)
    newest = made[::-1]
    assert [one.id for one in store.workshops(limit=2)] == newest[:2]
    assert [one.id for one in store.workshops(after=newest[1], limit=2)] == newest[2:4]
    assert [one.id for one in store.workshops(after=newest[4])] == []


def test_workshops_are_found_by_state_owner_and_member(store: Store) -> None:
    hers, his = _made(store), _made(store, owner=BOB)
    _join(store, his, ADA)
    store.cancel(hers.id, "system")
    assert [one.id for one in store.workshops(states=[State.CANCELLED])] == [hers.id]
    assert [one.id for one in store.workshops(owner=BOB)] == [his.id]
    assert [one.id for one in store.workshops(member=ADA)] == [his.id]
    assert {one.id for one in store.workshops(owner=account("grace"), member=ADA)} == {hers.id, his.id}
    assert store.workshops(member=ADA_AGAIN) == store.workshops(owner=account(BOB.name, life=2)) == []


def test_a_change_on_an_old_version_is_refused(store: Store, clock: SettableClock) -> None:
    made = _made(store)
    longer = store.extend(made.id, NOON + timedelta(hours=6), "system", version=made.version)
    assert longer.version == made.version + 1 and longer.due_at == clock()
    changes: list[Callable[[], object]] = [
        lambda: store.extend(made.id, NOON + timedelta(hours=7), "system", version=made.version),
        lambda: store.cancel(made.id, "system", version=made.version),
        lambda: store.end(made.id, "system", version=made.version),
        lambda: store.set_seats(made.id, 9, "system", version=made.version),
    ]
    for change in changes:
        with pytest.raises(StaleVersion, match="Read it again"):
            change()
    assert store.workshop(made.id) == longer


def test_of_changes_on_one_version_at_once_one_is_made(store: Store) -> None:
    made = _made(store)
    ends = [NOON + timedelta(hours=5, minutes=minute) for minute in range(20)]
    results = _at_once(20, lambda index: store.extend(made.id, ends[index], "system", version=made.version))
    assert sorted(type(result).__name__ for result in results) == ["StaleVersion"] * 19 + ["Workshop"]


def test_joining_doesnt_disturb_who_edits_the_workshop(store: Store) -> None:
    made = _made(store)
    _join(store, made, ADA)
    after = store.workshop(made.id)
    assert after.version == made.version and after.generation > made.generation
    store.extend(made.id, NOON + timedelta(hours=5), "system", version=made.version)


def test_nothing_passes_the_deadline_even_by_hand(store: Store, url: str) -> None:
    made = _made(store)
    with pytest.raises(InvalidInput, match="deadline"):
        store.extend(made.id, made.deadline + timedelta(seconds=1), "system")
    with pytest.raises(DBAPIError):
        _execute(url, "UPDATE workshops SET deadline = opens_at")


def test_counts_are_added_up_at_once(store: Store) -> None:
    made = _made(store)
    _at_once(10, lambda index: store.count(made.id, "seats_started", by=2))
    assert store.workshop(made.id).statistics == {"seats_started": 20}
    assert store.counters()["workshops_scheduled"] == 1
    with pytest.raises(InvalidInput):
        store.count(made.id, "Ada")


# ── People ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_hundred_join_a_workshop_of_thirty_at_once(store: Store, url: str, clock: SettableClock) -> None:
    made = _made(store, seats=30)
    with ExitStack() as stack:  # as several processes have it: each its own connections
        stores = [store]
        for _ in range(3):
            stores.append(Store.open(url, clock=clock))
            stack.callback(stores[-1].close)
        results = _at_once(200, lambda index: _join(stores[index % 4], made, account(f"learner-{index}")))
    assert sum(isinstance(result, Enrolment) for result in results) == 30
    assert sum(isinstance(result, WorkshopFull) for result in results) == 170
    assert len(store.enrolments(made.id)) == 30
    assert store.workshop(made.id).statistics == {"joined": 30}
    assert sum(event.kind == "enrolled" for event in store.events(made.id, limit=1000)) == 30


def test_joining_twice_is_joining_once(store: Store) -> None:
    made = _made(store, seats=1)
    first = _join(store, made, ADA)
    assert _join(store, made, ADA) == first
    assert all(result == first for result in _at_once(10, lambda _: _join(store, made, ADA)))
    assert store.enrolments_of(ADA.name) == [first] and store.workshop(made.id).statistics == {"joined": 1}


def test_instructors_take_no_learners_place(store: Store) -> None:
    made = _made(store, seats=1)
    for who in (BOB, CY):
        _join(store, made, who, role=Role.INSTRUCTOR, by_roster=True)
    _join(store, made, ADA)
    with pytest.raises(WorkshopFull, match="all 1 places"):
        _join(store, made, DEE)
    with pytest.raises(WorkshopFull):
        store.set_role(made.id, BOB.name, Role.LEARNER, "system")
    assert store.set_role(made.id, ADA.name, Role.INSTRUCTOR, "system").role is Role.INSTRUCTOR
    _join(store, made, DEE)


def test_seats_dont_go_under_the_learners(store: Store) -> None:
    made = _made(store)
    for who in (ADA, BOB):
        _join(store, made, who)
    with pytest.raises(InvalidInput, match="2 learners are enrolled"):
        store.set_seats(made.id, 1, "system")
    with pytest.raises(WorkshopFull):
        store.set_seats(made.id, 2, "system")
        _join(store, made, CY)
    store.remove_enrolment(made.id, ADA.name, ADA.key)
    _join(store, made, CY)


def test_a_name_used_again_inherits_nothing(store: Store) -> None:
    made = _made(store)
    _join(store, made, ADA, role=Role.INSTRUCTOR, by_roster=True)
    store.mark_in_hub(made.id, ADA.name, True)
    place = _join(store, made, ADA_AGAIN)
    assert (place.account_key, place.role, place.in_hub) == (ADA_AGAIN.key, Role.LEARNER, False)
    kinds = [event.kind for event in store.events(made.id)]
    assert kinds == ["created", "enrolled", "replaced", "enrolled"]


def test_a_name_used_again_that_is_refused_loses_the_old_place_too(store: Store) -> None:
    made = _made(store, join_policy=JoinPolicy.ROSTER)
    _join(store, made, ADA, by_roster=True)
    with pytest.raises(NotAllowed):
        _join(store, made, ADA_AGAIN)
    assert store.enrolment(made.id, ADA.name) is None


def test_by_code(store: Store) -> None:
    made = _made(store, join_policy=JoinPolicy.CODE)
    assert made.join_code is not None
    with pytest.raises(NotAllowed, match="takes a code"):
        _join(store, made, ADA)
    for wrong in ("", made.join_code[:-1], made.join_code + "x", "ü" * 8):
        with pytest.raises(NotAllowed):
            _join(store, made, ADA, code=wrong)
    assert _join(store, made, ADA, code=f" {made.join_code.upper()} ").role is Role.LEARNER


def test_by_roster(store: Store) -> None:
    made = _made(store, join_policy=JoinPolicy.ROSTER)
    with pytest.raises(NotAllowed, match="not on this workshop's roster"):
        _join(store, made, ADA, code="anything")
    _join(store, made, ADA, by_roster=True)
    assert _join(store, made, ADA).account_key == ADA.key


def test_nobody_makes_themselves_an_instructor(store: Store) -> None:
    with pytest.raises(NotAllowed, match="join as learners"):
        _join(store, _made(store), ADA, role=Role.INSTRUCTOR)


def test_an_invitation_works_once_whoever_comes_at_once(store: Store, url: str) -> None:
    made = _made(store, join_policy=JoinPolicy.ROSTER, seats=30)
    invitation = store.invite(made.id, "somebody@example.org", Role.LEARNER, "system")
    token = str(invitation.token)
    results = _at_once(10, lambda index: _join(store, made, account(f"guest-{index}"), invitation=token))
    assert sum(isinstance(result, Enrolment) for result in results) == 1
    assert sum(isinstance(result, NotAllowed) for result in results) == 9
    used = store.invitations(made.id)[0]
    assert used.used_at is not None and used.token is None
    assert token.partition("-")[2] not in _everything_in(url)


def test_an_invitation_gives_its_role_in_its_workshop_only(store: Store) -> None:
    made, other = (_made(store, join_policy=JoinPolicy.ROSTER) for _ in range(2))
    token = store.invite(made.id, "a colleague", Role.INSTRUCTOR, "system").token
    for wrong in (token, f"{token}x", "1-", "x", "9999999-abc", "٣-abc"):
        with pytest.raises(NotAllowed, match="invitation"):
            _join(store, other, ADA, invitation=wrong)
    assert _join(store, made, ADA, invitation=token).role is Role.INSTRUCTOR
    assert _join(store, made, ADA, invitation=token).role is Role.INSTRUCTOR  # the same link opened again
    with pytest.raises(NotAllowed):
        _join(store, made, BOB, invitation=token)


def test_an_invitation_makes_a_learner_an_instructor_and_isnt_spent_on_nothing(store: Store) -> None:
    made = _made(store)
    joined = _join(store, made, ADA)
    as_learner = store.invite(made.id, "one", Role.LEARNER, "system")
    as_instructor = store.invite(made.id, "two", Role.INSTRUCTOR, "system")
    assert _join(store, made, ADA, invitation=as_learner.token) == joined
    assert _join(store, made, ADA, invitation=as_instructor.token).role is Role.INSTRUCTOR
    assert [one.used_at is not None for one in store.invitations(made.id)] == [False, True]
    assert store.workshop(made.id).statistics == {"joined": 1}


@pytest.mark.parametrize("label", ["", "  ", "x" * 201])
def test_an_invitation_needs_a_label(store: Store, label: str) -> None:
    with pytest.raises(InvalidInput):
        store.invite(_made(store).id, label, Role.LEARNER, "system")


def test_nobody_joins_when_it_is_over(store: Store, clock: SettableClock) -> None:
    made = _made(store)
    clock.now = made.expires_at  # nobody has written `expired` yet
    with pytest.raises(WrongState, match="time is over"):
        _join(store, made, ADA, by_roster=True)
    with pytest.raises(WrongState):
        store.invite(made.id, "somebody", Role.LEARNER, "system")


def test_leaving_and_the_hubs_knowledge(store: Store) -> None:
    made = _made(store)
    _join(store, made, ADA)
    store.mark_in_hub(made.id, ADA.name, True)
    assert store.enrolments(made.id)[0].in_hub
    store.remove_enrolment(made.id, ADA.name, ADA.key)
    store.mark_in_hub(made.id, ADA.name, True)  # too late: nothing to mark
    assert store.enrolments(made.id) == []
    assert store.workshop(made.id).statistics == {"joined": 1, "left": 1}


def test_what_was_meant_for_the_old_account_doesnt_meet_the_new(store: Store) -> None:
    made = _made(store)
    new = _join(store, made, ADA_AGAIN)
    store.mark_in_hub(made.id, ADA.name, True, account_key=ADA.key)
    with pytest.raises(NotFound):
        store.remove_enrolment(made.id, ADA.name, "system", account_key=ADA.key)
    assert store.enrolments(made.id) == [new]
    store.mark_in_hub(made.id, ADA.name, True, account_key=ADA_AGAIN.key)
    assert store.enrolments(made.id)[0].in_hub
    store.remove_enrolment(made.id, ADA.name, "system", account_key=ADA_AGAIN.key)


# ── Events ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_name_nobody_but_tell_people_apart(store: Store) -> None:
    made = _made(store)
    for who in (ADA, BOB):
        _join(store, made, who)
    store.invite(made.id, "cy@example.org", Role.LEARNER, f"operator:{BOB.key}")
    store.remove_enrolment(made.id, ADA.name, BOB.key)
    events = store.events(made.id)
    told = json.dumps([event.model_dump(mode="json") for event in events])
    for name in (ADA.name, BOB.name, ADA.key, BOB.key, "grace", "cy@", "the teacher"):
        assert name not in told
    _, ada, bob, invited, removed = events
    assert ada.actor == ada.subject == removed.subject != bob.subject
    assert removed.actor == bob.subject and invited.actor == f"operator:{bob.subject}"


def test_one_person_has_another_pseudonym_in_another_workshop(store: Store) -> None:
    subjects = set()
    for _ in range(2):
        made = _made(store)
        _join(store, made, ADA)
        subjects.add(store.events(made.id)[-1].subject)
    assert len(subjects) == 2


def test_events_are_read_on_from_where_one_was(store: Store) -> None:
    made, other = _made(store), _made(store)
    store.cancel(made.id, "system")
    everything = store.events()
    assert [event.workshop_id for event in everything] == [made.id, other.id, made.id]
    assert store.events(after=everything[0].id, limit=1) == everything[1:2]
    assert store.events(made.id, after=everything[0].id) == everything[2:]


@pytest.mark.parametrize("statement", ["UPDATE events SET kind = 'x'", "DELETE FROM events", "DELETE FROM workshops"])
def test_the_database_refuses_to_rewrite_history(store: Store, url: str, statement: str) -> None:
    _made(store)
    with pytest.raises(DBAPIError, match=r"append-only|never deleted|its rows stay"):
        _execute(url, statement)
    assert len(store.events()) == len(store.workshops()) == 1


def test_what_is_refused_leaves_no_event(store: Store) -> None:
    made = _made(store, seats=1)
    _join(store, made, ADA)
    before = store.events()
    attempts: list[Callable[[], object]] = [
        lambda: _join(store, made, BOB),
        lambda: store.end(made.id, "system"),
        lambda: store.extend(made.id, NOON - timedelta(days=1), "system"),
    ]
    for refused in attempts:
        with pytest.raises(OrchestraError):
            refused()
    assert store.events() == before


# ── The reconciler ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_whole_life(store: Store, clock: SettableClock) -> None:
    workshop, fence = _opened(store, clock)
    workshop = store.clear(workshop, fence=fence)
    assert workshop.due_at == workshop.expires_at - timedelta(minutes=15)
    assert store.due(clock()) == []
    clock.now = workshop.purge_at
    assert [one.id for one in store.due(clock())] == [workshop.id]
    assert lifecycle.next_moves(workshop, clock()) == [State.EXPIRED, State.PURGED]
    workshop = store.move(workshop, State.EXPIRED, fence=fence)
    assert store.record_purge(workshop.id, {"folders": 3}, fence=fence).state is State.PURGED
    assert store.due(clock() + timedelta(days=365)) == []
    kinds = [event.kind for event in store.events(workshop.id)]
    assert kinds == ["created", "moved", "prepared", "moved", "moved", "purged"]


def test_a_move_that_isnt_due_is_refused_and_one_made_already_is_not(store: Store, clock: SettableClock) -> None:
    workshop, fence = _opened(store, clock)
    for wrong in (State.CLOSING, State.EXPIRED, State.PURGED, State.SCHEDULED):
        with pytest.raises(WrongState):
            store.move(workshop, wrong, fence=fence)
    assert store.move(workshop, State.OPEN, fence=fence) == store.workshop(workshop.id)
    assert store.mark_prepared(_into_preparing(store, fence).id, fence=fence).prepared


def _into_preparing(store: Store, fence: int) -> Workshop:
    return store.move(_made(store), State.PREPARING, fence=fence)


def test_a_change_while_the_reconciler_works_isnt_lost(store: Store, clock: SettableClock) -> None:
    workshop, fence = _opened(store, clock)
    clock.forward(seconds=1)
    _join(store, workshop, ADA)
    assert store.clear(workshop, fence=fence).due_at == NOON  # still due: it was read before somebody joined
    seen = store.due(clock())[0]
    assert store.clear(seen, fence=fence).due_at == seen.expires_at - timedelta(minutes=15)
    _join(store, workshop, BOB)
    assert store.due(clock()) == []  # the service carries it out at once
    assert [one.id for one in store.due(clock.forward(seconds=15))] == [workshop.id]  # and is looked after


def test_trouble_is_told_tried_again_and_gone(store: Store, clock: SettableClock) -> None:
    workshop, fence = _opened(store, clock)
    later = clock() + timedelta(minutes=2)
    stuck = store.note_trouble(workshop.id, "The volume can't be made.", 3, later, fence=fence)
    assert (stuck.trouble, stuck.attempts, stuck.due_at) == ("The volume can't be made.", 3, later)
    store.note_trouble(workshop.id, "The volume can't be made.", 4, later, fence=fence)
    clock.now = later
    recovered = store.clear(store.due(later)[0], fence=fence)
    assert (recovered.trouble, recovered.attempts) == (None, 0)
    assert store.due(later) == [recovered]  # once more, so that the hub hears of it
    assert store.clear(recovered, fence=fence).due_at == workshop.expires_at - timedelta(minutes=15)
    assert [event.kind for event in store.events(workshop.id)][-2:] == ["stuck", "recovered"]


def test_a_stuck_workshop_expires_all_the_same(store: Store, clock: SettableClock) -> None:
    fence = _fence(store)
    clock.now = NOON
    workshop = store.move(_made(store), State.PREPARING, fence=fence)
    stuck = store.note_trouble(workshop.id, "No room.", 9, NOON + timedelta(days=30), fence=fence)
    assert stuck.due_at == workshop.expires_at
    clock.now = workshop.expires_at
    assert store.move(stuck, State.EXPIRED, fence=fence).state is State.EXPIRED


def test_due_is_what_is_due_longest_waiting_first(store: Store, clock: SettableClock) -> None:
    waiting = []
    for _ in range(3):
        waiting.append(_made(store).id)
        clock.forward(seconds=1)
    assert [one.id for one in store.due(clock(), limit=2)] == waiting[:2]
    assert store.due(NOON - timedelta(days=1)) == []


def test_due_reads_by_the_index(tmp_path: Path) -> None:
    """On SQLite alone: PostgreSQL reads a table this small whole."""
    url = f"sqlite:///{tmp_path}/orchestra.sqlite"
    Store.open(url).close()
    engine = create_engine(url)
    query = "EXPLAIN QUERY PLAN SELECT * FROM workshops WHERE due_at <= '2030' ORDER BY due_at LIMIT 20"
    with engine.connect() as connection:
        plan = str(connection.execute(text(query)).all())
    engine.dispose()
    assert "USING INDEX workshops_by_due_at" in plan and "TEMP B-TREE" not in plan


def test_a_purge_leaves_nobody_behind(store: Store, url: str, clock: SettableClock, tmp_path: Path) -> None:
    workshop, fence = _opened(store, clock, join_policy=JoinPolicy.CODE)
    people = {"ada-lovelace", "bob-the-second", "grace", "the teacher", "cy@example.org", str(workshop.join_code)}
    _join(store, workshop, ADA, code=workshop.join_code)
    _join(store, workshop, BOB, role=Role.INSTRUCTOR, by_roster=True)
    store.invite(workshop.id, "cy@example.org", Role.LEARNER, "system")
    store.count(workshop.id, "seats_started", by=5)
    assert all(name in _everything_in(url) for name in people)
    with pytest.raises(WrongState):
        store.record_purge(workshop.id, {}, fence=fence)
    clock.now = workshop.purge_at
    workshop = store.move(workshop, State.EXPIRED, fence=fence)
    record = {"removed": [f"workshops/x/seats/{ADA.key}"], "looked_again": True}
    purged = store.record_purge(workshop.id, record, fence=fence)
    assert purged == store.workshop(workshop.id) == store.record_purge(workshop.id, {"other": 1}, fence=fence)
    assert (purged.owner, purged.owner_key, purged.teacher, purged.join_code) == (None, None, "", None)
    assert purged.statistics == {"joined": 2, "learners": 1, "instructors": 1, "seats_started": 5}
    assert purged.purge_record is not None and purged.purge_record["looked_again"] is True
    assert not store.enrolments(workshop.id) and not store.invitations(workshop.id)
    left = _everything_in(url)
    assert not [name for name in people if name in left]
    assert len(store.events(workshop.id)) == 9
    for file in tmp_path.iterdir():  # SQLite: nor in the file's free pages, nor in its log
        assert not [name for name in people if name.encode() in file.read_bytes()]


def test_a_purged_workshop_stays_purged(store: Store, clock: SettableClock) -> None:
    workshop, fence = _opened(store, clock)
    clock.now = workshop.purge_at
    store.record_purge(store.move(workshop, State.EXPIRED, fence=fence).id, {}, fence=fence)
    changes: list[Callable[[], object]] = [
        lambda: store.extend(workshop.id, clock() + timedelta(hours=1), "system"),
        lambda: store.cancel(workshop.id, "system"),
        lambda: store.end(workshop.id, "system"),
        lambda: store.move(workshop, State.OPEN, fence=fence),
        lambda: store.mark_prepared(workshop.id, fence=fence),
        lambda: _join(store, workshop, ADA, by_roster=True),
    ]
    for change in changes:
        with pytest.raises(WrongState):
            change()
    store.count(workshop.id, "seats_started")
    store.note_trouble(workshop.id, "x", 1, clock(), fence=fence)
    store.clear(workshop, fence=fence)
    assert store.workshop(workshop.id).state is State.PURGED and store.due(clock()) == []
    assert "seats_started" not in store.workshop(workshop.id).statistics


# ── Leases ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_leads_until_its_lease_ends(store: Store, clock: SettableClock) -> None:
    first = store.acquire_lease("reconciler", "one", 30)
    assert first is not None and first.expires_at == clock() + timedelta(seconds=30)
    assert store.acquire_lease("reconciler", "two", 30) is None
    clock.forward(seconds=20)
    first = store.renew_lease(first, 30)
    clock.forward(seconds=20)
    assert store.acquire_lease("reconciler", "two", 30) is None
    clock.forward(seconds=10)
    second = store.acquire_lease("reconciler", "two", 30)
    assert second is not None and second.fence > first.fence
    with pytest.raises(LeaseLost):
        store.renew_lease(first, 30)
    store.release_lease(first)  # not its own any more
    assert store.acquire_lease("reconciler", "one", 30) is None
    store.release_lease(second)
    third = store.acquire_lease("reconciler", "one", 30)
    assert third is not None and third.fence > second.fence


def test_of_many_who_want_to_lead_at_once_one_does(store: Store) -> None:
    results = _at_once(20, lambda index: store.acquire_lease("reconciler", f"process-{index}", 30))
    assert sum(result is not None for result in results) == 1


def test_leases_of_different_names_dont_meet(store: Store) -> None:
    fences = [_fence(store), store.acquire_lease("mailer", "two", 30).fence]  # type: ignore[union-attr]  # fails if None
    assert len(set(fences)) == 2
    store.move(_made(store, lead_time_s=7200), State.PREPARING, fence=fences[0])


def test_who_leads_no_longer_writes_nothing(store: Store, clock: SettableClock) -> None:
    workshop, stale = _opened(store, clock)
    clock.forward(seconds=31)
    _fence(store, "two")
    before = store.workshop(workshop.id), store.events()
    clock.now = workshop.purge_at
    writes: list[Callable[[], object]] = [
        lambda: store.move(workshop, State.EXPIRED, fence=stale),
        lambda: store.mark_prepared(workshop.id, fence=stale),
        lambda: store.note_trouble(workshop.id, "x", 1, clock(), fence=stale),
        lambda: store.clear(workshop, fence=stale),
        lambda: store.record_purge(workshop.id, {}, fence=stale),
    ]
    for write in writes:
        with pytest.raises(LeaseLost):
            write()
    assert (store.workshop(workshop.id), store.events()) == before


# ── Faults ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_locked_database_is_told_as_temporary(url: str) -> None:
    store = Store.open(url, lock_wait_s=0.1)
    made = store.create_workshop(a_new_workshop(), b"", "system")
    engine = create_engine(_driver_url(url))
    with engine.connect() as other:
        if url.startswith("sqlite"):
            other.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            other.execute(text("SELECT id FROM workshops FOR UPDATE"))
        with pytest.raises(StoreUnavailable) as told:
            store.cancel(made.id, "system")
        assert told.value.__cause__ is not None
        assert store.workshop(made.id).state is State.SCHEDULED  # readers don't wait
        other.rollback()
    engine.dispose()
    assert store.cancel(made.id, "system").state is State.CANCELLED
    store.close()


def test_a_store_that_answers_answers(store: Store) -> None:
    store.ping()


def test_connections_cut_by_the_server_are_made_again(postgresql_url: str) -> None:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'orchestra-hub'"
    with fresh_database(postgresql_url) as url:
        store = Store.open(url)
        made = _made(store, opens_at=utcnow())
        _execute(url, cut)
        assert store.workshop(made.id) == made
        store.close()


def test_a_server_that_isnt_there_is_told_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable) as told:
        Store.open(f"postgresql://orchestra:hush-hush@/x?host={tmp_path}")
    assert "hush-hush" not in str(told.value)


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.sqlite"
    garbage.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        Store.open(f"sqlite:///{garbage}")
    with pytest.raises(StoreUnavailable, match="can't be opened"):
        Store.open(f"sqlite:///{tmp_path}/missing/orchestra.sqlite")


@pytest.mark.parametrize("wrong", ["mysql://x/y", "nonsense", ""])
def test_another_kind_of_url_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput):
        Store.open(wrong)
