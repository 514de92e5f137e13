"""How long whoever asked still waits: work on the database that nobody waits for any more is given up.

A deadline holds for everything done within `deadline_in`, in threads begun by `asyncio.to_thread` too. It is looked at
before each statement and before a commit: so what is refused for want of time was not done either.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from orchestra_hub.errors import StoreUnavailable

__all__ = ["check_deadline", "deadline_in", "set_deadline"]

_deadline_s: ContextVar[float | None] = ContextVar("orchestra_store_deadline_s", default=None)


def set_deadline(seconds: float) -> None:
    """From now on, in this task, work on the store has `seconds`."""
    _deadline_s.set(time.monotonic() + seconds)


@contextmanager
def deadline_in(seconds: float) -> Iterator[None]:
    """Within the block, work on the store has `seconds`."""
    before = _deadline_s.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline_s.reset(before)


def check_deadline() -> None:
    """Raises `StoreUnavailable` when time is up."""
    deadline = _deadline_s.get()
    if deadline is not None and time.monotonic() > deadline:
        raise StoreUnavailable("The database is too slow just now; nothing was changed. Try again in a moment.")
