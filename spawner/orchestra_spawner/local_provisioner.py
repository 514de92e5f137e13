"""The `Provisioner` of one machine: a workshop is a folder, a seat's files a folder in it.

Everything blocking runs in threads or child processes; children get none of our secrets (tokens are in the
environment) and end with whoever waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

import psutil

from orchestra_hub.content import unpack
from orchestra_hub.errors import InvalidInput, NotFound, ProvisionFailed
from orchestra_hub.promises import Capacity
from orchestra_hub.workshop import WorkshopFacts
from orchestra_spawner.children import child, last_line
from orchestra_spawner.environments import Environments
from orchestra_spawner.folders import SeatFolders
from orchestra_spawner.mended import content_is, put_aside_file
from orchestra_spawner.provisioner import EXPORT_CHUNK_BYTES, Inspection, PurgeReport
from orchestra_spawner.removal import COUNTS_FILE, remove_tree

__all__ = ["LocalProvisioner"]

_log = logging.getLogger(__name__)
_TAR = (
    "tar", "--create", "--gzip", "--one-file-system", "--ignore-failed-read",
    "--warning=no-file-changed", "--warning=no-file-removed", "--warning=no-file-ignored",
)  # fmt: skip


_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),  # version 2, as a container sees its own
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),  # version 1
)


class LocalProvisioner:
    """A `Provisioner` (see `provisioner.py`) on the folders below `data_dir`."""

    def __init__(self, data_dir: Path, *, environments: Environments | None = None) -> None:
        self._folders = SeatFolders(data_dir)
        self._environments = environments if environments is not None else Environments(self._folders)

    async def prepare(self, facts: WorkshopFacts, content: bytes) -> None:
        """Unpack the content and make the environment of the template's requirements."""
        requirements = facts.template.environment.requirements
        made = {"content_digest": facts.template.content_digest, "requirements": sorted(requirements)}
        with _translated(facts.id, "prepared"):
            if await asyncio.to_thread(_read, self._folders.prepared(facts.id)) == made and self._stands(facts.id):
                return
            await asyncio.to_thread(self._unpack, facts.id, content, facts.template.content_digest)
            await self._environments.ensure(requirements)
            await asyncio.to_thread(_write, self._folders.prepared(facts.id), made)

    def _unpack(self, workshop_id: str, content: bytes, digest: str) -> None:
        workshop, target = self._folders.workshop(workshop_id), self._folders.content(workshop_id)
        workshop.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        put_aside_file(workshop)
        workshop.mkdir(mode=0o700, exist_ok=True)
        for leftover in workshop.glob(".content-*"):
            shutil.rmtree(leftover)
        if content_is(target, digest):  # renamed here whole, by an earlier try
            return
        unpacking = Path(tempfile.mkdtemp(prefix=".content-", dir=workshop))
        unpack(content, unpacking)
        if os.path.lexists(target):
            _log.warning("workshop=%s its content was damaged: it is made anew", workshop_id)
            target.rename(Path(tempfile.mkdtemp(prefix=".content-", dir=workshop)) / "damaged")
        unpacking.rename(target)
        for leftover in workshop.glob(".content-*"):
            shutil.rmtree(leftover)

    async def standing(self, workshop_ids: Sequence[str]) -> dict[str, bool]:
        """Whether the folder of content and the file that says "prepared" are there."""
        return await asyncio.to_thread(lambda: {name: self._stands(name) for name in workshop_ids})

    def _stands(self, workshop_id: str) -> bool:
        return self._folders.prepared(workshop_id).is_file() and self._folders.content(workshop_id).is_dir()

    async def sound(self, facts: WorkshopFacts) -> bool:
        """Whether the content is the template's, file by file."""
        content, digest = self._folders.content(facts.id), facts.template.content_digest
        return self._stands(facts.id) and await asyncio.to_thread(content_is, content, digest)

    async def distrust(self, workshop_id: str) -> None:
        """Remove the file that says "prepared"."""
        with _translated(workshop_id, "prepared again"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            await asyncio.to_thread(self._folders.prepared(workshop_id).unlink)

    async def inspect(self, workshop_id: str) -> Inspection:
        """What is in the workshop's folder."""
        with _translated(workshop_id, "looked at"):
            return await asyncio.to_thread(self._inspect, workshop_id)

    def _inspect(self, workshop_id: str) -> Inspection:
        workshop = self._folders.workshop(workshop_id)
        if not os.path.lexists(workshop):
            return Inspection(exists=False, prepared=False, seats=(), files=0, bytes=0)
        seats = self._folders.seats(workshop_id)
        sizes = _sizes_in(workshop)
        return Inspection(
            exists=True,
            prepared=self._folders.prepared(workshop_id).is_file(),
            seats=tuple(sorted(entry.name for entry in os.scandir(seats))) if seats.is_dir() else (),
            files=len(sizes),
            bytes=sum(sizes),
        )

    async def export(self, workshop_id: str, account_key: str) -> AsyncGenerator[bytes, None]:
        """One account's home as `{workshop id}/...` in a `tar.gz`. Links are kept as links, sockets left out.

        Of a seat with a user id of its own it is written under that id, which can read nothing but its own files.
        """
        home = self._folders.home(workshop_id, account_key)
        if home.is_symlink() or not home.is_dir():
            raise NotFound(f"There are no files of this account in {workshop_id}.")
        renamed = rf"--transform=s,^{home.name}\(/\|$\),{workshop_id}\1,rhS"  # names, not what links point to
        command = [*_TAR, renamed, "--owner=0", "--group=0", "--numeric-owner", home.name]
        owner = os.lstat(home).st_uid
        uid = owner if os.geteuid() == 0 and owner != 0 else None
        async with child(command, "The export could not be started", folder=home.parent, uid=uid) as running:
            while chunk := await running.read(EXPORT_CHUNK_BYTES):
                yield chunk
            code = await running.wait()
            if code not in (0, 1):  # 1: a file changed while it was read
                _log.error("workshop=%s export failed, tar exit code %s: %s", workshop_id, code, running.errors)
                raise ProvisionFailed(
                    f"The export of {workshop_id} broke off ({last_line(running.errors)}). Try again."
                )
            if running.errors:
                _log.warning("workshop=%s export left something out: %s", workshop_id, running.errors)

    async def capacity(self) -> Capacity:
        """This machine's memory, or the part of it that our control group may use, and the data folder's disk."""
        return await asyncio.to_thread(self._capacity)

    def _capacity(self) -> Capacity:
        disk = shutil.disk_usage(self._folders.root)
        limits = [psutil.virtual_memory().total, *map(_limit_in, _CGROUP_LIMITS)]
        return Capacity(
            memory_bytes=min(limit for limit in limits if limit is not None),
            disk_bytes=disk.total,
            disk_free_bytes=disk.free,
        )

    async def purge(self, workshop_id: str) -> PurgeReport:
        """Remove the workshop's folder. An environment stays: nobody's data is in it, other workshops may use it."""
        workshop = self._folders.workshop(workshop_id)
        with _translated(workshop_id, "purged"):
            report = await asyncio.to_thread(remove_tree, workshop, self._folders.seats(workshop_id).name)
            if await asyncio.to_thread(os.path.lexists, workshop):
                raise ProvisionFailed(f"The files of {workshop_id} are still there after they were removed.")
        return report


@contextlib.contextmanager
def _translated(workshop_id: str, what: str) -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        raise ProvisionFailed(f"{workshop_id} could not be {what}: {error}") from error
    except OSError as error:
        place = "" if error.filename is None else f" ({error.filename})"
        raise ProvisionFailed(f"{workshop_id} could not be {what}: {error.strerror}{place}.") from error


def _sizes_in(folder: Path) -> list[int]:
    """The size of every file below, without following links; what can't be read doesn't count.

    Counts what a removal counts: a purge that is killed after its last file was removed has only these numbers.
    """
    sizes = []
    for path, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(path, name))]
        for name in (*names, *links):
            if path == str(folder) and name.startswith(COUNTS_FILE):
                continue
            with contextlib.suppress(OSError):
                sizes.append(os.lstat(os.path.join(path, name)).st_size)
    return sizes


def _limit_in(file: Path) -> int | None:
    """A control group's limit in bytes; None without one."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _write(file: Path, value: object) -> None:
    """Write JSON whole or not at all."""
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(json.dumps(value), encoding="utf-8")
    beside.replace(file)
