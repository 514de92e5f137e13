"""The bound of a request: it fails in time, whatever the database does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from orchestra_hub.errors import StoreUnavailable
from orchestra_hub.store.deadline import deadline_in

__all__ = ["in_time"]

_T = TypeVar("_T")
_HUB_S = 5.0  # what telling the hub at once may take
_SERVER_S = 65.0  # what the hub may take to start or stop a server


async def in_time(doing: Awaitable[_T], limit_s: float, with_servers: bool) -> _T:
    """What `doing` gives. It has `limit_s` for the database, and as much more for the hub as its calls may take.

    Raises `StoreUnavailable` when it takes longer. The database's own bounds come first, and with them it is sure that
    nothing was done; this one is for a connection that says nothing at all.
    """
    with deadline_in(limit_s):
        try:
            async with asyncio.timeout(limit_s + _HUB_S + (_SERVER_S if with_servers else 0)):
                return await doing
        except TimeoutError as error:
            raise StoreUnavailable(
                "The platform's database doesn't answer. Look whether it was done, then try again."
            ) from error
