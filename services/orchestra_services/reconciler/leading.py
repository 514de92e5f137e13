"""One leader at a time: a lease in the store, renewed while it is held, checked before every step and every change.

A leader that was paused past its lease writes nothing: the store refuses its fence, and a step, or a change of the hub,
starts only while the lease lasts that it was seen to hold, by a clock that goes on during a pause. A leader that can't
reach the store stops by itself when its lease runs out.

Who waits trusts no clock of another machine, nor its own after it was set: a lease that it has seen unchanged for the
lease's time, by a clock that only goes on, is nobody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable

from orchestra_hub.errors import LeaseLost, OrchestraError, StoreUnavailable
from orchestra_hub.store import Lease, Store

__all__ = ["LEASE", "Leadership", "Watch", "lead", "new_holder"]

LEASE = "reconciler"
_RELEASE_TIMEOUT_S = 1.0
_log = logging.getLogger(__name__)


def new_holder() -> str:
    """A name for this process that no other has: host, process id, random."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class Leadership:
    """A lease held by this process. `asked_s`: when it was asked for, by `monotonic`, whose seconds only grow."""

    def __init__(
        self, store: Store, lease: Lease, ttl_s: float, asked_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._lease = lease
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._renewed_s = asked_s

    @property
    def fence(self) -> int:
        """What every write carries."""
        return self._lease.fence

    async def check(self) -> None:
        """Nobody else leads, nor will for half the lease's time; raises `LeaseLost` otherwise.

        Renewing writes to the disk, so it is done only when the last time is a while ago.
        """
        if self._monotonic() - self._renewed_s > self._ttl_s / 2:
            await self.renew()
        else:
            held = await asyncio.to_thread(self._store.lease, self._lease.name)
            if held is None or held.fence != self._lease.fence:
                raise LeaseLost(f"The lease {self._lease.name} has gone to another process.")
        self.confirm()

    def confirm(self) -> None:
        """The lease held since it was last renewed hasn't run out; raises `LeaseLost` otherwise. Asks nobody."""
        if self._monotonic() >= self._renewed_s + self._ttl_s:
            raise LeaseLost(f"The lease {self._lease.name} ran out before it was renewed.")

    async def renew(self) -> None:
        """Have the lease for all of its time from now; raises `LeaseLost` when another leads."""
        asked_s = self._monotonic()
        await asyncio.to_thread(self._store.renew_lease, self._lease, self._ttl_s)
        self._renewed_s = asked_s

    async def keep(self) -> None:
        """Renew three times per lifetime, until cancelled; raises `LeaseLost`."""
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            try:
                await self.renew()
            except StoreUnavailable as error:
                _log.warning("lease not renewed: %s", error)
                self.confirm()

    async def release(self) -> None:
        """Let another lead at once; at best effort, as the lease runs out anyway."""
        with contextlib.suppress(OrchestraError, TimeoutError):
            async with asyncio.timeout(_RELEASE_TIMEOUT_S):
                await asyncio.to_thread(self._store.release_lease, self._lease)


class Watch:
    """What one who waits has seen of a lease. `monotonic` gives seconds that only grow."""

    def __init__(self, ttl_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._seen: Lease | None = None
        self._since_s = 0.0

    def unchanged(self, lease: Lease | None) -> Lease | None:
        """`lease` when it has stood like this for all of its time, or longer; else None."""
        now_s = self._monotonic()
        if lease != self._seen:
            self._seen, self._since_s = lease, now_s
            return None
        return lease if now_s - self._since_s > self._ttl_s else None


async def lead(store: Store, holder: str, ttl_s: float, work: Callable[[Leadership], Awaitable[None]]) -> None:
    """Run `work` whenever this process leads, until cancelled; `work` ends by `LeaseLost` or being cancelled."""
    waiting = False
    watch = Watch(ttl_s)
    while True:
        lease: Lease | None = None
        try:
            seen = watch.unchanged(await asyncio.to_thread(store.lease, LEASE))
            asked_s = time.monotonic()
            lease = await asyncio.to_thread(store.acquire_lease, LEASE, holder, ttl_s, seen=seen)
        except OrchestraError as error:
            _log.warning("lease not acquired: %s", error)
        if lease is None:
            if not waiting:
                _log.info("another process leads: waiting")
            waiting = True
            await asyncio.sleep(ttl_s / 3)
            continue
        waiting = False
        _log.info("leading, fence=%d", lease.fence)
        await _work(Leadership(store, lease, ttl_s, asked_s), work)


async def _work(leadership: Leadership, work: Callable[[Leadership], Awaitable[None]]) -> None:
    keeping = asyncio.create_task(leadership.keep())
    working = asyncio.ensure_future(work(leadership))
    try:
        await asyncio.wait((keeping, working), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, keeping):
            task.cancel()
        ended = await asyncio.gather(working, keeping, return_exceptions=True)
        await leadership.release()
    for error in ended:
        if isinstance(error, LeaseLost):
            _log.warning("no longer leading: %s", error)
        elif error is not None and not isinstance(error, asyncio.CancelledError):
            raise error
