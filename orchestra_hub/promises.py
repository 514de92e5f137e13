"""Whether a workshop fits beside what is promised already: figures and sentences. Pure.

What a seat gets is a limit, nothing is set aside: most use less, so a workshop that doesn't fit is warned about, never
refused. Each workshop counts its learners' places and its instructors, at least one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestra_hub.lifecycle import LIVING
from orchestra_hub.workshop import State, Workshop

__all__ = ["Capacity", "promise_warnings"]

_KEPT = LIVING | {State.EXPIRED, State.CANCELLED}
"""The states in which a workshop's files are, or may come to be, on the disk."""


@dataclass(frozen=True)
class Capacity:
    """What the machine has for seats, in bytes. `disk` is that of the seats' files, `disk_free` what is free now."""

    memory_bytes: int
    disk_bytes: int
    disk_free_bytes: int


def promise_warnings(
    workshop: Workshop, others: Iterable[Workshop], capacity: Capacity, *, instructors: int = 1
) -> list[str]:
    """A sentence with the figures for memory and for disk where `workshop` doesn't fit; none where it does.

    `others` may have `workshop` itself among them, and ones that don't matter.
    """
    if workshop.state not in LIVING:
        return []
    others = [other for other in others if other.id != workshop.id]
    people = workshop.seats + max(1, instructors)
    found = [_memory_warning(workshop, others, capacity, people), _disk_warning(workshop, others, capacity, people)]
    return [sentence for sentence in found if sentence is not None]


def _memory_warning(workshop: Workshop, others: Sequence[Workshop], capacity: Capacity, people: int) -> str | None:
    each = workshop.template.resources.memory_bytes
    living = [other for other in others if other.state in LIVING]
    beside = _most_at_once(
        living, _memory, lambda one: (one.opens_at, one.expires_at), workshop.opens_at, workshop.expires_at
    )
    promised = sum(map(_memory, beside))
    if people * each + promised <= capacity.memory_bytes:
        return None
    return (
        f"{_seats(workshop, people)} of up to {_size(each)} of memory are {_size(people * each)}; the machine has "
        f"{_size(capacity.memory_bytes)}{_taken(promised, beside, 'at that time')}. If they use all they may, seats "
        "wait, fail to start or are stopped."
    )


def _disk_warning(workshop: Workshop, others: Sequence[Workshop], capacity: Capacity, people: int) -> str | None:
    each = workshop.template.resources.storage_bytes
    kept = [other for other in others if other.state in _KEPT]
    beside = _most_at_once(
        kept, _storage, lambda one: (one.opens_at, one.purge_at), workshop.opens_at, workshop.purge_at
    )
    promised = sum(map(_storage, beside))
    needed = people * each
    if needed + promised <= capacity.disk_bytes and needed <= capacity.disk_free_bytes:
        return None
    return (
        f"{_seats(workshop, people)} of up to {_size(each)} of files are {_size(needed)}; the disk has "
        f"{_size(capacity.disk_bytes)}, {_size(capacity.disk_free_bytes)} free now"
        f"{_taken(promised, beside, 'whose files are kept then')}. If they use all they may, the disk fills up and no "
        "seat starts until there is room."
    )


def _memory(workshop: Workshop) -> int:
    return (workshop.seats + 1) * workshop.template.resources.memory_bytes


def _storage(workshop: Workshop) -> int:
    return (workshop.seats + 1) * workshop.template.resources.storage_bytes


def _most_at_once(
    others: Sequence[Workshop],
    weight: Callable[[Workshop], int],
    span: Callable[[Workshop], tuple[datetime, datetime]],
    begin: datetime,
    end: datetime,
) -> list[Workshop]:
    """Those of `others` that stand together at the moment between `begin` and `end` at which they weigh most."""
    together = [other for other in others if span(other)[0] < end and begin < span(other)[1]]
    moments = {begin} | {span(other)[0] for other in together if span(other)[0] > begin}
    at = [[other for other in together if span(other)[0] <= moment < span(other)[1]] for moment in sorted(moments)]
    return max(at, key=lambda some: sum(map(weight, some)))


def _seats(workshop: Workshop, people: int) -> str:
    teachers = people - workshop.seats
    return f"Seats for {workshop.seats} learners and {teachers} instructor{'s' if teachers > 1 else ''}"


def _taken(promised: int, beside: Sequence[Workshop], when: str) -> str:
    if not beside:
        return ""
    others = "another workshop" if len(beside) == 1 else f"{len(beside)} other workshops"
    return f"; {_size(promised)} are promised to {others} {when}"


def _size(count_bytes: int) -> str:
    if count_bytes < 2**30:
        return f"{count_bytes / 2**20:.0f} MiB"
    size = f"{count_bytes / 2**30:.1f}"
    return f"{size.removesuffix('.0')} GiB"
