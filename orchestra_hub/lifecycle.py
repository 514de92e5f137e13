"""The life of a workshop: what holds at a moment, what comes next, what people may change. Pure: no clock, no I/O.

```
scheduled ─→ preparing ─→ open ⇄ closing ─→ expired ─→ purged
    └────────────┴──────────┴───────┴─────────↗  │        ↑
    └────────────┴──────────┴───────┴──→ cancelled ───────┘
```

Guarantees:

- `expires_at` holds to the instant, whatever the written state says: at and after it nobody starts a seat.
- `expires_at` never passes `deadline`, by any function here.
- Nothing leaves `purged`; only `purged()` leads there, and only from `expired` or `cancelled` at or after `purge_at`.
- A workshop that never got ready expires like any other.
- Moves are decided from the dates alone, so a platform that was down for a week catches up in one pass.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from orchestra_hub.dates import in_utc, told
from orchestra_hub.errors import InvalidInput, WrongState
from orchestra_hub.workshop import NewWorkshop, Role, State, Workshop

__all__ = [
    "LIVING",
    "Dated",
    "Plan",
    "cancelled",
    "due_at",
    "effective_state",
    "ended",
    "extended",
    "may_join",
    "may_start_seat",
    "moved",
    "next_change",
    "next_date",
    "next_moves",
    "planned",
    "prepared",
    "purged",
    "reseated",
]

LIVING = frozenset({State.SCHEDULED, State.PREPARING, State.OPEN, State.CLOSING})
"""The states before the end: these expire, can be cancelled, and can be joined."""


class Dated(Protocol):
    """What `Workshop` and `WorkshopFacts` have in common; all that deciding about a moment takes."""

    @property
    def state(self) -> State: ...
    @property
    def opens_at(self) -> datetime: ...
    @property
    def expires_at(self) -> datetime: ...
    @property
    def warning_s(self) -> int: ...
    @property
    def prepared(self) -> bool: ...


class Plan(NamedTuple):
    """The dates of a workshop to be made."""

    opens_at: datetime
    expires_at: datetime
    deadline: datetime
    purge_at: datetime
    retention_s: int


def planned(new: NewWorkshop, now: datetime) -> Plan:
    """The dates `new` asks for, filled from its template.

    Raises `InvalidInput` when the end is not after the opening, in the past, or past the deadline: the template's
    `max_duration_h` after the opening, or the platform's cap if that is earlier.
    """
    opens_at = in_utc(new.opens_at, field="/opens_at")
    deadline = opens_at + timedelta(hours=new.template.max_duration_h)
    if new.deadline is not None:
        deadline = min(deadline, in_utc(new.deadline))
    if new.expires_at is None:
        expires_at = min(opens_at + timedelta(hours=new.template.default_duration_h), deadline)
    else:
        expires_at = in_utc(new.expires_at, field="/expires_at")
    _check_end(expires_at, opens_at, deadline, now)
    retention_s = round(new.template.retention_d * 86_400) if new.retention_s is None else new.retention_s
    return Plan(opens_at, expires_at, deadline, expires_at + timedelta(seconds=retention_s), retention_s)


def _check_end(expires_at: datetime, opens_at: datetime, deadline: datetime, now: datetime) -> None:
    def refuse(why: str) -> InvalidInput:
        return InvalidInput(f"The end {told(expires_at)} was refused: {why}", field="/expires_at")

    if expires_at <= opens_at:
        raise refuse(f"it is not after the opening, {told(opens_at)}. Choose a later end.")
    if expires_at > deadline:
        raise refuse(f"no workshop of this kind lasts past its deadline, {told(deadline)}. Choose an earlier end.")
    if expires_at <= now:
        raise refuse(f"it is not in the future (it is {told(now)}). Choose a later end.")


def effective_state(workshop: Dated, now: datetime) -> State:
    """The state that holds at `now`, even if nobody has written it yet.

    `expired` from `expires_at` on; `open` from `opens_at` on once everything is prepared; `closing` for the last
    `warning_s` of it. `preparing` and `purged` hold when they are written: they are work done, not dates passed.
    """
    if workshop.state not in LIVING:
        return workshop.state
    if now >= workshop.expires_at:
        return State.EXPIRED
    opened = workshop.state in (State.OPEN, State.CLOSING)
    if opened or (workshop.state is State.PREPARING and workshop.prepared and now >= workshop.opens_at):
        return State.CLOSING if now >= _warns_at(workshop) else State.OPEN
    return workshop.state


def next_change(workshop: Dated, now: datetime) -> datetime | None:
    """The first date after `now` at which `effective_state` may become another one by the clock; None if never."""
    if workshop.state not in LIVING:
        return None
    dates = (workshop.opens_at, _warns_at(workshop), workshop.expires_at)
    return min((date for date in dates if date > now), default=None)


def _warns_at(workshop: Dated) -> datetime:
    return workshop.expires_at - timedelta(seconds=workshop.warning_s)


_OVER = {
    State.EXPIRED: "This workshop's time is over.",
    State.CANCELLED: "This workshop was cancelled.",
    State.PURGED: "This workshop is over and its data is gone.",
}


def may_join(workshop: Dated, now: datetime) -> str | None:
    """None if people can be enrolled at `now`; otherwise the sentence that says why not."""
    return _OVER.get(effective_state(workshop, now))


def may_start_seat(workshop: Dated, role: Role | None, now: datetime) -> str | None:
    """None if a person of `role` (None: not enrolled) may start a seat at `now`; otherwise why not, as a sentence."""
    state = effective_state(workshop, now)
    if state in _OVER:
        return f"{_OVER[state]} Seats can't be started any more."
    if role is None:
        return "You are not enrolled in this workshop."
    if state in (State.OPEN, State.CLOSING):
        return None
    if role is Role.INSTRUCTOR and workshop.prepared:
        return None
    if now < workshop.opens_at and (role is Role.LEARNER or state is State.SCHEDULED):
        return f"This workshop is not open yet: it opens at {told(workshop.opens_at)}."
    return "This workshop is still being prepared. Try again in a minute."


def next_moves(workshop: Workshop, now: datetime) -> list[State]:
    """The transitions due at `now`, in order; several if the workshop was left alone for long.

    The end comes before everything else: a workshop past `expires_at` moves straight to `expired`. `purged` stands
    last once `purge_at` has passed: it means "purge now", then `purged()` (in the store: `record_purge`).
    """
    moves: list[State] = []
    state = workshop.state
    while (following := _next_state(workshop, state, now)) is not None:
        moves.append(following)
        state = following
    return moves


def _next_state(workshop: Workshop, state: State, now: datetime) -> State | None:
    if state in LIVING and now >= workshop.expires_at:
        return State.EXPIRED
    match state:
        case State.SCHEDULED if now >= workshop.opens_at - timedelta(seconds=workshop.lead_time_s):
            return State.PREPARING
        case State.PREPARING if workshop.prepared and now >= workshop.opens_at:
            return State.OPEN
        case State.OPEN if now >= _warns_at(workshop):
            return State.CLOSING
        case State.CLOSING if now < _warns_at(workshop):
            return State.OPEN
        case State.EXPIRED | State.CANCELLED if now >= workshop.purge_at:
            return State.PURGED
        case _:
            return None


def next_date(workshop: Workshop, now: datetime) -> datetime | None:
    """The first date after `now` at which something changes by itself; None if there is none."""
    match workshop.state:
        case State.SCHEDULED:
            dates = [workshop.opens_at - timedelta(seconds=workshop.lead_time_s), workshop.expires_at]
        case State.PREPARING:
            dates = [workshop.opens_at, workshop.expires_at]
        case State.OPEN | State.CLOSING:
            dates = [_warns_at(workshop), workshop.expires_at]
        case State.EXPIRED | State.CANCELLED:
            dates = [workshop.purge_at]
        case _:
            dates = []
    return min((date for date in dates if date > now), default=None)


def due_at(workshop: Workshop, now: datetime) -> datetime | None:
    """When the reconciler must look next: `now` if there is work already, None if never again.

    Work is a move that is due, or things to be made in `preparing`.
    """
    to_prepare = workshop.state is State.PREPARING and not workshop.prepared
    return now if to_prepare or next_moves(workshop, now) else next_date(workshop, now)


def _changed(workshop: Workshop, **changes: Any) -> Workshop:
    return workshop.model_copy(update=changes)


def _must_live(workshop: Workshop, now: datetime, what: str) -> None:
    state = effective_state(workshop, now)
    if state in _OVER:
        raise WrongState(f"{workshop.id} can't be {what}: it is {state.value}.")


def extended(workshop: Workshop, new_expires_at: datetime, now: datetime) -> Workshop:
    """`workshop` with another end; `purge_at` moves along.

    Raises `InvalidInput` for an end in the past, not after the opening, or past the deadline; `WrongState` once the
    workshop is expired, cancelled or purged.
    """
    _must_live(workshop, now, "extended")
    expires_at = in_utc(new_expires_at, field="/expires_at")
    _check_end(expires_at, workshop.opens_at, workshop.deadline, now)
    purge_at = expires_at + timedelta(seconds=workshop.retention_s)
    changed = _changed(workshop, expires_at=expires_at, purge_at=purge_at)
    if changed.state in (State.OPEN, State.CLOSING):
        changed = _changed(changed, state=effective_state(changed, now))
    return changed


def ended(workshop: Workshop, now: datetime) -> Workshop:
    """`workshop` with its end at `now`; the reconciler then expires it as it would at any other end.

    Raises `WrongState` before the opening (cancel it instead) and after the end.
    """
    _must_live(workshop, now, "ended")
    if now <= workshop.opens_at:
        raise WrongState(f"{workshop.id} can't be ended: it has not opened yet. Cancel it instead.")
    purge_at = now + timedelta(seconds=workshop.retention_s)
    return _changed(workshop, expires_at=now, purge_at=purge_at, ended_early=True)


def cancelled(workshop: Workshop, now: datetime) -> Workshop:
    """`workshop` cancelled; its data and its page are kept for `retention_s`, and at least until its planned end, so
    that whoever opens the link on the day learns that it was cancelled.

    Raises `WrongState` once it is expired, cancelled or purged.
    """
    _must_live(workshop, now, "cancelled")
    purge_at = max(now + timedelta(seconds=workshop.retention_s), workshop.expires_at)
    return _changed(workshop, state=State.CANCELLED, cancelled_at=now, purge_at=purge_at)


def reseated(workshop: Workshop, seats: int, taken: int, now: datetime) -> Workshop:
    """`workshop` with `seats` learners' places, of which `taken` are taken.

    Raises `InvalidInput` for fewer than are taken, `WrongState` once it is expired, cancelled or purged.
    """
    _must_live(workshop, now, "given other seats")
    if seats < max(1, taken):
        raise InvalidInput(
            f"{seats} seats were refused: {taken} learners are enrolled. Choose at least {max(1, taken)}.",
            field="/seats",
        )
    return _changed(workshop, seats=seats)


def prepared(workshop: Workshop, now: datetime) -> Workshop:
    """`workshop` with everything made that a seat needs; raises `WrongState` unless it is in `preparing`."""
    if workshop.state is not State.PREPARING or now >= workshop.expires_at:
        raise WrongState(
            f"{workshop.id} can't be marked as prepared: it is {effective_state(workshop, now).value}, not preparing."
        )
    return workshop if workshop.prepared else _changed(workshop, prepared_at=now)


def moved(workshop: Workshop, to: State, now: datetime) -> Workshop:
    """`workshop` in the state `to`; raises `WrongState` unless that is the first of its `next_moves`.

    The same state again changes nothing. `purged` is refused: `purged()` is the only way there.
    """
    if to is workshop.state:
        return workshop
    if to is State.PURGED or next_moves(workshop, now)[:1] != [to]:
        raise WrongState(f"{workshop.id} can't move from {workshop.state.value} to {to.value} at {told(now)}.")
    return _changed(workshop, state=to)


def purged(workshop: Workshop, record: dict[str, Any], statistics: dict[str, int], now: datetime) -> Workshop:
    """`workshop` without anything personal, after its data was seen to be gone: `record` says how.

    Raises `WrongState` unless it is expired or cancelled and `purge_at` has passed.
    """
    if next_moves(workshop, now) != [State.PURGED]:
        raise WrongState(
            f"{workshop.id} can't be purged: it is {workshop.state.value} until {told(workshop.purge_at)}."
        )
    nobody: dict[str, Any] = {"owner": None, "owner_key": None, "teacher": "", "join_code": None, "trouble": None}
    return _changed(
        workshop, state=State.PURGED, purge_record=record, statistics=statistics, attempts=0, due_at=None, **nobody
    )
