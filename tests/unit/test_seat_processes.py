"""A seat's processes are found by what is on record of them, also when that is only their mark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from orchestra_spawner.processes import MARKER, SeatProcess, end_marked, recorded, running, write_record

MARK = "ada-0123456789/a-workshop"
SLEEPS = [sys.executable, "-c", "import time; print(flush=True); time.sleep(20)"]


async def test_one_that_was_launched_and_not_recorded_is_ended_by_its_mark(tmp_path: Path) -> None:
    record = tmp_path / "seat.json"
    write_record(record, SeatProcess.launching(MARK))
    with (
        subprocess.Popen(SLEEPS, env={**os.environ, MARKER: MARK}, stdout=subprocess.PIPE) as seat,
        subprocess.Popen(SLEEPS, env={**os.environ, MARKER: f"{MARK}-2"}, stdout=subprocess.PIPE) as other,
    ):
        for process in (seat, other):
            assert process.stdout is not None and process.stdout.readline()
        known = recorded(record)
        assert known is not None and known.find() is None and running(tmp_path) == 0
        await end_marked([known], grace_s=0)
        assert not psutil.pid_exists(seat.pid)
        assert other.poll() is None, "another's seat"
        other.kill()
