"""Why a seat ended that nobody stopped, kept beside its record until its next start, for the pages to say."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["ending", "forget_ending", "in_words", "note_ending"]


def in_words(amount_bytes: float) -> str:
    """An amount for people: `1 GiB`, `1.5 GiB`, `300 MiB`."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if amount_bytes >= size:
            return f"{round(amount_bytes / size, 1):g} {unit}"
    return f"{max(0, round(amount_bytes / 1024)):g} KiB"


def _file(record: Path) -> Path:
    return record.with_suffix(".ended")


def note_ending(record: Path, sentence: str) -> None:
    """Keep the reason, whole or not at all; a full disk keeps none."""
    fresh = record.with_suffix(".ended-new")
    with suppress(OSError):
        fresh.write_text(sentence, encoding="utf-8")
        os.replace(fresh, _file(record))


def ending(record: Path) -> str | None:
    """The reason; None when there is none."""
    try:
        return _file(record).read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def forget_ending(record: Path) -> None:
    """A new start begins."""
    with suppress(OSError):
        _file(record).unlink(missing_ok=True)
