"""User ids of seats: each seat's folder has a group id of its own from a range, and that is the record of it.

No user of the system is needed, as the kernel knows numbers only. A folder without one (new, or made while seats
weren't kept apart) gets the lowest that no folder has and no process runs under. Safe against starts at the same time,
in threads and in processes.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestra_hub.errors import InvalidInput, ProvisionFailed

__all__ = ["BLOCK", "FIRST", "Identities", "UserIds", "running_user_ids"]

FIRST = 1_900_000_000
"""Where ranges begin: above what systemd hands to containers (up to 1879048191), below 2^31, where tools go wrong."""

BLOCK = 65_536


@dataclass(frozen=True)
class UserIds:
    """A range of user ids, `last` included; the same numbers are group ids."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> UserIds:
        """From `FIRST-LAST`; raises `InvalidInput`."""
        first, found, last = text.partition("-")
        if not (found and first.isascii() and last.isascii() and first.isdigit() and last.isdigit()):
            raise InvalidInput(f"{text[:60]!r} is no range of user ids; write it like 1900000000-1900065535.")
        if not 0 < int(first) <= int(last) < 2**31:
            raise InvalidInput(
                f"{text[:60]!r} is no range of user ids; the first must be above 0, the last below 2^31."
            )
        return cls(int(first), int(last))

    @classmethod
    def block(cls, number: int) -> UserIds:
        """The range with this number; data folders on one machine have different ones."""
        return cls(FIRST + number * BLOCK, FIRST + (number + 1) * BLOCK - 1)

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def running_user_ids(processes: Path = Path("/proc")) -> set[int]:
    """The user ids processes run under now."""
    found = set()
    with os.scandir(processes) as entries:
        for entry in entries:
            if entry.name.isdigit():
                with suppress(OSError):
                    found.add(entry.stat(follow_symlinks=False).st_uid)
    return found


class Identities:
    """Gives seats' folders their ids. `folders` are all that may have one; `lock` is a file to lock."""

    def __init__(
        self,
        ids: UserIds,
        lock: Path,
        folders: Callable[[], Iterable[Path]],
        running: Callable[[], set[int]] = running_user_ids,
    ) -> None:
        self.ids = ids
        self._lock = lock
        self._folders = folders
        self._running = running

    def of(self, folder: Path) -> int | None:
        """The id a folder has; None when it has none of this range."""
        try:
            found = os.lstat(folder)
        except FileNotFoundError:
            return None
        return found.st_gid if found.st_uid == os.geteuid() and found.st_gid in self.ids else None

    def assign(self, folder: Path) -> int:
        """The id of `folder`, a new one if it has none: the folder is the platform's then, entered by that id alone."""
        with _locked(self._lock):
            mine = self.of(folder)
            if mine is None:
                mine = self._free()
                os.chown(folder, os.geteuid(), mine, follow_symlinks=False)
            folder.chmod(0o710)
        return mine

    def _free(self) -> int:
        taken = {found for folder in self._folders() if (found := self.of(folder)) is not None} | self._running()
        for number in range(self.ids.first, self.ids.last + 1):
            if number not in taken:
                return number
        raise ProvisionFailed(f"All user ids of {self.ids} are taken by seats; purge workshops that are over.")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
