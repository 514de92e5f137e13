"""Leases: one holder at a time, each with a fence greater than any before.

A holder that was paused past its lease doesn't know that another leads; its writes carry the old fence and are
refused (`LeaseLost`) by the database, whatever it believes.

Clocks differ and are set. So the time written in a lease is only one of two ways to see that its holder is gone; the
other is to have looked at it for the lease's time by one's own monotonic clock, and not to have seen it renewed
(`seen`). Whoever is wrong in this takes a lease from a holder that lives: that one finds its fence refused, and no
harm is done.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select, update

from orchestra_hub.errors import LeaseLost
from orchestra_hub.store.base import StorePart
from orchestra_hub.store.models import FenceRow, LeaseRow
from orchestra_hub.store.records import Lease

__all__ = ["Leases"]


class Leases(StorePart):
    """Leadership."""

    def lease(self, name: str) -> Lease | None:
        """The lease as it stands, whoever has it; None when nobody ever had it."""
        with self._database.read() as session:
            row = session.scalars(select(LeaseRow).where(LeaseRow.name == name)).one_or_none()
            return None if row is None else _to_lease(row)

    def acquire_lease(self, name: str, holder: str, ttl_s: float, *, seen: Lease | None = None) -> Lease | None:
        """The lease for `ttl_s` seconds, with a new fence; None while another holder has it.

        `seen` is the lease as the asker has seen it for all of its time: if it still stands so, its holder is gone,
        whatever the clock says. The same holder gets it anew, with a new fence: it may be another process under the
        same name.
        """
        with self._database.write() as session:
            fences = session.get(FenceRow, 1, with_for_update=True)  # held first: two can't make the same lease at once
            row = session.get(LeaseRow, name, with_for_update=True)
            now = self._now()
            if row is not None and row.holder != holder and row.expires_at > now and _to_lease(row) != seen:
                return None
            if fences is None:
                raise LeaseLost("The store's fences are gone: the database was changed by hand. Restore a backup.")
            fences.last += 1
            lease = Lease(name=name, holder=holder, fence=fences.last, expires_at=now + timedelta(seconds=ttl_s))
            session.merge(LeaseRow(**lease.model_dump()))
            return lease

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """The same lease for `ttl_s` seconds from now; raises `LeaseLost` when it has gone to another."""
        renewed = lease.model_copy(update={"expires_at": self._now() + timedelta(seconds=ttl_s)})
        if not self._set_end(renewed):
            raise LeaseLost(f"The lease {lease.name} has gone to another process.")
        return renewed

    def release_lease(self, lease: Lease) -> None:
        """The next who asks gets it; nothing happens if it has gone to another already."""
        self._set_end(lease.model_copy(update={"expires_at": self._now()}))

    def _set_end(self, lease: Lease) -> bool:
        mine = update(LeaseRow).where(LeaseRow.name == lease.name, LeaseRow.fence == lease.fence)
        with self._database.write() as session:
            return bool(session.connection().execute(mine.values(expires_at=lease.expires_at)).rowcount)


def _to_lease(row: LeaseRow) -> Lease:
    return Lease(name=row.name, holder=row.holder, fence=row.fence, expires_at=row.expires_at)
