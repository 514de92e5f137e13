"""Workshops as people make, find and change them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import String, and_, func, or_, select, tuple_, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from orchestra_hub import lifecycle
from orchestra_hub.errors import InvalidInput, NotFound, StoreUnavailable
from orchestra_hub.ids import new_workshop_id
from orchestra_hub.store.base import StorePart, add_to_count, learners_in, locked, must_exist, note
from orchestra_hub.store.codes import new_join_code, new_pseudonym_key
from orchestra_hub.store.models import ContentRow, EnrolmentRow, EventRow, PseudonymKeyRow, WorkshopRow
from orchestra_hub.store.reading import Found, found, to_workshops
from orchestra_hub.store.records import Event
from orchestra_hub.workshop import Account, JoinPolicy, NewWorkshop, State, Workshop

__all__ = ["Workshops"]

_ID_TRIES = 5
_COUNT_NAME = re.compile(r"[a-z]+(_[a-z]+)*")


class Workshops(StorePart):
    """Workshops, their content, counts and events."""

    def create_workshop(self, new: NewWorkshop, content: bytes, actor: str) -> Workshop:
        """A workshop with an id no other ever had; `content` is kept under the template's `content_digest`.

        Raises `InvalidInput` for dates or names that can't be (see `lifecycle.planned`, `ids.new_workshop_id`).
        """
        now = self._now()
        plan = lifecycle.planned(new, now)
        for _ in range(_ID_TRIES):
            workshop_id = new_workshop_id(new.course or new.template.name, new.session)
            try:
                return self._create(_new_row(workshop_id, new, plan, now), new, content, actor)
            except IntegrityError as error:  # the id exists: one in 7e8
                taken = error
        raise StoreUnavailable("No free workshop id was found. Try again.") from taken

    def _create(self, row: WorkshopRow, new: NewWorkshop, content: bytes, actor: str) -> Workshop:
        with self._database.write() as session:
            insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
            kept = insert(ContentRow).values(digest=new.template.content_digest, data=content)
            session.execute(kept.on_conflict_do_nothing(index_elements=[ContentRow.digest]))
            session.add(row)
            session.flush()
            session.add(PseudonymKeyRow(workshop_id=row.id, key=new_pseudonym_key()))
            session.flush()
            note(session, row.id, row.created_at, "created", actor, detail=_dates(row))
            return to_workshops(session, [row])[0]

    def content_of(self, digest: str) -> bytes:
        """The packed content kept under `digest`; raises `NotFound`."""
        with self._database.read() as session:
            row = session.get(ContentRow, digest)
            if row is None:
                raise NotFound(f"No content is kept under the digest {digest[:80]!r}.")
            return row.data

    def workshop(self, workshop_id: str) -> Workshop:
        """The workshop; raises `NotFound`."""
        with self._database.read() as session:
            return to_workshops(session, [must_exist(session, workshop_id)])[0]

    def workshops(
        self,
        states: Collection[State] | None = None,
        owner: Account | None = None,
        member: Account | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Found:
        """Up to `limit` workshops, newest first, by their written states.

        `owner` and `member` given both mean: either. `after` is the last of the `ids` of the page before: those that
        can't be read count too.
        """
        wanted = select(WorkshopRow).order_by(WorkshopRow.created_at.desc(), WorkshopRow.id.desc()).limit(limit)
        if states is not None:
            wanted = wanted.where(WorkshopRow.state.in_(list(states)))
        theirs = []
        if owner is not None:
            theirs.append(and_(WorkshopRow.owner_key == owner.key, WorkshopRow.owner == owner.name))
        if member is not None:
            places = select(EnrolmentRow.workshop_id).where(EnrolmentRow.user_name == member.name)
            theirs.append(WorkshopRow.id.in_(places.where(EnrolmentRow.account_key == member.key)))
        if theirs:
            wanted = wanted.where(or_(*theirs))
        with self._database.read() as session:
            if after is not None:
                last = session.execute(_position(after)).one_or_none()
                if last is None:
                    raise NotFound(f"There is no workshop {after[:80]!r}.")
                position = tuple_(WorkshopRow.created_at, WorkshopRow.id)
                wanted = wanted.where(position < tuple_(*_position(after).subquery().c))
            return found(session, wanted)

    def extend(self, workshop_id: str, new_expires_at: datetime, actor: str, version: int | None = None) -> Workshop:
        """The workshop with another end. Raises as `lifecycle.extended`; `StaleVersion` if `version` isn't its."""
        return self._change(
            workshop_id, "extended", actor, version, lambda was, now: lifecycle.extended(was, new_expires_at, now)
        )

    def cancel(self, workshop_id: str, actor: str, version: int | None = None) -> Workshop:
        """The workshop, cancelled. Raises as `lifecycle.cancelled`; `StaleVersion` if `version` isn't its."""
        return self._change(workshop_id, "cancelled", actor, version, lifecycle.cancelled)

    def end(self, workshop_id: str, actor: str, version: int | None = None) -> Workshop:
        """The workshop with its end now. Raises as `lifecycle.ended`; `StaleVersion` if `version` isn't its."""
        return self._change(workshop_id, "ended", actor, version, lifecycle.ended)

    def set_seats(self, workshop_id: str, seats: int, actor: str, version: int | None = None) -> Workshop:
        """The workshop with another number of learners' places; never fewer than are taken (`InvalidInput`)."""
        with self._database.write() as session:
            row = locked(session, workshop_id, version)
            now = self._now()
            was = to_workshops(session, [row])[0]
            changed = lifecycle.reseated(was, seats, learners_in(session, workshop_id), now)
            if changed.seats != was.seats:
                note(session, workshop_id, now, "seats-set", actor, detail={"seats": seats, "before": was.seats})
            return self._save(session, row, changed, now=now)

    def _change(
        self,
        workshop_id: str,
        kind: str,
        actor: str,
        version: int | None,
        change: Callable[[Workshop, datetime], Workshop],
    ) -> Workshop:
        with self._database.write() as session:
            row = locked(session, workshop_id, version)
            now = self._now()
            changed = self._save(session, row, change(to_workshops(session, [row])[0], now), now=now)
            note(session, workshop_id, now, kind, actor, detail=_dates(row))
            return changed

    def count(self, workshop_id: str, name: str, by: int = 1) -> None:
        """Adds to one of the workshop's anonymous counts, such as `seats_started`. Purged ones stay as they are."""
        if not _COUNT_NAME.fullmatch(name) or len(name) > 40:
            raise InvalidInput(f"{name[:80]!r} can't name a count: use lower case words parted by underscores.")
        with self._database.write() as session:
            if locked(session, workshop_id).state is not State.PURGED:
                add_to_count(session, workshop_id, name, by)

    def counters(self) -> dict[str, int]:
        """Totals for operators: `workshops_{state}` for every state, `enrolments`."""
        with self._database.read() as session:
            state_text = type_coerce(WorkshopRow.state, String)  # one may be damaged
            by_state = session.execute(select(state_text, func.count()).group_by(state_text)).all()
            enrolments = session.scalar(select(func.count()).select_from(EnrolmentRow)) or 0
        totals = {f"workshops_{state.value}": 0 for state in State}
        totals |= {key: number for text, number in by_state if (key := f"workshops_{text}") in totals}
        return totals | {"enrolments": enrolments}

    def events(self, workshop_id: str | None = None, after: int = 0, limit: int = 100) -> list[Event]:
        """Up to `limit` events after the one with the id `after`, oldest first; of one workshop or of all."""
        wanted = select(EventRow).where(EventRow.id > after).order_by(EventRow.id).limit(limit)
        if workshop_id is not None:
            wanted = wanted.where(EventRow.workshop_id == workshop_id)
        with self._database.read() as session:
            return [
                Event(**{name: getattr(row, name) for name in Event.model_fields}) for row in session.scalars(wanted)
            ]


def _position(workshop_id: str) -> Any:
    """Where a workshop stands in the order of age, read as it is: its date may be damaged."""
    return select(type_coerce(WorkshopRow.created_at, String), WorkshopRow.id).where(WorkshopRow.id == workshop_id)


def _new_row(workshop_id: str, new: NewWorkshop, plan: lifecycle.Plan, now: datetime) -> WorkshopRow:
    template = new.template
    return WorkshopRow(
        id=workshop_id,
        title=new.title or template.title,
        owner=new.owner.name if new.owner else None,
        owner_key=new.owner.key if new.owner else None,
        teacher=new.teacher,
        template=template.model_dump(mode="json"),
        state=State.SCHEDULED,
        **plan._asdict(),
        lead_time_s=new.lead_time_s,
        warning_s=new.warning_s,
        idle_timeout_s=new.idle_timeout_s or template.idle_timeout_min * 60,
        seats=new.seats or template.default_seats,
        join_policy=new.join_policy,
        join_code=new_join_code() if new.join_policy is JoinPolicy.CODE else None,
        ended_early=False,
        created_at=now,
        changed_at=now,
        generation=1,
        attempts=0,
        due_at=now,
    )


def _dates(row: WorkshopRow) -> dict[str, Any]:
    dates = {name: getattr(row, name).isoformat() for name in ("opens_at", "expires_at", "purge_at")}
    return {**dates, "seats": row.seats, "retention": str(timedelta(seconds=row.retention_s))}
