"""A throwaway PostgreSQL cluster for the tests: made in a temporary folder, on a unix socket, gone at the end.

Nothing of the machine's own PostgreSQL is touched. Run as root, the server runs as the user `postgres` (it refuses
root). Without PostgreSQL's programs the tests are skipped; `ORCHESTRA_REQUIRE_POSTGRESQL=1` makes that a failure.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

__all__ = ["Server", "cluster", "fresh_database", "postgresql_url", "running_server", "skip_without_postgresql"]

REQUIRED = "ORCHESTRA_REQUIRE_POSTGRESQL"
_START_S = 30
_STOP_S = 20


def _programs() -> Path | None:
    """The folder with `initdb` and `postgres`, the newest version's."""
    found = shutil.which("initdb")
    if found is not None and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


def _server_user() -> dict[str, Any]:
    """Arguments for `subprocess` that make the server run as somebody it accepts."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}") from error
        time.sleep(0.05)  # between two looks, with a deadline


@dataclass
class Server:
    """A PostgreSQL server of the tests' own, on a unix socket and, when asked, on a port of 127.0.0.1."""

    programs: Path
    folder: Path
    port: int | None
    run_as: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The maintenance database's."""
        return f"postgresql://orchestra@/postgres?host={quote(str(self.folder), safe='')}"

    def make(self) -> None:
        """A new cluster."""
        if self.run_as:
            os.chown(self.folder, self.run_as["user"], self.run_as["group"])
        command = [self.programs / "initdb", "-D", self.folder / "data", "-U", "orchestra", "-A", "trust", "-E", "UTF8",
                   "--locale=C", "--no-sync"]  # fmt: skip
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, **self.run_as)

    def start(self) -> None:
        """Run it until it answers."""
        listen = "" if self.port is None else "127.0.0.1"
        options = ["-c", f"listen_addresses={listen}", "-c", f"port={self.port or 5432}", "-c", "fsync=off"]
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), *options]
        log = self.folder / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=output, **self.run_as)
        _wait_for(self.local_url, self.process, log)

    @property
    def local_url(self) -> str:
        """As `url`, with the port, which is part of the socket's name."""
        return self.url if self.port is None else f"{self.url}&port={self.port}"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends sessions, then stops; SIGQUIT is `pg_ctl stop -m immediate`: as after a power cut."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


@contextmanager
def running_server(port: int | None = None) -> Iterator[Server]:
    """A server in a temporary folder, gone at the end. Raises `FileNotFoundError` without PostgreSQL's programs."""
    programs = _programs()
    if programs is None:
        raise FileNotFoundError("PostgreSQL's programs (initdb, postgres) are not installed")
    with tempfile.TemporaryDirectory(prefix="orchestra-pg-") as made:
        server = Server(programs, Path(made), port, _server_user())
        server.make()
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of a server's maintenance database, on a unix socket."""
    with running_server() as server:
        yield server.url


def skip_without_postgresql() -> None:
    """Leaves the test out where PostgreSQL isn't installed, unless it is required."""
    if _programs() is not None:
        return
    reason = "PostgreSQL's programs (initdb, postgres) are not installed"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason}, and {REQUIRED}=1 requires them")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL of a PostgreSQL server's maintenance database; see `fresh_database`."""
    skip_without_postgresql()
    with cluster() as url:
        yield url


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """The URL of a new, empty database on the server; dropped at the end."""
    name = f"orchestra_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield server_url.replace("/postgres?", f"/{name}?")
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
