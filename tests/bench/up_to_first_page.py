"""Seconds from `orchestra-hub up` to the first page, on a new folder and again on the same.

Run: `.venv/bin/python -m tests.bench.up_to_first_page`
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.running import Platform, until


def _seconds(data_dir: Path, port: int | None = None) -> tuple[float, int]:
    began = time.monotonic()
    platform = Platform.launch(data_dir, port=port)

    def page() -> bool:
        try:
            with platform.http() as client:
                return client.get(f"{platform.origin('app')}/hub/login").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        until(page, within_s=60, every_s=0.02, message="first page")
        return time.monotonic() - began, platform.port
    finally:
        platform.stop()


def main() -> None:
    """Three folders, each twice."""
    first, again = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            took, port = _seconds(Path(folder) / "data")
            first.append(took)
            again.append(_seconds(Path(folder) / "data", port)[0])
    sys.stdout.write(f"up to first page, new folder:  median {statistics.median(first):.1f} s of {len(first)}\n")
    sys.stdout.write(f"up to first page, same folder: median {statistics.median(again):.1f} s of {len(again)}\n")


if __name__ == "__main__":
    main()
