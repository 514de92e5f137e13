"""What every spawner of seats shares, whichever world it starts them in.

A spawner class puts `SeatMixin` before its own base and uses `seat` to learn whose place in which workshop it starts.
Progress is what has really happened: a step is shown once it began, with the seconds since the start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from jupyterhub.spawner import SpawnException
from jupyterhub.utils import url_path_join
from sqlalchemy.orm import object_session
from traitlets import default
from traitlets.config import LoggingConfigurable

from orchestra_hub.hub.groups import account_of
from orchestra_hub.hub.line import told
from orchestra_hub.workshop import Account, WorkshopFacts

__all__ = ["Obstacle", "Progress", "Seat", "SeatFailed", "SeatMixin"]


class SeatFailed(SpawnException):  # type: ignore[misc]  # jupyterhub has no types
    """A seat that didn't start. `sentence` goes to the learner; `detail` is for the log."""

    def __init__(self, sentence: str, *, reason: str, detail: str = "") -> None:
        super().__init__(sentence, reason=reason, log_message=detail, status_code=500)
        self.jupyterhub_message = sentence


@dataclass(frozen=True)
class Obstacle:
    """Why a seat can't be started just now, as a sentence for its learner.

    `wait`: it passes by itself (memory that others use), so the start waits for it in the hub's queue; otherwise (a
    full disk) the start is refused with the sentence.
    """

    sentence: str
    wait: bool


@dataclass(frozen=True)
class Seat:
    """One account's place in one workshop."""

    facts: WorkshopFacts
    account: Account


@dataclass
class Progress:
    """The steps of one start. `share` is the part of the whole, 0 to 100, that a step begins at."""

    started_at_s: float = field(default_factory=time.monotonic)
    steps: list[tuple[int, str, float]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def step(self, share: int, text: str) -> None:
        """A new step begins now."""
        self.steps.append((share, text, time.monotonic() - self.started_at_s))
        self.changed.set()
        self.changed = asyncio.Event()


class SeatMixin(LoggingConfigurable):
    """Before a subclass of `jupyterhub.spawner.Spawner`: the seat's own URLs, its OAuth redirect, its progress."""

    user: Any
    name: str
    orm_spawner: Any
    _progress: Progress | None = None

    @property
    def seat(self) -> Seat | None:
        """Whose place in which workshop this server is; None for an ordinary server."""
        workshop_id = self.user.workshops.id_of_server(self.name)
        facts = None if workshop_id is None else self.user.workshops.facts(workshop_id)
        return None if facts is None else Seat(facts, account_of(self.user.orm_user))

    def start_obstacle(self) -> Obstacle | None:
        """What keeps this server from being started now; asked often by the queue of starts, so it must be quick."""
        return None

    def ended_because(self) -> str | None:
        """Why this server ended although nobody stopped it, as a sentence for its user; None when it isn't known."""
        return None

    @property
    def seat_url(self) -> str:
        """The server's full URL, on its own host."""
        return str(self.user.server_url(self.name))

    @property
    def oauth_callback_url(self) -> str:
        """Where the hub sends the browser back to after sign-in."""
        return str(url_path_join(self.seat_url, "oauth_callback"))

    def get_env(self) -> dict[str, str]:
        """JupyterHub's environment with the seat's own host in it."""
        env: dict[str, str] = super().get_env()  # type: ignore[misc]  # Spawner's, next in line
        env["JUPYTERHUB_OAUTH_CALLBACK_URL"] = self.oauth_callback_url
        return env

    def use_seat_origin(self) -> None:
        """Let the hub's OAuth client of this server send the browser to the server's own host (commits), and call a
        seat by its workshop's title in the hub's lists of servers."""
        seat, client = self.seat, self.orm_spawner.oauth_client
        if seat is not None:
            self.orm_spawner.display_name = seat.facts.title
        if client is not None and client.redirect_uri != self.oauth_callback_url:
            client.redirect_uri = self.oauth_callback_url
        session = object_session(self.orm_spawner)
        if session is not None:
            session.commit()

    def begin_progress(self) -> Progress:
        """Forget the steps of an earlier start."""
        self._progress = Progress()
        return self._progress

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Every step as it begins, and the seconds once a second (JupyterHub's progress events).

        While the start waits in the line, its `place` and how many wait; looking on keeps the place.
        """
        queue, who = self.user.settings["orchestra_queue"], (self.user.orm_user.id, self.name)
        with queue.watched(*who):
            while (place := queue.place(*who)) is not None:
                yield {"progress": 1, "message": told(place), "place": place.number, "of": place.of}
                await asyncio.sleep(1)
        shown = 0
        while True:
            progress = self._progress
            if progress is None:
                yield {"progress": 2, "message": "Waiting for the hub"}
                await asyncio.sleep(0.2)
                continue
            while shown < len(progress.steps):
                share, text, _ = progress.steps[shown]
                yield {"progress": share, "message": text}
                shown += 1
            changed = progress.changed
            try:
                await asyncio.wait_for(changed.wait(), timeout=1)
            except TimeoutError:
                share, text, _ = progress.steps[-1] if progress.steps else (2, "Waiting for the hub", 0.0)
                seconds = round(time.monotonic() - progress.started_at_s)
                yield {"progress": share, "message": f"{text} ({seconds} s so far)"}

    def ready_event(self, spawner: Any, event: dict[str, Any]) -> dict[str, Any]:
        """JupyterHub's last progress event, with the URL the server is really at."""
        kept = {key: value for key, value in event.items() if key != "html_message"}
        return {**kept, "url": self.seat_url, "message": "Your notebook is ready"}

    @default("progress_ready_hook")
    def _progress_ready_hook_default(self) -> Any:
        return self.ready_event
