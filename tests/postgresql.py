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
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

__all__ = ["fresh_database", "postgresql_url"]

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


@contextmanager
def _cluster(programs: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="orchestra-pg-") as made:
        folder, run_as = Path(made), _server_user()
        if run_as:
            os.chown(folder, run_as["user"], run_as["group"])
        data, log = folder / "data", folder / "log"
        subprocess.run(
            [
                programs / "initdb",
                "-D",
                data,
                "-U",
                "orchestra",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ],
            cwd=folder,
            check=True,
            capture_output=True,
            **run_as,
        )
        options = ["-c", "listen_addresses=", "-c", "fsync=off"]
        command = [str(programs / "postgres"), "-D", str(data), "-k", str(folder), *options]
        with log.open("wb") as output:
            server: subprocess.Popen[bytes] = subprocess.Popen(
                command, cwd=folder, stdout=output, stderr=output, **run_as
            )
        try:
            url = f"postgresql://orchestra@/postgres?host={quote(str(folder), safe='')}"
            _wait_for(url, server, log)
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown: ends sessions, then stops
            try:
                server.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL of a PostgreSQL server's maintenance database; see `fresh_database`."""
    programs = _programs()
    if programs is None:
        reason = "PostgreSQL's programs (initdb, postgres) are not installed"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{reason}, and {REQUIRED}=1 requires them")
        pytest.skip(reason)
    with _cluster(programs) as url:
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
