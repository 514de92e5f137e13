"""No order of events breaks the promises: people, the reconciler and time against a real store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.strategies import booleans, integers, sampled_from

from orchestra_hub import lifecycle
from orchestra_hub.errors import OrchestraError
from orchestra_hub.store import Event, Store
from orchestra_hub.workshop import Account, Role, State
from tests.unit.workshops import NOON, SettableClock, a_new_workshop, account

PEOPLE = [account(name, life) for name in ("ada", "bob", "cy", "dee", "eve") for life in (1, 2)]
SEATS = 2


class Platform(RuleBasedStateMachine):
    """One workshop with two learners' places, in a store in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = SettableClock(NOON - timedelta(hours=1))
        self.store = Store.open("sqlite://", clock=self.clock)
        self.id = self.store.create_workshop(a_new_workshop(seats=SEATS), b"", "system").id
        self.over = False
        self.purged = False
        self.history: list[Event] = []
        self.fence = 0
        self.lead()

    def teardown(self) -> None:
        self.store.close()

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OrchestraError:
            return

    @rule(minutes=sampled_from([1, 20, 230, 1500]))
    def time_passes(self, minutes: int) -> None:
        self.clock.forward(minutes=minutes)

    @rule(hours=integers(-1, 60))
    def extend(self, hours: int) -> None:
        self._try(lambda: self.store.extend(self.id, self.clock() + timedelta(hours=hours), "system"))

    @rule(early=booleans())
    def stop(self, early: bool) -> None:
        self._try(lambda: (self.store.end if early else self.store.cancel)(self.id, "system"))

    @rule(who=sampled_from(PEOPLE))
    def join(self, who: Account) -> None:
        self._try(lambda: self.store.enrol(self.id, who, actor=who.key))

    @rule(who=sampled_from(PEOPLE), role=sampled_from(Role))
    def put_on_the_roster(self, who: Account, role: Role) -> None:
        self._try(lambda: self.store.enrol(self.id, who, role, by_roster=True, actor="system"))

    @rule(who=sampled_from(PEOPLE), role=sampled_from(Role))
    def come_by_invitation(self, who: Account, role: Role) -> None:
        self._try(
            lambda: self.store.enrol(
                self.id, who, invitation=self.store.invite(self.id, "x", role, "system").token, actor=who.key
            )
        )

    @rule(who=sampled_from(PEOPLE), role=sampled_from(Role))
    def set_role(self, who: Account, role: Role) -> None:
        self._try(lambda: self.store.set_role(self.id, who.name, role, "system"))

    @rule(who=sampled_from(PEOPLE))
    def leave(self, who: Account) -> None:
        self._try(lambda: self.store.remove_enrolment(self.id, who.name, who.key))

    @rule(seats=integers(0, 4))
    def set_seats(self, seats: int) -> None:
        self._try(lambda: self.store.set_seats(self.id, seats, "system"))

    @rule()
    def lead(self) -> None:
        lease = self.store.acquire_lease("reconciler", "one", 30)
        self.fence = self.fence if lease is None else lease.fence

    @rule(to=sampled_from(State))
    def move_anywhere(self, to: State) -> None:
        self._try(lambda: self.store.move(self.store.workshop(self.id), to, fence=self.fence))

    @rule()
    def mark_prepared(self) -> None:
        self._try(lambda: self.store.mark_prepared(self.id, fence=self.fence))

    @rule()
    def purge(self) -> None:
        self._try(lambda: self.store.record_purge(self.id, {}, fence=self.fence))

    @rule()
    def reconcile(self) -> None:
        for workshop in self.store.due(self.clock()):
            for state in lifecycle.next_moves(workshop, self.clock()):
                if state is State.PURGED:
                    self.purge()
                else:
                    self.move_anywhere(state)
            self.store.clear(self.store.workshop(self.id), fence=self.fence)

    @invariant()
    def the_promises_hold(self) -> None:
        workshop = self.store.workshop(self.id)
        people = self.store.enrolments(self.id)
        assert sum(one.role is Role.LEARNER for one in people) <= workshop.seats
        assert len({one.user_name for one in people}) == len(people)
        assert workshop.expires_at <= workshop.deadline
        state = lifecycle.effective_state(workshop, self.clock())
        self.purged |= state is State.PURGED
        if self.purged:
            assert state is State.PURGED and not people and not self.store.invitations(self.id)
            assert workshop.due_at is None and workshop.owner is None
        is_over = state in (State.EXPIRED, State.CANCELLED, State.PURGED)
        assert is_over or not self.over
        self.over |= is_over

    @invariant()
    def what_is_due_is_not_forgotten(self) -> None:
        workshop = self.store.workshop(self.id)
        due = lifecycle.due_at(workshop, self.clock())
        assert due is None or (workshop.due_at is not None and workshop.due_at <= due)

    @invariant()
    def history_only_grows(self) -> None:
        events = self.store.events(limit=10_000)
        assert events[: len(self.history)] == self.history
        self.history = events


TestPlatform = Platform.TestCase
TestPlatform.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
