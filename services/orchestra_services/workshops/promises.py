"""What to warn about in a workshop: read from the machine and the store, decided in `orchestra_hub.promises`."""

from __future__ import annotations

import asyncio
import logging

from orchestra_hub.errors import OrchestraError
from orchestra_hub.lifecycle import LIVING
from orchestra_hub.promises import promise_warnings
from orchestra_hub.workshop import State, Workshop
from orchestra_services.workshops.context import Context, log

__all__ = ["warnings_of"]

_READ = 200  # workshops at a time
_COUNTED = LIVING | {State.EXPIRED, State.CANCELLED}


async def warnings_of(context: Context, workshop: Workshop, instructors: int = 1) -> list[str]:
    """Sentences about what doesn't fit; none where it can't be told."""
    if workshop.state not in LIVING:
        return []
    try:
        capacity = await context.provisioner.capacity()
        if capacity is None:
            return []
        others = await asyncio.to_thread(_others, context)
    except (OSError, OrchestraError) as error:
        log.log(logging.WARNING, "workshop=%s it isn't known whether it fits: %s", workshop.id, error)
        return []
    return promise_warnings(workshop, others, capacity, instructors=instructors)


def _others(context: Context) -> list[Workshop]:
    found: list[Workshop] = []
    after = None
    while True:
        read = context.store.workshops(_COUNTED, after=after, limit=_READ)
        found += read
        if len(read) < _READ:
            return found
        after = read[-1].id
