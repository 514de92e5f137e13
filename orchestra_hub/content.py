"""A template's content as one archive, for the store and for seats.

Guarantees:

- `pack` gives the same bytes for the same names, bytes and executable bits: no times, owners or order of the disk.
- An archive holds plain files and folders only. A link inside the content folder is packed as what it points to.
- `unpack` writes nothing outside its folder, whatever the archive says and whatever links the folder holds.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path

from orchestra_hub.errors import InvalidInput
from orchestra_hub.templates import TemplateError, content_digest, content_files, link_problem

__all__ = ["CONTENT_MAX_BYTES", "holds", "pack", "unpack"]

CONTENT_MAX_BYTES = 256 * 1024 * 1024
"""The most a template's files may be together: they are copied to every seat and kept in the database."""


def pack(folder: Path) -> bytes:
    """The files of `folder` (those of `templates.content_files`) as a deterministic `tar.gz`.

    Raises `TemplateError` for a link that leads out of the folder or to another folder, for anything that is not a
    file, and for more than `CONTENT_MAX_BYTES` in all.
    """
    total = 0
    archive = io.BytesIO()
    try:
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in content_files(folder):
                entry = folder / path
                _check_entry(folder, entry)
                data = entry.read_bytes()
                total += len(data)
                if total > CONTENT_MAX_BYTES:
                    raise TemplateError(f"The content {folder} is larger than {CONTENT_MAX_BYTES >> 20} MiB.")
                member = tarfile.TarInfo(path.as_posix())
                member.size = len(data)
                member.mode = 0o755 if entry.stat().st_mode & 0o100 else 0o644
                tar.addfile(member, io.BytesIO(data))
    except OSError as error:
        raise TemplateError(f"The content {folder} can't be read: {error}") from error
    return gzip.compress(archive.getvalue(), mtime=0)


def _check_entry(folder: Path, entry: Path) -> None:
    problem = link_problem(folder, entry) if entry.is_symlink() else None
    if problem is not None:
        raise TemplateError(f"{entry}: {problem}. Copy the file in instead.")
    if not entry.is_file():
        what = "is a link to a folder" if entry.is_dir() else "is not a file"
        raise TemplateError(f"{entry} {what}. Put plain files there instead.")


def unpack(packed: bytes, folder: Path) -> None:
    """Write what `pack` packed into `folder`, which is made if needed; files of the same name are replaced.

    Raises `InvalidInput` for bytes that are no such archive or hold links, devices, absolute paths or `..`.
    `OSError` (a full disk) passes through.
    """
    try:
        plain = gzip.decompress(packed)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidInput(f"The packed content can't be unpacked: {error}") from error
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as tar:
            for member in tar:
                if not (member.isreg() or member.isdir()):
                    raise InvalidInput(f"The packed content holds {member.name!r}, which is neither file nor folder.")
                if member.name.startswith("/") or ".." in Path(member.name).parts:
                    raise InvalidInput(f"The packed content holds {member.name!r}, which leads out of its folder.")
                _write(tar, member, folder)
    except tarfile.TarError as error:
        raise InvalidInput(f"The packed content can't be unpacked: {error}") from error


def holds(packed: bytes, digest: str) -> bool:
    """Whether `packed` is an archive of the content with that `templates.content_digest`; nothing of it is kept."""
    with tempfile.TemporaryDirectory(prefix="orchestra-content-") as made:
        try:
            unpack(packed, Path(made))
            return content_digest(Path(made)) == digest
        except (InvalidInput, TemplateError):
            return False


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """One file or folder. By hand: the filters of PEP 706 came with Python 3.11.4, and Debian 12 has 3.11.2."""
    target = folder / member.name
    if not Path(os.path.realpath(target)).is_relative_to(folder.resolve()):  # by a link that is there already
        raise InvalidInput(f"The packed content's {member.name!r} leads out of {folder}.")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    packed = tar.extractfile(member)
    assert packed is not None, "a plain file"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with packed, target.open("xb") as file:
        shutil.copyfileobj(packed, file)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
