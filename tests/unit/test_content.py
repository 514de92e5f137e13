"""Packed content is the same everywhere and never leaves its folder."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from orchestra_hub import content
from orchestra_hub.content import pack, unpack
from orchestra_hub.errors import InvalidInput
from orchestra_hub.templates import TemplateError, content_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "content"
    (made / "data").mkdir(parents=True)
    (made / "start.ipynb").write_text("{}")
    (made / "data" / "größe.csv").write_bytes(b"\x00\xff" * 1000)
    (made / "run.sh").write_text("echo")
    (made / "run.sh").chmod(0o755)
    (made / "link.csv").symlink_to("data/größe.csv")
    (made / ".ipynb_checkpoints").mkdir()
    (made / ".ipynb_checkpoints" / "left.ipynb").write_text("{}")
    return made


def test_a_round_trip(folder: Path, tmp_path: Path) -> None:
    unpack(pack(folder), tmp_path / "seat")
    found = {path.relative_to(tmp_path / "seat").as_posix() for path in (tmp_path / "seat").rglob("*")}
    assert found == {"start.ipynb", "run.sh", "data", "data/größe.csv", "link.csv"}
    assert (tmp_path / "seat" / "data" / "größe.csv").read_bytes() == b"\x00\xff" * 1000
    assert not (tmp_path / "seat" / "link.csv").is_symlink()
    assert os.access(tmp_path / "seat" / "run.sh", os.X_OK) and not os.access(tmp_path / "seat" / "link.csv", os.X_OK)


def test_without_links_the_digest_survives(folder: Path, tmp_path: Path) -> None:
    (folder / "link.csv").unlink()
    unpack(pack(folder), tmp_path / "seat")
    assert content_digest(tmp_path / "seat") == content_digest(folder)


def test_times_and_permissions_do_not_count(folder: Path) -> None:
    before = pack(folder)
    os.utime(folder / "start.ipynb", (0, 0))
    (folder / "start.ipynb").chmod(0o600)
    assert pack(folder) == before


def test_a_link_out_of_the_folder_or_to_a_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "out").symlink_to("../secret")
    with pytest.raises(TemplateError, match="leaves the content folder"):
        pack(folder)
    (folder / "out").unlink()
    (folder / "loop").symlink_to("data")
    with pytest.raises(TemplateError, match="is a link to a folder"):
        pack(folder)


def test_a_pipe_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(TemplateError, match="is not a file"):
        pack(folder)


def test_too_much_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "CONTENT_MAX_BYTES", 1000)
    with pytest.raises(TemplateError, match="larger than"):
        pack(folder)


def _archive(member: tarfile.TarInfo) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        tar.addfile(member, io.BytesIO(b"x" * member.size))
    return gzip.compress(plain.getvalue())


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = 1
    with pytest.raises(InvalidInput):
        unpack(_archive(member), tmp_path / "seat")
    assert not (tmp_path / "out").exists() and not Path("/out").exists()


def test_a_link_that_is_there_already_does_not_lead_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "seat").mkdir()
    (tmp_path / "seat" / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="leads out of"):
        unpack(pack(folder), tmp_path / "seat")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_files_of_the_same_name_are_replaced(folder: Path, tmp_path: Path) -> None:
    unpack(pack(folder), tmp_path / "seat")
    (folder / "start.ipynb").write_text("{ }")
    (tmp_path / "seat" / "run.sh").chmod(0o400)
    unpack(pack(folder), tmp_path / "seat")
    assert (tmp_path / "seat" / "start.ipynb").read_text() == "{ }"


def test_debians_python_is_enough(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12 has Python 3.11.2, where tarfile has no filters: extracting with it is refused, or unsafe."""
    for name in ("extract", "extractall"):
        monkeypatch.delattr(tarfile.TarFile, name)
    unpack(pack(folder), tmp_path / "seat")
    assert (tmp_path / "seat" / "start.ipynb").read_text() == "{}"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("thing")
    member.type, member.linkname = kind, "target"
    with pytest.raises(InvalidInput, match="neither file nor folder"):
        unpack(_archive(member), tmp_path / "seat")


@pytest.mark.parametrize("rubbish", [b"", b"no archive", gzip.compress(b"no tar" * 200, mtime=0)])
def test_rubbish_is_refused(tmp_path: Path, rubbish: bytes) -> None:
    with pytest.raises(InvalidInput, match="can't be unpacked"):
        unpack(rubbish, tmp_path / "seat")


def test_a_broken_archive_is_refused(folder: Path, tmp_path: Path) -> None:
    packed = pack(folder)
    with pytest.raises(InvalidInput, match="can't be unpacked"):
        unpack(packed[: len(packed) // 2], tmp_path / "seat")
