"""Processes of seats on one machine: told apart from others that later got the same id, and ended whole.

A process is known by its id and the moment it was created, so that an id used again is never mistaken for it. That
moment is counted in ticks since the machine's start, which setting the clock doesn't change. What it started is found
by descent and by an environment variable every process of a seat inherits, as kernels and terminals are in sessions of
their own and outlive a server that was killed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

__all__ = [
    "MARKER",
    "SeatProcess",
    "created_ticks",
    "end_all",
    "end_marked",
    "kill_marked",
    "living",
    "recorded",
    "records_folder",
    "running",
    "write_record",
]

MARKER = "ORCHESTRA_SEAT"
"""Environment variable with the seat's mark, inherited by all it starts."""

_SWEEPS = 5
_NAMESPACE_END_S = 5.0


@dataclass(frozen=True)
class SeatProcess:
    """A seat's server process. `created` is what `created_ticks` gives; `pid` is 0 for one that is just launched and
    only known by its mark.

    A seat kept apart has a process namespace of its own, whose first process is `first`: all that the seat has started
    is below it, and the kernel ends all of it together with it. The last three are for the warden: where its files are,
    and limits that nothing else keeps.
    """

    pid: int
    created: int
    mark: str
    first: int | None = None
    first_created: int = 0
    folder: str = ""
    memory_bytes: int | None = None
    storage_bytes: int | None = None

    @classmethod
    def of(cls, pid: int, mark: str) -> SeatProcess:
        """The process that has `pid` now; raises `psutil.NoSuchProcess`."""
        return cls(pid, created_ticks(pid), mark)

    @classmethod
    def launching(cls, mark: str) -> SeatProcess:
        """One that is about to be launched; `end_marked` finds it by its mark."""
        return cls(0, 0, mark)

    @classmethod
    def apart(cls, first: int, mark: str) -> SeatProcess:
        """A seat whose namespace begins with the process `first`; the server is its child, once it has one."""
        process = psutil.Process(first)
        server = next(iter(process.children()), process)
        return cls(server.pid, created_ticks(server.pid), mark, first, created_ticks(first))

    @property
    def has_server(self) -> bool:
        """Whether the server's own process is known."""
        return self.pid != self.first

    def find(self) -> psutil.Process | None:
        """The living process; None when it ended (a zombie has ended) or its id isn't known yet."""
        return None if self.pid == 0 else living(self.pid, self.created)

    def find_first(self) -> psutil.Process | None:
        """The living first process of the seat's namespace."""
        return None if self.first is None else living(self.first, self.first_created)

    def lives(self) -> bool:
        """Whether anything of it is known to run."""
        return self.find() is not None or self.find_first() is not None


def created_ticks(pid: int) -> int:
    """When the process that has `pid` now was created: clock ticks since the machine's start (`starttime`, proc(5)).

    psutil's `create_time` adds the time of the start, which moves when the clock is set. Raises `psutil.NoSuchProcess`.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    return int(status.rpartition(")")[2].split()[19])


def living(pid: int, created: int) -> psutil.Process | None:
    """The process that had `pid` when it was `created`, if it lives (a zombie has ended)."""
    try:
        process = psutil.Process(pid)
        if created_ticks(pid) != created or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def write_record(path: Path, process: SeatProcess) -> None:
    """Keep `process` in a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(process)), encoding="utf-8")
    os.replace(temporary, path)


def recorded(path: Path) -> SeatProcess | None:
    """The process kept in a file; None when there is none or the file is damaged."""
    try:
        return SeatProcess(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _family(process: psutil.Process | None, marks: frozenset[str]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    if process is not None:
        try:
            found = {child.pid: child for child in process.children(recursive=True)}
        except psutil.NoSuchProcess:
            found = {}
        found[process.pid] = process
    if marks:
        everybody = list(psutil.process_iter(["environ", "ppid"]))
        marked = [other for other in everybody if (other.info["environ"] or {}).get(MARKER) in marks]
        while marked:  # and what they started with an environment of its own
            for other in marked:
                found.setdefault(other.pid, other)
            marked = [other for other in everybody if other.info["ppid"] in found and other.pid not in found]
        found.pop(os.getpid(), None)
    return list(found.values())


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(processes: Iterable[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        try:
            if kill:
                process.kill()
            else:
                process.terminate()
        except psutil.NoSuchProcess:
            continue


async def end_marked(seats: Iterable[SeatProcess], *, grace_s: float) -> None:
    """End these seats' servers politely (they stop their kernels), and after `grace_s` everything of theirs."""
    seats = list(seats)
    servers = [found for seat in seats if (found := seat.find()) is not None]
    families = [_family(server, frozenset()) for server in servers]
    _signal(servers, kill=False)
    await asyncio.to_thread(psutil.wait_procs, servers, timeout=grace_s)
    firsts = [found for seat in seats if (found := seat.find_first()) is not None]
    _signal(firsts, kill=True)  # the kernel ends the whole namespace with its first process
    await asyncio.to_thread(psutil.wait_procs, firsts, timeout=_NAMESPACE_END_S)
    marks = frozenset(seat.mark for seat in seats if seat.first is None)
    if not marks:
        return
    for _ in range(_SWEEPS):  # what was started while the others were being looked for is found by the next look
        rest = await asyncio.to_thread(_family, None, marks)
        everything = {process.pid: process for family in [*families, rest] for process in family}
        left = [process for process in everything.values() if _lives(process)]
        if not left:
            return
        _signal(left, kill=True)
        await asyncio.to_thread(psutil.wait_procs, left, timeout=2)


def kill_marked(seat: SeatProcess) -> None:
    """Kill all that is this seat's, without waiting for its end. Reads the process table: some milliseconds."""
    first = seat.find_first()
    if first is not None:
        _signal([first], kill=True)
    if seat.first is None:
        _signal(_family(seat.find(), frozenset({seat.mark})), kill=True)


def records_folder(data_dir: Path) -> Path:
    """Where the records of running seats are."""
    return data_dir / "run" / "seats"


def running(folder: Path) -> int:
    """How many seats with a record in `folder` are running."""
    seats = (recorded(path) for path in folder.glob("*.json"))
    return sum(1 for seat in seats if seat is not None and seat.find() is not None)


async def end_all(folder: Path, *, grace_s: float) -> int:
    """End every seat with a record in `folder`; gives their number."""
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    seats = [seat for path in paths if (seat := recorded(path)) is not None]
    await end_marked(seats, grace_s=grace_s)
    for path in paths:
        path.unlink(missing_ok=True)
    return len(seats)
