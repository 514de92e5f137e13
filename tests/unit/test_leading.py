"""When a lease is nobody's, by a clock that only goes on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from orchestra_hub.errors import LeaseLost
from orchestra_hub.hub_api import HubAPI
from orchestra_hub.ids import server_name
from orchestra_hub.store import Lease, Store
from orchestra_services.reconciler.leading import LEASE, Leadership, Watch
from tests.hub_wire import TOKEN, hub_wire
from tests.unit.workshops import NOON, SettableClock


def _lease(**changes: object) -> Lease:
    return Lease(name="n", holder="a", fence=1, expires_at=NOON).model_copy(update=changes)


def test_a_lease_seen_unchanged_for_its_time_is_nobodys() -> None:
    now_s = 0.0
    watch = Watch(10, lambda: now_s)
    assert watch.unchanged(_lease()) is None
    now_s = 9.9
    assert watch.unchanged(_lease()) is None
    renewed = _lease(expires_at=NOON - timedelta(hours=1))  # by a clock that went back
    assert watch.unchanged(renewed) is None
    now_s = 19.8
    assert watch.unchanged(renewed) is None
    now_s = 20.0
    assert watch.unchanged(renewed) == renewed
    assert watch.unchanged(None) is None


async def test_a_leader_that_stood_still_between_its_check_and_its_call_sends_nothing(tmp_path: Path) -> None:
    """It asked in time, and was told that it leads; then all of the lease's time passed before the call was sent."""
    now_s = 0.0
    store = Store.open(f"sqlite:///{tmp_path}/o.sqlite", clock=SettableClock())
    lease = store.acquire_lease(LEASE, "a", 10)
    assert lease is not None
    leadership = Leadership(store, lease, 10, now_s, lambda: now_s)

    class Slow:
        """Stands still for `s` seconds after it was told that it leads."""

        s = 9.9

        async def check(self) -> None:
            nonlocal now_s
            await leadership.check()
            now_s += self.s

        confirm = leadership.confirm

    async with hub_wire() as wire, HubAPI(wire.url, TOKEN) as hub:
        wire.sign_up("ada", "bob")
        for name in ("ada", "bob"):
            wire.run_seat(name, "counting-may-abcdef")
        server = server_name("counting-may-abcdef")
        await hub.guarded(Slow()).stop("ada", server)
        assert wire.running("counting-may-abcdef") == {"bob"}
        await leadership.check()  # renews: the time is nearly over
        slower = Slow()
        slower.s = 10.0
        before = list(wire.calls)
        with pytest.raises(LeaseLost, match="ran out"):
            await hub.guarded(slower).stop("bob", server)
        assert wire.calls == before
        with pytest.raises(LeaseLost, match="ran out"):
            leadership.confirm()
        assert wire.running("counting-may-abcdef") == {"bob"}
    store.close()


def test_what_was_seen_counts_only_while_it_still_stands_so(tmp_path: Path) -> None:
    clock = SettableClock()
    store = Store.open(f"sqlite:///{tmp_path}/o.sqlite", clock=clock)
    first = store.acquire_lease(LEASE, "a", 60)
    assert first is not None and store.lease(LEASE) == first
    assert store.acquire_lease(LEASE, "b", 60) is None
    clock.forward(seconds=1)
    renewed = store.renew_lease(first, 60)
    assert store.acquire_lease(LEASE, "b", 60, seen=first) is None, "it was renewed since"
    taken = store.acquire_lease(LEASE, "b", 60, seen=renewed)
    assert taken is not None and taken.fence > first.fence
    store.close()
