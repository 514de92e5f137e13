"""Sign-in with a name and a password kept by the hub.

Nobody gains a place, a role or admin by choosing a name: nobody is an admin by configuration here. Admins are made in
the database before sign-up opens (`orchestra_hub.accounts`), so neither `admin_users` nor `allowed_users` names anybody
whom sign-up would then authorise.
"""

from __future__ import annotations

import unicodedata
from typing import Any

from jupyterhub import orm
from nativeauthenticator import NativeAuthenticator
from nativeauthenticator.handlers import (
    ChangePasswordHandler,
    DiscardHandler,
    LoginHandler,
    SignUpHandler,
    ToggleAuthorizationHandler,
)
from tornado import web
from tornado.httputil import HTTPServerRequest
from traitlets import default

from orchestra_hub.web import policy_for_sign_in

__all__ = ["OrchestraNativeAuthenticator"]

_NAME_MAX = 64


class _StrictPage:
    """Before a handler of nativeauthenticator whose page is ours: nothing inline, nothing from elsewhere."""

    settings: dict[str, Any]

    @property
    def content_security_policy(self) -> str:
        return policy_for_sign_in(self.settings["orchestra_hosts"].origin("*"))


class _Login(_StrictPage, LoginHandler):  # type: ignore[misc]  # nativeauthenticator has no types
    """Sign-in page."""

    async def post(self) -> None:
        """Sign in and go on to `next`, or the form again with one message for every kind of refusal.

        nativeauthenticator's own uses `statsd`, which JupyterHub 6 no longer has.
        """
        data = {name: self.get_body_argument(name, "", strip=False) for name in ("username", "password", "2fa")}
        user = await self.login_user(data)
        if user is None:
            self.set_status(403)
            self.finish(await self._render("The name or the password is not right.", data["username"]))
            return
        self._jupyterhub_user = user
        self.redirect(self.get_next_url(user))


class _SignUp(_StrictPage, SignUpHandler):  # type: ignore[misc]  # nativeauthenticator has no types
    """Sign-up page: a new account is signed in at once and led on to `next`."""

    async def get(self) -> None:
        """The empty form; 404 when sign-up is closed."""
        await self._show(200)

    async def post(self) -> None:
        """Make the account, or the form again, filled, with what to change."""
        name = self.authenticator.normalize_username(self.get_body_argument("username", "", strip=False))
        password = self.get_body_argument("signup_password", "", strip=False)
        problem = self._problem(name, password, self.get_body_argument("signup_password_confirmation", "", strip=False))
        if problem is None and self.authenticator.create_user(name, password) is None:
            problem = "That name is taken. Choose another."
        if problem is not None:
            await self._show(422, problem, name)
            return
        user = await self.login_user({"username": name, "password": password})
        if user is None:  # an operator has to let them in first
            await self._show(200, notice="Your account is made. An administrator has to let you in first.")
            return
        self._jupyterhub_user = user
        self.redirect(self.get_next_url(user))

    def _problem(self, name: str, password: str, again: str) -> str | None:
        authenticator = self.authenticator
        if not authenticator.validate_username(name):
            return (
                "That name can't be used: take 1 to 64 letters and digits (a to z), with . _ - or @ between them, "
                "beginning and ending with a letter or digit."
            )
        if len(password) < authenticator.minimum_password_length:
            return f"The password is too short: take at least {authenticator.minimum_password_length} characters."
        if not authenticator.is_password_strong(password):
            return "That password is one of the most common ones. Choose another."
        if password != again:
            return "The two passwords are not the same."
        return None

    async def _show(self, status: int, problem: str = "", name: str = "", notice: str = "") -> None:
        if not self.authenticator.enable_signup:
            raise web.HTTPError(404)
        self.set_status(status)
        html = await self.render_template(
            "signup.html", problem=problem, username=name, notice=notice, next=self.get_argument("next", ""),
            minimum_password_length=self.authenticator.minimum_password_length,
        )  # fmt: skip
        self.finish(html)


class _ChangePassword(_StrictPage, ChangePasswordHandler):  # type: ignore[misc]  # nativeauthenticator has no types
    """Change-password page."""


class _FromOurPages:
    """Before a handler of nativeauthenticator that changes something on a mere GET: only from a link on a page of ours.

    Otherwise a page in any seat could let people in, or throw accounts out, by an image an administrator looks at.
    """

    request: HTTPServerRequest
    settings: dict[str, Any]

    async def prepare(self) -> None:
        await super().prepare()  # type: ignore[misc]  # the handler's, next in line
        headers = self.request.headers
        ours = f"{self.settings['orchestra_hosts'].app}/"
        site = headers.get("Sec-Fetch-Site")  # not sent over plain http except to this machine: then the referrer tells
        if not (site == "same-origin" if site else headers.get("Referer", "").startswith(ours)):
            raise web.HTTPError(403, "This is done with a button on the hub's page of accounts.")


class _Authorize(_FromOurPages, ToggleAuthorizationHandler):  # type: ignore[misc]  # nativeauthenticator has no types
    """Lets an account in, or out again."""


class _Discard(_FromOurPages, DiscardHandler):  # type: ignore[misc]  # nativeauthenticator has no types
    """Throws away an account that was never let in."""


class OrchestraNativeAuthenticator(NativeAuthenticator):  # type: ignore[misc]  # nativeauthenticator has no types
    """nativeauthenticator with the product's pages and stricter names."""

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

    def create_user(self, username: str, password: str, **kwargs: Any) -> Any:
        """Make an account; None when the name is taken, also by a user of the hub who has no password here."""
        if orm.User.find(self.db, self.normalize_username(username)) is not None:
            return None
        return super().create_user(username, password, **kwargs)

    def get_handlers(self, app: Any) -> list[tuple[Any, ...]]:
        """nativeauthenticator's pages, those of learners with our look."""
        ours = {
            LoginHandler: _Login, SignUpHandler: _SignUp, ChangePasswordHandler: _ChangePassword,
            ToggleAuthorizationHandler: _Authorize, DiscardHandler: _Discard,
        }  # fmt: skip
        return [(route[0], ours.get(route[1], route[1]), *route[2:]) for route in super().get_handlers(app)]
