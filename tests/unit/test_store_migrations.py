"""Migrations make what the models say, keep a copy first, and leave newer data alone."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from orchestra_hub.errors import NewerData, StoreUnavailable
from orchestra_hub.store import Store, migrating
from orchestra_hub.store.engine import Database
from orchestra_hub.store.models import Base
from tests.postgresql import fresh_database
from tests.unit.workshops import SettableClock, a_new_workshop

SCRIPTS = Path(migrating.__file__).parent / "migrations"
LATER = """
from alembic import op
revision = "0002"
down_revision = "0001"

def upgrade():
    op.execute("CREATE TABLE later (id INTEGER)")
    {then}
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/orchestra.sqlite"
        return
    with fresh_database(request.getfixturevalue("postgresql_url")) as database:
        yield database


def _later(folder: Path, then: str = "pass") -> migrating.Revisions:
    """The shipped revisions and one more."""
    folder.mkdir()
    (folder / "v0002_later.py").write_text(LATER.format(then=then))
    return migrating.Revisions((*migrating.REVISIONS, "0002"), (SCRIPTS / "versions", folder))


def _value(file: Path, query: str) -> object:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchone()[0]


def test_the_tables_are_those_of_the_models(url: str) -> None:
    Store.open(url).close()
    database = Database(url, SettableClock())
    with database.connection() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    database.close()
    assert differences == []


def test_every_revision_is_known_in_order() -> None:
    found = [one.revision for one in ScriptDirectory(str(SCRIPTS)).walk_revisions()]
    assert tuple(reversed(found)) == migrating.REVISIONS


def test_many_open_a_new_database_at_once(url: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        stores = list(threads.map(lambda _: Store.open(url), range(6)))
    for store in stores:
        store.ping()
        store.close()


def test_newer_data_is_left_alone(url: str, tmp_path: Path) -> None:
    Store.open(url).close()
    later = _later(tmp_path / "versions")
    database = Database(url, SettableClock())
    migrating.migrate(database, tmp_path / "backups", later)
    database.close()
    with pytest.raises(NewerData, match="newer version of Orchestra Hub"):
        Store.open(url)


def test_a_copy_is_kept_before_a_migration(tmp_path: Path) -> None:
    file = tmp_path / "orchestra.sqlite"
    store = Store.open(f"sqlite:///{file}")
    made = store.create_workshop(a_new_workshop(), b"", "system")
    assert not (tmp_path / "backups").exists()  # nothing to keep before the first
    database = Database(f"sqlite:///{file}", SettableClock())
    migrating.migrate(database, tmp_path / "kept", _later(tmp_path / "versions"))
    database.close()
    store.close()
    (backup,) = (tmp_path / "kept").iterdir()
    assert backup.name == "orchestra-0001-20300506T120000000000Z.sqlite"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert _value(backup, "SELECT id FROM workshops") == made.id
    assert _value(backup, "SELECT version_num FROM alembic_version") == "0001"
    assert _value(file, "SELECT version_num FROM alembic_version") == "0002"


def test_no_copy_no_migration(tmp_path: Path) -> None:
    file = tmp_path / "orchestra.sqlite"
    Store.open(f"sqlite:///{file}").close()
    (tmp_path / "kept").write_text("a file where the folder should be")
    database = Database(f"sqlite:///{file}", SettableClock())
    with pytest.raises(StoreUnavailable, match="was not migrated"):
        migrating.migrate(database, tmp_path / "kept", _later(tmp_path / "versions"))
    database.close()
    assert _value(file, "SELECT version_num FROM alembic_version") == "0001"


def test_a_migration_that_fails_changes_nothing(url: str, tmp_path: Path) -> None:
    Store.open(url).close()
    database = Database(url, SettableClock())
    with pytest.raises(ZeroDivisionError):
        migrating.migrate(database, tmp_path / "kept", _later(tmp_path / "versions", then="1 / 0"))
    with database.connection() as connection:
        assert migrating.revision_of(connection) == "0001"
        assert not connection.dialect.has_table(connection, "later")
    database.close()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "orchestra.sqlite"
    store = Store.open(f"sqlite:///{file}")
    modes = {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.glob("orchestra.sqlite*")}
    store.close()
    assert modes == {0o600}


def test_sqlite_is_set_up_as_the_docs_say(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/orchestra.sqlite")
    store.close()
    database = Database(f"sqlite:///{tmp_path}/orchestra.sqlite", SettableClock())
    names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
    with database.connection() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
    database.close()
    assert found == ["wal", 2, 1, 1, 15_000]
