"""What holds when, what comes next, and that no order of events breaks the promises."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestra_hub import lifecycle
from orchestra_hub.errors import InvalidInput, OrchestraError, WrongState
from orchestra_hub.workshop import Role, State, Workshop, facts_of
from tests.unit.workshops import NOON, a_new_workshop, a_template, a_workshop

S = State
END = NOON + timedelta(hours=4)
WARNING = END - timedelta(minutes=15)
LEAD = NOON - timedelta(minutes=10)
PURGE = END + timedelta(days=1)
TICK = timedelta(microseconds=1)


def _in(state: State, *, prepared: bool = False, **fields: object) -> Workshop:
    return a_workshop(state=state, prepared_at=LEAD if prepared else None, **fields)


@pytest.mark.parametrize(
    ("workshop", "now", "holds"),
    [
        (_in(S.SCHEDULED), NOON + timedelta(hours=1), S.SCHEDULED),
        (_in(S.SCHEDULED), END, S.EXPIRED),
        (_in(S.PREPARING), END - TICK, S.PREPARING),
        (_in(S.PREPARING), END, S.EXPIRED),
        (_in(S.PREPARING, prepared=True), NOON - TICK, S.PREPARING),
        (_in(S.PREPARING, prepared=True), NOON, S.OPEN),
        (_in(S.PREPARING, prepared=True), WARNING, S.CLOSING),
        (_in(S.OPEN, prepared=True), WARNING - TICK, S.OPEN),
        (_in(S.OPEN, prepared=True), WARNING, S.CLOSING),
        (_in(S.OPEN, prepared=True), END - TICK, S.CLOSING),
        (_in(S.OPEN, prepared=True), END, S.EXPIRED),
        (_in(S.CLOSING, prepared=True), WARNING - TICK, S.OPEN),
        (_in(S.CLOSING, prepared=True), END, S.EXPIRED),
        (_in(S.EXPIRED), NOON, S.EXPIRED),
        (_in(S.EXPIRED), PURGE, S.EXPIRED),
        (_in(S.CANCELLED), PURGE, S.CANCELLED),
        (_in(S.PURGED), NOON, S.PURGED),
    ],
)
def test_what_holds(workshop: Workshop, now: datetime, holds: State) -> None:
    assert lifecycle.effective_state(workshop, now) is holds
    assert lifecycle.effective_state(facts_of(workshop, []), now) is holds


@pytest.mark.parametrize(
    ("workshop", "now", "moves"),
    [
        (_in(S.SCHEDULED), LEAD - TICK, []),
        (_in(S.SCHEDULED), LEAD, [S.PREPARING]),
        (_in(S.SCHEDULED), NOON + timedelta(hours=1), [S.PREPARING]),
        (_in(S.SCHEDULED), END, [S.EXPIRED]),
        (_in(S.SCHEDULED), PURGE, [S.EXPIRED, S.PURGED]),
        (_in(S.PREPARING), END - TICK, []),
        (_in(S.PREPARING, prepared=True), NOON - TICK, []),
        (_in(S.PREPARING, prepared=True), NOON, [S.OPEN]),
        (_in(S.PREPARING, prepared=True), WARNING, [S.OPEN, S.CLOSING]),
        (_in(S.OPEN, prepared=True), WARNING - TICK, []),
        (_in(S.OPEN, prepared=True), WARNING, [S.CLOSING]),
        (_in(S.OPEN, prepared=True), END, [S.EXPIRED]),
        (_in(S.CLOSING, prepared=True), WARNING, []),
        (_in(S.CLOSING, prepared=True), WARNING - TICK, [S.OPEN]),
        (_in(S.EXPIRED), PURGE - TICK, []),
        (_in(S.EXPIRED), PURGE, [S.PURGED]),
        (_in(S.CANCELLED), PURGE, [S.PURGED]),
        (_in(S.PURGED), PURGE + timedelta(days=9), []),
    ],
)
def test_next_moves(workshop: Workshop, now: datetime, moves: list[State]) -> None:
    assert lifecycle.next_moves(workshop, now) == moves


@pytest.mark.parametrize(
    ("workshop", "now", "due"),
    [
        (_in(S.SCHEDULED), LEAD - TICK, LEAD),
        (_in(S.SCHEDULED), LEAD, LEAD),
        (_in(S.PREPARING), NOON, NOON),
        (_in(S.PREPARING, prepared=True), LEAD, NOON),
        (_in(S.OPEN, prepared=True), NOON, WARNING),
        (_in(S.CLOSING, prepared=True), WARNING, END),
        (_in(S.EXPIRED), END, PURGE),
        (_in(S.EXPIRED), PURGE, PURGE),
        (_in(S.CANCELLED), NOON, PURGE),
        (_in(S.PURGED), PURGE, None),
    ],
)
def test_due_at(workshop: Workshop, now: datetime, due: datetime | None) -> None:
    assert lifecycle.due_at(workshop, now) == due


@pytest.mark.parametrize("role", [Role.LEARNER, Role.INSTRUCTOR])
@pytest.mark.parametrize("state", [S.OPEN, S.CLOSING])
def test_the_enrolled_start_seats_until_the_end(state: State, role: Role) -> None:
    workshop = _in(state, prepared=True)
    assert lifecycle.may_start_seat(workshop, role, END - TICK) is None
    assert "time is over" in str(lifecycle.may_start_seat(workshop, role, END))


def test_instructors_start_as_soon_as_it_is_prepared_learners_at_the_opening() -> None:
    ready, unready = _in(S.PREPARING, prepared=True), _in(S.PREPARING)
    before = NOON - timedelta(minutes=5)
    assert lifecycle.may_start_seat(ready, Role.INSTRUCTOR, before) is None
    assert "opens at 2030-05-06 12:00 UTC" in str(lifecycle.may_start_seat(ready, Role.LEARNER, before))
    assert lifecycle.may_start_seat(ready, Role.LEARNER, NOON) is None
    assert "still being prepared" in str(lifecycle.may_start_seat(unready, Role.INSTRUCTOR, before))
    assert "still being prepared" in str(lifecycle.may_start_seat(unready, Role.LEARNER, NOON))
    assert "opens at" in str(lifecycle.may_start_seat(_in(S.SCHEDULED), Role.INSTRUCTOR, before))


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("now", [LEAD, NOON, WARNING, END, PURGE])
def test_nobody_starts_a_seat_without_a_place(state: State, now: datetime) -> None:
    assert lifecycle.may_start_seat(_in(state, prepared=True), None, now) is not None


@pytest.mark.parametrize("state", [S.EXPIRED, S.CANCELLED, S.PURGED])
@pytest.mark.parametrize("role", Role)
def test_nobody_starts_a_seat_or_joins_when_it_is_over(state: State, role: Role) -> None:
    workshop = _in(state, prepared=True)
    assert lifecycle.may_start_seat(workshop, role, NOON) is not None
    assert lifecycle.may_join(workshop, NOON) is not None


def test_a_plan_is_filled_from_the_template() -> None:
    plan = lifecycle.planned(a_new_workshop(retention_s=None), NOON)
    assert plan.expires_at == NOON + timedelta(hours=4)
    assert plan.deadline == NOON + timedelta(hours=48)
    assert plan.purge_at == plan.expires_at + timedelta(days=14)
    capped = lifecycle.planned(a_new_workshop(deadline=NOON + timedelta(hours=3)), NOON)
    assert capped.expires_at == capped.deadline == NOON + timedelta(hours=3)


@pytest.mark.parametrize(
    ("expires_at", "says"),
    [(NOON, "not after the opening"), (NOON + timedelta(hours=49), "deadline"), (END, "not in the future")],
)
def test_a_plan_that_cant_be_is_refused(expires_at: datetime, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        lifecycle.planned(a_new_workshop(expires_at=expires_at, template=a_template()), END)
    assert refused.value.field == "/expires_at"


def test_an_extension_moves_the_end_and_the_purge_and_reopens() -> None:
    later = lifecycle.extended(_in(S.CLOSING, prepared=True), END + timedelta(hours=1), WARNING)
    assert (later.state, later.expires_at, later.purge_at) == (
        S.OPEN,
        END + timedelta(hours=1),
        PURGE + timedelta(hours=1),
    )


@pytest.mark.parametrize(
    ("new_end", "says"),
    [
        (NOON + timedelta(hours=48) + TICK, "deadline"),
        (NOON, "not after the opening"),
        (NOON + timedelta(hours=1), "not in the future"),
        (datetime(2030, 5, 6, 18), "no offset"),
    ],
)
def test_an_extension_that_cant_be_is_refused(new_end: datetime, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        lifecycle.extended(_in(S.OPEN), new_end, NOON + timedelta(hours=2))


def test_ending_early_is_expiry_now() -> None:
    now = NOON + timedelta(hours=1)
    over = lifecycle.ended(_in(S.OPEN, prepared=True), now)
    assert over.expires_at == now and over.purge_at == now + timedelta(days=1) and over.ended_early
    assert lifecycle.effective_state(over, now) is S.EXPIRED
    with pytest.raises(WrongState, match="Cancel it instead"):
        lifecycle.ended(_in(S.PREPARING), NOON)


def test_a_cancelled_workshop_keeps_its_data_and_its_page_until_its_planned_end() -> None:
    now = NOON + timedelta(hours=1)
    soon = _in(S.OPEN, prepared=True)
    assert lifecycle.cancelled(soon, now).purge_at == max(now + timedelta(days=1), soon.expires_at)
    far = _in(S.SCHEDULED).model_copy(update={"expires_at": NOON + timedelta(days=60)})
    cancelled = lifecycle.cancelled(far, now)
    assert cancelled.purge_at == far.expires_at and lifecycle.next_moves(cancelled, now) == []
    assert lifecycle.next_moves(cancelled, far.expires_at) == [S.PURGED]


CHANGES: list[Callable[[Workshop, datetime], Workshop]] = [
    lambda workshop, now: lifecycle.extended(workshop, now + timedelta(hours=1), now),
    lifecycle.ended,
    lifecycle.cancelled,
    lifecycle.prepared,
    lambda workshop, now: lifecycle.reseated(workshop, 9, 0, now),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("workshop", [_in(S.EXPIRED), _in(S.CANCELLED), _in(S.PURGED), _in(S.SCHEDULED), _in(S.OPEN)])
def test_nothing_changes_after_the_end(change: Callable[[Workshop, datetime], Workshop], workshop: Workshop) -> None:
    with pytest.raises(WrongState):
        change(workshop, END)


@given(st.sampled_from(State), st.sampled_from(State), st.booleans(), st.integers(-30, 60))
def test_only_the_first_due_move_is_made(state: State, to: State, prepared: bool, hours: int) -> None:
    workshop, now = _in(state, prepared=prepared), NOON + timedelta(hours=hours)
    due = lifecycle.next_moves(workshop, now)
    if to is state:
        assert lifecycle.moved(workshop, to, now) is workshop
    elif due[:1] == [to] and to is not S.PURGED:
        assert lifecycle.moved(workshop, to, now).state is to
    else:
        with pytest.raises(WrongState):
            lifecycle.moved(workshop, to, now)


@given(st.sampled_from(State), st.booleans(), st.integers(-60, 300) | st.integers(-3000, 6000))
def test_what_holds_agrees_with_what_would_be_written(state: State, prepared: bool, minutes: int) -> None:
    assume(not (state is S.SCHEDULED and prepared))  # there is no such workshop
    workshop, now = _in(state, prepared=prepared), NOON + timedelta(minutes=minutes)
    written = [workshop.state, *(move for move in lifecycle.next_moves(workshop, now) if move is not S.PURGED)][-1]
    holds = lifecycle.effective_state(workshop, now)
    assert holds is written or (written is S.PREPARING and holds is S.SCHEDULED)


@given(st.sampled_from(State), st.booleans(), st.integers(-3000, 6000))
def test_nothing_happens_between_now_and_the_next_date(state: State, prepared: bool, minutes: int) -> None:
    workshop, now = _in(state, prepared=prepared), NOON + timedelta(minutes=minutes)
    due = lifecycle.due_at(workshop, now)
    assert due is None or due >= now
    if due is not None and due > now:
        assert lifecycle.next_moves(workshop, due - TICK) == []


class Life(RuleBasedStateMachine):
    """Anything people and the reconciler may try, in any order, by pure functions."""

    def __init__(self) -> None:
        super().__init__()
        self.workshop = a_workshop()
        self.now = NOON - timedelta(days=1)
        self.was_over = False
        self.was_purged = False

    def _try(self, change: Callable[[Workshop, datetime], Workshop]) -> None:
        try:
            self.workshop = change(self.workshop, self.now)
        except OrchestraError:
            return

    @rule(minutes=st.sampled_from([1, 10, 200, 1500]))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(hours=st.integers(-2, 60))
    def extend(self, hours: int) -> None:
        self._try(lambda was, now: lifecycle.extended(was, now + timedelta(hours=hours), now))

    @rule(change=st.sampled_from([lifecycle.ended, lifecycle.cancelled, lifecycle.prepared]))
    def change(self, change: Callable[[Workshop, datetime], Workshop]) -> None:
        self._try(change)

    @rule(to=st.sampled_from(State))
    def move_anywhere(self, to: State) -> None:
        self.move_to(to)

    @rule()
    def reconcile(self) -> None:
        for state in lifecycle.next_moves(self.workshop, self.now):
            if state is not S.PURGED:
                self.move_to(state)

    def move_to(self, state: State) -> None:
        self._try(lambda was, now: lifecycle.moved(was, state, now))

    @rule()
    @precondition(lambda self: not self.was_purged)
    def purge(self) -> None:
        self._try(lambda was, now: lifecycle.purged(was, {}, {}, now))

    @invariant()
    def the_promises_hold(self) -> None:
        assert self.workshop.expires_at <= self.workshop.deadline
        state = lifecycle.effective_state(self.workshop, self.now)
        self.was_purged |= self.workshop.state is S.PURGED
        assert not self.was_purged or state is S.PURGED
        over = state in (S.EXPIRED, S.CANCELLED, S.PURGED)
        assert over or not self.was_over
        self.was_over |= over
        if over:
            assert all(lifecycle.may_start_seat(self.workshop, role, self.now) for role in Role)
        if self.workshop.state is S.PURGED:
            assert self.workshop.owner is None and self.workshop.purge_at <= self.now


TestLife = Life.TestCase
