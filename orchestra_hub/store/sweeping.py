"""What the reconciler's sweep reads: outlines of everything, cheaply, and whole workshops with their places."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import String, select, type_coerce

from orchestra_hub.store.base import StorePart, to_enrolment
from orchestra_hub.store.models import EnrolmentRow, WorkshopRow
from orchestra_hub.store.reading import Damage, found
from orchestra_hub.workshop import Enrolment, State, Workshop

__all__ = ["Outline", "Sweeping", "Whole", "Wholes"]


@dataclass(frozen=True, slots=True)
class Outline:
    """As much of a row as tells whether it changed. `state` is as written, which may be none there is."""

    id: str
    state: str
    version: int
    generation: int
    attempts: int
    prepared: bool
    due_at: datetime | None


@dataclass(frozen=True)
class Whole:
    """A workshop with everybody in it."""

    workshop: Workshop
    enrolments: tuple[Enrolment, ...]


class Wholes(list[Whole]):
    """Those that could be read; `damaged` has the others."""

    def __init__(self, wholes: Iterable[Whole], damaged: Iterable[Damage]) -> None:
        super().__init__(wholes)
        self.damaged = tuple(damaged)


class Sweeping(StorePart):
    """Reading everything there is, again and again."""

    def outlines(self) -> list[Outline]:
        """Every workshop that isn't purged. Columns are read as they are: damage keeps nothing back."""
        row = WorkshopRow.__table__.c
        state, prepared_at, due_at = (type_coerce(row[name], String) for name in ("state", "prepared_at", "due_at"))
        shown = (row.id, state, prepared_at, due_at, row.version, row.generation, row.attempts)
        wanted = select(*shown).where(type_coerce(row.state, String) != State.PURGED.value)
        with self._database.read() as session:
            return [
                Outline(workshop_id, str(state), _number(version), _number(generation), _number(attempts),
                        prepared is not None, _moment(due))
                for workshop_id, state, prepared, due, version, generation, attempts in session.execute(wanted)
            ]  # fmt: skip

    def whole(self, workshop_ids: Collection[str]) -> Wholes:
        """These workshops with their places, as far as they can be read."""
        with self._database.read() as session:
            workshops = found(session, select(WorkshopRow).where(WorkshopRow.id.in_(workshop_ids)))
            places: dict[str, list[Enrolment]] = {}
            wanted = select(EnrolmentRow).where(EnrolmentRow.workshop_id.in_(workshop_ids))
            for row in session.scalars(wanted):
                places.setdefault(row.workshop_id, []).append(to_enrolment(row))
            return Wholes((Whole(each, tuple(places.get(each.id, ()))) for each in workshops), workshops.damaged)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else -1


def _moment(value: Any) -> datetime | None:
    """A date as the database gives it; None for what is none."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return None if moment is None else moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    except (ValueError, AttributeError):
        return None
