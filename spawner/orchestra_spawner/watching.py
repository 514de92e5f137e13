"""What the warden decides, from what it has measured. Pure.

Adding up a seat's folder is costly, so it is done only when the seat could have come over its limit since: when the
disk has lost half of what the seat had left, or after ten minutes, as files that others removed hide what it wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestra_spawner.endings import in_words

__all__ = ["Measured", "Process", "disk_sentence", "family", "is_due", "measured", "memory_sentence"]

MEASURE_AGAIN_S = 600.0
HEADROOM_BYTES = 64 << 20
"""What a seat that is started above its limit may still write, so that its learner can tidy up."""


@dataclass(frozen=True)
class Measured:
    """A seat's folder as it was measured: `free_bytes` the disk had then, `allowed_bytes` it may have."""

    used_bytes: int
    allowed_bytes: int
    free_bytes: int
    at_s: float

    @property
    def over(self) -> bool:
        """Whether it has more than it may."""
        return self.used_bytes > self.allowed_bytes


def measured(used_bytes: int, limit_bytes: int, free_bytes: int, at_s: float, before: Measured | None) -> Measured:
    """A new measurement; the first since its start says what the seat is allowed."""
    allowed = before.allowed_bytes if before is not None else max(limit_bytes, used_bytes + HEADROOM_BYTES)
    if used_bytes <= limit_bytes:
        allowed = limit_bytes
    return Measured(used_bytes, allowed, free_bytes, at_s)


def is_due(before: Measured | None, free_bytes: int, now_s: float) -> bool:
    """Whether a seat's folder has to be added up again."""
    if before is None or now_s - before.at_s >= MEASURE_AGAIN_S:
        return True
    written = before.free_bytes - free_bytes
    return written > 0 and 2 * written >= before.allowed_bytes - before.used_bytes


@dataclass(frozen=True)
class Process:
    """A process as `/proc` shows it; `created` tells it from another that gets its id later."""

    pid: int
    parent: int
    created: int
    memory_bytes: int


def family(table: Mapping[int, Process], roots: Iterable[int]) -> set[int]:
    """The ids of `roots` and of all that descends from them."""
    below: dict[int, list[int]] = {}
    for process in table.values():
        below.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    waiting = [pid for pid in roots if pid in table]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += below.get(pid, [])
    return found


def memory_sentence(used_bytes: int, limit_bytes: int) -> str:
    """Told to the learner and the instructor."""
    return (
        f"Your notebook used {in_words(used_bytes)} of memory, more than the {in_words(limit_bytes)} it may use, and "
        "was stopped. Your files are safe."
    )


def disk_sentence(used_bytes: int, limit_bytes: int) -> str:
    """Told to the learner and the instructor."""
    return (
        f"Your files take {in_words(used_bytes)}, more than the {in_words(limit_bytes)} there are for them, so your "
        "notebook was stopped. Your files are safe: start it again and remove what you don't need."
    )
