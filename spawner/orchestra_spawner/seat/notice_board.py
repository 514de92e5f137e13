"""The newest answer of the hub, kept fresh for as long as the seat runs, whether or not the hub is there."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta

from orchestra_hub.errors import HubUnavailable
from orchestra_spawner.seat.hub_link import HubLink
from orchestra_spawner.seat.notices import HubAnswer

__all__ = ["NoticeBoard"]

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
LONGEST_PAUSE_S = 60.0
QUIET_FACTOR = 6  # nobody looks: ask the hub this much more seldom
JITTER = 0.2


class NoticeBoard:
    """Asks the hub every `interval_s` while a page looks, else every sixth time; when the hub is away, less and less.

    The last answer stays until the next one: a hub that is away takes no warning off the page.
    """

    def __init__(self, hub: HubLink, *, interval_s: float, clock: Callable[[], datetime], log: Log) -> None:
        self._hub = hub
        self._interval_s = interval_s
        self._clock = clock
        self._log = log
        self._offset = timedelta(0)
        self._failures = 0
        self._looked_at: datetime | None = None
        self._wake = asyncio.Event()
        self.answer: HubAnswer | None = None

    @property
    def interval_s(self) -> float:
        """Seconds between two questions while a page looks."""
        return self._interval_s

    def on_hub_clock(self, moment: datetime) -> datetime:
        """A moment of the seat's clock on the hub's; the same until the hub has been heard."""
        return moment + self._offset

    def looked_at(self) -> None:
        """A page asked: if the answer is old because nobody looked, the hub is asked now."""
        was_quiet = self._is_quiet()
        self._looked_at = self._clock()
        if was_quiet:
            self._wake.set()

    def hub_is_away(self, consequence: str, error: HubUnavailable) -> None:
        """Count a failed call; the log says so once per absence."""
        self._failures += 1
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        self._log.log(level, "The hub is away, %s: %s", consequence, error)

    async def refresh(self) -> None:
        """Ask the hub once. Its clock is taken to have stood at `server_time` half way between question and answer."""
        asked = self._clock()
        try:
            answer = await self._hub.notices()
        except HubUnavailable as error:
            self.hub_is_away("the last answer stays", error)
            return
        if self._failures:
            self._log.info("Notices: the hub is back after %d failed questions.", self._failures)
        answered = self._clock()
        self._failures = 0
        self._offset = answer.server_time - (asked + (answered - asked) / 2)
        self.answer = answer

    async def keep_fresh(self) -> None:
        """Ask the hub again and again, until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.refresh()
            except Exception:  # task boundary: one bad answer must not end all later ones
                self._failures += 1
                self._log.exception("Notices: this question failed, the next one comes.")
            try:
                await asyncio.wait_for(self._wake.wait(), self._pause_s())
            except TimeoutError:
                continue

    def _pause_s(self) -> float:
        pause_s = self._interval_s
        if self._failures:
            doublings = min(self._failures - 1, 10)
            pause_s = min(pause_s * float(2**doublings), max(LONGEST_PAUSE_S, pause_s))
        elif self._is_quiet():
            pause_s *= QUIET_FACTOR
        return pause_s * random.uniform(1 - JITTER, 1 + JITTER)

    def _is_quiet(self) -> bool:
        if self._looked_at is None:
            return True
        return (self._clock() - self._looked_at).total_seconds() > self._interval_s * QUIET_FACTOR
