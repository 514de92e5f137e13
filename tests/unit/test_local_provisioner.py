"""Folders are prepared, exported and purged, whatever learners left in them."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from orchestra_hub.content import pack
from orchestra_hub.errors import NotFound, ProvisionFailed
from orchestra_hub.workshop import WorkshopFacts, facts_of
from orchestra_spawner.folders import SeatFolders
from orchestra_spawner.local_provisioner import LocalProvisioner
from orchestra_spawner.provisioner import EXPORT_CHUNK_BYTES, Inspection, Provisioner, PurgeReport
from orchestra_spawner.removal import remove_tree
from tests.unit.workshops import a_workshop

FACTS: WorkshopFacts = facts_of(a_workshop(), [])
KEY = "ada-0123456789"


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    folder = tmp_path / "template"
    folder.mkdir()
    (folder / "start.ipynb").write_text("{}")
    return pack(folder)


@pytest.fixture
def folders(tmp_path: Path) -> SeatFolders:
    return SeatFolders(tmp_path / "data")


@pytest.fixture
def provisioner(folders: SeatFolders) -> Provisioner:
    folders.root.mkdir()
    return LocalProvisioner(folders.root)


@pytest.fixture
async def home(provisioner: Provisioner, folders: SeatFolders, content: bytes) -> Path:
    """A learner's home in a prepared workshop."""
    await provisioner.prepare(FACTS, content)
    return folders.lay_out_seat(FACTS.id, KEY).home


async def exported(provisioner: Provisioner, key: str = KEY) -> tarfile.TarFile:
    chunks = [chunk async for chunk in provisioner.export(FACTS.id, key)]
    assert all(0 < len(chunk) <= EXPORT_CHUNK_BYTES for chunk in chunks)
    return tarfile.open(fileobj=io.BytesIO(b"".join(chunks)), mode="r:gz")


def tar_children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.name() in ("tar", "gzip")]


async def test_prepare_twice_and_after_it_was_broken_off(
    provisioner: Provisioner, folders: SeatFolders, content: bytes
) -> None:
    assert await provisioner.inspect(FACTS.id) == Inspection(exists=False, prepared=False, seats=(), files=0, bytes=0)
    (folders.workshop(FACTS.id) / ".content-broken").mkdir(parents=True)
    await provisioner.prepare(FACTS, content)
    await provisioner.prepare(FACTS, b"not read again")
    folders.lay_out_seat(FACTS.id, KEY)
    inspection = await provisioner.inspect(FACTS.id)
    assert inspection.exists and inspection.prepared and inspection.seats == (KEY,) and inspection.bytes > 0
    assert not list(folders.workshop(FACTS.id).glob(".content-*"))


async def test_damaged_content_is_a_sentence_and_a_retry_helps(provisioner: Provisioner, content: bytes) -> None:
    with pytest.raises(ProvisionFailed, match="could not be prepared: The packed content"):
        await provisioner.prepare(FACTS, b"damaged")
    await provisioner.prepare(FACTS, content)
    assert (await provisioner.inspect(FACTS.id)).prepared


async def test_an_export_has_the_home_and_nothing_else(provisioner: Provisioner, home: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (home / "link").symlink_to(tmp_path / "secret")
    (home / "folder").symlink_to(tmp_path)
    (home / "home").write_text("a file of that name")
    (home / "to-home").symlink_to("home")
    os.mkfifo(home / "pipe")
    with await exported(provisioner) as tar:
        names = set(tar.getnames())
        assert names == {FACTS.id} | {
            f"{FACTS.id}/{name}" for name in ("start.ipynb", "link", "folder", "home", "to-home", "pipe")
        }
        assert tar.getmember(f"{FACTS.id}/folder").issym()
        assert tar.getmember(f"{FACTS.id}/to-home").linkname == "home"


async def test_no_files_is_not_found(provisioner: Provisioner, home: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await exported(provisioner, "bob-0123456789")
    other = home.parent.parent / "eve-0123456789"
    other.mkdir()
    (other / "home").symlink_to(tmp_path)
    with pytest.raises(NotFound):
        await exported(provisioner, other.name)


async def test_a_large_file_streams_and_waits_for_its_reader(provisioner: Provisioner, home: Path) -> None:
    """264 MiB go through; what is read ahead stays small, as the child waits."""
    with (home / "sparse").open("wb") as file:
        file.truncate(256 * 1024 * 1024)
    (home / "noise").write_bytes(os.urandom(8 * 1024 * 1024))
    export = provisioner.export(FACTS.id, KEY)
    total, most = 0, 0
    before = psutil.Process().memory_info().rss
    async for chunk in export:
        total += len(chunk)
        most = max(most, psutil.Process().memory_info().rss - before)
    assert total > 8 * 1024 * 1024
    assert most < 8 * 1024 * 1024


async def test_a_reader_that_goes_away_ends_the_children(provisioner: Provisioner, home: Path) -> None:
    (home / "noise").write_bytes(os.urandom(8 * 1024 * 1024))
    export = provisioner.export(FACTS.id, KEY)
    await anext(export)
    assert tar_children()
    await export.aclose()
    assert not tar_children()


async def test_a_cancelled_reader_ends_the_children(provisioner: Provisioner, home: Path) -> None:
    (home / "noise").write_bytes(os.urandom(8 * 1024 * 1024))
    reading = asyncio.Event()

    async def read_slowly() -> None:
        async for _ in provisioner.export(FACTS.id, KEY):
            reading.set()
            await asyncio.Event().wait()

    reader = asyncio.create_task(read_slowly())
    await reading.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    async with asyncio.timeout(5):  # the generator is closed by the loop, as its reader didn't
        while tar_children():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("program", ["tar", "gzip"])
async def test_a_child_that_dies_in_the_middle_is_an_error_not_a_short_file(
    provisioner: Provisioner, home: Path, program: str
) -> None:
    (home / "noise").write_bytes(os.urandom(16 * 1024 * 1024))
    export = provisioner.export(FACTS.id, KEY)
    await anext(export)
    victim = next(child for child in tar_children() if child.name() == program)
    victim.send_signal(signal.SIGKILL)
    with pytest.raises(ProvisionFailed, match="broke off"):
        async for _ in export:
            pass


async def test_a_purge_removes_all_and_follows_no_link(provisioner: Provisioner, home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (home / "link").symlink_to(outside)
    (home / "locked").mkdir()
    (home / "locked" / "file").write_text("12345")
    (home / "locked").chmod(0)
    before = await provisioner.inspect(FACTS.id)
    report = await provisioner.purge(FACTS.id)
    assert report.seats == 1 and report.files > 5 and report.bytes >= 5
    assert report.bytes <= before.bytes + 1000
    assert (await provisioner.inspect(FACTS.id)).exists is False
    assert (outside / "precious").read_text() == "precious"
    assert await provisioner.purge(FACTS.id) == PurgeReport(0, 0, 0)


@contextmanager
def without_privileges(*folders: Path) -> Iterator[None]:
    """As a user whom permissions bind; root they don't."""
    if os.geteuid() != 0:
        yield
        return
    for folder in folders:
        os.chown(folder, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path("/tmp") / f"orchestra-{os.getpid()}-{tmp_path.name}"
    folder.mkdir(mode=0o755)
    yield folder
    if folder.exists():
        remove_tree(folder, "seats")


def test_read_only_and_hidden_folders_go_too(open_folder: Path) -> None:
    with without_privileges(open_folder):
        deep = open_folder / "workshop" / "seats" / "ada" / "read-only" / "hidden"
        deep.mkdir(parents=True)
        (deep / "file").write_text("x")
        deep.chmod(0)
        deep.parent.chmod(0o500)
        (open_folder / "workshop" / "seats").chmod(0o100)
        report = remove_tree(open_folder / "workshop", "seats")
        assert report == PurgeReport(seats=1, files=1, bytes=1)
        assert not (open_folder / "workshop").exists()


def test_a_tree_deeper_than_any_path_goes_too(tmp_path: Path) -> None:
    """1500 folders of 9 characters: a path of 15 kB, where the system names at most 4 kB."""
    workshop = tmp_path / "workshop"
    workshop.mkdir()
    here = os.open(workshop, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("so-deeply", dir_fd=here)
        below = os.open("so-deeply", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    assert remove_tree(workshop, "seats") == PurgeReport(seats=0, files=1, bytes=0)
    assert not workshop.exists()


async def test_a_look_counts_what_a_purge_counts(
    provisioner: Provisioner, home: Path, folders: SeatFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge that is killed after its last file has nothing else to report."""
    (home / "link").symlink_to(home)
    before = await provisioner.inspect(FACTS.id)
    counted = PurgeReport(len(before.seats), before.files, before.bytes)
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", _refuses)
        with pytest.raises(ProvisionFailed):
            await provisioner.purge(FACTS.id)
    again = await provisioner.inspect(FACTS.id)
    assert (again.files, again.bytes) == (before.files, before.bytes), "with the counts of the first try written down"
    assert await provisioner.purge(FACTS.id) == counted


def _refuses(path: str) -> None:
    raise OSError(5, "Input/output error", path)


def test_a_purge_that_was_broken_off_reports_what_there_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = tmp_path / "workshop"
    for name in ("ada", "bob"):
        (workshop / "seats" / name / "home").mkdir(parents=True)
        (workshop / "seats" / name / "home" / "work").write_text("12")
    unlink, removed = os.unlink, []

    def fails_at_the_second(path: str) -> None:
        removed.append(path)
        if len(removed) == 2:
            raise OSError(5, "Input/output error", path)
        unlink(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", fails_at_the_second)
        with pytest.raises(OSError, match="Input/output"):
            remove_tree(workshop, "seats")
    assert len(removed) == 2
    assert remove_tree(workshop, "seats") == PurgeReport(seats=2, files=2, bytes=4)
    assert not workshop.exists()


def test_a_link_in_the_workshops_place_is_removed_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "workshop").symlink_to(tmp_path / "precious")
    remove_tree(tmp_path / "workshop", "seats")
    assert not (tmp_path / "workshop").exists() and (tmp_path / "precious").is_dir()
