"""Environments of templates with requirements, built once with pip and shared by all workshops that have the same."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra_hub.errors import ProvisionFailed
from orchestra_spawner.children import child, last_line
from orchestra_spawner.overlay import make_overlay
from orchestra_spawner.ownership import let_others_read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orchestra_spawner.folders import SeatFolders

__all__ = ["Environments"]

_READY = "ready"
_LOCK_POLL_S = 0.2


class Environments:
    """Builds environments below a data folder.

    An environment is built where it will stay, as its scripts name their own path; the file `ready` in it says that it
    is whole. `pip_timeout_s` bounds one build.
    """

    def __init__(
        self, folders: SeatFolders, *, pip_timeout_s: float = 900, platform_prefix: Path = Path(sys.prefix)
    ) -> None:
        self._folders = folders
        self._pip_timeout_s = pip_timeout_s
        self._platform_prefix = platform_prefix

    async def ensure(self, requirements: Sequence[str]) -> None:
        """Build the environment unless it is there. Raises `ProvisionFailed` with pip's last meaningful line."""
        if not requirements:
            return
        folder = self._folders.environment(requirements)
        if (folder / _READY).is_file():
            return
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with _locked(folder.with_suffix(".lock")):
            if (folder / _READY).is_file():
                return
            await asyncio.to_thread(self._begin, folder)
            await self._install(folder, requirements)
            await asyncio.to_thread(let_others_read, folder)  # seats with user ids of their own run it
            (folder / _READY).touch()

    def _begin(self, folder: Path) -> None:
        if folder.exists():  # an earlier build that didn't end
            shutil.rmtree(folder)
        make_overlay(folder, [self._platform_prefix])

    async def _install(self, folder: Path, requirements: Sequence[str]) -> None:
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        try:
            async with asyncio.timeout(self._pip_timeout_s):
                async with child([*pip, "--", *sorted(requirements)], "pip could not be started") as running:
                    while await running.read(65536):
                        pass
                    code = await running.wait()
        except TimeoutError as error:
            raise ProvisionFailed(
                f"The template's packages could not be installed within {self._pip_timeout_s:g} s. It is tried again."
            ) from error
        if code != 0:
            raise ProvisionFailed(f"The template's packages could not be installed: {last_line(running.errors)}")


@asynccontextmanager
async def _locked(file: Path) -> AsyncIterator[None]:
    """Hold a lock that other processes respect; it goes with the process that held it."""
    with closing(_Descriptor(file)) as descriptor:
        while not descriptor.try_lock():
            await asyncio.sleep(_LOCK_POLL_S)
        yield


class _Descriptor:
    def __init__(self, file: Path) -> None:
        self._number = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def try_lock(self) -> bool:
        try:
            fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._number)
