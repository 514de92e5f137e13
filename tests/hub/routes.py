"""Every route of the hub and of the service's pages, from the applications' own tables, with a path to each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from tornado.web import RequestHandler

from orchestra_hub.hub.account_pages import _StrictPage
from orchestra_hub.hub.app import OrchestraHub
from orchestra_hub.hub.authenticator import OrchestraNativeAuthenticator
from orchestra_hub.hub.pages import _Page
from orchestra_hub.hub.public import subdomain_handlers
from orchestra_services.workshops.api import api_handlers
from orchestra_services.workshops.layout import Site
from orchestra_services.workshops.pages import page_handlers
from orchestra_services.workshops.views import PREFIX

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_GROUP = re.compile(r"\((?!\?[:!=])(?:\?P<(?P<name>\w+)>)?(?P<inner>(?:[^()\[]|\[[^]]*\])*)\)(?P<optional>\?)?")


@dataclass(frozen=True)
class Walked:
    """A route: what serves it, and how to get there."""

    pattern: str
    handler: type[RequestHandler]
    path: str

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods it has code for."""
        plain = RequestHandler
        return tuple(m for m in METHODS if getattr(self.handler, m.lower()) is not getattr(plain, m.lower()))

    @property
    def ours(self) -> bool:
        """Whether its page is ours, and none of JupyterHub's."""
        ours = (_Page, _StrictPage)
        return issubclass(self.handler, ours) or self.handler.__module__.startswith("orchestra_services")


def filled(pattern: str, value: str) -> str:
    """A path that the pattern matches, with `value` wherever a name goes."""

    def fill(group: re.Match[str]) -> str:
        inner = group["inner"]
        if re.fullmatch(r"[\w|-]+", inner):  # one of some words
            return next(word for word in inner.split("|") if word)
        if inner == r"\d+":
            return "404"
        return f"/{value}" if inner.startswith("/") else value

    path = pattern.replace("(?:/([^/]+))?", "").replace("(?!/hub/).*", "/elsewhere").removesuffix("$")
    path = _GROUP.sub(fill, path).replace("/.*", f"/{value}").removesuffix("?")
    path = re.sub(r"\\(.)", r"\1", path)
    return path if path.startswith("/") else f"/{path}"


def _walked(rules: list[tuple[Any, ...]], value: str) -> Iterator[Walked]:
    seen = set()
    for rule in rules:
        path = filled(rule[0], value)
        if path not in seen:  # the first that matches is the one that answers
            seen.add(path)
            yield Walked(rule[0], rule[1], path)


def hub_routes(value: str) -> list[Walked]:
    """The hub's own host."""
    hub = OrchestraHub()
    hub.authenticator = OrchestraNativeAuthenticator(add_new_table=False)
    hub.init_handlers()
    return list(_walked(hub.handlers, value))


def service_routes(value: str) -> list[Walked]:
    """The workshops service on the hub's host."""
    nothing = cast("Any", None)
    pages = page_handlers(Site(nothing, nothing, nothing, PREFIX))
    api = api_handlers(nothing, nothing, {}, prefix=f"{PREFIX}api", pages=True)
    return list(_walked([*api, *(rule for rule in pages if rule[0] != "/.*")], value))


def workshop_host_routes(value: str) -> list[Walked]:
    """A workshop's and a seat's host while the hub answers there."""
    return list(_walked(subdomain_handlers("/hub/", "/"), value))
