"""The folders of workshops and seats on one machine, and how a seat's own is made.

Guarantees:

- Paths are made from checked ids and keys only: none leads out of the data folder.
- Everything is the owner's alone (mode 0700), and where seats are kept apart each seat's is its own user id's
  (`ownership`); what a learner put there is never followed or trusted.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestra_hub.errors import InvalidInput, ProvisionFailed
from orchestra_hub.ids import check_workshop_id
from orchestra_spawner.identities import Identities
from orchestra_spawner.overlay import is_current, make_kernels, make_overlay, mend_command
from orchestra_spawner.ownership import (
    belongs_to,
    hand_over,
    let_others_read,
    own_folder,
    real_folder,
    remove_if_not_ours,
)

__all__ = ["PREPARED_FILE", "Apart", "SeatFolders", "SeatLayout", "environment_hash"]

PREPARED_FILE = "prepared.json"
"""In a workshop's folder once everything a seat needs has been made."""

_KEY = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,78}[a-z0-9])?")
_HOME = "home"


@dataclass(frozen=True)
class SeatLayout:
    """Where a seat finds its things. `path` are folders of programs, the seat's own first.

    `uid` is the user id of a seat that is kept apart, `below` the environments its own is made on.
    """

    home: Path
    venv: Path
    jupyter_dir: Path
    log: Path
    path: tuple[Path, ...]
    below: tuple[Path, ...] = ()
    uid: int | None = None

    @property
    def folder(self) -> Path:
        """All of the seat."""
        return self.home.parent

    @property
    def temporary(self) -> Path:
        """The `/tmp` of a seat that is kept apart."""
        return self.folder / "tmp"


@dataclass(frozen=True)
class Apart:
    """What it takes to lay out a seat with its own user id. `run` runs a command as it; raises `ProvisionFailed`."""

    identities: Identities
    run: Callable[[SeatLayout, list[str]], None]


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

    def every_seat(self) -> Iterator[Path]:
        """The folders of all seats and ordinary servers that there are."""
        yield from self.root.glob("workshops/*/seats/*")
        yield from self.root.glob("users/*")

    def lay_out_seat(
        self,
        workshop_id: str,
        account_key: str,
        requirements: Sequence[str] = (),
        *,
        platform_prefix: str = sys.prefix,
        apart: Apart | None = None,
    ) -> SeatLayout:
        """A seat that is ready to start in: home with the content, environment, kernel.

        Raises `ProvisionFailed` while the workshop isn't prepared; `OSError` (a full disk) passes through.
        """
        if not self.prepared(workshop_id).is_file():
            raise ProvisionFailed(f"{workshop_id} is still being prepared. Try again in a minute.")
        below = [Path(platform_prefix)]
        if requirements:
            below.insert(0, self.environment(requirements))
            if apart is not None:
                let_others_read(below[0])
        return _lay_out(self.seat(workshop_id, account_key), self.content(workshop_id), below, apart)

    def remove_halves(self, workshop_id: str, account_key: str) -> None:
        """Remove what a start that was killed left half made in a seat's folder."""
        _remove_halves(self.seat(workshop_id, account_key))

    def lay_out_ordinary(
        self, account_key: str, *, platform_prefix: str = sys.prefix, apart: Apart | None = None
    ) -> SeatLayout:
        """The same for an ordinary server, which starts with an empty home."""
        return _lay_out(self.ordinary(account_key), None, [Path(platform_prefix)], apart)


def _checked(account_key: str) -> str:
    if not _KEY.fullmatch(account_key):
        raise InvalidInput(f"{account_key[:80]!r} is not an account key.")
    return account_key


def _lay_out(seat: Path, content: Path | None, below: Sequence[Path], apart: Apart | None) -> SeatLayout:
    for folder in (seat.parent, seat):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    layout = SeatLayout(
        home=seat / _HOME,
        venv=seat / "venv",
        jupyter_dir=seat / "jupyter",
        log=seat / "seat.log",
        path=tuple(prefix / "bin" for prefix in (seat / "venv", *below)),
        below=tuple(below),
    )
    if apart is not None:
        return _lay_out_apart(replace(layout, uid=apart.identities.assign(seat)), content, apart)
    for folder in (seat, layout.jupyter_dir):
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    _fill_home(seat, content, None)
    make_overlay(layout.venv, below)
    make_kernels(layout.jupyter_dir / "kernels", layout.venv, below)
    return layout


def _lay_out_apart(layout: SeatLayout, content: Path | None, apart: Apart) -> SeatLayout:
    """The same for a seat with a user id; what other releases or runs left as somebody else's is taken over."""
    uid = layout.uid
    assert uid is not None
    real_folder(layout.home)
    _fill_home(layout.folder, content, uid)
    with own_folder(layout.home, uid), own_folder(layout.temporary, uid):
        pass
    _own_environment(layout, uid, apart)
    real_folder(layout.jupyter_dir)
    layout.jupyter_dir.mkdir(mode=0o750, exist_ok=True)
    os.chown(layout.jupyter_dir, os.geteuid(), uid, follow_symlinks=False)
    layout.jupyter_dir.chmod(0o750)
    for name in ("runtime", "config"):
        with own_folder(layout.jupyter_dir / name, uid):
            pass
    kernels = layout.jupyter_dir / "kernels"
    remove_if_not_ours(kernels)
    make_kernels(kernels, layout.venv, layout.below)
    kernels.chmod(0o700)  # so that every kernel is looked at
    let_others_read(kernels)
    if not belongs_to(layout.log, os.geteuid()) or layout.log.is_symlink():
        layout.log.unlink(missing_ok=True)
    return layout


def _own_environment(layout: SeatLayout, uid: int, apart: Apart) -> None:
    """The seat's environment: we make it while it is still ours; once it is the learner's, they mend it."""
    if belongs_to(layout.venv, uid):
        if not is_current(layout.venv, layout.below):
            apart.run(layout, mend_command(layout.venv, layout.below))
        return
    real_folder(layout.venv)
    if layout.venv.exists() and not belongs_to(layout.venv, os.geteuid()):
        hand_over(layout.venv, uid)
        _own_environment(layout, uid, apart)
        return
    make_overlay(layout.venv, layout.below)
    hand_over(layout.venv, uid)


def _remove_halves(seat: Path) -> None:
    for leftover in seat.glob(f".{_HOME}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _fill_home(seat: Path, content: Path | None, uid: int | None) -> None:
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
        if uid is not None:
            hand_over(filling, uid)
        filling.rename(home)
    except BaseException:
        shutil.rmtree(filling, ignore_errors=True)
        raise
