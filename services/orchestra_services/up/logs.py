"""The logs of `up`'s children: kept from growing for ever, and read for the last words of a child that crashed."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

__all__ = ["LOG_MAX_BYTES", "last_words", "rotate"]

LOG_MAX_BYTES = 10_000_000
_TAIL_BYTES = 8_000
_WORDS_MAX = 300
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def rotate(log: Path, max_bytes: int = LOG_MAX_BYTES) -> None:
    """Put a log that has grown too large aside (`.1`, one generation)."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > max_bytes:
            log.replace(log.with_name(f"{log.name}.1"))


def last_words(log: Path, since: int = 0) -> str:
    """The last line with text that was written after the first `since` bytes, without colours; empty if none was."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(since, size - _TAIL_BYTES))
            text = _COLOURS.sub("", stream.read().decode("utf-8", "replace"))
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_WORDS_MAX] if lines else ""
