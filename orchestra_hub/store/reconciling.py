"""What the reconciler reads and writes. Every write is fenced: see `leases`.

A workshop is *due* from the moment something about it changes until `clear` says that all it asked for is done.
Nothing depends on somebody having seen the change happen, so a crash between two steps only repeats a step.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from orchestra_hub import lifecycle
from orchestra_hub.errors import StoreUnavailable
from orchestra_hub.store.base import (
    StorePart,
    add_to_count,
    check_fence,
    learners_in,
    locked,
    note,
    pseudonymiser,
    reschedule,
)
from orchestra_hub.store.models import EnrolmentRow, EventRow, InvitationRow, PseudonymKeyRow, WorkshopRow
from orchestra_hub.store.reading import Found, found, to_workshops
from orchestra_hub.workshop import State, Workshop

__all__ = ["Reconciling"]

_REMOVING = "removing"

_log = logging.getLogger(__name__)


class Reconciling(StorePart):
    """What is due, and what came of it."""

    def due(self, now: datetime, limit: int = 20) -> Found:
        """Up to `limit` workshops to be looked at by `now`, the longest waiting first. Reads only those (an index)."""
        wanted = select(WorkshopRow).where(WorkshopRow.due_at <= now).order_by(WorkshopRow.due_at).limit(limit)
        with self._database.read() as session:
            return found(session, wanted)

    def move(self, workshop: Workshop, to_state: State, *, fence: int) -> Workshop:
        """The workshop in `to_state`, still due. `to_state` is the first of its `lifecycle.next_moves`.

        The dates that count are the row's, not those of `workshop`: an extension that came between makes it
        `WrongState`. Raises `LeaseLost`.
        """
        with self._database.write() as session:
            check_fence(session, fence)
            row = locked(session, workshop.id)
            now = self._now()
            was = to_workshops(session, [row])[0]
            moved = lifecycle.moved(was, to_state, now)
            if moved is not was:
                detail = {"from": was.state.value, "to": to_state.value}
                note(session, workshop.id, now, "moved", "system", detail=detail)
            return self._save(session, row, moved, now=now)

    def mark_prepared(self, workshop_id: str, *, fence: int) -> Workshop:
        """The workshop with everything made that a seat needs, still due. Raises `WrongState`, `LeaseLost`."""
        with self._database.write() as session:
            check_fence(session, fence)
            row = locked(session, workshop_id)
            now = self._now()
            was = to_workshops(session, [row])[0]
            ready = lifecycle.prepared(was, now)
            if ready is not was:
                note(session, workshop_id, now, "prepared", "system")
            return self._save(session, row, ready, now=now)

    def note_trouble(self, workshop_id: str, sentence: str, attempts: int, due_at: datetime, *, fence: int) -> Workshop:
        """The workshop with the reason why it is stuck, due again at `due_at` or at its next date if that is sooner.

        `sentence` is for its instructors; an event is written when it is another one than before. `LeaseLost`.
        """
        with self._database.write() as session:
            check_fence(session, fence)
            row = locked(session, workshop_id)
            now = self._now()
            if row.state is State.PURGED:
                return to_workshops(session, [row])[0]
            if row.trouble != sentence:
                note(session, workshop_id, now, "stuck", "system", detail={"attempts": attempts})
                row.trouble = sentence
                row.changed_at = now
            next_date = lifecycle.next_date(to_workshops(session, [row])[0], now)
            due = due_at if next_date is None else min(due_at, next_date)
            reschedule(session, row, attempts=attempts, due_at=due)
            return to_workshops(session, [row])[0]

    def clear(self, workshop: Workshop, *, fence: int) -> Workshop:
        """The workshop after all that `workshop`, as it was read, asked for has been done: due at its next date.

        It stays due now if anything changed since it was read, and once more if a trouble is cleared by this, so
        that the hub hears of it. Raises `LeaseLost`.
        """
        with self._database.write() as session:
            check_fence(session, fence)
            row = locked(session, workshop.id)
            now = self._now()
            if row.trouble is not None:
                note(session, workshop.id, now, "recovered", "system")
                row.trouble = None
                row.changed_at = now
                row.generation += 1
            due = row.due_at
            if row.generation == workshop.generation:
                due = lifecycle.due_at(to_workshops(session, [row])[0], now)
            reschedule(session, row, attempts=0, due_at=due)
            return to_workshops(session, [row])[0]

    def note_removal(self, workshop_id: str, numbers: Mapping[str, int], *, fence: int) -> None:
        """Write down how much of what is removed by a purge (`{"servers": 3}`); smaller numbers than those written
        before are what an interrupted try left over, and nothing new. Raises `LeaseLost`."""
        with self._database.write() as session:
            check_fence(session, fence)
            row = locked(session, workshop_id)
            known = _removed(session, workshop_id)
            more = {what: number for what, number in numbers.items() if number > known.get(what, 0)}
            if more and row.state is not State.PURGED:
                note(session, workshop_id, self._now(), _REMOVING, "system", detail=more)

    def removed(self, workshop_id: str) -> dict[str, int]:
        """The greatest numbers that were given to `note_removal`."""
        with self._database.read() as session:
            return _removed(session, workshop_id)

    def record_purge(self, workshop_id: str, record: dict[str, Any], *, fence: int) -> Workshop:
        """The workshop purged: nobody's name, code or key is left, only counts, dates and the audit trail.

        `record` says what was removed and how that was checked; account keys of enrolled people in it are replaced
        by their pseudonyms. Raises `WrongState` before `purge_at`, `LeaseLost`. Once purged, nothing changes.
        """
        with self._database.write() as session:
            check_fence(session, fence)
            row = locked(session, workshop_id)
            if row.state is State.PURGED:
                return to_workshops(session, [row])[0]
            now = self._now()
            places = session.scalars(select(EnrolmentRow).where(EnrolmentRow.workshop_id == workshop_id)).all()
            names = pseudonymiser(session, workshop_id)
            clean = names.scrubbed(record, [place.account_key for place in places])
            was = to_workshops(session, [row])[0]
            gone = lifecycle.purged(was, clean, was.statistics, now)
            learners = learners_in(session, workshop_id)
            add_to_count(session, workshop_id, "learners", learners)
            add_to_count(session, workshop_id, "instructors", len(places) - learners)
            if "seats" in (removed := _removed(session, workshop_id)):
                add_to_count(session, workshop_id, "seats_used", removed["seats"])
            note(session, workshop_id, now, "purged", "system", detail=clean)
            session.flush()
            for table in (EnrolmentRow, InvitationRow, PseudonymKeyRow):
                session.execute(delete(table).where(table.workshop_id == workshop_id))
            purged = self._save(session, row, gone, now=now)
        self.forget()
        return purged

    def forget(self) -> None:
        """Empty the database's log, in which purged names may stand; whoever leads begins with it, as the leader before
        may have been killed between a purge's record and this."""
        try:
            self._database.forget_old_pages()
        except StoreUnavailable as error:  # the purge stands; the log is emptied by the next that can
            _log.info("the database's log was not emptied after a purge: %s", error)


def _removed(session: Session, workshop_id: str) -> dict[str, int]:
    noted = select(EventRow.detail).where(EventRow.workshop_id == workshop_id, EventRow.kind == _REMOVING)
    removed: dict[str, int] = {}
    for detail in session.scalars(noted):
        for what, number in detail.items():
            removed[what] = max(number, removed.get(what, 0))
    return removed
