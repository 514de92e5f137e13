"""The folders of workshops and seats on one machine, and how a seat's own is made.

Guarantees:

- Paths are made from checked ids and keys only: none leads out of the data folder.
- Everything is the owner's alone (mode 0700).
- A seat gets the content once, whole or not at all; what the learner did to it is never overwritten.
- `lay_out_seat` can be repeated and interrupted. It blocks: call it by `asyncio.to_thread`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestra_hub.errors import InvalidInput, ProvisionFailed
from orchestra_hub.ids import check_workshop_id
from orchestra_spawner.overlay import make_kernels, make_overlay

__all__ = ["PREPARED_FILE", "SeatFolders", "SeatLayout", "environment_hash"]

PREPARED_FILE = "prepared.json"
"""In a workshop's folder once everything a seat needs has been made."""

_KEY = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,78}[a-z0-9])?")
_HOME = "home"


@dataclass(frozen=True)
class SeatLayout:
    """Where a seat finds its things. `path` are folders of programs, the seat's own first."""

    home: Path
    venv: Path
    jupyter_dir: Path
    log: Path
    path: tuple[Path, ...]


def environment_hash(requirements: Sequence[str]) -> str:
    """Names the environment of these requirements under this Python; their order doesn't count."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return hashlib.sha256("\n".join([python, *sorted(set(requirements))]).encode()).hexdigest()[:16]


class SeatFolders:
    """The folders below one data folder (see the reference, "Data folder")."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def workshop(self, workshop_id: str) -> Path:
        """All of a workshop."""
        return self.root / "workshops" / check_workshop_id(workshop_id)

    def content(self, workshop_id: str) -> Path:
        """The content of its template, from which seats are filled."""
        return self.workshop(workshop_id) / "content"

    def prepared(self, workshop_id: str) -> Path:
        """The file that says that everything is made."""
        return self.workshop(workshop_id) / PREPARED_FILE

    def seats(self, workshop_id: str) -> Path:
        """All seats of a workshop, by account key."""
        return self.workshop(workshop_id) / "seats"

    def seat(self, workshop_id: str, account_key: str) -> Path:
        """One account's seat."""
        return self.seats(workshop_id) / _checked(account_key)

    def home(self, workshop_id: str, account_key: str) -> Path:
        """The learner's files."""
        return self.seat(workshop_id, account_key) / _HOME

    def venv(self, workshop_id: str, account_key: str) -> Path:
        """What the learner installed with pip."""
        return self.seat(workshop_id, account_key) / "venv"

    def log(self, workshop_id: str, account_key: str) -> Path:
        """What the seat's server said since its last start."""
        return self.seat(workshop_id, account_key) / "seat.log"

    def ordinary(self, account_key: str) -> Path:
        """An account's folder for servers that belong to no workshop."""
        return self.root / "users" / _checked(account_key)

    def environment(self, requirements: Sequence[str]) -> Path:
        """The environment of a template's requirements, shared by all workshops that have the same."""
        return self.root / "environments" / environment_hash(requirements)

    def lay_out_seat(
        self, workshop_id: str, account_key: str, requirements: Sequence[str] = (), *, platform_prefix: str = sys.prefix
    ) -> SeatLayout:
        """A seat that is ready to start in: home with the content, environment, kernel.

        Raises `ProvisionFailed` while the workshop isn't prepared; `OSError` (a full disk) passes through.
        """
        if not self.prepared(workshop_id).is_file():
            raise ProvisionFailed(f"{workshop_id} is still being prepared. Try again in a minute.")
        below = [Path(platform_prefix)]
        if requirements:
            below.insert(0, self.environment(requirements))
        return _lay_out(self.seat(workshop_id, account_key), self.content(workshop_id), below)

    def remove_halves(self, workshop_id: str, account_key: str) -> None:
        """Remove what a start that was killed left half made in a seat's folder."""
        _remove_halves(self.seat(workshop_id, account_key))

    def lay_out_ordinary(self, account_key: str, *, platform_prefix: str = sys.prefix) -> SeatLayout:
        """The same for an ordinary server, which starts with an empty home."""
        return _lay_out(self.ordinary(account_key), None, [Path(platform_prefix)])


def _checked(account_key: str) -> str:
    if not _KEY.fullmatch(account_key):
        raise InvalidInput(f"{account_key[:80]!r} is not an account key.")
    return account_key


def _lay_out(seat: Path, content: Path | None, below: Sequence[Path]) -> SeatLayout:
    for folder in (seat.parent, seat):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (seat, seat / "jupyter"):
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    _fill_home(seat, content)
    layout = SeatLayout(
        home=seat / _HOME,
        venv=seat / "venv",
        jupyter_dir=seat / "jupyter",
        log=seat / "seat.log",
        path=tuple(prefix / "bin" for prefix in (seat / "venv", *below)),
    )
    make_overlay(layout.venv, below)
    make_kernels(layout.jupyter_dir / "kernels", layout.venv, below)
    return layout


def _remove_halves(seat: Path) -> None:
    for leftover in seat.glob(f".{_HOME}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _fill_home(seat: Path, content: Path | None) -> None:
    """Make the home once: filled beside it, then renamed, so that a start that is killed leaves none by halves."""
    home = seat / _HOME
    if os.path.lexists(home):
        return
    _remove_halves(seat)
    filling = Path(tempfile.mkdtemp(prefix=f".{_HOME}-", dir=seat))  # mode 0700
    try:
        if content is not None:
            # times aren't copied: the archive has none, and a file list of 1970 helps nobody
            shutil.copytree(content, filling, symlinks=True, dirs_exist_ok=True, copy_function=shutil.copy)
            filling.chmod(0o700)  # copytree gave it the content folder's
        filling.rename(home)
    except BaseException:
        shutil.rmtree(filling, ignore_errors=True)
        raise
