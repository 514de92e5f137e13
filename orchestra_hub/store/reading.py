"""Reading workshops' rows, some of which somebody may have damaged by hand: one that can't be read keeps no other back.

A row is damaged when one of its columns doesn't hold what it must: a state there is none of, a date that is none, a
template that is no JSON or lacks a field. Nothing here changes anything; see `mending`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Dialect, select, text
from sqlalchemy.orm import Session

from orchestra_hub.errors import WorkshopDamaged
from orchestra_hub.store.models import CountRow, WorkshopRow
from orchestra_hub.workshop import Workshop

__all__ = ["FIELDS", "UNREADABLE", "Damage", "Found", "damage_of", "damaged", "found", "read_row", "to_workshops"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
FIELDS = frozenset(Workshop.model_fields) - {"statistics"}
UNREADABLE = (LookupError, TypeError, ValueError)
"""What SQLAlchemy's types and our models raise for a value that isn't what it must be (pydantic's is a ValueError)."""


@dataclass(frozen=True)
class Damage:
    """A row that can't be read. `faults` says by column what is wrong; `values` has the columns that are well."""

    id: str
    faults: Mapping[str, str]
    values: Mapping[str, Any] = field(repr=False)
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def sentence(self) -> str:
        """What is wrong and what to do, for those who answer for the workshop."""
        told = "; ".join(f"{name}: {fault}" for name, fault in self.faults.items())
        return (
            f"Part of what is kept of this workshop is damaged ({told[:600]}). Put it right with `orchestra-hub "
            f"workshop mend {self.id}`; what can't be put right is ended with `orchestra-hub workshop end {self.id} "
            "--damaged`."
        )

    @property
    def content_digest(self) -> str | None:
        """The digest of the content the workshop was made with, if so much of its template can be read."""
        template = self.raw.get("template")
        try:
            known = json.loads(template) if isinstance(template, str | bytes) else template
        except ValueError:
            return None
        digest = known.get("content_digest") if isinstance(known, dict) else None
        return digest if isinstance(digest, str) and _DIGEST.fullmatch(digest) else None


class Found(list[Workshop]):
    """The workshops that could be read, in the order asked for. `ids` are those of all; `damaged` the others."""

    def __init__(self, workshops: Iterable[Workshop], ids: Iterable[str], damaged: Iterable[Damage] = ()) -> None:
        super().__init__(workshops)
        self.ids = tuple(ids)
        self.damaged = tuple(damaged)


def found(session: Session, wanted: Any) -> Found:
    """What `wanted`, a `select` of workshops' rows, selects: all at once, or one by one when that can't be read."""
    try:
        workshops = to_workshops(session, session.scalars(wanted))
        return Found(workshops, [workshop.id for workshop in workshops])
    except UNREADABLE:
        session.expunge_all()
    ids = session.scalars(wanted.with_only_columns(WorkshopRow.id)).all()
    workshops, bad = [], []
    for workshop_id in ids:
        try:
            workshops += to_workshops(
                session, session.scalars(select(WorkshopRow).where(WorkshopRow.id == workshop_id))
            )
        except UNREADABLE as error:
            bad.append(damage_of(session, workshop_id) or _unexplained(workshop_id, error))
    return Found(workshops, ids, bad)


def to_workshops(session: Session, rows: Iterable[WorkshopRow]) -> list[Workshop]:
    """The workshops of `rows` with their statistics, in the same order. Raises one of `UNREADABLE`."""
    rows = list(rows)
    statistics: dict[str, dict[str, int]] = {row.id: {} for row in rows}
    if rows:
        counts = select(CountRow.workshop_id, CountRow.name, CountRow.value)
        for workshop_id, name, value in session.execute(counts.where(CountRow.workshop_id.in_(statistics))):
            statistics[workshop_id][name] = value
    return [Workshop(**{name: getattr(row, name) for name in FIELDS}, statistics=statistics[row.id]) for row in rows]


def read_row(session: Session, workshop_id: str, *, lock: bool = False) -> WorkshopRow | None:
    """The workshop's row, with `lock` kept from other writers; None when there is none. Raises `WorkshopDamaged`."""
    try:
        row = session.get(WorkshopRow, workshop_id, with_for_update=True if lock else None)
        if row is not None:
            Workshop(**{name: getattr(row, name) for name in FIELDS})
        return row
    except UNREADABLE as error:
        session.expunge_all()
        raise damaged() from error


def damaged() -> WorkshopDamaged:
    """The refusal for everybody; those who answer for the workshop get `Damage.sentence`."""
    return WorkshopDamaged(
        "This workshop can't be used just now: part of what the platform keeps of it is damaged. Its files are not "
        "touched by that. Tell your instructor or an operator, who can put it right."
    )


def damage_of(session: Session, workshop_id: str) -> Damage | None:
    """What is wrong with a row; None when nothing is, or when there is no such row."""
    plain = session.execute(text("SELECT * FROM workshops WHERE id = :id"), {"id": workshop_id}).mappings().first()
    if plain is None:
        return None
    raw = dict(plain)
    values, faults = _columns(raw, session.get_bind().dialect)
    shown = {name: values.get(name) for name in FIELDS if name in values}
    try:
        if not faults:
            Workshop.model_validate(shown)
            return None
        Workshop.model_validate({name: shown.get(name) for name in FIELDS})
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False):
            name = str(fault["loc"][0]) if fault["loc"] else "row"
            below = "/".join(str(part) for part in fault["loc"][1:])
            faults.setdefault(name, f"{below + ' ' if below else ''}{_lower(fault['msg'])}"[:200])
    good = {name: value for name, value in values.items() if name not in faults}
    return Damage(workshop_id, faults, good, raw)


def _columns(raw: Mapping[str, Any], dialect: Dialect) -> tuple[dict[str, Any], dict[str, str]]:
    """The columns as Python values, and what is wrong with those that aren't."""
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for column in WorkshopRow.__table__.columns:
        value = raw.get(column.name)
        processor = column.type.dialect_impl(dialect).result_processor(dialect, None)
        try:
            if value is not None and processor is not None and not isinstance(value, dict | list):
                value = processor(value)
            if value is None and not column.nullable:
                raise ValueError("there is nothing in it")
            values[column.name] = value
        except UNREADABLE as error:
            faults[column.name] = f"{str(raw.get(column.name))[:40]!r} can't be read ({_lower(str(error))[:120]})"
    return values, faults


def _unexplained(workshop_id: str, error: Exception) -> Damage:
    return Damage(workshop_id, {"row": str(error)[:200]}, {}, {})


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
