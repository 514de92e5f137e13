"""What a learner is told whose notebook did not start or ended unasked, from how it ended and what it said last."""

from __future__ import annotations

import os
from pathlib import Path

from orchestra_hub.hub.seat import SeatFailed
from orchestra_spawner.endings import in_words

__all__ = ["NO_MEMORY", "failure_at_start", "too_much_memory"]

NO_MEMORY = "There is not enough free memory to start the notebook server now. Try again in a minute."
_TAIL_BYTES = 4_000
_MEMORY_SIGNS = (
    "MemoryError",
    "Cannot allocate memory",
    "failed to map segment",  # the dynamic linker
    "without setting an exception",  # CPython, when there was no memory for the exception itself
    "error return without exception set",
)


def failure_at_start(status: int, log: Path) -> SeatFailed:
    """Why a server that ended before it answered did so, from its exit code and its log."""
    lines = _last_lines(log)
    last = lines[-1] if lines else ""
    if status in (-9, 137):
        sentence = "The system stopped the notebook server while it started, most likely because memory ran out."
    elif status == 127 or "No module named" in last or "not found" in last:
        sentence = f"A program the notebook needs is missing ({last}). Tell your instructor: it has to be installed."
    elif "No space left" in last:
        sentence = "The machine's disk is full, so the notebook server could not start. Tell your instructor."
    elif any(sign in line for line in lines for sign in _MEMORY_SIGNS):
        sentence = NO_MEMORY
    elif last.startswith(("bwrap:", "setpriv:", "prlimit:")):
        sentence = f"Your notebook could not be kept apart from others, so it was not started ({last}). Tell your "
        sentence += "instructor."
    else:
        sentence = f"The notebook server stopped while it started (exit code {status})."
    return SeatFailed(f"{sentence} Your files are safe.", reason="crash", detail=f"exit code {status}: {last}")


def too_much_memory(limit_bytes: int | None) -> str:
    """Of a seat whose server the system killed at the seat's memory limit."""
    limit = " there is" if limit_bytes is None else f" the {in_words(limit_bytes)} it may use"
    return f"Your notebook used more memory than{limit} and was stopped. Your files are safe."


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.strip()[-200:] for line in text.splitlines() if line.strip()]
