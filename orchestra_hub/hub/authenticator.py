"""Sign-in with a name and a password kept by the hub.

Guarantees:

- Nobody gains a place, a role or admin by choosing a name: nobody is an admin by configuration here. Admins are made in
  the database before sign-up opens (`orchestra_hub.accounts`), so neither `admin_users` nor `allowed_users` names
  anybody whom sign-up would then authorise.
- An unknown name, a wrong password, one that is too long and an account that wasn't let in get the same answer after
  the same work: one bcrypt run, outside the event loop.
- Wrong passwords are counted per account and address together (`orchestra_hub.attempts`), at every door that takes one:
  the sign-in page, the Hub API's request for a token, the page that changes a password.
- The database's session is used by the event loop alone; what was read before hashing is read again after it.
"""

from __future__ import annotations

import unicodedata
from typing import Any

from jupyterhub import orm
from nativeauthenticator import NativeAuthenticator
from nativeauthenticator.orm import UserInfo
from traitlets import Instance, Integer, default

from orchestra_hub.attempts import Attempts
from orchestra_hub.hub.account_pages import JustMade, with_our_pages
from orchestra_hub.passwords import Passwords

__all__ = ["OrchestraNativeAuthenticator"]

_NAME_MAX = 64


class OrchestraNativeAuthenticator(NativeAuthenticator):  # type: ignore[misc]  # nativeauthenticator has no types
    """nativeauthenticator with the product's pages, stricter names, and passwords that are hard to guess."""

    password_attempts = Integer(
        10,
        min=1,
        config=True,
        help="""
        How many wrong passwords for one account from one address within `password_attempts_window_s` are answered;
        then 429 until the oldest of them is that old. Low enough that guessing leads nowhere, high enough for people.
        Counts of account and address together: a class behind one address gets in, and nobody can lock somebody out
        from elsewhere. Behind another proxy than `up`'s all people may seem to have one address; then anybody can keep
        an account from signing in.
        """,
    )
    password_attempts_window_s = Integer(
        300, min=1, config=True, help="For how many seconds a wrong password counts against `password_attempts`."
    )

    passwords = Instance(Passwords, help="Hashes outside the event loop.")
    attempts = Instance(Attempts, help="Counts wrong passwords.")

    @default("passwords")
    def _passwords_default(self) -> Passwords:
        return Passwords()

    @default("attempts")
    def _attempts_default(self) -> Attempts:
        return Attempts(self.password_attempts, self.password_attempts_window_s)

    @default("allow_all")
    def _allow_all_default(self) -> bool:
        # whoever nativeauthenticator authorises may sign in; places in workshops are another matter
        return True

    @default("open_signup")
    def _open_signup_default(self) -> bool:
        return True

    @default("minimum_password_length")
    def _minimum_password_length_default(self) -> int:
        return 8

    @default("check_common_password")
    def _check_common_password_default(self) -> bool:
        return True

    def normalize_username(self, username: str) -> str:
        """The name as it is compared: Unicode NFKC, lower case, no white space around it."""
        return str(super().normalize_username(unicodedata.normalize("NFKC", username).strip()))

    def validate_username(self, username: str) -> bool:
        """Refuse names that can't be a URL segment, a folder, or be told apart by people.

        Letters and digits of ASCII with `.`, `_`, `-` and `@` inside: a name in another script that looks like
        somebody else's can't be made. No `+`: it is escaped in a URL, and Traefik 3.6 finds no route for `%2B`.
        """
        if not username or len(username) > _NAME_MAX or not username.isascii():
            return False
        if not (username[0].isalnum() and username[-1].isalnum()) or ".." in username:
            return False
        if any(not (char.isalnum() or char in "._-@") for char in username):
            return False
        return bool(super().validate_username(username))

    async def authenticate(self, handler: Any, data: Any) -> Any:
        """The account's name, or None; raises `TooManyAttempts`. `data` holds `username`, `password`, perhaps `2fa`.

        nativeauthenticator's own `allowed_failed_logins`, which locks an account for everybody, plays no part.
        """
        if isinstance(data.get("password"), JustMade):
            made = self.get_user(data["password"].name)
            return made.username if made is not None and made.is_authorized else None
        username, password, code = data.get("username"), data.get("password"), data.get("2fa") or ""
        if not (isinstance(username, str) and isinstance(password, str) and isinstance(code, str)):
            return None
        name = self.normalize_username(username)
        if not await self.is_password_of(name, password, handler.request.remote_ip, code=code):
            return None
        return name

    async def is_password_of(self, name: str, password: str, address: str, *, code: str | None = None) -> bool:
        """Whether an account has this password and, unless `code` is None, may sign in with it (and its second factor).

        An attempt of the account from `address`: raises `TooManyAttempts`.
        """
        with self.attempts.one(name[: _NAME_MAX + 1], address) as attempt:
            before = self.get_user(name)
            kept = None if before is None else bytes(before.password)
            fits = await self.passwords.fits(password, kept)
            now = self.get_user(name)  # while the hash was made it may have been changed, or the account removed
            same = fits and now is not None and bytes(now.password) == kept
            attempt.right = same and (code is None or _may_sign_in(now, code))
        return attempt.right

    async def make_account(self, name: str, password: str) -> bool:
        """Make an account; False when the name is taken, be it just now, or by a user of the hub without a password.

        Whoever asks has checked both by our rules.
        """
        if self._is_taken(name):
            return False
        kept = await self.passwords.hashed(password)
        if self._is_taken(name):
            return False
        self.db.add(UserInfo(username=name, password=kept, is_authorized=self.open_signup))
        self.db.commit()
        return True

    def _is_taken(self, name: str) -> bool:
        return self.user_exists(name) or orm.User.find(self.db, name) is not None

    async def set_password(self, name: str, password: str) -> bool:
        """Give an account another password; False when there is no such account (any more)."""
        kept = await self.passwords.hashed(password)
        info = self.get_user(name)
        if info is None:
            return False
        info.password = kept
        self.db.commit()
        return True

    def create_user(self, username: str, password: str, **kwargs: Any) -> Any:
        """nativeauthenticator's way to make an account, which hashes where it stands; None when the name is taken.

        Pages use `make_account`.
        """
        if orm.User.find(self.db, self.normalize_username(username)) is not None:
            return None
        return super().create_user(username, password, **kwargs)

    def get_handlers(self, app: Any) -> list[tuple[Any, ...]]:
        """nativeauthenticator's pages, those of learners with our look."""
        return with_our_pages(super().get_handlers(app))


def _may_sign_in(info: Any, code: str) -> bool:
    """Whether an account whose password was right is let in; `code` is its second factor's, where it has one."""
    return bool(info.is_authorized) and (not info.has_2fa or bool(info.is_valid_token(code)))
