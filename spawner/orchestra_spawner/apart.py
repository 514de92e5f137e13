"""A seat apart from all others, put together: its user id, its view of the machine, its process, its way to ports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

import orchestra_hub
import orchestra_spawner
from orchestra_hub.errors import ProvisionFailed
from orchestra_spawner.confinement import View, as_user
from orchestra_spawner.folders import Apart, SeatFolders, SeatLayout
from orchestra_spawner.identities import Identities, UserIds, running_user_ids
from orchestra_spawner.loopback_rules import Rules, RulesFailed, apply, let_in, table_text

__all__ = ["SeatsApart", "end_user", "first_process", "program_folders"]

_MEND_S = 30


def program_folders(
    prefixes: Sequence[str] = (sys.prefix, sys.base_prefix, sys.exec_prefix), path: Sequence[str] | None = None
) -> tuple[Path, ...]:
    """What Python needs to run our programs: its own folders, those modules are imported from, and our own packages,
    which an editable install finds without a folder in the path."""
    ours = [str(Path(module.__file__).parent) for module in (orchestra_hub, orchestra_spawner) if module.__file__]
    named = (*prefixes, *(sys.path if path is None else path), *ours)
    wanted = [Path(name) for name in named if name and os.path.exists(name)]
    found = {*wanted, *(folder.resolve() for folder in wanted), Path(sys.executable).resolve().parent}
    found = {folder for folder in found if folder.is_absolute() and folder != Path("/")}
    return tuple(sorted(folder for folder in found if not any(parent in found for parent in folder.parents)))


@dataclass(frozen=True)
class SeatsApart:
    """How seats below one data folder are kept apart. `rules` is None where their ports can't be."""

    folders: SeatFolders
    ids: UserIds
    rules: Rules | None
    programs: tuple[Path, ...]

    @property
    def identities(self) -> Identities:
        """The user ids of all seats in the folder."""
        return Identities(self.ids, self.folders.root / "run" / "identities.lock", self.folders.every_seat)

    @property
    def to_lay_out(self) -> Apart:
        """What laying out a seat needs."""
        return Apart(self.identities, self._run_as_seat)

    def command(
        self,
        layout: SeatLayout,
        command: Sequence[str],
        *,
        memory_files_bytes: int,
        info: int,
        variables: Mapping[str, str],
    ) -> list[str]:
        """`command` as this seat."""
        assert layout.uid is not None
        view = self._view(layout, memory_files_bytes)
        return as_user(view, layout.uid, command, folder=layout.home, info=info, variables=variables)

    def _view(self, layout: SeatLayout, memory_files_bytes: int) -> View:
        inside = self.folders.root
        environments = tuple(prefix for prefix in layout.below if prefix.is_relative_to(inside))
        return View(
            hidden=(inside,),
            readable=(*self.programs, *environments),
            writable=(layout.folder,),
            temporary=layout.temporary,
            memory_files_bytes=memory_files_bytes,
        )

    def _run_as_seat(self, layout: SeatLayout, command: list[str]) -> None:
        assert layout.uid is not None
        wanted = as_user(self._view(layout, 1 << 26), layout.uid, command, folder=layout.folder)
        environment = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
        try:
            done = subprocess.run(
                wanted, env=environment, capture_output=True, text=True, timeout=_MEND_S, check=False, umask=0o077
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProvisionFailed(f"Your environment could not be brought up to date: {error}. Try again.") from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
            raise ProvisionFailed(f"Your environment could not be brought up to date: {last}")

    def let_to_ports(self, uid: int) -> None:
        """Let a seat connect to what it may; the rules are made anew if somebody removed them. Raises `RulesFailed`."""
        if self.rules is None:
            return
        try:
            apply(let_in(self.rules.table, uid))
        except RulesFailed:
            apply(table_text(self.rules, {uid, *self.running()}))

    def running(self) -> set[int]:
        """The user ids of seats that run."""
        return {uid for uid in running_user_ids() if uid in self.ids}


def first_process(info: int) -> int | None:
    """What bwrap says is the first process of a seat's namespace; None when it ended without saying. Blocks."""
    said = b""
    while chunk := os.read(info, 4096):
        said += chunk
        with suppress(ValueError, KeyError, TypeError):
            return int(json.loads(said)["child-pid"])
    return None


def end_user(uid: int) -> int:
    """Kill what runs as `uid` in a namespace other than ours; gives how many there were."""
    found = []
    ours = os.stat("/proc/self/ns/mnt").st_ino
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.uids().real == uid and os.stat(f"/proc/{process.pid}/ns/mnt").st_ino != ours:
                process.kill()
                found.append(process)
    psutil.wait_procs(found, timeout=2)
    return len(found)
