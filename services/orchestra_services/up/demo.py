"""The demo workshop of `up --demo`: one is open whenever `up --demo` has started."""

from __future__ import annotations

from collections.abc import Iterable

from orchestra_hub.api_models import WorkshopCreate, WorkshopView
from orchestra_hub.client import OrchestraClient
from orchestra_hub.workshop import JoinPolicy, State

__all__ = ["demo_workshop", "open_demo"]

TEMPLATE = "rnaseq-intro"
SESSION = "demo"
HOURS = 8
_USABLE = frozenset({State.SCHEDULED, State.PREPARING, State.OPEN, State.CLOSING})


def open_demo(workshops: Iterable[WorkshopView]) -> WorkshopView | None:
    """The demo workshop among `workshops` that people can still use, the one that lasts longest."""
    found = [shown for shown in workshops if shown.id.startswith(f"{TEMPLATE}-{SESSION}-") and shown.state in _USABLE]
    return max(found, key=lambda shown: shown.expires_at, default=None)


def demo_workshop(client: OrchestraClient) -> WorkshopView:
    """The demo workshop that is there, or a new one."""
    present = open_demo(client.workshops(states=sorted(_USABLE)))
    if present is not None:
        return present
    return client.create_workshop(
        WorkshopCreate(
            template=TEMPLATE,
            session=SESSION,
            opens_at="now",
            hours=HOURS,
            join_policy=JoinPolicy.OPEN,
        )
    )
