"""Hosts below the domain that aren't the hub's: a workshop's public page, and seats that aren't running.

A workshop's host shows only our pages and knows nobody: nothing here reads or sets a cookie.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import quote

from jupyterhub._version import __version__ as jupyterhub_version
from jupyterhub.handlers.static import CacheControlStaticFilesHandler
from tornado import web

from orchestra_hub.hub.database import unusable
from orchestra_hub.hub.groups import HubWorkshops
from orchestra_hub.hub.hosts import HostKind, Hosts
from orchestra_hub.hub.views import PublicView, damaged_view, public_view, unknown_view
from orchestra_hub.ids import is_workshop_id, workshop_label_of
from orchestra_hub.web import CONTENT_SECURITY_POLICY, static_folder

__all__ = ["subdomain_handlers"]


class _Handler(web.RequestHandler):
    """No cookie, no user; the hosts, the clock and the hub's templates at hand."""

    def set_default_headers(self) -> None:
        """Headers of every page here."""
        self.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")

    def check_xsrf_cookie(self) -> None:
        """Nothing here changes anything, so there is nothing to check; a token would be a cookie."""

    def prepare(self) -> None:
        """A session that a failed write of somebody else left behind is rolled back."""
        if not self.settings["db"].is_active:
            self.settings["db"].rollback()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A few words; 503 when the hub's database can't be used."""
        refusal = unusable(kwargs["exc_info"][1]) if "exc_info" in kwargs else None
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        if refusal is None:
            self.finish(f"{status_code}: {self._reason}\n")
            return
        self.settings["db"].rollback()
        self.set_status(503)
        self.set_header("Retry-After", "5")
        self.finish(f"{refusal.jupyterhub_message}\n")  # type: ignore[attr-defined]

    @property
    def hosts(self) -> Hosts:
        hosts: Hosts = self.settings["orchestra_hosts"]
        return hosts

    def page(self, template: str, status: int, **names: Any) -> None:
        """Render a page of the hub's templates with a status."""
        self.set_status(status)
        shared = self.settings["template_vars"]
        self.finish(self.settings["jinja2_env_sync"].get_template(template).render(**shared, **names))


class WorkshopPage(_Handler):
    """`http://{workshop-id}.{domain}/`: what it is, when, and one button that says what happens next."""

    def get(self) -> None:
        """The page; the HTTP status says whether the workshop is open, not yet, over or unknown."""
        kind, label = self.hosts.kind(self.request.host)
        workshops: HubWorkshops = self.settings["orchestra_workshops"]
        if kind is HostKind.SEAT:
            short = workshop_label_of(label)
            workshop_id = workshops.id_of_server(short) or short
            if workshops.facts(workshop_id) is not None:  # somebody cut the address of a notebook short
                self.redirect(f"{self.hosts.workshop(workshop_id)}/")
                return
        facts = workshops.facts(label) if kind is HostKind.WORKSHOP else None
        now: datetime = self.settings["orchestra_clock"]()
        view: PublicView = unknown_view() if facts is None else public_view(facts, now)
        if facts is None and kind is HostKind.WORKSHOP and workshops.is_damaged(label):
            view = damaged_view()
        if view.status == 503:
            self.set_header("Retry-After", "5")
        link = None
        if facts is not None:
            link = f"{self.hosts.app}{self.settings['hub'].base_url}workshops/{facts.id}"
            code = self.get_query_argument("code", "")
            if code:
                link += f"?code={quote(code[:64], safe='')}"
        self.page("workshop_public.html", view.status, view=view, facts=facts, link=link, now=now)

    head = get


class SeatAway(_Handler):
    """A seat's host while the seat isn't running (a running one is served by the proxy before the hub is asked)."""

    def _answer(self) -> None:
        path = self.request.path
        if (
            self.request.method not in ("GET", "HEAD")
            or "/api/" in path
            or "text/html" not in self.request.headers.get("Accept", "")
        ):
            self.set_status(424)
            self.set_header("Content-Type", "application/json")
            self.set_header("X-JupyterHub-Version", jupyterhub_version)
            self.finish(json.dumps({"message": "This notebook is not running. Start it again on the workshop's page."}))
            return
        self.redirect(f"{self.hosts.app}{self.settings['hub'].base_url}{self.request.uri.lstrip('/')}")

    def get(self, *_: str) -> None:
        """To the hub, which knows whose it is; API requests get JupyterHub's 424."""
        self._answer()

    head = post = put = patch = delete = get


class NotHere(_Handler):
    """Everything else on these hosts."""

    def get(self, *_: str) -> None:
        """404 with a page of our own; below a workshop's host with the way to its page."""
        kind, label = self.hosts.kind(self.request.host)
        known = (
            kind is HostKind.WORKSHOP and is_workshop_id(label) and self.settings["orchestra_workshops"].facts(label)
        )
        if known:
            self.page("workshop_nothing_here.html", 404, facts=known)
        else:
            self.page("workshop_public.html", 404, view=unknown_view(), facts=None, link=None, now=None)

    head = post = put = patch = delete = get


def subdomain_handlers(hub_prefix: str, base_url: str) -> list[tuple[Any, ...]]:
    """Routes for every host below the domain but the hub's own. `hub_prefix` and `base_url` end with a slash."""
    return [
        (r"/", WorkshopPage),
        (rf"{hub_prefix}orchestra/static/(.*)", CacheControlStaticFilesHandler, {"path": static_folder()}),
        (rf"{hub_prefix}static/(.*)", _HubStatic),
        (rf"{base_url}user/.*", SeatAway),
        (r"/.*", NotHere),
    ]


class _HubStatic(CacheControlStaticFilesHandler):  # type: ignore[misc]  # jupyterhub has no types
    """JupyterHub's own stylesheet and fonts."""

    def initialize(self, path: str = "", default_filename: str | None = None) -> None:
        super().initialize(path=path or self.settings["static_path"], default_filename=default_filename)
