"""Mending rows that somebody damaged by hand, and ending those that can't be mended.

Every value of a row stands in other places too: in the Hub group's facts, in the events, in the template's folder. What
is damaged is taken from there, in this order; what is well is never changed. Nothing is guessed unless a workshop is to
be ended anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from orchestra_hub.content import holds
from orchestra_hub.errors import NotFound, WorkshopDamaged
from orchestra_hub.store.base import StorePart, check_fence, learners_in, note
from orchestra_hub.store.codes import new_join_code
from orchestra_hub.store.models import ContentRow, EventRow, WorkshopRow
from orchestra_hub.store.reading import FIELDS, Damage, damage_of, damaged, read_row, to_workshops
from orchestra_hub.templates import Resources, TemplateSnapshot
from orchestra_hub.workshop import JoinPolicy, State, Workshop, WorkshopFacts

__all__ = ["Mended", "Mending", "Sources"]

_LEAD_TIME_S = 600
_WARNING_S = 900
_IDLE_TIMEOUT_S = 3600
_DATES = ("opens_at", "expires_at", "deadline", "purge_at")
_GONE = "0" * 64


@dataclass(frozen=True)
class Sources:
    """Where damaged values can be had again. `facts` are the Hub group's; `template` has the content digest that the
    workshop was made with, and `content` is its packed content."""

    facts: WorkshopFacts | None = None
    template: TemplateSnapshot | None = None
    content: bytes | None = None


@dataclass(frozen=True)
class Mended:
    """A workshop that can be read again, and what was put right."""

    workshop: Workshop
    what: tuple[str, ...]


class Mending(StorePart):
    """Damaged rows: found out about, noted, mended, ended."""

    def damage(self, workshop_id: str) -> Damage | None:
        """What is wrong with a workshop's row; None when nothing is. Raises `NotFound`."""
        with self._database.read() as session:
            if session.scalar(select(func.count()).where(WorkshopRow.id == workshop_id)) == 0:
                raise NotFound(f"There is no workshop {workshop_id[:80]!r}.")
            return damage_of(session, workshop_id)

    def note_damage(self, damage: Damage, *, fence: int) -> bool:
        """Writes what is wrong as the workshop's trouble, and takes it off the list of what is due; whether that was
        news. Raises `LeaseLost`."""
        with self._database.write() as session:
            check_fence(session, fence)
            if damage.raw.get("trouble") == damage.sentence and damage.raw.get("due_at") is None:
                return False
            if damage.raw.get("trouble") != damage.sentence:
                note(session, damage.id, self._now(), "damaged", "system", detail={"columns": sorted(damage.faults)})
            session.execute(_row(damage.id).values(trouble=damage.sentence, due_at=None))
            return True

    def mend(self, workshop_id: str, sources: Sources, actor: str) -> Mended:
        """The workshop with everything in it readable, due at once. Raises `WorkshopDamaged` for what can't be had
        again: then nothing is written."""
        with self._database.write() as session:
            damage = damage_of(session, workshop_id)
            what: list[str] = []
            now = self._now()
            if damage is not None:
                values, what = _better(session, damage, sources, now)
                if hopeless := [name for name in damage.faults if name not in values]:
                    raise WorkshopDamaged(
                        f"{workshop_id} can't be mended: {', '.join(hopeless)} stands nowhere else. End it with "
                        f"`orchestra-hub workshop end {workshop_id} --damaged`; its files are kept as after any end."
                    )
                _rewrite(session, damage, values, now)
            if sources.content is not None and sources.template is not None:
                what += _put_content(
                    session, self._database.is_sqlite, sources.template.content_digest, sources.content
                )
            return self._mended(session, workshop_id, what, "mended", actor, now)

    def end_damaged(self, workshop_id: str, sources: Sources, actor: str) -> Mended:
        """The workshop, expired now: what can be had again is, the rest is replaced by something that can be read.
        Its files are kept for its retention. Raises `WorkshopDamaged` when the row isn't damaged at all."""
        with self._database.write() as session:
            now = self._now()
            damage = damage_of(session, workshop_id)
            if damage is None:
                row = read_row(session, workshop_id)
                if row is None:
                    raise NotFound(f"There is no workshop {workshop_id[:80]!r}.")
                raise WorkshopDamaged(f"{workshop_id} isn't damaged. End it without --damaged, or cancel it.")
            values, what = _better(session, damage, sources, now)
            values = {**_stand_ins(session, damage, now), **values}
            _rewrite(session, damage, _ended({**damage.values, **values}, now), now)
            return self._mended(session, workshop_id, [*what, "ended"], "ended-damaged", actor, now)

    def _mended(
        self, session: Session, workshop_id: str, what: list[str], kind: str, actor: str, now: datetime
    ) -> Mended:
        session.expunge_all()
        row = read_row(session, workshop_id)
        if row is None:
            raise NotFound(f"There is no workshop {workshop_id[:80]!r}.")
        if row.state is not State.PURGED:
            values = {"due_at": now, "generation": row.generation + 1, "attempts": 0, "trouble": None}
            session.execute(_row(workshop_id).values(values))
        note(session, workshop_id, now, kind, actor, detail={"what": what})
        session.flush()
        session.expire_all()
        again = read_row(session, workshop_id)
        if again is None:
            raise damaged()
        return Mended(to_workshops(session, [again])[0], tuple(what))


def _row(workshop_id: str) -> Any:
    table: Any = WorkshopRow.__table__
    return update(table).where(table.c.id == workshop_id)


def _better(session: Session, damage: Damage, sources: Sources, now: datetime) -> tuple[dict[str, Any], list[str]]:
    """Good values for as many damaged columns as can be, and where each is from."""
    values: dict[str, Any] = {}
    what: list[str] = []
    for name in damage.faults:
        for value, source in _candidates(session, name, {**damage.values, **values}, sources, damage.id):
            if _fits(name, value):
                values[name] = value
                what.append(f"{name}, from {source}")
                break
    return values, what


def _candidates(
    session: Session, name: str, known: Mapping[str, Any], sources: Sources, workshop_id: str
) -> Iterator[tuple[Any, str]]:
    facts = sources.facts
    if facts is not None and name in WorkshopFacts.model_fields:
        yield getattr(facts, name), "the Hub group"
    if name == "template" and sources.template is not None:
        yield sources.template, "the templates' folder"
    told = _told_by_events(session, workshop_id)
    if name in told:
        yield told[name], "the events"
    if name in _MADE:
        yield _MADE[name](known), "the workshop's other values"
    if name == "seats":
        yield max(1, learners_in(session, workshop_id)), "the learners enrolled"


def _told_by_events(session: Session, workshop_id: str) -> dict[str, Any]:
    """What the newest event that tells of dates and seats says."""
    told: dict[str, Any] = {}
    wanted = select(EventRow.at, EventRow.kind, EventRow.detail).where(EventRow.workshop_id == workshop_id)
    for at, kind, detail in session.execute(wanted.order_by(EventRow.id)):
        told |= {name: value for name, value in detail.items() if name in (*_DATES, "seats")}
        if kind == "created":
            told |= {"created_at": at, "changed_at": at}
        if kind == "cancelled":
            told["cancelled_at"] = at
        if kind == "prepared":
            told["prepared_at"] = at
        if kind == "moved":
            told["state"] = detail.get("to")
    return told


def _state(known: Mapping[str, Any]) -> State:
    """One from which the dates alone lead to the right one."""
    if known.get("purge_record"):
        return State.PURGED
    if known.get("cancelled_at"):
        return State.CANCELLED
    return State.PREPARING if known.get("prepared_at") else State.SCHEDULED


def _kept_s(known: Mapping[str, Any]) -> int | None:
    if "purge_at" in known and "expires_at" in known:
        kept: timedelta = known["purge_at"] - known["expires_at"]
        return round(kept.total_seconds())
    return None


_MADE: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "state": _state,
    "retention_s": _kept_s,
    "lead_time_s": lambda _: _LEAD_TIME_S,
    "warning_s": lambda _: _WARNING_S,
    "idle_timeout_s": lambda _: _IDLE_TIMEOUT_S,
    "join_policy": lambda _: JoinPolicy.ROSTER,  # the narrowest: nobody gets in who shouldn't
    "join_code": lambda _: new_join_code(),
    "title": lambda known: known.get("id"),
    "teacher": lambda _: "",
    "owner": lambda _: None,
    "owner_key": lambda _: None,
    "ended_early": lambda _: False,
    "prepared_at": lambda _: None,  # it is prepared again
    "cancelled_at": lambda _: None,
    "version": lambda _: 1,
    "generation": lambda _: 1,
    "attempts": lambda _: 0,
    "trouble": lambda _: None,
    "due_at": lambda _: None,
    "purge_record": lambda _: None,
    "changed_at": lambda known: known.get("created_at"),
}


def _fits(name: str, value: Any) -> bool:
    try:
        _value(name, value)
    except ValidationError:
        return False
    return not (name == "seats" and (value is None or int(value) < 1))


def _stand_ins(session: Session, damage: Damage, now: datetime) -> dict[str, Any]:
    """Something readable for what stands nowhere else, in a workshop that is ended."""
    template = TemplateSnapshot(
        schema_version=1, name="damaged", title=str(damage.raw.get("title") or damage.id)[:100], summary="Damaged.",
        landing="start.ipynb", image="none/none:1", resources=Resources(cpu=1, memory="1Gi", storage="1Gi"),
        default_duration_h=1, max_duration_h=1, content_digest=_GONE,
    )  # fmt: skip
    stands: dict[str, Any] = {
        "template": template, "opens_at": now - timedelta(hours=1), "expires_at": now, "deadline": now,
        "purge_at": now + timedelta(days=14), "created_at": now, "changed_at": now,
    }  # fmt: skip
    return {name: value for name, value in stands.items() if name in damage.faults}


def _ended(values: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The values with the end at `now`, unless it is over already."""
    validated: dict[str, Any] = {name: _value(name, value) for name, value in values.items() if name in FIELDS}
    if validated["state"] in (State.EXPIRED, State.CANCELLED, State.PURGED):
        return validated
    expires_at = min(now, validated["expires_at"])
    kept = timedelta(seconds=max(0, validated["retention_s"]))
    return validated | {
        "state": State.EXPIRED,
        "expires_at": expires_at,
        "deadline": max(expires_at, validated["deadline"]),
        "purge_at": max(now, expires_at) + kept,
        "ended_early": True,
    }


def _value(name: str, value: Any) -> Any:
    kind: Any = Workshop.model_fields[name].annotation
    return TypeAdapter(kind).validate_python(value)


def _rewrite(session: Session, damage: Damage, values: Mapping[str, Any], now: datetime) -> None:
    written = {name: _value(name, value) for name, value in values.items()}
    if isinstance(template := written.get("template"), TemplateSnapshot):
        written["template"] = template.model_dump(mode="json")
    version = damage.values.get("version")
    written |= {"version": (version if isinstance(version, int) else 0) + 1, "changed_at": now}
    session.execute(_row(damage.id).values(written))


def _put_content(session: Session, is_sqlite: bool, digest: str, content: bytes) -> list[str]:
    """Keeps the content, if what is kept under its digest isn't it."""
    kept = session.scalar(select(ContentRow.data).where(ContentRow.digest == digest))
    if kept is not None and holds(kept, digest):
        return []
    insert = sqlite.insert if is_sqlite else postgresql.insert
    wanted = insert(ContentRow).values(digest=digest, data=content)
    session.execute(wanted.on_conflict_do_update(index_elements=[ContentRow.digest], set_={"data": content}))
    return ["the content, from the templates' folder"]
