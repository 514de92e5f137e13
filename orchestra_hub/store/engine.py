"""Connections and transactions, and the one place where the database's errors become ours.

Guarantees:

- `write` is one transaction: all of it or nothing. On SQLite it begins with `BEGIN IMMEDIATE`, so whoever writes has
  the write lock before reading; on PostgreSQL the methods lock the workshop's row.
- Nothing that SQLAlchemy raises leaves here: `StaleVersion` and `StoreUnavailable` do, with the cause kept.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.pool import StaticPool

from orchestra_hub.dates import Clock
from orchestra_hub.errors import InvalidInput, StaleVersion, StoreUnavailable
from orchestra_hub.store.deadline import check_deadline

__all__ = ["LOCK_WAIT_S", "Database", "sqlite_file", "translated"]

LOCK_WAIT_S = 15.0
"""How long a write waits for another's lock, and on PostgreSQL any statement may take, before it is refused."""

_PATIENCE: dict[str, Any] = {
    "connect_timeout": 3,
    "tcp_user_timeout": 10_000,  # milliseconds: a server whose machine is gone sends nothing, not even an end
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}

_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode = WAL",  # readers and the one writer don't wait for each other
    "PRAGMA synchronous = FULL",  # a place somebody was told they have survives a power cut; NORMAL may lose it in WAL
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # purged names are overwritten in the file, not only unlinked
)


@contextmanager
def translated() -> Iterator[None]:
    """Turns SQLAlchemy's errors about the database's condition into ours."""
    try:
        yield
    except StaleDataError as error:
        raise StaleVersion("Somebody changed this meanwhile. Read it again, then repeat.") from error
    except exc.TimeoutError as error:
        raise StoreUnavailable("The database is busy: no connection came free. Try again in a moment.") from error
    except (exc.IntegrityError, exc.DataError):
        raise  # a fault of ours, not of the database's condition
    except exc.DBAPIError as error:
        said = str(error.orig).strip().splitlines()
        raise StoreUnavailable(
            f"The database can't be used right now ({said[0] if said else 'no reason given'}). Try again in a moment; "
            "if it stays, check that it runs, that its disk has room and that it can be written."
        ) from error


def _normalised(url: str) -> URL:
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise InvalidInput(
            "The database URL can't be read. Write sqlite:////folder/orchestra.sqlite or postgresql://user@host/name."
        ) from error
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise InvalidInput(f"A {backend} database is not supported. Use SQLite or PostgreSQL.")
    return parsed.set(drivername="sqlite" if backend == "sqlite" else "postgresql+psycopg")


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite URL; None for one in memory and for other databases."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


class Database:
    """One engine and its transactions. `close` it when done."""

    def __init__(self, url: str, clock: Clock, lock_wait_s: float = LOCK_WAIT_S) -> None:
        self.url = _normalised(url)
        self._lock_wait_s = lock_wait_s
        self.clock = clock
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = self._sqlite_engine() if self.is_sqlite else self._postgresql_engine()
        self._writing = self.engine.execution_options(orchestra_write=True)

    def _sqlite_engine(self) -> Engine:
        file = sqlite_file(self.url)
        options: dict[str, Any] = {"connect_args": {"timeout": self._lock_wait_s, "check_same_thread": False}}
        if file is None:
            options["poolclass"] = StaticPool
        else:
            with _refusal_to_write(file):
                # Names of people are in it: for its owner alone. SQLite gives its -wal and -shm the same mode.
                os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        engine = create_engine(self.url, **options)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "before_cursor_execute", _check_deadline)
        return engine

    def _postgresql_engine(self) -> Engine:
        wait_ms = round(self._lock_wait_s * 1000)
        arguments: dict[str, Any] = {"application_name": "orchestra-hub", **_PATIENCE}
        if "options" not in self.url.query:
            arguments["options"] = (
                f"-c lock_timeout={wait_ms} -c statement_timeout={wait_ms} "
                f"-c idle_in_transaction_session_timeout={10 * wait_ms}"
            )
        engine = create_engine(
            self.url, connect_args={name: value for name, value in arguments.items() if name not in self.url.query},
            pool_pre_ping=True, pool_recycle=1800, pool_size=10, max_overflow=10, pool_timeout=self._lock_wait_s,
        )  # fmt: skip
        event.listen(engine, "before_cursor_execute", _check_deadline)
        return engine

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; what it changes is rolled back."""
        with translated(), Session(self.engine, autoflush=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose transaction is committed at the end, or rolled back if anything is raised."""
        with translated(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session
            session.flush()
            check_deadline()  # who is told that it was too slow can rely on its not having been done

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A plain connection in a write transaction, for migrations."""
        with translated(), self._writing.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text("SET LOCAL statement_timeout = 0"))
            yield connection

    def forget_old_pages(self) -> None:
        """Empties SQLite's log, where pages with purged names may still stand. Best effort: readers may keep it."""
        if self.is_sqlite:
            with translated(), self.engine.connect() as connection:
                connection.execution_options(orchestra_plain=True).execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()


@contextmanager
def _refusal_to_write(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"The database {file} can't be opened for writing ({error.strerror}). Check the folder and who owns it."
        ) from error


def _check_deadline(*_: object) -> None:
    check_deadline()


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """Every connection's settings; the driver's own `timeout` is SQLite's busy_timeout."""
    connection.isolation_level = None  # the driver begins nothing by itself; `_begin_sqlite` does
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("orchestra_plain"):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("orchestra_write") else "BEGIN")
