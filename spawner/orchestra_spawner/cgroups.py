"""Control groups of seats: memory, processor and number of processes of a seat as a whole, by cgroup v2 or v1.

`up` makes one group below its own for all its seats (`prepare`), the spawner one in it for each seat. In v2 a group
that has groups below it with controllers may hold no process itself, so `up` first moves itself into one beside the
seats'. What the system doesn't let us do isn't there: `prepare` gives only controllers that really work.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CONTROLLERS", "Limits", "SeatGroups", "own_groups", "prepare", "settings"]

CONTROLLERS = ("memory", "cpu", "pids")
_PERIOD_US = 100_000
_PLATFORM = "platform"


@dataclass(frozen=True)
class Limits:
    """What a seat may use as a whole; None: as much as there is. `cpu` is in cores."""

    memory_bytes: int | None = None
    cpu: float | None = None
    processes: int | None = None
    storage_bytes: int | None = None


def own_groups(mounts: str, own: str) -> dict[str, tuple[int, Path]]:
    """The version and folder of this process's group by controller; v1 comes first, as a controller is in one of both.

    From the texts of `/proc/self/mountinfo` and `/proc/self/cgroup` (cgroups(7)).
    """
    paths: dict[str, str] = {}
    for line in own.splitlines():
        number, names, path = line.split(":", 2)
        for name in names.split(",") if names else ["" if number == "0" else number]:
            paths[name] = path
    found: dict[str, tuple[int, Path]] = {}
    unified: Path | None = None
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root, place = left.split(" ")[3:5]
        if kind == "cgroup":
            for name in set(options.split(",")) & set(CONTROLLERS) & set(paths):
                found.setdefault(name, (1, _inside(place, root, paths[name])))
        elif kind == "cgroup2" and "" in paths:
            unified = _inside(place, root, paths[""])
    if unified is not None:
        for name in CONTROLLERS:
            found.setdefault(name, (2, unified))
    return found


def _inside(place: str, root: str, path: str) -> Path:
    """Where a group is: a container's mount shows the hierarchy from `root` on only."""
    if root != "/" and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return Path(place.replace("\\040", " ")) / path.lstrip("/")


def prepare(found: Mapping[str, tuple[int, Path]], name: str) -> dict[str, str]:
    """Make the group `name` for all seats of a platform; gives its folder for each controller that works."""
    made: dict[str, str] = {}
    unified = {folder for version, folder in found.values() if version == 2}
    for folder in unified:
        with contextlib.suppress(OSError):
            _make_room(folder)
    for controller, (version, folder) in found.items():
        with contextlib.suppress(OSError):
            group = folder / name
            if version == 2:
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")
                group.mkdir(exist_ok=True)
                (group / "cgroup.subtree_control").write_text(f"+{controller}")
            else:
                group.mkdir(exist_ok=True)
            if os.access(group / _file_of(controller, version), os.W_OK) or version == 2:
                made[controller] = str(group)
    return made


def _file_of(controller: str, version: int) -> str:
    v1 = {"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us", "pids": "pids.max"}
    v2 = {"memory": "memory.max", "cpu": "cpu.max", "pids": "pids.max"}
    return (v1 if version == 1 else v2)[controller]


def _make_room(folder: Path) -> None:
    """Move ourselves from a v2 group into one below it, so that controllers can be switched on for groups below.

    Only where we are alone, as in a unit of systemd's with `Delegate=`: others' processes aren't ours to move, and
    while one is there the kernel refuses the controllers.
    """
    if not (folder / "cgroup.controllers").read_text().strip():
        return
    if (folder / "cgroup.procs").read_text().split() == [str(os.getpid())]:
        beside = folder / _PLATFORM
        beside.mkdir(exist_ok=True)
        (beside / "cgroup.procs").write_text(str(os.getpid()))


def settings(controller: str, version: int, limits: Limits) -> list[tuple[str, str]]:
    """The files to write in a seat's group and what; empty when this controller has nothing to limit."""
    if controller == "memory" and limits.memory_bytes is not None:
        amount = str(limits.memory_bytes)
        if version == 1:
            return [("memory.limit_in_bytes", amount), ("?memory.memsw.limit_in_bytes", amount)]
        return [("memory.max", amount), ("?memory.swap.max", "0")]
    if controller == "cpu" and limits.cpu is not None:
        quota = max(1_000, round(limits.cpu * _PERIOD_US))
        if version == 1:
            return [("cpu.cfs_period_us", str(_PERIOD_US)), ("cpu.cfs_quota_us", str(quota))]
        return [("cpu.max", f"{quota} {_PERIOD_US}")]
    if controller == "pids" and limits.processes is not None:
        return [("pids.max", str(limits.processes))]
    return []


@dataclass(frozen=True)
class SeatGroups:
    """One seat's groups. `parents` is what `prepare` gave."""

    parents: Mapping[str, str]
    name: str

    def folders(self) -> dict[str, Path]:
        """By controller; in v2 all are the same folder."""
        return {controller: Path(parent) / self.name for controller, parent in self.parents.items()}

    def make(self, limits: Limits) -> list[Path]:
        """Make the groups with their limits; gives the files a process writes its id to, to join. Raises `OSError`."""
        joined: dict[Path, None] = {}
        for controller, folder in self.folders().items():
            folder.mkdir(exist_ok=True)
            version = 2 if (folder / "cgroup.controllers").exists() else 1
            for file, text in settings(controller, version, limits):
                _write(folder, file, text)
            joined[folder / "cgroup.procs"] = None
        return list(joined)

    def hold_to_cpu(self, limits: Limits) -> None:
        """Set the processor limit of groups that were made without. Raises `OSError`."""
        folder = self.folders().get("cpu")
        if folder is not None:
            version = 2 if (folder / "cgroup.controllers").exists() else 1
            for file, text in settings("cpu", version, limits):
                _write(folder, file, text)

    def killed_for_memory(self) -> int:
        """How many of its processes the system has killed because the group's memory was used up."""
        folder = self.folders().get("memory")
        if folder is None:
            return 0
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                for line in (folder / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    def remove(self) -> None:
        """Remove the groups; those that still hold a process stay."""
        for folder in set(self.folders().values()):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _write(folder: Path, file: str, text: str) -> None:
    optional = file.startswith("?")
    try:
        (folder / file.removeprefix("?")).write_text(text)
    except OSError:
        if not optional:
            raise
