"""The line of starts as values: whose turn is next, how long until then, and how that is told. Pure.

Fair between workshops: they take turns, and within a workshop who came first is first, so that a class of sixty doesn't
keep two people of another waiting until it is through. It is start-time fair queueing with starts of equal weight: each
workshop counts its turns, one that comes anew begins at the count of the turn given last, and the lowest count is next.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Place", "Turns", "Waiting", "estimate_s", "in_order", "smoothed_s", "told"]

_WEIGHT = 0.3  # of the newest start in the smoothed duration: a few starts are enough to follow a busy machine


@dataclass(frozen=True)
class Waiting:
    """A start that waits. `workshop` is empty for servers of no workshop; `number` grows in the order of coming."""

    key: str
    workshop: str
    number: int


@dataclass(frozen=True)
class Place:
    """Where somebody stands in the line: `number` counts from 1; `wait_s` is an estimate, `reason` what it waits for
    besides its turn."""

    number: int
    of: int
    wait_s: float
    reason: str | None = None


@dataclass(frozen=True)
class Turns:
    """How often workshops had their turn: `counts` of those that are ahead, `last` the count of the turn given last."""

    counts: Mapping[str, int] = field(default_factory=dict)
    last: int = 0

    def count(self, workshop: str) -> int:
        """The count of the next turn of `workshop`."""
        return max(self.last, self.counts.get(workshop, 0))

    def given(self, workshop: str) -> Turns:
        """After one more turn of `workshop`, which was the next."""
        last = self.count(workshop)
        ahead = {name: count for name, count in self.counts.items() if count > last}
        return Turns({**ahead, workshop: last + 1}, last)


def in_order(waiting: Iterable[Waiting], turns: Turns) -> list[Waiting]:
    """`waiting` in the order in which their turns come if nobody else does."""
    lines: dict[str, list[Waiting]] = {}
    for each in sorted(waiting, key=lambda each: each.number, reverse=True):
        lines.setdefault(each.workshop, []).append(each)
    heads = [(turns.count(workshop), line[-1].number, workshop) for workshop, line in lines.items()]
    heapq.heapify(heads)
    ordered: list[Waiting] = []
    while heads:
        count, _, workshop = heapq.heappop(heads)
        ordered.append(lines[workshop].pop())
        if lines[workshop]:
            heapq.heappush(heads, (count + 1, lines[workshop][-1].number, workshop))
    return ordered


def estimate_s(place: int, starts_at_once: float, start_s: float) -> float:
    """Seconds until the turn of who stands at `place` (from 1), when a start takes `start_s` and so many go on at
    once: one of them ends every `start_s / starts_at_once` seconds."""
    return place * start_s / max(1, starts_at_once)


def smoothed_s(before_s: float, newest_s: float) -> float:
    """What a start takes, after one more of them."""
    return (1 - _WEIGHT) * before_s + _WEIGHT * newest_s


def told(place: Place) -> str:
    """A place for the person who has it."""
    where = "You are next in line" if place.number == 1 else f"You are number {place.number} in line"
    if place.reason is not None:
        return f"{where}. {place.reason}"
    return f"{where}; your notebook's turn comes in about {_roughly(place.wait_s)}"


def _roughly(seconds: float) -> str:
    if seconds < 50:
        return f"{max(5, 5 * round(seconds / 5))} s"
    if seconds < 105:
        return f"{10 * round(seconds / 10)} s"
    return f"{round(seconds / 60)} min"
