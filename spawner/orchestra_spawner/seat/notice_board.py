"""The newest answer of the hub, kept fresh for as long as the seat runs, whether or not the hub is there."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from orchestra_hub.errors import HubUnavailable
from orchestra_spawner.seat.hub_link import HubLink
from orchestra_spawner.seat.notices import HubAnswer

__all__ = ["NoticeBoard"]

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
LONGEST_PAUSE_S = 10.0  # a log-out at a hub that is back is seen after one and a half of this at most
SHORTEST_PAUSE_S = 0.2  # between an answer and the next question
WAIT_S = 600.0
JITTER = 0.2
AWAY_JITTER = 0.5  # seats that lost one hub at one moment come back one after the other


class NoticeBoard:
    """Asks the hub, which holds its answer until it changes; when the hub is away, asks again less and less often.

    The last answer stays until the next one: a hub that is away takes no warning off the page. `interval_s` is the
    first pause while the hub is away, and the page's own interval. `sign_ins_changed` is set when a sign-in may have
    ended: the hub said so, or it was away and wouldn't have.
    """

    def __init__(
        self, hub: HubLink, *, interval_s: float, clock: Callable[[], datetime], log: Log, wait_s: float = WAIT_S
    ) -> None:
        self._hub = hub
        self._interval_s = interval_s
        self._wait_s = wait_s
        self._clock = clock
        self._log = log
        self._offset = timedelta(0)
        self._failures = 0
        self.answer: HubAnswer | None = None
        self.sign_ins_changed = asyncio.Event()

    @property
    def interval_s(self) -> float:
        """Seconds between two questions of the page to this server."""
        return self._interval_s

    @property
    def hub_answers(self) -> bool:
        """Whether the hub is there, as far as is known."""
        return self.answer is not None and not self._failures

    @property
    def hub_tells(self) -> bool:
        """Whether the hub says at once that a sign-in ended (one of an older release doesn't)."""
        return self.hub_answers and self.answer is not None and self.answer.version is not None

    def on_hub_clock(self, moment: datetime) -> datetime:
        """A moment of the seat's clock on the hub's; the same until the hub has been heard."""
        return moment + self._offset

    def hub_knows_of(self, activity: datetime) -> None:
        """The hub was told of activity at this moment (its own clock)."""
        if self.answer is not None:
            known = self.answer.last_activity
            self.answer = replace(self.answer, last_activity=activity if known is None else max(known, activity))

    async def refresh(self) -> None:
        """Ask the hub once, and wait for the answer until there is another than the last."""
        after = None if self.answer is None or self._failures else self.answer.version
        asked = self._clock()
        try:
            answer = await self._hub.notices(after=after, wait_s=self._spread(self._wait_s, JITTER))
        except HubUnavailable as error:
            self._failures += 1
            level = logging.WARNING if self._failures == 1 else logging.DEBUG
            self._log.log(level, "The hub is away, the last answer stays: %s", error)
            return
        answered = self._clock()
        was_away = self._failures > 0
        if was_away:
            self._log.info("Notices: the hub is back after %d failed questions.", self._failures)
        self._failures = 0
        # the hub's clock stood at `server_time` when it answered: half way if it did so at once, else at the end
        self._offset = answer.server_time - (asked + (answered - asked) / 2 if after is None else answered)
        before, self.answer = self.answer, answer
        if was_away or (before is not None and before.sign_ins != answer.sign_ins):
            self.sign_ins_changed.set()

    async def keep_fresh(self) -> None:
        """Ask the hub again and again, until cancelled."""
        while True:
            try:
                await self.refresh()
            except Exception:  # task boundary: one bad answer must not end all later ones
                self._failures += 1
                self._log.exception("Notices: this question failed, the next one comes.")
            await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        if self._failures:
            doublings = min(self._failures - 1, 10)
            longest_s = max(LONGEST_PAUSE_S, self._interval_s)
            return self._spread(min(self._interval_s * float(2**doublings), longest_s), AWAY_JITTER)
        if self.hub_tells:
            return self._spread(min(SHORTEST_PAUSE_S, self._interval_s), JITTER)
        return self._spread(self._interval_s, JITTER)  # a hub that holds no answers

    @staticmethod
    def _spread(seconds: float, jitter: float) -> float:
        return seconds * random.uniform(1 - jitter, 1 + jitter)
