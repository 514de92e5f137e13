"""The hub's own database: how SQLite keeps it, and what happens while it can't be used.

The hub is one process with one event loop and one session. So a database that is locked (by a backup program), full or
read-only must neither hold the loop for long nor leave the session broken for whoever comes next:

- A write waits `LOCK_WAIT_S` for another's lock; after one that waited in vain, writes wait `SHORT_WAIT_S` only for
  the next `TROUBLE_S` seconds.
- In these seconds nobody's activity is recorded, so that pages and seats' sign-in checks, which only read, go on.
- What can't be done is answered with 503, `Retry-After` and a sentence, and the session is rolled back.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, PendingRollbackError, SQLAlchemyError
from tornado import web

__all__ = ["LOCK_WAIT_S", "HubDatabase", "is_about_the_database", "unusable"]

LOCK_WAIT_S = 2.0
SHORT_WAIT_S = 0.05
TROUBLE_S = 10.0
_RETRY_AFTER_S = 5
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",  # a backup that reads keeps nobody from writing
    "PRAGMA synchronous = FULL",  # an account, a password or a token that somebody was told of survives a power cut
)


class HubDatabase:
    """Watches over the engine's connections. `monotonic` gives seconds that only grow."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._trouble_until_s = 0.0

    @property
    def in_trouble(self) -> bool:
        """Whether a write failed within the last `TROUBLE_S` seconds."""
        return self._monotonic() < self._trouble_until_s

    def watch(self, engine: Engine) -> None:
        """Set up the connections of `engine` from now on; those made before are closed. One in memory is left alone:
        it is gone with its only connection."""
        if engine.dialect.name == "sqlite" and engine.url.database in (None, "", ":memory:"):
            return
        event.listen(engine, "handle_error", self._failed)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _set_up)
            event.listen(engine, "begin", self._be_patient)
        engine.dispose()

    def _failed(self, context: Any) -> None:
        if isinstance(context.original_exception, sqlite3.OperationalError) or context.is_disconnect:
            self._trouble_until_s = self._monotonic() + TROUBLE_S

    def _be_patient(self, connection: Any) -> None:
        wait_ms = round(1000 * (SHORT_WAIT_S if self.in_trouble else LOCK_WAIT_S))
        if connection.info.get("orchestra_wait_ms") != wait_ms:
            connection.connection.driver_connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
            connection.info["orchestra_wait_ms"] = wait_ms


def _set_up(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in _PRAGMAS:
        try:
            connection.execute(pragma)
        except sqlite3.OperationalError:  # locked or read-only just now: the file keeps the mode it has
            continue


def is_about_the_database(error: BaseException | None) -> bool:
    """Whether an error says that the database can't be used, and nothing about what was asked of it."""
    if isinstance(error, PendingRollbackError):
        return True
    return isinstance(error, OperationalError | InternalError | InterfaceError)


def unusable(error: BaseException) -> web.HTTPError | None:
    """The answer to an error about the database (JupyterHub's own conventions); None for every other error."""
    if not isinstance(error, SQLAlchemyError) or not is_about_the_database(error):
        return None
    sentence = (
        "The hub's database can't be used just now: it is locked, full or read-only. Nothing was changed, and "
        "notebooks that run go on. Try again in a moment; if it stays so, tell an operator."
    )
    answer: Any = web.HTTPError(503, f"the hub's database can't be used: {str(error.__cause__ or error)[:200]}")
    answer.jupyterhub_message = sentence
    answer.headers = {"Retry-After": str(_RETRY_AFTER_S)}
    refused: web.HTTPError = answer
    return refused
