"""Pages of accounts: sign-in, sign-up, changing passwords, letting accounts in.

nativeauthenticator's handlers with our pages, hashing outside the event loop, and changes only from our own pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jupyterhub.handlers.base import BaseHandler
from nativeauthenticator.handlers import (
    ChangePasswordAdminHandler,
    ChangePasswordHandler,
    DiscardHandler,
    LoginHandler,
    SignUpHandler,
    ToggleAuthorizationHandler,
    admin_users_scope,
)
from tornado import web
from tornado.httputil import HTTPServerRequest

from orchestra_hub.errors import TooManyAttempts
from orchestra_hub.passwords import PASSWORD_MAX_BYTES
from orchestra_hub.web import from_our_pages, policy_for_sign_in

__all__ = ["JustMade", "with_our_pages"]


@dataclass(frozen=True)
class JustMade:
    """Stands for a password in sign-in data: the account was made in this very request, so there is nothing to check.

    Data from outside is text; nobody can send one.
    """

    name: str


class _StrictPage:
    """Before a handler of nativeauthenticator whose page is ours: nothing inline, nothing from elsewhere."""

    settings: dict[str, Any]

    @property
    def content_security_policy(self) -> str:
        return policy_for_sign_in(self.settings["orchestra_hosts"].origin("*"))


class _FormExpired(web.HTTPError):
    """A form was sent whose XSRF token is none (any more)."""


class _Login(_StrictPage, LoginHandler):  # type: ignore[misc]  # nativeauthenticator has no types
    """Sign-in page."""

    async def prepare(self) -> None:
        """As every page. A form that has expired comes again, with the name that was typed and where it leads."""
        try:
            await super().prepare()
        except _FormExpired:
            self.set_status(403)
            name = self.get_body_argument("username", "", strip=False)
            self.finish(await self._render("This page was open for too long. Sign in again.", name))

    def check_xsrf_cookie(self) -> None:
        """As every page's, with an error of its own."""
        try:
            BaseHandler.check_xsrf_cookie(self)
        except web.HTTPError as error:
            self.log.warning("sign-in form refused: %s", error)
            raise _FormExpired(error.status_code, error.log_message) from error

    async def post(self) -> None:
        """Sign in and go on to `next`, or the form again with one message for every kind of refusal.

        nativeauthenticator's own uses `statsd`, which JupyterHub 6 no longer has.
        """
        data = {name: self.get_body_argument(name, "", strip=False) for name in ("username", "password", "2fa")}
        try:
            user = await self.login_user(data)
        except TooManyAttempts as error:
            self.log.warning("sign-in refused from %s: too many wrong passwords", self.request.remote_ip)
            self.set_status(429)
            self.set_header("Retry-After", str(error.retry_after_s))
            self.finish(await self._render(str(error), data["username"]))
            return
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
        again = self.get_body_argument("signup_password_confirmation", "", strip=False)
        problem = self._name_problem(name) or _password_problem(self.authenticator, password, again)
        if problem is None and not await self.authenticator.make_account(name, password):
            problem = "That name is taken. Choose another."
        if problem is not None:
            await self._show(422, problem, name)
            return
        user = await self.login_user({"username": name, "password": JustMade(name)})
        if user is None:  # an operator has to let them in first
            await self._show(200, notice="Your account is made. An administrator has to let you in first.")
            return
        self._jupyterhub_user = user
        self.redirect(self.get_next_url(user))

    def _name_problem(self, name: str) -> str | None:
        if self.authenticator.validate_username(name):
            return None
        return (
            "That name can't be used: take 1 to 64 letters and digits (a to z), with . _ - or @ between them, "
            "beginning and ending with a letter or digit."
        )

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
    """Change-password page: one's own, with the one that holds now."""

    @web.authenticated
    async def post(self) -> None:
        """Change it, or the form again with what is wrong."""
        name, authenticator = self.current_user.name, self.authenticator
        old = self.get_body_argument("old_password", "", strip=False)
        new = self.get_body_argument("new_password", "", strip=False)
        again = self.get_body_argument("new_password_confirmation", "", strip=False)
        problem = _password_problem(authenticator, new, again)
        status = 422
        if problem is None:
            try:
                if not await authenticator.is_password_of(name, old, self.request.remote_ip):
                    status, problem = 403, "The password you have now is another one. Try again."
            except TooManyAttempts as error:
                status, problem = 429, str(error)
                self.set_header("Retry-After", str(error.retry_after_s))
        if problem is None:
            await authenticator.set_password(name, new)
        await _say(self, "change-password.html", name, status, problem, "Your password is changed.")


class _ChangePasswordAdmin(ChangePasswordAdminHandler):  # type: ignore[misc]  # nativeauthenticator has no types
    """An operator's page: a new password for somebody else."""

    @admin_users_scope  # type: ignore[untyped-decorator]  # nativeauthenticator has no types
    async def post(self, user_name: str) -> None:
        """Set it, or the form again with what is wrong."""
        if not self.authenticator.user_exists(user_name):
            raise web.HTTPError(404)
        new = self.get_body_argument("new_password", "", strip=False)
        problem = _password_problem(
            self.authenticator, new, self.get_body_argument("new_password_confirmation", "", strip=False)
        )
        if problem is None and not await self.authenticator.set_password(user_name, new):
            raise web.HTTPError(404)
        await _say(self, "change-password-admin.html", user_name, 422, problem, f"{user_name} has a new password.")


async def _say(handler: Any, template: str, name: str, status: int, problem: str | None, done: str) -> None:
    handler.set_status(200 if problem is None else status)
    handler.finish(
        await handler.render_template(
            template, user_name=name, result_message=problem or done,
            alert="alert-success" if problem is None else "alert-danger",
        )
    )  # fmt: skip


def _password_problem(authenticator: Any, password: str, again: str) -> str | None:
    """Why this can't be somebody's new password; None when it can."""
    if len(password) < authenticator.minimum_password_length:
        return f"The password is too short: take at least {authenticator.minimum_password_length} characters."
    if len(password.encode()) > PASSWORD_MAX_BYTES:
        return f"The password is too long: take at most {PASSWORD_MAX_BYTES} letters of a to z; others count more."
    if not authenticator.is_password_strong(password):
        return "That password is one of the most common ones. Choose another."
    if password != again:
        return "The two passwords are not the same."
    return None


class _FromOurPages:
    """Before a handler of nativeauthenticator that changes something on a mere GET: only from a link on a page of ours.

    Otherwise a page in any seat could let people in, or throw accounts out, by an image an administrator looks at.
    """

    request: HTTPServerRequest
    settings: dict[str, Any]

    async def prepare(self) -> None:
        await super().prepare()  # type: ignore[misc]  # the handler's, next in line
        if not from_our_pages(self.request.headers, self.settings["orchestra_hosts"].app):
            raise web.HTTPError(403, "This is done with a button on the hub's page of accounts.")


class _Authorize(_FromOurPages, ToggleAuthorizationHandler):  # type: ignore[misc]  # nativeauthenticator has no types
    """Lets an account in, or out again."""


class _Discard(_FromOurPages, DiscardHandler):  # type: ignore[misc]  # nativeauthenticator has no types
    """Throws away an account that was never let in."""


def with_our_pages(routes: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """nativeauthenticator's routes with our handlers in the place of its own."""
    ours = {
        LoginHandler: _Login, SignUpHandler: _SignUp, ChangePasswordHandler: _ChangePassword,
        ChangePasswordAdminHandler: _ChangePasswordAdmin, ToggleAuthorizationHandler: _Authorize,
        DiscardHandler: _Discard,
    }  # fmt: skip
    return [(route[0], ours.get(route[1], route[1]), *route[2:]) for route in routes]
