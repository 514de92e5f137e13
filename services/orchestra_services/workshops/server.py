"""Which host serves what, in one process: the API on `api.`, pages and their API on `app.`, health everywhere."""

from __future__ import annotations

import logging
import re

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from orchestra_services.workshops.api import api_handlers
from orchestra_services.workshops.auth import Door
from orchestra_services.workshops.bounded import Bounded
from orchestra_services.workshops.context import Context
from orchestra_services.workshops.layout import Site, environment
from orchestra_services.workshops.openapi import document
from orchestra_services.workshops.pages import page_handlers

__all__ = ["make_application", "make_server"]

_access_log = logging.getLogger("orchestra.workshops.access")
_BODY_WAIT_S = 60.0
_ANY_LENGTH_BYTES = 2**62  # `Bounded` limits and says so; tornado's own limit would cut the connection


def make_application(context: Context, door: Door, *, prefix: str, cookie_secret: bytes) -> Application:
    """The whole service."""
    hosts = context.hosts
    here = document(f"{hosts.api}/")
    below_pages = document(f"{hosts.app}{prefix}api/")
    site = Site(context, door, environment(), prefix)
    api = api_handlers(context, door, here)
    pages = [*api_handlers(context, door, below_pages, prefix=f"{prefix}api", pages=True), *page_handlers(site)]
    application = Application(
        [],
        default_handler_class=_Elsewhere,
        cookie_secret=cookie_secret,
        log_function=_log_request,
        serve_traceback=False,
    )
    application.add_handlers(re.escape(hosts.host("api")), api)
    application.add_handlers(re.escape(hosts.host("app")), pages)
    application.add_handlers(".*", [rule for rule in api if rule[0] == "/v1/health"])  # for probes, who ask by address
    return application


def make_server(application: Application) -> HTTPServer:
    """A server that believes the proxy before it and takes no body of more than 1 MiB."""
    return HTTPServer(
        Bounded(application), xheaders=True, max_body_size=_ANY_LENGTH_BYTES, body_timeout=_BODY_WAIT_S
    )  # fmt: skip


class _Elsewhere(RequestHandler):
    """For hosts that aren't ours."""

    def set_default_headers(self) -> None:
        """Nothing to run, nothing to guess."""
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.clear_header("Server")

    def prepare(self) -> None:
        """Nothing, in a few words."""
        self.set_status(404)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish("Nothing is served under this host name here.\n")


def _log_request(handler: RequestHandler) -> None:
    """One line for each request; without the query string, which may hold a code."""
    request, status = handler.request, handler.get_status()
    _access_log.log(
        logging.INFO if status < 500 else logging.ERROR,
        "%s %s %s%s %.1f ms user=%s request=%s",
        status,
        request.method,
        request.host_name,
        request.path[:300],
        1000 * request.request_time(),
        getattr(getattr(handler, "person", None), "name", "-"),
        getattr(handler, "request_id", "-"),
    )
