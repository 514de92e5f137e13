"""Whether this machine has room for one more seat, looked at afresh; costs microseconds."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from orchestra_hub.hub.seat import Obstacle
from orchestra_spawner.endings import in_words

__all__ = ["obstacle"]


def obstacle(folder: Path, *, memory_bytes: int, disk_bytes: int) -> Obstacle | None:
    """What keeps a seat from starting: a disk that is nearly full, or memory that others use just now."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        return Obstacle(f"The data folder can't be reached ({error.strerror}). Tell your instructor.", wait=False)
    free = found.f_bavail * found.f_frsize
    if free < disk_bytes:
        return Obstacle(
            f"The machine's disk is nearly full ({in_words(free)} free, {in_words(disk_bytes)} are needed), so no "
            "notebook is started now. Nothing is lost; tell your instructor.",
            wait=False,
        )
    if psutil.virtual_memory().available < memory_bytes:
        return Obstacle("The machine's memory is in use; your notebook starts as soon as there is room.", wait=True)
    return None
