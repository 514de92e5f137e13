"""Brings a database to the present revision, with a backup first on SQLite.

Guarantees:

- All or nothing: the revisions run in one transaction. Several processes may open the same database at once; one
  migrates, the others wait and find it done.
- A database of a newer version is left alone (`NewerData`).
- Before a SQLite file with data is changed, a copy of it stands in the backup folder.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from orchestra_hub.errors import NewerData, StoreUnavailable
from orchestra_hub.store.engine import Database, sqlite_file

__all__ = ["REVISIONS", "Revisions", "migrate", "revision_of"]

REVISIONS = ("0001",)
"""Every revision this version knows, oldest first. A test holds it against the files: looking here spares each start
the import of Alembic."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x6F726368  # PostgreSQL's advisory lock of whoever migrates; any number, the same for all


@dataclass(frozen=True)
class Revisions:
    """Which revisions there are, oldest first, and the folders they are in."""

    names: tuple[str, ...]
    folders: tuple[Path, ...]


def _shipped() -> Revisions:
    return Revisions(REVISIONS, (_MIGRATIONS / "versions",))


def migrate(database: Database, backup_dir: Path | None, revisions: Revisions | None = None) -> None:
    """The database is at the newest of `revisions` (those of this version) afterwards.

    `backup_dir` is used on SQLite only; without it backups go to `backups` beside the file. Raises `NewerData` when
    a revision is unknown, `StoreUnavailable` when the database or the backup can't be read or written.
    """
    known = revisions or _shipped()
    with database.connection() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        revision = revision_of(connection)
        if revision == known.names[-1]:
            return
        if revision is not None and revision not in known.names:
            raise NewerData(
                f"The database was written by a newer version of Orchestra Hub (its revision is {revision}, this "
                f"version knows up to {known.names[-1]}). Install that version, or go back to a backup."
            )
        file = sqlite_file(database.url)
        if revision is not None and file is not None:
            moment = database.clock().strftime("%Y%m%dT%H%M%S%fZ")
            _back_up(file, (backup_dir or file.parent / "backups") / f"orchestra-{revision}-{moment}.sqlite")
        _upgrade(connection, known.folders)


def revision_of(connection: Connection) -> str | None:
    """The revision the database is at; None when it has never been migrated."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _back_up(file: Path, backup: Path) -> None:
    """Copies `file` with SQLite's own backup: consistent, whatever is being written, its log included."""
    try:
        backup.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        backup.touch(mode=0o600, exist_ok=False)
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(
            f"The backup {backup} could not be written ({error}), so the database was not migrated. Make room or "
            "another folder, then start again."
        ) from error


def _upgrade(connection: Connection, folders: tuple[Path, ...]) -> None:
    from alembic import command  # imported only when there is something to do: it takes a while
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", os.pathsep.join(map(str, folders)).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
