"""The store: workshops, places, events and leases in one database, SQLite or PostgreSQL.

Guarantees:

- Every method is one transaction, and the events of a change are in it: both are written or neither.
- Everything raised is of `orchestra_hub.errors`.
- Methods block; on an event loop call them by `asyncio.to_thread`. A `Store` may be used by many threads.

`actor` is who did it: `system`, an account key, or `operator:` and an account key. It is written as a pseudonym.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from sqlalchemy import text

from orchestra_hub.dates import Clock, utcnow
from orchestra_hub.store.engine import LOCK_WAIT_S, Database
from orchestra_hub.store.enrolments import Enrolments
from orchestra_hub.store.leases import Leases
from orchestra_hub.store.mending import Mended, Mending, Sources
from orchestra_hub.store.migrating import migrate
from orchestra_hub.store.reading import Damage, Found
from orchestra_hub.store.reconciling import Reconciling
from orchestra_hub.store.records import Event, Lease
from orchestra_hub.store.sweeping import Sweeping
from orchestra_hub.store.workshops import Workshops
from orchestra_hub.workshop import NewWorkshop

__all__ = ["Damage", "Event", "Found", "Lease", "Mended", "NewWorkshop", "Sources", "Store"]


class Store(Workshops, Enrolments, Reconciling, Leases, Mending, Sweeping):
    """The whole store; the parts' methods are its own."""

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Clock = utcnow,
        backup_dir: Path | None = None,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> Self:
        """A store on the database at `url`, brought to the newest revision (with a backup first on SQLite).

        `sqlite:////folder/orchestra.sqlite` or `postgresql://user@host/name`. Raises `NewerData`,
        `StoreUnavailable`, `InvalidInput` for another kind of URL. A write that waits `lock_wait_s` seconds for
        others is refused as `StoreUnavailable`. Close the store when done.
        """
        database = Database(url, clock, lock_wait_s)
        try:
            migrate(database, backup_dir)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Closes every connection."""
        self._database.close()

    def ping(self) -> None:
        """Raises `StoreUnavailable` unless the database answers."""
        with self._database.read() as session:
            session.execute(text("SELECT 1"))
