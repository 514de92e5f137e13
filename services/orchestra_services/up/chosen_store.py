"""Which database the platform's store is in: SQLite in the data folder, or a PostgreSQL that `up` was told of.

What was said once is kept in `secrets/`, as a password may be in it: an `up` that wasn't told again must not begin an
empty store of its own.
"""

from __future__ import annotations

import importlib.util

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode
from orchestra_hub.errors import InvalidInput
from orchestra_services.up.secrets import write_private
from orchestra_services.up.settings import DataFolder

__all__ = ["FOLDER", "check_no_password", "chosen_store"]

FOLDER = "sqlite"
"""What to say for the data folder's own database."""


def check_no_password(url: str) -> str:
    """`url`, given on a command line, which other users of the machine can read; raises `InvalidInput`."""
    if url != FOLDER and _parsed(url).password is not None:
        raise InvalidInput(
            "--database-url has a password in it, which everybody on this machine can read. Give the URL in the "
            "environment's ORCHESTRA_DATABASE_URL, or leave the password to a ~/.pgpass file."
        )
    return url


def chosen_store(asked: str | None, folder: DataFolder) -> str:
    """The store's URL: the one asked for, else the one of the last time, else the data folder's SQLite.

    Raises `InvalidInput` for another kind of database, `CommandRefused` when its driver is missing.
    """
    kept = folder.secrets / "database_url"
    url = asked
    if url is None and kept.exists():
        url = kept.read_text(encoding="utf-8").strip()
    if not url or url == FOLDER:
        kept.unlink(missing_ok=True)
        return folder.store_url
    backend = _parsed(url).get_backend_name()
    if backend != "postgresql":
        raise InvalidInput(
            f"--database-url takes a PostgreSQL database (postgresql://user@host/name) or the word {FOLDER!r} for the "
            f"data folder's own; {backend} is neither."
        )
    if importlib.util.find_spec("psycopg") is None:
        raise CommandRefused(
            "The package psycopg is missing, which speaks to PostgreSQL: install orchestra-hub[postgresql].",
            exit_code=ExitCode.PROGRAM_MISSING,
        )
    write_private(kept, url + "\n")
    return url


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise InvalidInput("--database-url can't be read; it looks like postgresql://user@host/name.") from error
