"""A seat's processes are found by what is on record of them, also when that is only their mark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from orchestra_spawner.processes import (
    MARKER,
    SeatProcess,
    created_ticks,
    end_marked,
    kill_marked,
    recorded,
    running,
    write_record,
)

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


def test_a_seat_is_killed_with_what_it_started_and_nobody_else_without_waiting() -> None:
    """Also one that was stopped and takes no other signal."""
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)']); "
    command = [sys.executable, "-c", f"{child}print(flush=True); time.sleep(20)"]
    with (
        subprocess.Popen(command, env={**os.environ, MARKER: MARK}, stdout=subprocess.PIPE) as seat,
        subprocess.Popen(SLEEPS, env={**os.environ, MARKER: f"{MARK}-2"}, stdout=subprocess.PIPE) as other,
    ):
        for process in (seat, other):
            assert process.stdout is not None and process.stdout.readline()
        server = psutil.Process(seat.pid)
        family = [server, *server.children()]
        assert len(family) == 2
        server.suspend()
        kill_marked(SeatProcess.of(seat.pid, MARK))
        assert seat.wait(5) == -9
        assert psutil.wait_procs(family[1:], timeout=5)[1] == []
        assert other.poll() is None, "another's seat"
        other.kill()


def test_a_process_is_known_by_ticks_that_no_clock_changes() -> None:
    """The ticks and the machine's uptime agree, whatever the clock says; an id that was given to another isn't it."""
    with subprocess.Popen(SLEEPS, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
        age_s = uptime_s - created_ticks(process.pid) / os.sysconf("SC_CLK_TCK")
        assert 0 <= age_s < 20
        seat = SeatProcess.of(process.pid, MARK)
        found = seat.find()
        assert found is not None and found.pid == process.pid
        assert SeatProcess(process.pid, seat.created - 100, MARK).find() is None
        process.kill()
    with pytest.raises(psutil.NoSuchProcess):
        created_ticks(process.pid)
