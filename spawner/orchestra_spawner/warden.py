"""The warden: a small process that stops seats above limits that the kernel doesn't keep, whether the hub runs or not.

Every two seconds it looks at the disk's free space, and adds up the folders of seats that could be over their limit
(`watching`); where there are no control groups for memory, it adds up the memory of seats' processes too. What it
stops, it says why beside the seat's record, for the pages. It also makes the packet filter rules again when somebody
removed them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from orchestra_spawner.endings import note_ending
from orchestra_spawner.identities import UserIds, running_user_ids
from orchestra_spawner.loopback_rules import Rules, RulesFailed, apply, is_there, table_text
from orchestra_spawner.processes import MARKER, SeatProcess, end_marked, recorded, records_folder
from orchestra_spawner.watching import Measured, Process, disk_sentence, family, is_due, measured, memory_sentence

__all__ = ["LOOK_S", "Warden", "folder_bytes", "main", "process_table"]

LOOK_S = 2.0
RULES_S = 30.0
_GRACE_S = 2.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_log = logging.getLogger("warden")


class Warden:
    """Looks after the seats recorded below one data folder. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        data_dir: Path,
        rules: Rules | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        processes: Path = Path("/proc"),
    ) -> None:
        self._data_dir = data_dir
        self._rules = rules
        self._clock = clock
        self._processes = processes
        self._changed_ns = -1
        self._seats: dict[Path, SeatProcess] = {}
        self._disk: dict[SeatProcess, Measured] = {}
        self._marks: dict[tuple[int, int], str] = {}
        self._rules_at_s = clock()

    async def look(self) -> list[Path]:
        """One look; gives the records of the seats that were stopped."""
        self._read_records()
        too_much = dict(self._over_disk())
        too_much.update(self._over_memory())
        for record, sentence in too_much.items():
            seat = self._seats[record]
            if seat.lives():
                _log.warning("stopped seat=%s: %s", seat.mark, sentence)
                note_ending(record, sentence)
                await end_marked([seat], grace_s=_GRACE_S)
            self._disk.pop(seat, None)
        if self._rules is not None and self._clock() - self._rules_at_s >= RULES_S:
            self._rules_at_s = self._clock()
            await asyncio.to_thread(self._mend_rules, self._rules)
        return list(too_much)

    def _read_records(self) -> None:
        folder = records_folder(self._data_dir)
        try:
            changed_ns = folder.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if changed_ns == self._changed_ns:
            return
        self._changed_ns = changed_ns
        self._seats = {path: seat for path in folder.glob("*.json") if (seat := recorded(path)) is not None}
        self._disk = {seat: found for seat, found in self._disk.items() if seat in set(self._seats.values())}

    def _over_disk(self) -> Iterator[tuple[Path, str]]:
        found = os.statvfs(self._data_dir)
        free = found.f_bfree * found.f_frsize
        for record, seat in self._seats.items():
            if seat.storage_bytes is None or not is_due(self._disk.get(seat), free, self._clock()):
                continue
            if not seat.lives():
                continue
            used = folder_bytes(Path(seat.folder))
            now = measured(used, seat.storage_bytes, free, self._clock(), self._disk.get(seat))
            self._disk[seat] = now
            if now.over:
                yield record, disk_sentence(used, seat.storage_bytes)

    def _over_memory(self) -> Iterator[tuple[Path, str]]:
        watched = {record: seat for record, seat in self._seats.items() if seat.memory_bytes is not None}
        if not watched:
            return
        table = process_table(self._processes)
        strays = self._strays(table)
        for record, seat in watched.items():
            limit = seat.memory_bytes or 0
            roots = [pid for pid in (seat.first, seat.pid) if pid is not None] if seat.lives() else []
            pids = family(table, [*roots, *strays.get(seat.mark, [])])
            if sum(table[pid].memory_bytes for pid in pids) <= limit:
                continue
            used = sum(self._shared_out(pid, table[pid].memory_bytes) for pid in pids)
            if used > limit:
                yield record, memory_sentence(used, limit)

    def _shared_out(self, pid: int, otherwise_bytes: int) -> int:
        """A process's memory with what it shares counted in parts (PSS), as its sum over processes is what is used."""
        with suppress(OSError, ValueError, IndexError):
            for line in (self._processes / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        return otherwise_bytes

    def _strays(self, table: dict[int, Process]) -> dict[str, list[int]]:
        """Processes whose parent has ended, by the mark of the seat they are of; each is asked once."""
        found: dict[str, list[int]] = {}
        known: dict[tuple[int, int], str] = {}
        for process in table.values():
            if process.parent != 1:
                continue
            key = (process.pid, process.created)
            mark = self._marks.get(key)
            if mark is None:
                mark = _mark_of(self._processes / str(process.pid) / "environ")
            known[key] = mark
            found.setdefault(mark, []).append(process.pid)
        self._marks = known
        found.pop("", None)
        return found

    def _mend_rules(self, rules: Rules) -> None:
        with suppress(RulesFailed):
            if not is_there(rules.table):
                apply(table_text(rules, {uid for uid in running_user_ids() if uid in rules.ids}))
                _log.warning("the packet filter rules of seats were gone; made again")


def folder_bytes(folder: Path) -> int:
    """The disk space of all below `folder`; links aren't followed, files with two names count once."""
    total, seen, waiting = 0, set(), [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    with suppress(OSError):
                        found = entry.stat(follow_symlinks=False)
                        if found.st_nlink == 1 or found.st_ino not in seen:
                            total += found.st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        elif found.st_nlink > 1:
                            seen.add(found.st_ino)
        except OSError:
            continue
    return total


def process_table(processes: Path = Path("/proc")) -> dict[int, Process]:
    """Every process (proc_pid_stat(5): field 4 is the parent, 22 the start, 24 the resident pages)."""
    table: dict[int, Process] = {}
    for entry in os.scandir(processes):
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                text = (processes / entry.name / "stat").read_text(errors="replace")
                fields = text[text.rindex(")") + 2 :].split()
                pid = int(entry.name)
                table[pid] = Process(pid, int(fields[1]), int(fields[19]), int(fields[21]) * _PAGE_BYTES)
    return table


def _mark_of(environment: Path) -> str:
    with suppress(OSError):
        for part in environment.read_bytes().split(b"\0"):
            name, _, value = part.partition(b"=")
            if name.decode("ascii", "replace") == MARKER:
                return value.decode("utf-8", "replace")
    return ""


async def _run(data_dir: Path, rules: Rules | None) -> None:
    warden = Warden(data_dir, rules)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    while not stop.is_set():
        try:
            await warden.look()
        except Exception:  # task boundary: one bad look must not end all later ones
            _log.exception("This look failed, the next one comes.")
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_S)


def main(arguments: list[str]) -> int:
    """Run until a signal. The one argument is the file `up` wrote: `data_dir`, and `rules` or null."""
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", level=logging.INFO)
    told = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    rules = None
    if told["rules"] is not None:
        asked = told["rules"]
        ids = UserIds.parse(asked["ids"])
        rules = Rules(asked["table"], ids, tuple(asked["open_ports"]), tuple(asked["closed_ports"]))
    asyncio.run(_run(Path(told["data_dir"]), rules))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
