"""Giving a seat's files to its own user id, as root and never through a link that a learner may have planted.

| in a seat's folder | whose | why |
|---|---|---|
| the folder itself | root, group of the seat, 0710 | nobody but us replaces what is in it |
| `home`, `tmp`, `venv`, `jupyter/runtime`, `jupyter/config` | the seat's | the learner writes there, we don't |
| `jupyter`, `jupyter/kernels`, `seat.log` | root | written by us at every start |

The platform writes as root only where a learner can't have put a link; in the others it only looks.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["belongs_to", "hand_over", "let_others_read", "own_folder", "real_folder", "remove_if_not_ours"]


def belongs_to(path: Path, uid: int) -> bool:
    """Whether `path` is there and is `uid`'s."""
    try:
        return os.lstat(path).st_uid == uid
    except FileNotFoundError:
        return False


def real_folder(path: Path) -> None:
    """Remove what stands at `path` unless it is a folder; links aren't followed."""
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            path.unlink()


def hand_over(folder: Path, uid: int) -> None:
    """Make `folder` and all in it `uid`'s, itself last, so that an interrupted call is seen by whose it is.

    A file of root's with a second name stays root's: that name may lead anywhere.
    """
    for _, folders, files, number in os.fwalk(folder, topdown=False, follow_symlinks=False):
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=number, follow_symlinks=False)
            if found.st_nlink > 1 and found.st_uid == 0 and not stat.S_ISDIR(found.st_mode):
                continue
            os.chown(name, uid, uid, dir_fd=number, follow_symlinks=False)
    os.chown(folder, uid, uid, follow_symlinks=False)


@contextmanager
def own_folder(path: Path, uid: int) -> Iterator[None]:
    """A folder of `uid`'s own (0700) at `path`, made and handed over when it isn't yet. The block fills it before."""
    real_folder(path)
    path.mkdir(mode=0o700, exist_ok=True)
    yield
    if not belongs_to(path, uid):
        hand_over(path, uid)


def let_others_read(folder: Path) -> None:
    """Let everybody who gets to `folder` read all in it, itself last; nothing is done when that is so already."""
    if os.lstat(folder).st_mode & 0o055 == 0o055:
        return
    for _, folders, files, number in os.fwalk(folder, topdown=False, follow_symlinks=False):
        for name in (*folders, *files):
            mode = os.stat(name, dir_fd=number, follow_symlinks=False).st_mode
            if not stat.S_ISLNK(mode):
                more = 0o055 if mode & 0o100 else 0o044
                os.chmod(name, stat.S_IMODE(mode) | more, dir_fd=number)
    folder.chmod(0o755)


def remove_if_not_ours(folder: Path) -> None:
    """Remove a folder that isn't root's; what stands in it is made anew."""
    if os.path.lexists(folder) and not belongs_to(folder, os.geteuid()):
        real_folder(folder)
        shutil.rmtree(folder, ignore_errors=True)
