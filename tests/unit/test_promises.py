"""Whether a workshop fits beside what is promised: the decision, and the figures in its sentences."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestra_hub.promises import Capacity, promise_warnings
from orchestra_hub.templates import Resources
from orchestra_hub.workshop import State, Workshop
from tests.unit.workshops import NOON, a_template, a_workshop

GIB = 2**30


def machine(memory_gib: float = 24, disk_gib: float = 1000, free_gib: float = 1000) -> Capacity:
    return Capacity(round(memory_gib * GIB), round(disk_gib * GIB), round(free_gib * GIB))


def workshop(number: int = 0, seats: int = 29, memory: str = "2Gi", storage: str = "1Gi", **fields: Any) -> Workshop:
    template = a_template(resources=Resources(cpu=1, memory=memory, storage=storage))
    return a_workshop(id=f"counting-may-{number:06}", seats=seats, template=template, **fields)


def test_a_workshop_that_fits_is_not_warned_about() -> None:
    assert promise_warnings(workshop(seats=11), [], machine()) == [], "12 seats of 2 GiB in 24 GiB"
    assert promise_warnings(workshop(seats=11), [workshop(seats=11)], machine()) == [], "the same id is itself"


def test_memory_alone() -> None:
    (said,) = promise_warnings(workshop(), [], machine())
    assert said == (
        "Seats for 29 learners and 1 instructor of up to 2 GiB of memory are 60 GiB; the machine has 24 GiB. If they "
        "use all they may, seats wait, fail to start or are stopped."
    )


def test_memory_that_others_were_promised_at_that_time() -> None:
    others = [workshop(1, seats=2), workshop(2, seats=2)]
    (said,) = promise_warnings(workshop(seats=9), others, machine())
    assert "are 20 GiB; the machine has 24 GiB; 12 GiB are promised to 2 other workshops at that time." in said


@pytest.mark.parametrize(
    ("opens_in_h", "state", "counts"),
    [
        (0, State.OPEN, True),
        (3.9, State.SCHEDULED, True),
        (-3.9, State.CLOSING, True),
        (4, State.SCHEDULED, False),
        (-4, State.CLOSING, False),
        (0, State.EXPIRED, False),
        (0, State.CANCELLED, False),
        (0, State.PURGED, False),
    ],
)
def test_only_living_workshops_whose_time_overlaps_hold_memory(opens_in_h: float, state: State, counts: bool) -> None:
    opens_at = NOON + timedelta(hours=opens_in_h)
    other = workshop(1, seats=9, state=state, opens_at=opens_at, expires_at=opens_at + timedelta(hours=4))
    assert bool(promise_warnings(workshop(seats=9), [other], machine())) is counts


def test_workshops_one_after_the_other_are_not_added_up() -> None:
    def at(number: int, begin_h: float) -> Workshop:
        begin = NOON + timedelta(hours=begin_h)
        return workshop(number, seats=1, opens_at=begin, expires_at=begin + timedelta(hours=1))

    others = [at(1, 0), at(2, 1), at(3, 2)]
    assert promise_warnings(workshop(seats=9), others, machine()) == [], "20 GiB and never more than 4 GiB beside"
    (said,) = promise_warnings(workshop(seats=9), [*others, at(4, 1.5)], machine())
    assert "8 GiB are promised to 2 other workshops" in said


def test_disk_counts_until_the_files_are_gone() -> None:
    over = workshop(1, seats=19, state=State.EXPIRED, opens_at=NOON - timedelta(hours=9), expires_at=NOON)
    (said,) = promise_warnings(workshop(seats=9, memory="128Mi"), [over], machine(disk_gib=25, free_gib=12))
    assert said == (
        "Seats for 9 learners and 1 instructor of up to 1 GiB of files are 10 GiB; the disk has 25 GiB, 12 GiB free "
        "now; 20 GiB are promised to another workshop whose files are kept then. If they use all they may, the disk "
        "fills up and no seat starts until there is room."
    )
    gone = over.model_copy(update={"purge_at": NOON})
    assert promise_warnings(workshop(seats=9, memory="128Mi"), [gone], machine(disk_gib=25, free_gib=12)) == []


def test_a_disk_that_is_full_of_something_else() -> None:
    (said,) = promise_warnings(workshop(seats=9, memory="128Mi"), [], machine(free_gib=0.5))
    assert "the disk has 1000 GiB, 512 MiB free now." in said


def test_instructors_count() -> None:
    assert promise_warnings(workshop(seats=11), [], machine(), instructors=1) == []
    (said,) = promise_warnings(workshop(seats=11), [], machine(), instructors=3)
    assert "11 learners and 3 instructors of up to 2 GiB of memory are 28 GiB" in said


def test_what_is_over_is_not_warned_about() -> None:
    assert promise_warnings(workshop(state=State.EXPIRED), [], machine(memory_gib=1)) == []
