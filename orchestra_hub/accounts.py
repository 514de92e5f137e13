"""Accounts made and mended straight in the hub's database, before the hub runs or while it does.

Guarantees:

- An admin exists before sign-up opens: nobody becomes one by signing up under a name.
- On an empty database the tables and their revision are made by JupyterHub's own code, so that the hub accepts them.
- Writing beside a running hub is safe: SQLite is in WAL mode and a write waits for its turn.
- A password or a token is returned once and never logged; the database has only hashes.

JupyterHub keeps users in `users`, nativeauthenticator keeps passwords (bcrypt) in `users_info` of the same database.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from jupyterhub import orm
from jupyterhub.dbutil import ALEMBIC_DIR
from jupyterhub.roles import assign_default_roles
from nativeauthenticator.orm import UserInfo
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from orchestra_hub.errors import Conflict, InvalidInput, NewerData, NotFound, StoreUnavailable
from orchestra_hub.passwords import PASSWORD_MAX_BYTES, hashed

__all__ = [
    "CLI_TOKEN_NOTE",
    "MINIMUM_PASSWORD_LENGTH",
    "add_user",
    "ensure_admin",
    "ensure_cli_token",
    "knows_revision",
    "new_password",
    "reset_password",
]

CLI_TOKEN_NOTE = "orchestra-hub command line"
MINIMUM_PASSWORD_LENGTH = 8
_NEWER = "The hub's database was written by a newer release; install that one, or go back to a backup."
_PASSWORD_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that looks like something else: typed from a screen


def new_password() -> str:
    """A random password, three groups of five characters (74 bits)."""
    return "-".join("".join(secrets.choice(_PASSWORD_ALPHABET) for _ in range(5)) for _ in range(3))


def ensure_admin(database_url: str, name: str) -> tuple[str, str | None]:
    """An admin's name, and their password if they were made just now: `name`, when the hub had no admin at all.

    An account that has the name but is no admin is left alone and `Conflict` raised.
    """
    with _hub_session(database_url) as db:
        admins = db.query(orm.User).filter(orm.User.admin.is_(True)).order_by(orm.User.id).all()
        if admins:
            return next((user.name for user in admins if user.name == name), admins[0].name), None
        if orm.User.find(db, name) is not None or UserInfo.find(db, name) is not None:
            raise Conflict(
                f"The hub has no admin, and {name!r} is somebody's account; make an admin with "
                "`orchestra-hub user add NAME --admin`."
            )
        return name, _add(db, name, admin=True, password=new_password())


def add_user(database_url: str, name: str, *, admin: bool = False, password: str | None = None) -> tuple[str, str]:
    """Make an account; returns its name as it is compared, and its password (a random one unless given).

    Raises `InvalidInput` for a name or password that sign-up would refuse, `Conflict` for a name that is taken.
    """
    from orchestra_hub.hub.authenticator import OrchestraNativeAuthenticator  # heavy, and only needed here

    rules = OrchestraNativeAuthenticator(add_new_table=False)
    name = rules.normalize_username(name)
    if not rules.validate_username(name):
        raise InvalidInput(
            f"The name {name[:80]!r} was refused: use up to 64 letters, digits and . _ - @, with a letter or digit "
            "at both ends."
        )
    password = new_password() if password is None else _checked(password)
    with _hub_session(database_url) as db:
        if orm.User.find(db, name) is not None or UserInfo.find(db, name) is not None:
            raise Conflict(f"There is an account {name!r} already; a password is reset with `user reset-password`.")
        return name, _add(db, name, admin=admin, password=password)


def reset_password(database_url: str, name: str, password: str | None = None) -> str:
    """Give `name` a new password (a random one unless given) and return it; sign-in works with it at once.

    Whether the account may sign in isn't changed. Raises `NotFound` for a name without an account, `InvalidInput` for a
    password that sign-up would refuse.
    """
    password = new_password() if password is None else _checked(password)
    with _hub_session(database_url) as db:
        info = UserInfo.find(db, name) or UserInfo.find(db, name.lower())
        if info is not None:
            info.password = hashed(password)
        elif orm.User.find(db, name) is not None:
            db.add(UserInfo(username=name, password=hashed(password), is_authorized=True))
        else:
            raise NotFound(f"There is no account {name[:80]!r}.")
        db.commit()
        return password


def ensure_cli_token(database_url: str, name: str, token: str | None, scopes: list[str]) -> str:
    """A Hub API token of user `name` for the command line: `token` if the hub still takes it, else a new one.

    Tokens made here earlier and no longer used are removed. Raises `NotFound` when there is no such user.
    """
    with _hub_session(database_url) as db:
        user = orm.User.find(db, name)
        if user is None:
            raise NotFound(f"The hub has no user {name!r}.")
        ours = [found for found in user.api_tokens if found.note == CLI_TOKEN_NOTE]
        kept = next((found for found in ours if token and found.match(token) and found.scopes == scopes), None)
        for stale in ours:
            if stale is not kept:
                db.delete(stale)
        if kept is None or token is None:
            token = secrets.token_hex(32)
            _ensure_client(db)
            made = orm.APIToken(generated=True, note=CLI_TOKEN_NOTE, client_id="jupyterhub", scopes=list(scopes))
            made.token = token
            made.user = user
            db.add(made)
        db.commit()
        return token


def _add(db: Session, name: str, *, admin: bool, password: str) -> str:
    user = orm.User(name=name, admin=admin)
    db.add(user)
    db.add(UserInfo(username=name, password=hashed(password), is_authorized=True))
    db.flush()
    if orm.Role.find(db, "user") is not None:  # a hub has run here; a new one gives roles at its start
        assign_default_roles(db, user)
    db.commit()
    return password


def _ensure_client(db: Session) -> None:
    # the client that JupyterHub gives its own tokens (`JupyterHub.init_db`); the hub goes on with this row
    if db.query(orm.OAuthClient).filter_by(identifier="jupyterhub").first() is None:
        db.add(orm.OAuthClient(identifier="jupyterhub", secret="", redirect_uri="", description="JupyterHub"))
        db.flush()


def _checked(password: str) -> str:
    if len(password) < MINIMUM_PASSWORD_LENGTH:
        raise InvalidInput(f"The password is too short: use at least {MINIMUM_PASSWORD_LENGTH} characters.")
    if len(password.encode()) > PASSWORD_MAX_BYTES:
        raise InvalidInput(f"The password is too long: use at most {PASSWORD_MAX_BYTES} bytes.")
    return password


def knows_revision(revision: str) -> bool:
    """Whether the JupyterHub that is installed knows this revision of its database."""
    return any(script.revision == revision for script in ScriptDirectory(ALEMBIC_DIR).walk_revisions())


def _revision(database_url: str) -> str:
    engine = create_engine(database_url)
    try:
        with engine.connect() as connection:
            return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())
    finally:
        engine.dispose()


@contextmanager
def _hub_session(database_url: str) -> Iterator[Session]:
    """A session on the hub's database, its tables made if there are none; database errors become ours."""
    options = {"connect_args": {"check_same_thread": False, "timeout": 15}} if database_url.startswith("sqlite") else {}
    try:
        with _logging_kept():
            factory = orm.new_session_factory(database_url, **options)
        with factory() as db:
            try:
                if database_url.startswith("sqlite"):
                    db.execute(text("PRAGMA journal_mode=WAL"))
                yield db
            finally:
                engine = db.get_bind()
                db.close()
                engine.dispose()
    except OperationalError as error:
        raise StoreUnavailable(
            f"The hub's database can't be read or written ({error.orig}); look at its file, disk and permissions."
        ) from error
    except CommandError as error:  # Alembic's, for a revision it has no file of
        raise NewerData(_NEWER) from error
    except orm.DatabaseSchemaMismatch as error:
        if not knows_revision(_revision(database_url)):
            raise NewerData(_NEWER) from error
        raise StoreUnavailable(
            "The hub's database has the tables of another JupyterHub; `orchestra-hub up` brings it up to date."
        ) from error


@contextmanager
def _logging_kept() -> Iterator[None]:
    """JupyterHub's alembic environment sets up the process's root logger; ours is left as it was."""
    root, alembic = logging.getLogger(), logging.getLogger("alembic")
    before = (root.handlers[:], root.level, alembic.handlers[:], alembic.level, logging.root.manager.disable)
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:], root.level, alembic.handlers[:], alembic.level, disabled = before
        logging.disable(disabled)
