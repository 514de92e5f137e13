"""What is to be done for one workshop, from what should be and what was seen. Pure.

Level-triggered: nothing here knows what was done before. The same plan done twice, or broken off and made anew, ends
the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from orchestra_hub.hub_api import HubGroup, SeatStatus
from orchestra_hub.lifecycle import LIVING, next_moves
from orchestra_hub.workshop import Enrolment, Role, State, Workshop, WorkshopFacts, facts_of

__all__ = [
    "AddMembers",
    "DeleteGroup",
    "DropEnrolments",
    "EnsureGroup",
    "ForgetSeats",
    "NoteMembers",
    "Prepare",
    "PrepareAgain",
    "PurgeFiles",
    "RecordPurge",
    "RemoveMembers",
    "Seen",
    "Step",
    "StopSeats",
    "WriteFacts",
    "due_move",
    "needs_resources",
    "plan",
    "retry_delay_s",
    "to_look_up",
]


@dataclass(frozen=True)
class Seen:
    """What was found. `accounts` has the key of accounts that were looked up, None for those that are gone;
    `stands` is whether what seats need is there, as far as it was looked for."""

    group: HubGroup | None
    seats: tuple[SeatStatus, ...]
    enrolments: tuple[Enrolment, ...]
    accounts: Mapping[str, str | None]
    stands: bool = True


@dataclass(frozen=True)
class EnsureGroup:
    """Make the Hub group, with its facts."""

    facts: WorkshopFacts


@dataclass(frozen=True)
class WriteFacts:
    """Write the facts into the Hub group."""

    facts: WorkshopFacts


@dataclass(frozen=True)
class DropEnrolments:
    """Remove enrolments whose account is gone or was replaced by another of the same name."""

    enrolments: tuple[Enrolment, ...]


@dataclass(frozen=True)
class AddMembers:
    """Put enrolled people into the Hub group."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class NoteMembers:
    """Note in the store that the Hub group has them."""

    enrolments: tuple[Enrolment, ...]


@dataclass(frozen=True)
class RemoveMembers:
    """Take people who aren't enrolled out of the Hub group."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class StopSeats:
    """Stop these people's seats and see that they are stopped."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Prepare:
    """Make everything a seat needs."""


@dataclass(frozen=True)
class PrepareAgain:
    """Make again what a seat needs: it is no longer there."""


@dataclass(frozen=True)
class ForgetSeats:
    """Stop these people's seats and remove them from the hub."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class DeleteGroup:
    """Delete the Hub group."""


@dataclass(frozen=True)
class PurgeFiles:
    """Remove the workshop's resources."""


@dataclass(frozen=True)
class RecordPurge:
    """Look again that everything is gone, then write it down."""


Step: TypeAlias = (
    EnsureGroup
    | WriteFacts
    | DropEnrolments
    | AddMembers
    | NoteMembers
    | RemoveMembers
    | StopSeats
    | Prepare
    | PrepareAgain
    | ForgetSeats
    | DeleteGroup
    | PurgeFiles
    | RecordPurge
)


def due_move(workshop: Workshop, now: datetime) -> State | None:
    """The state to be written at once, before anything that can fail is tried; never `purged`, which is work."""
    moves = next_moves(workshop, now)
    return moves[0] if moves and moves[0] is not State.PURGED else None


def to_look_up(group: HubGroup | None, enrolments: Iterable[Enrolment]) -> list[str]:
    """The enrolled names whose account has to be looked up: the hub drops a deleted user from every group, so only
    those who aren't in the group can be gone or replaced."""
    members = group.members if group is not None else frozenset()
    return [enrolment.user_name for enrolment in enrolments if enrolment.user_name not in members]


def plan(workshop: Workshop, seen: Seen, now: datetime) -> list[Step]:
    """The steps, in order, once no `due_move` is left. Empty: everything is as it should be."""
    if workshop.state is State.PURGED:
        return []
    if next_moves(workshop, now)[:1] == [State.PURGED]:
        return _purge(seen)
    gone = tuple(enrolment for enrolment in seen.enrolments if _is_gone(enrolment, seen.accounts))
    enrolled = [enrolment for enrolment in seen.enrolments if enrolment not in gone]
    steps: list[Step] = [DropEnrolments(gone)] if gone else []
    steps += _group_steps(workshop, seen, enrolled)
    steps += _seat_steps(workshop, seen, enrolled)
    if workshop.state is State.PREPARING and not workshop.prepared:
        steps.append(Prepare())
    elif needs_resources(workshop) and not seen.stands:
        steps.append(PrepareAgain())
    return steps


def needs_resources(workshop: Workshop) -> bool:
    """Whether seats may be in it, so that what they need has to be there."""
    return workshop.prepared and workshop.state in (State.PREPARING, State.OPEN, State.CLOSING)


def _is_gone(enrolment: Enrolment, accounts: Mapping[str, str | None]) -> bool:
    name = enrolment.user_name
    return name in accounts and accounts[name] != enrolment.account_key


def _group_steps(workshop: Workshop, seen: Seen, enrolled: list[Enrolment]) -> list[Step]:
    steps: list[Step] = []
    facts = facts_of(workshop, [place.account_key for place in enrolled if place.role is Role.INSTRUCTOR])
    if seen.group is None:
        steps.append(EnsureGroup(facts))
    elif seen.group.facts != facts:
        steps.append(WriteFacts(facts))
    members = seen.group.members if seen.group is not None else frozenset()
    names = {place.user_name for place in enrolled}
    if to_add := names - members:
        steps.append(AddMembers(tuple(sorted(to_add))))
    if unnoted := sorted((place for place in enrolled if not place.in_hub), key=lambda place: place.user_name):
        steps.append(NoteMembers(tuple(unnoted)))
    if to_remove := members - names:
        steps.append(RemoveMembers(tuple(sorted(to_remove))))
    return steps


def _seat_steps(workshop: Workshop, seen: Seen, enrolled: list[Enrolment]) -> list[Step]:
    keys = {place.account_key for place in enrolled} if workshop.state in LIVING else set()
    to_stop = tuple(seat.user for seat in seen.seats if seat.active and seat.account_key not in keys)
    return [StopSeats(to_stop)] if to_stop else []


def _purge(seen: Seen) -> list[Step]:
    steps: list[Step] = []
    if seen.seats:
        steps.append(ForgetSeats(tuple(seat.user for seat in seen.seats)))
    if seen.group is not None:
        steps.append(DeleteGroup())
    return [*steps, PurgeFiles(), RecordPurge()]


def retry_delay_s(attempts: int, first_s: float, most_s: float) -> float:
    """How long to wait after the `attempts`-th failure in a row: `first_s`, doubling, at most `most_s`."""
    return min(most_s, first_s * 2.0 ** min(attempts - 1, 30))
