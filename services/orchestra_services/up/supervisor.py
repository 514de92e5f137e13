"""Starts children, starts them again when they crash, ends them all.

Guarantees:

- A child that ends unasked is started again after 1, 2, 4, ... 30 s; 60 s of health make the next pause 1 s again. Each
  time is one line of `report`, from the third crash in a row on with the last line of the child's log.
- A child lives in a session of its own: Ctrl-C in the terminal reaches `up` alone, and ending a child ends its group.
- A child gets SIGTERM from the kernel when the supervisor dies (`tied`), and what still runs of a killed one is ended
  by the next (`end_leftovers`): its record has each child's id and time of creation, so no other process is hit.
- `stop` leaves no child.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import psutil

from orchestra_services.up.children import Child
from orchestra_services.up.logs import last_words, rotate
from orchestra_services.up.secrets import write_private
from orchestra_spawner.processes import created_ticks, living

__all__ = ["HEALTHY_AFTER_S", "LOUD_AFTER", "Supervisor", "crash_line", "end_leftovers", "pause_s"]

LONGEST_PAUSE_S = 30.0
HEALTHY_AFTER_S = 60.0
LOUD_AFTER = 3
"""Crashes in a row after which the terminal also shows a child's last words."""


def pause_s(crashes: int) -> float:
    """Seconds to wait before the start that follows `crashes` crashes in a row: 1, 2, 4, ... 30."""
    return float(min(2 ** (min(crashes, 30) - 1), LONGEST_PAUSE_S))


def crash_line(child: Child, status: int, crashes: int, words: str) -> str:
    """What the terminal says of the crash number `crashes` in a row; `words` are the last of the child's log."""
    loud = crashes >= LOUD_AFTER
    often = f" {crashes} times in a row" if loud else ""
    said = f" Its last words: {words}" if loud and words else ""
    return f"{child.name} ended{often} ({_why(status)}); again in {pause_s(crashes):.0f} s.{said} Its log: {child.log}"


class Supervisor:
    """Keeps children running. `report` gets one line for every crash; `clock` is monotonic, in seconds."""

    def __init__(
        self,
        *,
        record: Path,
        report: Callable[[str], None],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        python: str = sys.executable,
    ) -> None:
        self._record = record
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._python = python
        self._tied = str(files("orchestra_services.up") / "tied.py")
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._logged: dict[str, int] = {}  # how long its log was when a child was started
        self._last_words: dict[str, str] = {}
        self._stopping = False

    async def start(self, child: Child) -> None:
        """Start a child and keep it running until it, or everything, is stopped."""
        rotate(child.log)
        await self._spawn(child)
        self._keepers[child.name] = asyncio.create_task(self._keep(child), name=f"keep {child.name}")

    def pid(self, name: str) -> int | None:
        """The process id of a running child; None while it isn't running."""
        process = self._running.get(name)
        return None if process is None or process.returncode is not None else process.pid

    def last_words(self, name: str) -> str:
        """What a child wrote last before its latest crash; empty when it didn't crash or said nothing."""
        return self._last_words.get(name, "")

    async def release(self, name: str) -> None:
        """Let a child end by itself from now on: it isn't started again."""
        await self._stop_keeping([name])

    async def wait(self, name: str, timeout_s: float) -> bool:
        """Whether a child ended within `timeout_s`."""
        process = self._running.get(name)
        if process is None:
            return True
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), timeout_s)
        return process.returncode is not None

    async def stop(self, names: Iterable[str] | None = None, *, timeout_s: float) -> None:
        """End these children (all, unless named): SIGTERM, after `timeout_s` SIGKILL; return when they are gone."""
        wanted = list(self._running) if names is None else [name for name in names if name in self._running]
        self._stopping = self._stopping or names is None
        await self._stop_keeping(self._keepers if names is None else wanted)
        processes = [self._running[name] for name in wanted]
        for process in processes:
            _signal_group(process.pid, signal.SIGTERM)
        await _ended(processes, timeout_s)
        for process in processes:
            _signal_group(process.pid, signal.SIGKILL)  # a child's own children too, also when it has ended
        await _ended(processes, None)
        for name in wanted:
            self._running.pop(name, None)
        self._write_record()

    def kill(self) -> None:
        """End every child at once, now."""
        self._stopping = True
        for process in self._running.values():
            _signal_group(process.pid, signal.SIGKILL)

    async def _stop_keeping(self, names: Iterable[str]) -> None:
        keepers = [self._keepers.pop(name) for name in list(names) if name in self._keepers]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    async def _keep(self, child: Child) -> None:
        crashes = 0
        while True:
            began = self._clock()
            status = await self._running[child.name].wait()
            if self._stopping:
                return
            crashes = 1 if self._clock() - began >= HEALTHY_AFTER_S else crashes + 1
            pause = pause_s(crashes)
            _signal_group(self._running[child.name].pid, signal.SIGKILL)  # what it left of its own
            words = self._last_words[child.name] = last_words(child.log, self._logged[child.name])
            self._report(crash_line(child, status, crashes, words))
            await self._sleep(pause)
            try:
                await self._spawn(child)
            except OSError as error:
                self._report(f"{child.name} can't be started: {error.strerror}.")

    async def _spawn(self, child: Child) -> None:
        with child.log.open("ab") as log:
            self._logged[child.name] = log.tell()
            self._running[child.name] = await asyncio.create_subprocess_exec(
                self._python,
                "-I",
                "-S",
                self._tied,
                str(os.getpid()),
                *child.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=child.log.parent,
                env=dict(child.environment),
                start_new_session=True,
            )
        self._write_record()

    def _write_record(self) -> None:
        found = []
        for name, process in self._running.items():
            with suppress(psutil.Error):
                found.append({"name": name, "pid": process.pid, "created": created_ticks(process.pid)})
        write_private(self._record, json.dumps(found, indent=2) + "\n")


def end_leftovers(record: Path, *, timeout_s: float) -> list[str]:
    """End what still runs of an earlier `up` that was killed; returns the names of the children that were."""
    try:
        recorded = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        return []
    alive: dict[str, psutil.Process] = {}
    for entry in recorded if isinstance(recorded, list) else []:
        with suppress(KeyError, TypeError, ValueError):
            process = living(int(entry["pid"]), entry["created"])
            if process is not None:
                alive[str(entry["name"])] = process
    for process in alive.values():
        _signal_group(process.pid, signal.SIGTERM)
    psutil.wait_procs(list(alive.values()), timeout=timeout_s)
    for process in alive.values():
        _signal_group(process.pid, signal.SIGKILL)
    psutil.wait_procs(list(alive.values()), timeout=timeout_s)
    return list(alive)


async def _ended(processes: Iterable[asyncio.subprocess.Process], timeout_s: float | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            for process in processes:
                await process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    # a child leads its own session, so its id is its group's; the kernel gives the id to nobody while the group lives
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _why(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return signal.Signals(-status).name
    return f"exit code {status}"
