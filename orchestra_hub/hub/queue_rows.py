"""The line of starts in the hub's database, so that a hub that is killed goes on where it was.

A table of our own beside JupyterHub's: a row from the moment a start is asked for until it has ended, however it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    delete,
    select,
    true,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from orchestra_hub.dates import Clock

__all__ = ["QueueRows", "Row"]

_METADATA = MetaData()
_TABLE = Table(
    "orchestra_starts",
    _METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("user_id", Integer, nullable=False),
    Column("server", String(255), nullable=False),
    Column("attended", Boolean, nullable=False),
    Column("asked_at", DateTime, nullable=False),  # UTC
    UniqueConstraint("user_id", "server"),
    sqlite_autoincrement=True,
)


class Row(NamedTuple):
    """One start that was asked for. `attended`: from a page, whose person keeps the place by staying on it."""

    number: int
    user_id: int
    server: str
    attended: bool


class QueueRows:
    """Reads and writes the table with the hub's session; every write is committed."""

    def __init__(self, db_factory: Callable[[], Session], clock: Clock) -> None:
        self._db_factory = db_factory
        self._clock = clock

    def make_table(self) -> None:
        """Make the table unless it is there."""
        _METADATA.create_all(self._db_factory().get_bind())

    def enter(self, user_id: int, server: str, *, attended: bool) -> int:
        """The number of this start: that of its row, or a new one."""
        db = self._db_factory()
        mine = (_TABLE.c.user_id == user_id) & (_TABLE.c.server == server)
        number = db.execute(select(_TABLE.c.number).where(mine)).scalar()
        if number is None:
            now = self._clock().replace(tzinfo=None)
            row = {"user_id": user_id, "server": server, "attended": attended, "asked_at": now}
            number = db.execute(_TABLE.insert().values(row).returning(_TABLE.c.number)).scalar_one()
            db.commit()
        return int(number)

    def leave(self, number: int) -> None:
        """The start has ended, or nobody waits for it any more."""
        self._delete(_TABLE.c.number == number)

    def left_over(self, within: timedelta) -> list[Row]:
        """The starts an earlier hub didn't get to, in their order; those asked for longer than `within` ago are
        removed, nobody waits for them any more."""
        self._delete(_TABLE.c.asked_at < (self._clock() - within).replace(tzinfo=None))
        columns = (_TABLE.c.number, _TABLE.c.user_id, _TABLE.c.server, _TABLE.c.attended)
        found = self._db_factory().execute(select(*columns).order_by(_TABLE.c.number))
        return [Row(*row) for row in found]

    def clear(self) -> None:
        """Nobody waits any more."""
        self._delete(true())

    def _delete(self, which: ColumnElement[bool]) -> None:
        db = self._db_factory()
        try:
            db.execute(delete(_TABLE).where(which))
            db.commit()
        except SQLAlchemyError:
            db.rollback()
            raise
