"""The tables. The migrations make them; a test compares the two.

Times are stored in UTC. Rows of `workshops` are never deleted, so that no id is used twice; rows of `events` are
neither changed nor deleted (both are held by triggers, see `migrations/`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from orchestra_hub.workshop import JoinPolicy, Role, State

__all__ = [
    "Base",
    "ContentRow",
    "CountRow",
    "EnrolmentRow",
    "EventRow",
    "FenceRow",
    "InvitationRow",
    "LeaseRow",
    "PseudonymKeyRow",
    "UtcDateTime",
    "WorkshopRow",
]


class UtcDateTime(TypeDecorator[datetime]):
    """Aware in Python, UTC in the database; SQLite keeps text that sorts like the time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without offset reached the store: {value!r}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _one_of(kind: type[StrEnum]) -> Enum:
    return Enum(
        kind, native_enum=False, length=16, values_callable=lambda members: [member.value for member in members]
    )


_BIG_KEY = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up by itself only in an INTEGER key


class Base(DeclarativeBase):
    """Every table's base."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it once, when the classes are made
        datetime: UtcDateTime(),
        State: _one_of(State),
        Role: _one_of(Role),
        JoinPolicy: _one_of(JoinPolicy),
        dict[str, Any]: JSON(none_as_null=True),
        bytes: LargeBinary(),
        str: String(),
    }


class WorkshopRow(Base):
    """One workshop; the fields are those of `orchestra_hub.workshop.Workshop`."""

    __tablename__ = "workshops"
    __table_args__ = (
        CheckConstraint("expires_at <= deadline", name="workshops_end_by_deadline"),
        CheckConstraint("seats >= 1", name="workshops_have_seats"),
        Index("workshops_by_due_at", "due_at"),
        Index("workshops_by_age", "created_at", "id"),
        Index("workshops_by_owner", "owner_key"),
    )

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    title: Mapped[str]
    owner: Mapped[str | None]
    owner_key: Mapped[str | None]
    teacher: Mapped[str]
    template: Mapped[dict[str, Any]]
    state: Mapped[State]
    opens_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    deadline: Mapped[datetime]
    purge_at: Mapped[datetime]
    retention_s: Mapped[int]
    lead_time_s: Mapped[int]
    warning_s: Mapped[int]
    idle_timeout_s: Mapped[int]
    seats: Mapped[int]
    join_policy: Mapped[JoinPolicy]
    join_code: Mapped[str | None]
    prepared_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    ended_early: Mapped[bool]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()
    generation: Mapped[int]
    trouble: Mapped[str | None]
    attempts: Mapped[int]
    due_at: Mapped[datetime | None]
    purge_record: Mapped[dict[str, Any] | None]

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it once, when the class is made


class ContentRow(Base):
    """A template's content, packed, under the digest of `content_digest`; workshops share it."""

    __tablename__ = "contents"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    data: Mapped[bytes]


class EnrolmentRow(Base):
    """A place in a workshop: at most one for a user name."""

    __tablename__ = "enrolments"
    __table_args__ = (Index("enrolments_by_user", "user_name"),)

    workshop_id: Mapped[str] = mapped_column(ForeignKey("workshops.id"), primary_key=True)
    user_name: Mapped[str] = mapped_column(primary_key=True)
    account_key: Mapped[str]
    role: Mapped[Role]
    joined_at: Mapped[datetime]
    in_hub: Mapped[bool]


class InvitationRow(Base):
    """A link that one person can use once; only the token's hash is kept."""

    __tablename__ = "invitations"
    __table_args__ = (Index("invitations_by_workshop", "workshop_id"),)

    id: Mapped[int] = mapped_column(_BIG_KEY, primary_key=True)
    workshop_id: Mapped[str] = mapped_column(ForeignKey("workshops.id"))
    label: Mapped[str]
    role: Mapped[Role]
    token_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class CountRow(Base):
    """An anonymous count of a workshop; stays after the purge."""

    __tablename__ = "counts"

    workshop_id: Mapped[str] = mapped_column(ForeignKey("workshops.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[int]


class PseudonymKeyRow(Base):
    """The key of a workshop's pseudonyms; without it no event leads back to a person."""

    __tablename__ = "pseudonym_keys"

    workshop_id: Mapped[str] = mapped_column(ForeignKey("workshops.id"), primary_key=True)
    key: Mapped[bytes]


class EventRow(Base):
    """One thing that happened to a workshop."""

    __tablename__ = "events"
    __table_args__ = (Index("events_by_workshop", "workshop_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(_BIG_KEY, primary_key=True)
    workshop_id: Mapped[str] = mapped_column(ForeignKey("workshops.id"))
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(40))
    actor: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[dict[str, Any]]


class LeaseRow(Base):
    """Who leads in what, until when. The row stays; its fence only grows."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    holder: Mapped[str]
    fence: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]


class FenceRow(Base):
    """One row with the last fence given to any lease."""

    __tablename__ = "fences"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last: Mapped[int] = mapped_column(BigInteger)
