"""SQLite in trouble under a real platform: the disk full, files read-only, and the files locked by a backup program.

What is promised: clear errors (503 with `Retry-After` and a sentence, never a traceback), nothing half done, no
corruption, seats that run go on, and work goes on by itself afterwards.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.people import Person, running_seat, xsrf_in
from tests.running import Platform, until

SIZE_MIB = 64
LOCKED_S = 22.0
DATABASES = ("orchestra.sqlite", "jupyterhub.sqlite")
_SMALL_DISK = """
import os
from orchestra_services.up.hub_config import apply
c = get_config()
apply(c, os.environ)
c.OrchestraLocalSpawner.disk_reserve = "1M"  # starts are refused long before the databases' disk is full otherwise
"""


@pytest.fixture(scope="module")
def small_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose data folder is a small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("a small file system of its own can't be mounted (not root): full and read-only disks")
    folder = tmp_path_factory.mktemp("small") / "data"
    folder.mkdir()
    why_not = _mounted_image(folder)
    if why_not and (why_not := _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder))):
        pytest.skip(f"a small file system can't be mounted here ({why_not})")
    try:
        folder.chmod(0o700)
        config = tmp_path_factory.mktemp("config") / "small_disk_config.py"
        config.write_text(_SMALL_DISK)
        with Platform.start(folder, "--config", str(config)) as running:
            yield running
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mounted_image(folder: Path) -> str:
    """Why a file with an ext4 of its own can't be mounted; empty when it is."""
    image = folder.with_suffix(".img")
    with image.open("wb") as stream:
        stream.truncate(SIZE_MIB << 20)
    return _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image)) or _run("mount", "-o", "loop", str(image), str(folder))


def _run(*command: str) -> str:
    """Why it didn't work; empty when it did."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return f"no {command[0]}"
    return "" if done.returncode == 0 else done.stderr.strip()[:80] or f"{command[0]}: {done.returncode}"


def unharmed(platform: Platform) -> None:
    """SQLite finds nothing wrong with the files."""
    for name in DATABASES:
        with closing(sqlite3.connect(f"file:{platform.data_dir / name}?mode=ro", uri=True)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)], name


def refused(answer: httpx.Response) -> None:
    """Not now, in words, and when to come back."""
    assert answer.status_code == 503, (answer.status_code, str(answer.url), answer.text[:300])
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Traceback" not in answer.text and "sqlalchemy" not in answer.text.lower()
    assert "database" in answer.text, answer.text[:500]


def creates(platform: Platform, session: str) -> httpx.Response:
    body = {"template": "python-data-science", "session": session, "opens_at": "now", "hours": 2, "join_policy": "open"}
    return platform.api("POST", "/workshops", json=body)


def signs_up(platform: Platform, name: str) -> httpx.Response:
    with Person.new(platform, name, sign_up=False) as person:
        return person.sign_up()


def no_tracebacks_in(platform: Platform, name: str, since: int) -> None:
    log = (platform.data_dir / "logs" / f"{name}.log").read_text()[since:]
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]


def goes_on(platform: Platform, session: str) -> None:
    """Everything works again, by itself."""
    made = until(
        lambda: answer.json() if (answer := creates(platform, session)).status_code == 201 else None,
        within_s=30, every_s=0.5, message="workshops can be made again",
    )  # fmt: skip
    platform.wait_state(made["id"], "open")
    with Person.new(platform, f"after-{session}") as person:
        person.join(made["id"])
        url = person.start(made["id"])
        person.open_seat(url)
        person.stop(made["id"])
    unharmed(platform)


def in_trouble(platform: Platform, session: str, seat: Person, url: str, workshop_id: str) -> None:
    """What people meet while nothing can be written."""
    before = len(platform.api("GET", "/workshops").json()["items"])
    log = (platform.data_dir / "logs" / "workshops.log").stat().st_size
    refused(creates(platform, session))
    refused(signs_up(platform, f"new-{session}"))
    page = seat.get(f"/services/workshops/{workshop_id}")
    assert page.status_code in (200, 404, 503), page.text
    told = platform.api("POST", f"/workshops/{workshop_id}/extend", json={"hours": 1})
    refused(told)
    assert platform.api("GET", f"/workshops/{workshop_id}").status_code == 200, "reading goes on"
    assert seat.page(workshop_id).status_code == 200, "the hub's pages go on"
    assert seat.seat_request(url, "GET", "api/contents").status_code == 200, "and so does the seat"
    assert len(platform.api("GET", "/workshops").json()["items"]) == before, "nothing was made by halves"
    no_tracebacks_in(platform, "workshops", log)


@contextmanager
def somebodys_seat(platform: Platform, name: str) -> Iterator[tuple[Person, str, str]]:
    with running_seat(platform, name) as (person, url, workshop_id):
        yield person, url, workshop_id
        person.stop(workshop_id)


def test_a_full_disk_is_told_harms_nothing_and_work_goes_on(small_platform: Platform) -> None:
    platform = small_platform
    with somebodys_seat(platform, "full") as (seat, url, workshop_id):
        filler = platform.data_dir / "filler"
        try:
            with filler.open("wb") as stream:
                while True:
                    stream.write(b"\0" * 4096)
                    stream.flush()
        except OSError:
            pass
        try:
            in_trouble(platform, "full-2", seat, url, workshop_id)
        finally:
            filler.unlink()
        goes_on(platform, "full-3")


def test_files_that_became_read_only_are_told_and_work_goes_on(small_platform: Platform) -> None:
    """`chattr +i` holds for root and for files that are open already. Not for SQLite's `-shm`, which is memory mapped:
    the kernel ends who writes to that (`docs/explanation/store.md` says so)."""
    platform = small_platform
    with somebodys_seat(platform, "fixed") as (seat, url, workshop_id):
        files = [
            str(file)
            for name in DATABASES
            for file in platform.data_dir.glob(f"{name}*")
            if file.suffix != ".sqlite-shm"
        ]
        if why_not := _run("chattr", "+i", *files):
            pytest.skip(f"files can't be made immutable here ({why_not}): a disk that became read-only")
        try:
            in_trouble(platform, "fixed-2", seat, url, workshop_id)
        finally:
            assert not _run("chattr", "-i", *files)
        goes_on(platform, "fixed-3")


BACKUP = """
import sqlite3, sys, time
held = [sqlite3.connect(file, timeout=20, isolation_level=None) for file in sys.argv[2:]]
for database in held:
    database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[1]))
"""


def test_files_locked_by_a_backup_program_are_told_and_work_goes_on(small_platform: Platform) -> None:
    platform = small_platform
    files = [str(platform.data_dir / name) for name in DATABASES]
    with somebodys_seat(platform, "locked") as (seat, url, workshop_id):
        before = seat.page(workshop_id)
        command = [sys.executable, "-c", BACKUP, str(LOCKED_S), *files]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as backup:
            assert backup.stdout is not None and backup.stdout.readline() == "locked\n"
            in_trouble(platform, "locked-2", seat, url, workshop_id)
            slowest = 0.0
            while backup.poll() is None:  # the hub's loop is never held for long, whoever wants to write
                began = time.monotonic()
                assert seat.page(workshop_id).status_code == 200
                slowest = max(slowest, time.monotonic() - began)
                seat.client.post(
                    f"{seat.app}/hub/signup", data={"_xsrf": xsrf_in(before.text), "username": "x"}, timeout=30
                )
                time.sleep(0.2)  # as people do
            assert slowest < 4, slowest
        goes_on(platform, "locked-3")


def test_a_long_backup_by_sqlites_own_means_disturbs_nobody(small_platform: Platform, tmp_path: Path) -> None:
    """The way `docs/how-to` names: a reader that takes its time."""
    platform = small_platform
    for name in DATABASES:
        with (
            closing(sqlite3.connect(platform.data_dir / name, timeout=20)) as source,
            closing(sqlite3.connect(tmp_path / name)) as target,
        ):
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            made = creates(platform, "while-read")
            assert made.status_code == 201, made.text
            source.rollback()
            source.backup(target, pages=20)
            assert target.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
