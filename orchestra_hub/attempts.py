"""How often a secret (a password, a join code, an invitation) may be guessed: per account and address together.

Guarantees:

- Never more than the allowed number of wrong attempts in the window, however many are sent at once: one that is under
  way counts until it turned out right.
- A right attempt isn't counted, and doesn't forget the wrong ones before it: somebody who has one right code can't use
  it to guess another without end.
- Account and address count together: many people behind one address don't hinder each other, and wrong attempts from
  elsewhere lock nobody out.

Counts are kept in the process and end with it. The window is `limits`' moving one; that library reads the system's
clock itself, so a clock set back by an hour makes those who are waiting wait an hour more, and nobody else.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from orchestra_hub.errors import TooManyAttempts

__all__ = ["Attempt", "Attempts"]


@dataclass
class Attempt:
    """One attempt under way; wrong unless it is said to be right."""

    right: bool = False


class Attempts:
    """Counts wrong attempts: `most` of them in `window_s` seconds for an account at an address."""

    def __init__(self, most: int, window_s: int) -> None:
        self._limit = RateLimitItemPerSecond(most, window_s)
        self._counted = MovingWindowRateLimiter(MemoryStorage())
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def one(self, account: str, address: str) -> Iterator[Attempt]:
        """An attempt of `account` from `address`; raises `TooManyAttempts` instead when there were too many wrong ones.

        Set `right` inside the block when the secret was right; whatever else ends the block counts as wrong.
        """
        key = hashlib.sha256(f"{address}\n{account}".encode("utf-8", "surrogatepass")).hexdigest()
        window = self._counted.get_window_stats(self._limit, key)
        if window.remaining <= self._under_way[key]:
            wait_s = math.ceil(window.reset_time - time.time()) if window.remaining <= 0 else 1
            raise TooManyAttempts(
                f"There were too many wrong attempts. Try again in {_in_words(max(1, wait_s))}.",
                retry_after_s=max(1, wait_s),
            )
        self._under_way[key] += 1
        attempt = Attempt()
        try:
            yield attempt
        finally:
            if self._under_way[key] > 1:
                self._under_way[key] -= 1
            else:
                del self._under_way[key]
            if not attempt.right:
                self._counted.hit(self._limit, key)


def _in_words(seconds: int) -> str:
    if seconds < 90:
        return "one second" if seconds == 1 else f"{seconds} seconds"
    return f"{math.ceil(seconds / 60)} minutes"
