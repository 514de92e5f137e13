"""Where `up` keeps the store: said once, kept, and no password on a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra_hub.errors import InvalidInput
from orchestra_services.up.chosen_store import check_no_password, chosen_store
from orchestra_services.up.settings import DataFolder

URL = "postgresql://me:secret@host/name"


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path)
    made.secrets.mkdir()
    return made


def test_what_was_said_is_kept_until_something_else_is_said(folder: DataFolder) -> None:
    kept = folder.secrets / "database_url"
    assert chosen_store(None, folder) == folder.store_url and not kept.exists()
    assert chosen_store(URL, folder) == URL and kept.stat().st_mode & 0o777 == 0o600
    assert chosen_store(None, folder) == URL
    assert chosen_store("sqlite", folder) == folder.store_url and not kept.exists()
    assert chosen_store(None, folder) == folder.store_url


@pytest.mark.parametrize("url", ["mysql://me@host/name", "nonsense", "sqlite:////tmp/other.sqlite"])
def test_what_can_not_be_used_is_refused_and_not_kept(folder: DataFolder, url: str) -> None:
    with pytest.raises(InvalidInput, match="--database-url"):
        chosen_store(url, folder)
    assert not (folder.secrets / "database_url").exists()


def test_a_password_is_refused_on_a_command_line() -> None:
    with pytest.raises(InvalidInput, match="ORCHESTRA_DATABASE_URL") as refused:
        check_no_password(URL)
    assert "secret" not in str(refused.value)
    assert check_no_password("postgresql://me@host/name") and check_no_password("sqlite")
