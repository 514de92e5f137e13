"""The hub's queue of starts: beyond what the machine bears they wait for their turn instead of being refused.

JupyterHub answers 429 beyond `concurrent_spawn_limit`; here that many starts go on at once and the others wait inside
`User.spawn`, pending for the hub like any start. `line` decides the order, `queue_rows` keeps it over a restart.

Guarantees:

- A start that was asked for is begun, refused with a reason, or given up by who asked: none is lost, none begun twice.
- Who asked on a page has a place for as long as the page is open, and `leave_s` more.
- Whether a seat may be started is asked again when its turn comes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from orchestra_hub.hub.line import Place, Turns, Waiting, estimate_s, in_order, smoothed_s
from orchestra_hub.hub.queue_rows import QueueRows
from orchestra_hub.hub.seat import Obstacle, SeatFailed

__all__ = ["Asked", "StartQueue"]

_LOOK_S = 1.0
_FIRST_START_S = 6.0  # until a start has been seen
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """A start somebody asks for. `obstacle` tells what keeps it from beginning now; `workshop` is empty for none."""

    user_id: int
    server: str
    workshop: str
    attended: bool
    obstacle: Callable[[], Obstacle | None]

    @property
    def key(self) -> str:
        """The server, in a word."""
        return f"{self.user_id}/{self.server}"


@dataclass
class _Ticket:
    asked: Asked
    number: int
    task: asyncio.Task[object]
    seen_s: float
    watchers: int = 0
    reason: str | None = None
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    began_s: float = 0.0


class StartQueue:
    """At most `starts_at_once` starts (0: any number); the others wait, and until it is `open` all do.

    `close` it before the loop's tasks are cancelled.
    """

    def __init__(
        self, rows: QueueRows, *, starts_at_once: int, leave_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._rows = rows
        self._at_once = starts_at_once or math.inf
        self._leave_s = leave_s
        self._monotonic = monotonic
        self._waiting: dict[str, _Ticket] = {}
        self._starting: dict[str, _Ticket] = {}
        self._turns = Turns()
        self._start_s = _FIRST_START_S
        self._looking: asyncio.Task[None] | None = None
        self._places: dict[str, int] | None = None  # by key, from 1, in order; None: to be worked out anew
        self._open = False
        self._closed = False

    def open(self) -> None:
        """Begin what waits, and from now on whatever is asked for."""
        self._open = True
        self._admit()

    @asynccontextmanager
    async def turn(self, asked: Asked) -> AsyncIterator[None]:
        """Wait for the turn of a start and hold it for as long as the block lasts.

        Raises `SeatFailed` with the reason when it can't be begun at all. Cancelled, the place is given up.
        """
        ticket = self._enter(asked)
        succeeded = False
        try:
            self._admit()
            await ticket.turn
            yield
            succeeded = True
        finally:
            self._end(ticket, succeeded=succeeded)

    def place(self, user_id: int, server: str) -> Place | None:
        """Where a start stands in the line; None when it doesn't wait."""
        ticket = self._waiting.get(f"{user_id}/{server}")
        if ticket is None:
            return None
        places = self._in_order()
        number, first = places[ticket.asked.key], next(iter(places))
        return Place(number, len(places), estimate_s(number, self._at_once, self._start_s), self._waiting[first].reason)

    @contextmanager
    def watched(self, user_id: int, server: str) -> Iterator[None]:
        """Somebody looks at how the start gets on: until the block ends their place is safe."""
        ticket = self._waiting.get(f"{user_id}/{server}")
        if ticket is None:
            yield
            return
        ticket.watchers += 1
        try:
            yield
        finally:
            ticket.watchers -= 1
            ticket.seen_s = self._monotonic()

    def seen(self, user_id: int, server: str) -> None:
        """Somebody has just loaded the page of the start."""
        ticket = self._waiting.get(f"{user_id}/{server}")
        if ticket is not None:
            ticket.seen_s = self._monotonic()

    def leave(self, user_id: int, server: str) -> bool:
        """Give up a place in the line; False for a start that doesn't wait (any more)."""
        ticket = self._waiting.get(f"{user_id}/{server}")
        if ticket is not None:
            self._give_up(ticket, "by the person")
        return ticket is not None

    def forget_all(self) -> None:
        """Every seat is being stopped: nobody's place is kept for the next hub."""
        self._rows.clear()

    async def close(self) -> None:
        """Rows stay as they are from now on, for the next hub; nothing is begun any more."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def _enter(self, asked: Asked) -> _Ticket:
        task = asyncio.current_task()
        assert task is not None
        number = self._rows.enter(asked.user_id, asked.server, attended=asked.attended)
        ticket = self._waiting[asked.key] = _Ticket(asked, number, task, self._monotonic())
        self._places = None
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="queue of starts")
        return ticket

    def _in_order(self) -> dict[str, int]:
        if self._places is None:
            waiting = (Waiting(key, each.asked.workshop, each.number) for key, each in self._waiting.items())
            self._places = {each.key: place for place, each in enumerate(in_order(waiting, self._turns), 1)}
        return self._places

    def _admit(self) -> None:
        """Begin what can begin now."""
        while self._waiting and self._open and not self._closed and len(self._starting) < self._at_once:
            ticket = self._waiting[next(iter(self._in_order()))]
            obstacle = ticket.asked.obstacle()
            ticket.reason = None
            if obstacle is not None and obstacle.wait:
                ticket.reason = obstacle.sentence
                return
            del self._waiting[ticket.asked.key]
            self._places = None
            if ticket.turn.done():  # cancelled just now; its block ends by itself
                continue
            if obstacle is not None:
                _log.warning("start refused server=%s: %s", ticket.asked.key, obstacle.sentence)
                ticket.turn.set_exception(SeatFailed(obstacle.sentence, reason="obstacle"))
                continue
            self._starting[ticket.asked.key] = ticket
            self._turns = self._turns.given(ticket.asked.workshop)
            ticket.began_s = self._monotonic()
            ticket.turn.set_result(None)

    def _end(self, ticket: _Ticket, *, succeeded: bool) -> None:
        for held in (self._waiting, self._starting):
            if held.get(ticket.asked.key) is ticket:
                del held[ticket.asked.key]
        self._places = None
        if succeeded:
            self._start_s = smoothed_s(self._start_s, self._monotonic() - ticket.began_s)
        if self._closed:
            return
        try:
            self._rows.leave(ticket.number)
        except SQLAlchemyError as error:  # the next hub sees that there is nothing to start, or starts it again
            _log.warning("start's row not removed server=%s: %s", ticket.asked.key, error)
        self._admit()

    def _give_up(self, ticket: _Ticket, why: str) -> None:
        _log.info("place given up server=%s workshop=%s: %s", ticket.asked.key, ticket.asked.workshop or "-", why)
        ticket.task.cancel()

    async def _look(self) -> None:
        """While anybody waits: let go who has gone, and ask again what kept the first from beginning."""
        while self._waiting:
            await asyncio.sleep(_LOOK_S)
            now_s = self._monotonic()
            for ticket in list(self._waiting.values()):
                gone = ticket.asked.attended and not ticket.watchers and now_s - ticket.seen_s > self._leave_s
                if gone:
                    self._give_up(ticket, "the page was left")
            self._admit()
