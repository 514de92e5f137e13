"""Seconds to lay out a seat: a new one with the template's content and an environment of its own, and again.

Run: `.venv/bin/python -m tests.bench.lay_out_seat`
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from orchestra_hub.templates import builtin_templates_root
from orchestra_spawner.folders import SeatFolders

WORKSHOP = "rnaseq-intro-bench-k3x9qz"


def main() -> None:
    """Ten new seats, each laid out twice."""
    new, again = [], []
    with tempfile.TemporaryDirectory() as name:
        folders = SeatFolders(Path(name))
        folders.workshop(WORKSHOP).mkdir(parents=True)
        shutil.copytree(builtin_templates_root() / "rnaseq-intro" / "content", folders.content(WORKSHOP))
        folders.prepared(WORKSHOP).write_text("{}")
        for number in range(10):
            for figures in (new, again):
                began = time.monotonic()
                folders.lay_out_seat(WORKSHOP, f"seat-{number}")
                figures.append(time.monotonic() - began)
        files = folders.seat(WORKSHOP, "seat-0").rglob("*")
        used = sum(file.lstat().st_size for file in files if not file.is_symlink())
    sys.stdout.write(f"a new seat:  median {1000 * statistics.median(new):.0f} ms, {used / 1024:.0f} KiB\n")
    sys.stdout.write(f"a seat again: median {1000 * statistics.median(again):.1f} ms\n")


if __name__ == "__main__":
    main()
