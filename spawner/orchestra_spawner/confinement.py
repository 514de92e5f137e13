"""The command line a seat's server is started with, so that it runs apart. It only looks where programs are and what
folders others may enter.

`bwrap` (bubblewrap) gives the seat a view of the machine of its own: everything is read-only, the data folder and what
others may not enter is empty but for what the seat needs, temporary folders are its own, and it sees no process but its
own. `setpriv` then takes the seat's user id and gives up every other right for good. A small shell joins the control
groups and `prlimit` sets what the kernel counts for each process before that.

What runs before `setpriv` is root: programs are named by their full paths, as the seat's PATH begins with a folder the
learner writes in, and variables that others chose are set only after it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PROGRAMS", "View", "as_user", "closed_to_others", "in_groups", "mount_arguments", "within_limits"]

PROGRAMS = ("bwrap", "setpriv", "prlimit")
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))
_JOIN = 'set -e; n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ > "$1"; shift; n=$((n-1)); done; exec "$@"'


@dataclass(frozen=True)
class View:
    """What a seat sees. `hidden` folders are empty but for `readable` and `writable` ones below them.

    `temporary` becomes its `/tmp` and `/var/tmp`. `memory_files_bytes` bounds what it may keep in `/dev/shm`.
    """

    hidden: tuple[Path, ...]
    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    temporary: Path | None = None
    memory_files_bytes: int = 1 << 30


def closed_to_others(path: Path) -> Path | None:
    """The highest folder on the way to `path`, itself included, that not everybody may enter; None when all may."""
    for folder in (*reversed(path.parents), path):
        try:
            if not folder.stat().st_mode & 0o001:
                return folder
        except OSError:
            return None
    return None


def mount_arguments(view: View, closed: Callable[[Path], Path | None] = closed_to_others) -> list[str]:
    """bwrap's arguments that make the view, parents before what is in them."""
    needed = (*view.readable, *view.writable)
    closed_ones = {found for path in needed if (found := closed(path)) is not None and found != path}
    covers = {*view.hidden, *closed_ones, *TEMPORARY}
    steps: list[tuple[int, int, list[str]]] = []
    own_temporary = view.temporary is not None and not any(_below(path, TEMPORARY) for path in needed)
    for cover in covers:
        if own_temporary and cover in TEMPORARY:
            steps.append((len(cover.parts), 0, ["--bind", str(view.temporary), str(cover)]))
            continue
        perms = "1777" if cover in TEMPORARY else "0711"
        size = ["--size", str(view.memory_files_bytes)] if cover in TEMPORARY else []
        steps.append((len(cover.parts), 0, ["--perms", perms, *size, "--tmpfs", str(cover)]))
    for path in sorted(set(needed)):
        under = _lowest_cover(path, covers)
        if under is None:
            kind = None if path not in view.writable else "--bind"
        else:
            kind = "--bind" if path in view.writable else "--ro-bind"
            for folder in reversed(path.parents):
                if _lowest_cover(folder, covers) == under and folder != under:
                    steps.append((len(folder.parts), 1, ["--perms", "0711", "--dir", str(folder)]))
        if kind is not None:
            steps.append((len(path.parts), 2, [kind, str(path), str(path)]))
    steps.sort(key=lambda step: step[:2])
    mounts = [word for _, _, words in steps for word in words]
    memory_files = ["--perms", "1777", "--size", str(view.memory_files_bytes), "--tmpfs", "/dev/shm"]
    return ["--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", *memory_files, "--proc", "/proc", *mounts]


def as_user(
    view: View,
    uid: int,
    command: Sequence[str],
    *,
    folder: Path,
    info: int | None = None,
    variables: Mapping[str, str] | None = None,
    closed: Callable[[Path], Path | None] = closed_to_others,
) -> list[str]:
    """`command` as `uid` in `folder`, with this view and `variables` more in its environment.

    bwrap writes to descriptor `info` which process is the first.
    """
    tell = [] if info is None else ["--info-fd", str(info)]
    view_of_its_own = [_path_of("bwrap"), *mount_arguments(view, closed), "--unshare-pid", "--unshare-ipc"]
    user_of_its_own = [_path_of("setpriv"), "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
    no_rights = ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    started = with_variables(command, variables or {})
    return [*view_of_its_own, "--chdir", str(folder), *tell, "--", *user_of_its_own, *no_rights, *started]


def with_variables(command: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """`command` with `variables` in its environment."""
    if not variables:
        return list(command)
    return [_path_of("env"), *(f"{name}={value}" for name, value in variables.items()), *command]


def _path_of(program: str) -> str:
    return shutil.which(program) or f"/usr/bin/{program}"


def within_limits(command: Sequence[str], *, file_bytes: int | None, processes: int | None) -> list[str]:
    """`command` with no core dumps, no file longer than `file_bytes`, no more than `processes` of its user."""
    limits = ["--core=0"]
    if file_bytes is not None:
        limits.append(f"--fsize={file_bytes}")
    if processes is not None:
        limits.append(f"--nproc={processes}")
    return [_path_of("prlimit"), *limits, *command]


def in_groups(command: Sequence[str], joined: Sequence[Path]) -> list[str]:
    """`command`, started in the control groups whose `cgroup.procs` files are `joined`."""
    if not joined:
        return list(command)
    return ["/bin/sh", "-c", _JOIN, "seat", str(len(joined)), *map(str, joined), *command]


def _below(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _lowest_cover(path: Path, covers: Iterable[Path]) -> Path | None:
    found = [cover for cover in covers if path.is_relative_to(cover)]
    return max(found, key=lambda cover: len(cover.parts), default=None)
