"""What the pages share: sign-in, layout, headers, and pages for everything that is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined, select_autoescape
from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated
from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from orchestra_hub.errors import NotFound, OrchestraError, WorkshopDamaged
from orchestra_hub.ids import is_workshop_id
from orchestra_hub.store.deadline import set_deadline
from orchestra_hub.web import CONTENT_SECURITY_POLICY, template_folder
from orchestra_services.workshops.api import new_request_id
from orchestra_services.workshops.auth import Door
from orchestra_services.workshops.context import Context, Person, Standing, log
from orchestra_services.workshops.problems import headers_for, kind_of, kind_of_status

__all__ = ["Callback", "Page", "Site", "Static", "environment"]

_HUB_CSS = "/hub/static/css/style.min.css"
_SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "same-origin",  # join links hold codes
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True)
class Site:
    """What every page needs. `prefix` begins and ends with a slash."""

    context: Context
    door: Door
    environment: Environment
    prefix: str


def environment() -> Environment:
    """Our templates, with those shared with the hub; everything is escaped, a missing name is an error."""
    loader = ChoiceLoader([PackageLoader("orchestra_services.workshops"), FileSystemLoader(template_folder())])
    return Environment(
        loader=loader,
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class _Rendered(HubOAuthenticated, RequestHandler):  # type: ignore[misc]  # jupyterhub has no types
    """A handler that answers with pages, refusals too."""

    person: Person | None = None

    def initialize(self, site: Site) -> None:
        """Tornado hands over what the rule has."""
        self.site = site
        self.hub_auth = site.door.oauth

    @property
    def request_id(self) -> str:
        """The request's number."""
        if not hasattr(self, "_request_id"):
            self._request_id = new_request_id(self)
        return self._request_id

    def set_default_headers(self) -> None:
        """Nothing inline, nothing from elsewhere, no frame around it, nothing kept."""
        for name, value in _SECURITY_HEADERS.items():
            self.set_header(name, value)
        self.set_header("X-Request-ID", self.request_id)
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")

    def get_current_user(self) -> Any:
        """Only asked by JupyterHub's XSRF cookie, which lasts longer for people who are signed in."""
        return self.person

    def show(self, template: str, status: int = 200, **names: Any) -> None:
        """Answer with a page."""
        site = self.site
        shared = {
            "assets": f"{site.prefix}static/",
            "hub_css": _HUB_CSS,
            "app_url": f"{site.context.hosts.app}/",
            "home_url": site.prefix,
            "logout_url": "/hub/logout",
            "user": None,
            "user_name": None if self.person is None else self.person.name,
            "prefix": site.prefix,
            "now": site.context.now,
        }
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        self.finish(site.environment.get_template(template).render(**shared, **names))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A page for every refusal."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, OrchestraError):
            kind, text = kind_of(error), str(error)
            headline = "Something in it is damaged" if isinstance(error, WorkshopDamaged) else None
            for name, value in headers_for(error).items():
                self.set_header(name, value)
        else:
            kind, headline = kind_of_status(status_code), None
            text = _TEXTS.get(status_code, "Go back and try again.")
        self.show("refused.html", kind.status, headline=headline or _HEADLINES.get(kind.status, kind.title), text=text,
                  request_id=self.request_id if kind.status >= 500 else None)  # fmt: skip

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """A traceback for faults of ours only; refusals have their line in the access log."""
        if value is not None and not isinstance(value, OrchestraError | HTTPError):
            log.error("request=%s failed", self.request_id, exc_info=value)


_HEADLINES = {
    403: "This isn't for you",
    404: "Nothing here",
    405: "That isn't possible here",
    500: "Something went wrong",
    503: "Not possible just now",
}
_TEXTS = {
    400: "What your browser sent can't be read. Go back and try again.",
    403: "This page was open for too long, or you signed in again meanwhile. Go back, reload the page and try again.",
    404: "There is nothing at this address. Check it, or start from your workshops.",
    405: "Start from your workshops.",
    500: "This is our fault. Try again; if it happens again, tell an operator the number below.",
    503: "Part of the platform doesn't answer. Try again in a moment.",
}


class Page(_Rendered):
    """A page for people who are signed in; everybody else is led through the hub's sign-in and back."""

    async def prepare(self) -> None:
        """Who asks. A change needs the token of one of our forms (JupyterHub's own check)."""
        set_deadline(self.context.request_timeout_s)  # this task does this request and no other
        if self.request.method not in ("GET", "HEAD"):
            self.check_xsrf_cookie()
        self.person = await self.site.door.by_session(self)
        if self.person is None:
            to = self.get_login_url() if self.request.method in ("GET", "HEAD") else self.form_page()
            self.redirect(to, status=303 if self.request.method == "POST" else 302)

    async def head(self, *parts: str) -> None:
        """As GET; tornado leaves the body out."""
        await self.get(*parts)  # type: ignore[misc]  # tornado's own is no coroutine, and refuses the method

    def form_page(self) -> str:
        """The page with the form whose POST this is."""
        return self.request.path

    @property
    def context(self) -> Context:
        """What actions need."""
        return self.site.context

    @property
    def asker(self) -> Person:
        """The signed-in person."""
        if self.person is None:
            raise AssertionError("prepare() lets nobody through who isn't signed in")
        return self.person

    @property
    def xsrf(self) -> str:
        """The token for this page's forms."""
        return bytes(self.xsrf_token).decode("ascii")

    async def standing(self, workshop_id: str) -> Standing:
        """What the asker is to the workshop; raises `NotFound`."""
        if not is_workshop_id(workshop_id):
            raise NotFound(_NO_SUCH)
        try:
            return await self.context.standing(self.asker, workshop_id)
        except NotFound as error:
            raise NotFound(_NO_SUCH) from error


_NO_SUCH = (
    "There is no workshop at this address. Check it letter by letter, or ask your instructor for the link; a workshop "
    "also goes when its data has been removed."
)


class Callback(_Rendered, HubOAuthCallbackHandler):  # type: ignore[misc]  # jupyterhub has no types
    """Where the hub's sign-in leads back to."""

    async def prepare(self) -> None:
        """Who is signed in already, asked without blocking the others."""
        self.person = await self.site.door.by_session(self)


class Static(StaticFileHandler):
    """Stylesheet, scripts, icon."""

    def set_default_headers(self) -> None:
        """Nothing in them may load anything, and they are asked for again when they change."""
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.set_header("Cache-Control", "no-cache")
        self.clear_header("Server")
