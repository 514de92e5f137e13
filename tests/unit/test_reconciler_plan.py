"""What the reconciler decides, without anything to act on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from orchestra_hub.hub_api import HubGroup, SeatStatus
from orchestra_hub.workshop import Enrolment, Role, State, Workshop, facts_of
from orchestra_services.reconciler import plan
from tests.unit.workshops import NOON, a_workshop, account


def place(name: str, *, role: Role = Role.LEARNER, in_hub: bool = True, life: int = 1) -> Enrolment:
    key = account(name, life).key
    return Enrolment(workshop_id="w", user_name=name, account_key=key, role=role, joined_at=NOON, in_hub=in_hub)


def seat(name: str, *, active: bool = True, pending: str | None = None, life: int = 1) -> SeatStatus:
    key = account(name, life).key
    return SeatStatus(name, key, "w", active, pending, not active, NOON, NOON, "http://seat/", None)


def group(workshop: Workshop, *members: str, instructors: tuple[str, ...] = ()) -> HubGroup:
    keys = [account(name).key for name in instructors]
    return HubGroup(workshop.id, frozenset(members), facts_of(workshop, keys))


def seen(
    group: HubGroup | None, *, seats: tuple[SeatStatus, ...] = (), places: tuple[Enrolment, ...] = (), **accounts: Any
) -> plan.Seen:
    return plan.Seen(group, seats, places, accounts)


OPEN = a_workshop(state=State.OPEN, prepared_at=NOON)
DURING = NOON + timedelta(hours=1)
AFTER = NOON + timedelta(hours=5)
AT_PURGE = NOON + timedelta(days=2)


def test_nothing_to_do() -> None:
    places = (place("ada"), place("grace", role=Role.INSTRUCTOR))
    as_it_should_be = seen(group(OPEN, "ada", "grace", instructors=("grace",)), seats=(seat("ada"),), places=places)
    assert plan.plan(OPEN, as_it_should_be, DURING) == []


def test_the_group_is_made_again_and_everybody_added_again() -> None:
    places = (place("ada"), place("bob", in_hub=False))
    steps = plan.plan(OPEN, seen(None, places=places, ada=account("ada").key, bob=account("bob").key), DURING)
    assert steps == [
        plan.EnsureGroup(facts_of(OPEN, [])), plan.AddMembers(("ada", "bob")), plan.NoteMembers((places[1],)),
    ]  # fmt: skip


def test_changed_facts_are_written_and_name_the_instructors() -> None:
    old = group(OPEN.model_copy(update={"expires_at": DURING}), "grace")
    steps = plan.plan(OPEN, seen(old, places=(place("grace", role=Role.INSTRUCTOR),)), DURING)
    assert steps == [plan.WriteFacts(facts_of(OPEN, [account("grace").key]))]


def test_damaged_facts_are_written_anew() -> None:
    assert plan.plan(OPEN, seen(HubGroup(OPEN.id, frozenset(), None)), DURING) == [plan.WriteFacts(facts_of(OPEN, []))]


def test_who_is_not_enrolled_leaves_the_group_and_their_seat_stops() -> None:
    steps = plan.plan(OPEN, seen(group(OPEN, "ada", "eve"), seats=(seat("eve"),), places=(place("ada"),)), DURING)
    assert steps == [plan.RemoveMembers(("eve",)), plan.StopSeats(("eve",))]


def test_a_stopped_seat_of_somebody_else_is_left_alone() -> None:
    assert plan.plan(OPEN, seen(group(OPEN), seats=(seat("eve", active=False),)), DURING) == []


def test_a_starting_seat_counts_as_running() -> None:
    starting = seat("eve", active=False, pending="spawn")
    assert plan.plan(OPEN, seen(group(OPEN), seats=(starting,)), DURING) == [plan.StopSeats(("eve",))]


@pytest.mark.parametrize("key", [None, account("ada", life=2).key])
def test_an_enrolment_whose_account_is_gone_or_another_is_removed(key: str | None) -> None:
    steps = plan.plan(OPEN, seen(group(OPEN), places=(place("ada"),), ada=key), DURING)
    assert steps == [plan.DropEnrolments((place("ada"),))]


def test_a_name_used_again_inherits_neither_place_nor_seat() -> None:
    """Somebody put the new account into the group by hand, and its seat runs."""
    again = seat("ada", life=2)
    steps = plan.plan(
        OPEN, seen(group(OPEN, "ada"), seats=(again,), places=(place("ada"),), ada=again.account_key), DURING
    )
    assert steps == [plan.DropEnrolments((place("ada"),)), plan.RemoveMembers(("ada",)), plan.StopSeats(("ada",))]


def test_only_those_outside_the_group_are_looked_up() -> None:
    places = [place("ada"), place("bob"), place("cy", in_hub=False)]
    assert plan.to_look_up(group(OPEN, "ada", "eve"), places) == ["bob", "cy"]
    assert plan.to_look_up(None, places) == ["ada", "bob", "cy"]


def test_preparing_comes_after_the_hub_knows() -> None:
    preparing = a_workshop(state=State.PREPARING)
    assert plan.plan(preparing, seen(None), NOON) == [plan.EnsureGroup(facts_of(preparing, [])), plan.Prepare()]


@pytest.mark.parametrize(
    ("state", "prepared", "now", "to"),
    [
        (State.SCHEDULED, False, NOON - timedelta(hours=1), None),
        (State.SCHEDULED, False, NOON, State.PREPARING),
        (State.PREPARING, False, NOON, None),
        (State.PREPARING, True, NOON, State.OPEN),
        (State.PREPARING, False, AFTER, State.EXPIRED),
        (State.SCHEDULED, False, AT_PURGE, State.EXPIRED),
        (State.OPEN, True, AFTER, State.EXPIRED),
        (State.EXPIRED, True, AFTER, None),
        (State.EXPIRED, True, AT_PURGE, None),
        (State.CANCELLED, True, AT_PURGE, None),
        (State.PURGED, True, AT_PURGE, None),
    ],
)
def test_moves_are_written_before_anything_that_can_fail(
    state: State, prepared: bool, now: datetime, to: State | None
) -> None:
    assert plan.due_move(a_workshop(state=state, prepared_at=NOON if prepared else None), now) is to


@pytest.mark.parametrize("state", [State.EXPIRED, State.CANCELLED])
def test_at_the_end_every_seat_stops_and_the_group_stays(state: State) -> None:
    over = a_workshop(state=state, prepared_at=NOON)
    places = (place("ada"), place("grace", role=Role.INSTRUCTOR))
    held = group(over, "ada", "grace", instructors=("grace",))
    steps = plan.plan(over, seen(held, seats=(seat("ada"), seat("grace")), places=places), AFTER)
    assert steps == [plan.StopSeats(("ada", "grace"))]


@pytest.mark.parametrize("state", [State.EXPIRED, State.CANCELLED])
def test_a_purge_takes_servers_first_and_is_recorded_last(state: State) -> None:
    over = a_workshop(state=state)
    steps = plan.plan(over, seen(group(over, "ada"), seats=(seat("ada", active=False),)), AT_PURGE)
    assert steps == [plan.ForgetSeats(("ada",)), plan.DeleteGroup(), plan.PurgeFiles(), plan.RecordPurge()]
    assert plan.plan(over, seen(None), AT_PURGE) == [plan.PurgeFiles(), plan.RecordPurge()]


def test_a_purged_workshop_is_left_in_peace() -> None:
    gone = a_workshop(state=State.PURGED)
    assert plan.plan(gone, seen(None, seats=(seat("ada"),)), AT_PURGE) == []


def test_retries_grow_and_stay_bounded() -> None:
    delays = [plan.retry_delay_s(attempts, 2, 300) for attempts in (1, 2, 3, 8, 9, 10_000)]
    assert delays == [2, 4, 8, 256, 300, 300]
