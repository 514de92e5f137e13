"""What the parts of the store share: rows to models, locked reads, events, and the wish to be looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from orchestra_hub.errors import LeaseLost, NotFound, StaleVersion
from orchestra_hub.store.codes import pseudonym
from orchestra_hub.store.engine import Database
from orchestra_hub.store.models import (
    CountRow,
    EnrolmentRow,
    EventRow,
    LeaseRow,
    PseudonymKeyRow,
    WorkshopRow,
)
from orchestra_hub.store.reading import FIELDS, read_row, to_workshops
from orchestra_hub.workshop import Enrolment, Role, Workshop

__all__ = [
    "REPAIR_AFTER_S",
    "Pseudonymiser",
    "StorePart",
    "add_to_count",
    "ask_for_repair",
    "check_fence",
    "learners_in",
    "locked",
    "must_exist",
    "note",
    "pseudonymiser",
    "reschedule",
    "to_enrolment",
]

REPAIR_AFTER_S = 15
"""A joining or leaving is carried out by the service at once; this long after, the reconciler looks whether it was."""

_SYSTEM = "system"
_OPERATOR = "operator:"
_NOBODY_KNOWN = "p-unknown"  # after the purge: the key is gone


class StorePart:
    """Base of the store's parts; each method of a part is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _now(self) -> datetime:
        return self._database.clock()

    def _save(self, session: Session, row: WorkshopRow, changed: Workshop, *, now: datetime) -> Workshop:
        """Writes what differs, makes the workshop due now, and answers it as it then stands."""
        before = {name: getattr(row, name) for name in FIELDS - {"template"}}
        differing = {name: getattr(changed, name) for name, value in before.items() if getattr(changed, name) != value}
        for name, value in differing.items():
            setattr(row, name, value)
        if differing:
            row.changed_at = now
            row.generation += 1
            row.due_at = None if changed.purge_record is not None else now
            session.flush()
        return to_workshops(session, [row])[0]


def to_enrolment(row: EnrolmentRow) -> Enrolment:
    """The enrolment of a row."""
    return Enrolment(**{name: getattr(row, name) for name in Enrolment.model_fields})


def locked(session: Session, workshop_id: str, version: int | None = None) -> WorkshopRow:
    """The workshop's row, kept from other writers until the transaction ends.

    Raises `NotFound`, `WorkshopDamaged`, or `StaleVersion` when `version` is given and isn't the row's.
    """
    row = read_row(session, workshop_id, lock=True)
    if row is None:
        raise NotFound(f"There is no workshop {workshop_id[:80]!r}.")
    if version is not None and row.version != version:
        raise StaleVersion(
            f"{workshop_id} was changed meanwhile (you have version {version}, it is at {row.version}). "
            "Read it again, then repeat."
        )
    return row


def must_exist(session: Session, workshop_id: str) -> WorkshopRow:
    """The workshop's row; raises `NotFound`, `WorkshopDamaged`."""
    row = read_row(session, workshop_id)
    if row is None:
        raise NotFound(f"There is no workshop {workshop_id[:80]!r}.")
    return row


def check_fence(session: Session, fence: int | None) -> None:
    """Raises `LeaseLost` unless `fence` is the newest of some lease; holds that lease until the transaction ends.

    None is a write of somebody who needs no lease.
    """
    if fence is None:
        return
    lease = select(LeaseRow.name).where(LeaseRow.fence == fence).with_for_update(read=True)
    if session.execute(lease).first() is None:
        raise LeaseLost(f"Another process leads now (the fence {fence} is no longer the newest). Nothing was written.")


def ask_for_repair(session: Session, row: WorkshopRow, now: datetime) -> None:
    """Makes the workshop due soon without touching its version: joins don't disturb who edits the workshop."""
    soon = now + timedelta(seconds=REPAIR_AFTER_S)
    due = soon if row.due_at is None else min(row.due_at, soon)
    reschedule(session, row, generation=WorkshopRow.generation + 1, due_at=due)


def reschedule(session: Session, row: WorkshopRow, **values: Any) -> None:
    """Writes what only the reconciler's timetable is about, without a new version of the row."""
    session.flush()  # what was changed in the ordinary way comes first, under the version it was read with
    session.execute(
        update(WorkshopRow).where(WorkshopRow.id == row.id).values(values),
        execution_options={"synchronize_session": False},
    )
    session.refresh(row)


def learners_in(session: Session, workshop_id: str) -> int:
    """How many learners' places are taken."""
    places = select(func.count()).select_from(EnrolmentRow)
    return session.scalar(places.where(EnrolmentRow.workshop_id == workshop_id, EnrolmentRow.role == Role.LEARNER)) or 0


def add_to_count(session: Session, workshop_id: str, name: str, by: int = 1) -> None:
    """Adds to one of the workshop's anonymous counts; the caller holds the workshop's row."""
    row = session.get(CountRow, (workshop_id, name))
    if row is None:
        session.add(CountRow(workshop_id=workshop_id, name=name, value=by))
    else:
        row.value += by


def pseudonymiser(session: Session, workshop_id: str) -> Pseudonymiser:
    """What turns account keys into the pseudonyms of one workshop."""
    row = session.get(PseudonymKeyRow, workshop_id)
    return Pseudonymiser(None if row is None else row.key)


class Pseudonymiser:
    """Calls the accounts of one workshop by pseudonyms; by one for all once the key is gone."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    def subject(self, account_key: str) -> str:
        """The pseudonym of an account."""
        return _NOBODY_KNOWN if self._key is None else pseudonym(self._key, account_key)

    def actor(self, actor: str) -> str:
        """`system` as it is, otherwise a pseudonym; operators keep their prefix."""
        if actor == _SYSTEM:
            return actor
        prefix = _OPERATOR if actor.startswith(_OPERATOR) else ""
        return prefix + self.subject(actor.removeprefix(prefix))

    def scrubbed(self, record: dict[str, Any], account_keys: Iterable[str]) -> dict[str, Any]:
        """`record` (JSON) with every one of `account_keys` in it replaced by its pseudonym."""
        text = json.dumps(record)
        for account_key in sorted(account_keys, key=len, reverse=True):
            text = re.sub(re.escape(account_key), self.subject(account_key), text)
        scrubbed: dict[str, Any] = json.loads(text)
        return scrubbed


def note(
    session: Session,
    workshop_id: str,
    at: datetime,
    kind: str,
    actor: str,
    *,
    subject: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Writes an event in the running transaction. `actor` and `subject` are account keys, written as pseudonyms.

    `detail` is written as it is: no name, label or account key may be in it.
    """
    names = pseudonymiser(session, workshop_id)
    session.add(
        EventRow(
            workshop_id=workshop_id,
            at=at,
            kind=kind,
            actor=names.actor(actor),
            subject=None if subject is None else names.subject(subject),
            detail=detail or {},
        )
    )
