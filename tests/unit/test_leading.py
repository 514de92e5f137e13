"""When a lease is nobody's, by a clock that only goes on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from orchestra_hub.store import Lease, Store
from orchestra_services.reconciler.leading import LEASE, Watch
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
