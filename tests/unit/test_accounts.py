"""Accounts in the hub's database, made with JupyterHub's and nativeauthenticator's own tables."""

from __future__ import annotations

import logging
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from jupyterhub import orm
from nativeauthenticator.orm import UserInfo

from orchestra_hub import accounts
from orchestra_hub.errors import Conflict, InvalidInput, NewerData, NotFound, StoreUnavailable

SCOPES = ["inherit"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jupyterhub.sqlite"


def signs_in(url: str, name: str, password: str) -> bool:
    """What nativeauthenticator does with a name and a password."""
    factory = orm.new_session_factory(url)
    with factory() as db:
        info = UserInfo.find(db, name)
        found = bool(info and info.is_authorized and info.is_valid_password(password))
        engine = db.get_bind()
    engine.dispose()
    return found


def test_a_new_folder_gets_an_admin_once(url: str) -> None:
    name, password = accounts.ensure_admin(url, "admin")
    assert name == "admin"
    assert password is not None
    assert re.fullmatch(r"(?:[a-z2-9]{5}-){2}[a-z2-9]{5}", password)
    assert signs_in(url, "admin", password)
    assert accounts.ensure_admin(url, "admin") == ("admin", None)


def test_an_admin_of_another_name_will_do(url: str) -> None:
    accounts.add_user(url, "root-of-all", admin=True)
    assert accounts.ensure_admin(url, "admin") == ("root-of-all", None)


def test_nobody_becomes_admin_by_having_the_name(url: str) -> None:
    accounts.add_user(url, "admin")
    with pytest.raises(Conflict, match="admin"):
        accounts.ensure_admin(url, "admin")


def test_the_hub_accepts_the_database(url: str, tmp_path: Path) -> None:
    accounts.ensure_admin(url, "admin")
    orm.new_session_factory(url)().get_bind().dispose()  # raises DatabaseSchemaMismatch otherwise
    connection = sqlite3.connect(tmp_path / "jupyterhub.sqlite")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_our_logging_is_left_as_it_was(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, root.manager.disable)
    accounts.ensure_admin(url, "admin")
    assert (root.handlers, root.level, root.manager.disable) == before
    assert capfd.readouterr() == ("", "")


def test_a_new_password_works_and_the_old_one_does_not(url: str) -> None:
    _, first = accounts.ensure_admin(url, "admin")
    second = accounts.reset_password(url, "admin")
    assert second != first
    assert signs_in(url, "admin", second)
    assert first is not None
    assert not signs_in(url, "admin", first)
    assert accounts.reset_password(url, "Admin", "chosen by hand") == "chosen by hand"
    assert signs_in(url, "admin", "chosen by hand")


def test_a_user_of_the_hub_without_a_password_gets_one(url: str) -> None:
    accounts.ensure_admin(url, "admin")
    with orm.new_session_factory(url)() as db:
        db.add(orm.User(name="ada"))
        db.commit()
        engine = db.get_bind()
    engine.dispose()
    assert signs_in(url, "ada", accounts.reset_password(url, "ada"))


def test_a_password_of_nobody_is_refused(url: str) -> None:
    accounts.ensure_admin(url, "admin")
    with pytest.raises(NotFound, match="nobody"):
        accounts.reset_password(url, "nobody")


@pytest.mark.parametrize("password", ["1234567", "", "x" * 73, "é" * 37])
def test_what_bcrypt_or_sign_up_would_refuse_is_refused(url: str, password: str) -> None:
    accounts.ensure_admin(url, "admin")
    with pytest.raises(InvalidInput, match="password is too") as caught:
        accounts.reset_password(url, "admin", password)
    assert not password or password not in str(caught.value)


def test_an_account_is_made_once_whatever_its_case(url: str) -> None:
    made, password = accounts.add_user(url, " Ada ")
    assert made == "ada"
    assert signs_in(url, "ada", password)
    with pytest.raises(Conflict, match="ada"):
        accounts.add_user(url, "ADA")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "ädä", "x" * 65, "../up"])
def test_names_sign_up_would_refuse_are_refused(url: str, name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        accounts.add_user(url, name)


def test_the_command_lines_token_is_kept_while_the_hub_takes_it(url: str) -> None:
    accounts.ensure_admin(url, "admin")
    first = accounts.ensure_cli_token(url, "admin", None, SCOPES)
    assert accounts.ensure_cli_token(url, "admin", first, SCOPES) == first
    second = accounts.ensure_cli_token(url, "admin", "unknown", SCOPES)
    assert second != first
    with orm.new_session_factory(url)() as db:
        assert orm.APIToken.find(db, first) is None
        found = orm.APIToken.find(db, second)
        assert found.user.name == "admin"
        assert found.scopes == SCOPES
        engine = db.get_bind()
    engine.dispose()
    with pytest.raises(NotFound):
        accounts.ensure_cli_token(url, "nobody", None, SCOPES)


def test_a_database_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder.sqlite").mkdir()
    with pytest.raises(StoreUnavailable, match="can't be read or written"):
        accounts.ensure_admin(f"sqlite:///{tmp_path}/folder.sqlite", "admin")


def test_a_database_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    accounts.ensure_admin(url, "admin")
    with closing(sqlite3.connect(tmp_path / "hub.sqlite")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        database.commit()
    with pytest.raises(NewerData, match="newer release"):
        accounts.reset_password(url, "admin")
