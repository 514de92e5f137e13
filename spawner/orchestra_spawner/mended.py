"""Folders of workshops that somebody damaged by hand: what is still as it was made, and room for what has to be."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from orchestra_hub.templates import TemplateError, content_digest

__all__ = ["content_is", "put_aside_file"]

_log = logging.getLogger(__name__)


def content_is(folder: Path, digest: str) -> bool:
    """Whether `folder` holds the content with that digest: nothing missing, changed or added."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    try:
        return content_digest(folder) == digest
    except TemplateError:
        return False


def put_aside_file(folder: Path) -> None:
    """Makes room for `folder` where a plain file stands: the file is kept in it, and goes with it.

    A link that leads nowhere is left, and so refused by whoever makes the folder: a disk may be missing just now.
    """
    if folder.is_symlink() or not os.path.lexists(folder) or folder.is_dir():
        return
    with tempfile.TemporaryDirectory(prefix=".aside-", dir=folder.parent) as made:
        beside = Path(made) / "found-in-the-folders-place"
        folder.rename(beside)
        folder.mkdir(mode=0o700)
        beside.rename(folder / beside.name)
    _log.warning("%s was a file: it is kept in a new folder of that name", folder)
