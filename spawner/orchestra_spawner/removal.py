"""Removing a tree that learners wrote: any depth, any permissions, links never followed, and counted first.

Folders are moved side by side into one (`.purge`) before anything is removed, so neither the depth of the tree nor the
length of its paths matters (a path of more than 4096 bytes can't be named, only approached). The counts are written
down before the first file goes: a removal that is interrupted and repeated still reports what there was.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestra_spawner.provisioner import PurgeReport

__all__ = ["COUNTS_FILE", "remove_tree"]

COUNTS_FILE = ".purge.json"
"""In a folder that is being removed: what there was. Files whose names begin like this don't count."""

_HEAP = ".purge"


def remove_tree(folder: Path, seats: str) -> PurgeReport:
    """Remove `folder`; `seats` names the folder in it whose entries are counted as seats. Nothing there: zeros.

    Raises `OSError`. A mounted file system inside is refused by the system (`EBUSY`) and stays.
    """
    try:
        if folder.is_symlink():
            folder.unlink()
            return PurgeReport(0, 0, 0)
        _make_ours(folder)
    except FileNotFoundError:
        return PurgeReport(0, 0, 0)
    counts = _read(folder / COUNTS_FILE)
    if "seats" not in counts:
        counts["seats"] = _entries(folder / seats)
        _write(folder / COUNTS_FILE, counts)
    heap = folder / _HEAP
    heap.mkdir(mode=0o700, exist_ok=True)
    _flatten(folder, heap)
    if "files" not in counts:
        counts |= _counted(folder, heap)
        _write(folder / COUNTS_FILE, counts)
    _empty(heap)
    heap.rmdir()
    _empty(folder, but=COUNTS_FILE)
    (folder / COUNTS_FILE).unlink()
    folder.rmdir()
    return PurgeReport(seats=counts["seats"], files=counts["files"], bytes=counts["bytes"])


def _flatten(folder: Path, heap: Path) -> None:
    """Move every folder below into `heap`, which then holds folders without folders."""
    numbers = itertools.count()
    _move_folders(folder, heap, numbers, but=_HEAP)
    waiting = [entry.name for entry in os.scandir(heap)]
    while waiting:
        waiting += _move_folders(heap / waiting.pop(), heap, numbers)


def _move_folders(source: Path, heap: Path, numbers: Iterator[int], but: str | None = None) -> list[str]:
    _make_ours(source)
    moved = []
    with os.scandir(source) as entries:
        found = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name != but]
    for entry in found:
        _make_ours(entry)  # moving a folder changes its `..`, which takes the right to write in it
        name = next(name for name in map(str, numbers) if not os.path.lexists(heap / name))
        entry.rename(heap / name)
        moved.append(name)
    return moved


def _make_ours(folder: Path) -> None:
    """Give the owner every right on a folder; raises `NotADirectoryError` for a link."""
    number = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mode = os.stat(folder.name, dir_fd=number, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(20, "Not a folder", str(folder))
        if mode & 0o700 != 0o700:
            os.chmod(folder.name, stat.S_IMODE(mode) | 0o700, dir_fd=number)
    finally:
        os.close(number)


def _files(folder: Path, but: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False) and not entry.name.startswith(but):
                yield entry


def _counted(folder: Path, heap: Path) -> dict[str, int]:
    places = [folder, *(Path(entry.path) for entry in os.scandir(heap))]
    sizes = [entry.stat(follow_symlinks=False).st_size for place in places for entry in _files(place, COUNTS_FILE)]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _empty(folder: Path, but: str | None = None) -> None:
    """Remove what is in `folder`: files, links, and folders that hold only such."""
    for entry in list(os.scandir(folder)):
        if entry.name == but:
            continue
        if entry.is_dir(follow_symlinks=False):
            for inside in list(os.scandir(entry.path)):
                os.unlink(inside.path)
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)


def _entries(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        _make_ours(folder)
        return sum(1 for _ in os.scandir(folder))
    return 0


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, counts: dict[str, Any]) -> None:
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(json.dumps(counts), encoding="utf-8")
    beside.replace(file)
