"""How far seats can be kept apart on this machine: tried for real at the start of `up`, said in one line.

Guarantees: what is told to the hub was tried (a program was run as a seat would be); what can't be had is in `lacks`,
each with its reason. Two platforms on one machine never use the same user ids.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode
from orchestra_services.up.settings import MOST_BLOCKS, DataFolder, InnerPorts, UpSettings, is_loopback
from orchestra_spawner.apart import program_folders
from orchestra_spawner.cgroups import CONTROLLERS, own_groups, prepare
from orchestra_spawner.confinement import PROGRAMS, View, as_user
from orchestra_spawner.identities import UserIds, running_user_ids
from orchestra_spawner.loopback_rules import Rules, RulesFailed, apply, removal, table_text

__all__ = ["SeatsApart", "check_listening", "close", "find_out", "hold_user_ids", "said", "told_to_warden"]

_TRY_S = 20
_TRIED = "import orchestra_spawner.seat"


@dataclass(frozen=True)
class SeatsApart:
    """What can be had. `ids` None: seats all run as the user of `up`; `lacks` says what else isn't and why."""

    ids: UserIds | None = None
    rules: Rules | None = None
    groups: dict[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether no seat can get at another or at the platform."""
        return self.ids is not None and self.rules is not None


@contextmanager
def hold_user_ids(
    folder: DataFolder, remembered: int | None, *, seats_run: bool, running: Callable[[], set[int]] = running_user_ids
) -> Iterator[int]:
    """The number of a range of user ids that no other platform on this machine uses while the block lasts.

    Held by the name of a socket that the kernel frees whatever way we end. Running seats keep theirs.
    """
    first = int.from_bytes(hashlib.sha256(str(folder.root.resolve()).encode()).digest()[:8], "big") % MOST_BLOCKS
    wanted = first if remembered is None else remembered
    used = set() if seats_run else {(uid - UserIds.block(0).first) // 65_536 for uid in running()}
    for step in range(MOST_BLOCKS):
        block = (wanted + step) % MOST_BLOCKS
        if block in used:
            continue
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
            try:
                held.bind(f"\0orchestra-hub-user-ids-{block}")
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            yield block
            return
    raise CommandRefused(
        "Every range of user ids for seats is in use on this machine; stop another platform.",
        exit_code=ExitCode.TEMPORARY,
    )


def find_out(
    settings: UpSettings,
    folder: DataFolder,
    ports: InnerPorts,
    block: int,
    *,
    root: bool,
    find: Callable[[str], str | None] = shutil.which,
) -> SeatsApart:
    """Try everything; makes control groups and packet filter rules."""
    lacks: list[str] = []
    groups = _groups(block)
    if len(groups) < len(CONTROLLERS):
        lacks.append(_no_groups(groups))
    if not root:
        return SeatsApart(groups=groups, lacks=("seats share one user id, as `up` doesn't run as root", *lacks))
    ids = UserIds.block(block)
    missing = [name for name in PROGRAMS if find(name) is None]
    reason = f"the program {missing[0]} is missing" if missing else _why_not(folder, ids)
    if reason is not None:
        return SeatsApart(groups=groups, lacks=(f"seats share one user id, and it is root's ({reason})", *lacks))
    closed = (ports.hub, ports.service, ports.proxy_api)
    rules = Rules(f"orchestra_{block}", ids, (settings.port,), closed)
    try:
        if find("nft") is None:
            raise RulesFailed("the program nft is missing")
        apply(table_text(rules, {uid for uid in running_user_ids() if uid in ids}))
    except RulesFailed as error:
        lacks.append(f"seats can connect to each other's ports and the platform's ({error})")
        return SeatsApart(ids, None, groups, tuple(lacks))
    return SeatsApart(ids, rules, groups, tuple(lacks))


def _why_not(folder: DataFolder, ids: UserIds) -> str | None:
    """Start Python as the last user id of the range, with a seat's view; the reason when that doesn't work."""
    tried = Path(tempfile.mkdtemp(prefix=".try-", dir=folder.run))
    uid = ids.last
    try:
        inside = tried / "home"
        inside.mkdir(mode=0o700)
        os.chown(tried, 0, uid)
        tried.chmod(0o710)
        os.chown(inside, uid, uid)
        view = View((folder.root.resolve(),), program_folders(), (tried.resolve(),))
        command = as_user(view, uid, [sys.executable, "-P", "-c", _TRIED], folder=inside.resolve())
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=_TRY_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        shutil.rmtree(tried, ignore_errors=True)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200]


def _groups(block: int) -> dict[str, str]:
    try:
        found = own_groups(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    except OSError:
        return {}
    return prepare(found, f"orchestra-{block}")


def _no_groups(groups: dict[str, str]) -> str:
    words = {"memory": "memory is only looked at every few seconds", "cpu": "processor time", "pids": "processes"}
    missing = [words[name] for name in CONTROLLERS if name not in groups]
    unlimited = [word for word in missing if not word.startswith("memory")]
    parts = [word for word in missing if word.startswith("memory")]
    if unlimited:
        parts.append(f"{' and '.join(unlimited)} {'are' if len(unlimited) > 1 else 'is'} not limited")
    return f"{', '.join(parts)} (no control groups for us)"


def said(apart: SeatsApart) -> str | None:
    """The one line `up` says of what can't be had; None when all can."""
    if not apart.lacks:
        return None
    first = "Seats are kept apart, but" if apart.whole else "Seats are not kept apart:"
    return f"{first} {'; '.join(apart.lacks)}. See docs/how-to/run-on-one-machine.md, Seats kept apart."


def told_to_warden(apart: SeatsApart, folder: DataFolder) -> dict[str, Any]:
    """What the warden has to know, as JSON."""
    rules = apart.rules
    told = None
    if rules is not None:
        told = {
            "table": rules.table,
            "ids": str(rules.ids),
            "open_ports": rules.open_ports,
            "closed_ports": rules.closed_ports,
        }
    return {"data_dir": str(folder.root), "rules": told}


def check_listening(settings: UpSettings, apart: SeatsApart, *, shared_allowed: bool) -> None:
    """Refuse to serve other machines while seats aren't kept apart, unless that was asked for in so many words."""
    if is_loopback(settings.listen) or apart.whole or shared_allowed:
        return
    raise CommandRefused(
        f"--listen {settings.listen} serves other machines, but {'; '.join(apart.lacks)}: any learner could read all "
        "that the platform can. Mend that, or add --seats-share-one-user if you trust everybody who signs in.",
        exit_code=ExitCode.SEATS_NOT_APART,
    )


def close(apart: SeatsApart) -> None:
    """Remove rules and control groups; those of seats that still run stay."""
    if apart.rules is not None:
        with suppress(RulesFailed):
            apply(removal(apart.rules.table))
    for parent in {Path(folder) for folder in apart.groups.values()}:
        with suppress(OSError):
            for group in [Path(entry.path) for entry in os.scandir(parent) if entry.is_dir()]:
                with suppress(OSError):
                    group.rmdir()
            parent.rmdir()
