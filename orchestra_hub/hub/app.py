"""`OrchestraHub`: JupyterHub that knows workshops."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jupyterhub.app import JupyterHub
from traitlets import Callable as CallableTrait
from traitlets import CaselessStrEnum, Float, Unicode, default

from orchestra_hub.hub.api import api_handlers
from orchestra_hub.hub.database import HubDatabase
from orchestra_hub.hub.digests import digest_handlers
from orchestra_hub.hub.groups import HubWorkshops
from orchestra_hub.hub.hosts import Hosts, SeatOrigin
from orchestra_hub.hub.news import HubNews
from orchestra_hub.hub.pages import page_handlers
from orchestra_hub.hub.public import subdomain_handlers
from orchestra_hub.hub.queue import StartQueue
from orchestra_hub.hub.queue_rows import QueueRows
from orchestra_hub.hub.resumption import Resumption
from orchestra_hub.hub.seams import WorkshopUserDict, subdomain_hook, with_workshops
from orchestra_hub.web import template_folder

__all__ = ["OrchestraHub"]


def _utcnow() -> datetime:
    return datetime.now(UTC)


class OrchestraHub(JupyterHub):  # type: ignore[misc]  # jupyterhub has no types
    """JupyterHub with a host for every workshop and for every seat."""

    name = "orchestra-hub"

    public_base_url = Unicode(
        "http://localhost:8000",
        config=True,
        help="""
        Scheme, domain and port under which everything is served: with `https://example.org` the hub is at
        `https://app.example.org`, a workshop at `https://{id}.example.org`. Needs a wildcard DNS record and, with
        https, a wildcard certificate. Sets `subdomain_host`; changing it signs everybody out.
        """,
    )

    seat_origin = CaselessStrEnum(
        [origin.value for origin in SeatOrigin],
        default_value=SeatOrigin.LEARNER.value,
        config=True,
        help="""
        Where seats are served. `learner` (default): each on a host of its own, `{id}--{name}.{domain}`, so that one
        learner's server shares an origin with nobody. `workshop`: all of a workshop on `{id}.{domain}`; there a
        learner's server could plant a service worker that reads what the next person opens, so opening another's seat
        is refused.
        """,
    )

    queue_leave_s = Float(
        20.0,
        min=1,
        config=True,
        help="""
        Seconds after which somebody who waits in the line and has left the page loses their place. Must outlast a
        reload of the page and a restart of the hub.
        """,
    )

    template_paths: list[str]
    template_vars: dict[str, Any]
    handlers: list[tuple[Any, ...]]
    queue: StartQueue
    resumption: Resumption
    hub_database: HubDatabase

    clock = CallableTrait(help="Gives the time, aware, in UTC.")

    @default("clock")
    def _clock_default(self) -> Callable[[], datetime]:
        return _utcnow

    @default("subdomain_hook")
    def _default_subdomain_hook(self) -> Callable[..., str]:
        return subdomain_hook

    @default("subdomain_host")
    def _default_subdomain_host(self) -> str:
        return self.hosts.app

    @default("allow_named_servers")
    def _default_allow_named_servers(self) -> bool:
        return True

    @default("redirect_to_server")
    def _default_redirect_to_server(self) -> bool:
        return False

    @default("default_url")
    def _default_default_url(self) -> str:
        return f"{self.base_url}hub/workshops/"

    @default("users")
    def _users_default(self) -> WorkshopUserDict:
        return WorkshopUserDict(db_factory=lambda: self.db, settings=self.tornado_settings)

    @property
    def hosts(self) -> Hosts:
        """The hosts below `public_base_url`."""
        return Hosts.from_public_url(self.public_base_url)

    def init_db(self) -> None:
        """JupyterHub's database, with our settings of it and our eye on it."""
        super().init_db()
        self.hub_database = HubDatabase()
        self.hub_database.watch(self.db.get_bind())

    def init_tornado_settings(self) -> None:
        """JupyterHub's settings and what our seams and handlers read."""
        own = str(files("orchestra_hub.hub") / "templates")
        self.template_paths = [own, template_folder(), *self.template_paths]
        rows = QueueRows(lambda: self.db, self.clock)
        rows.make_table()
        self.queue = StartQueue(rows, starts_at_once=self.concurrent_spawn_limit, leave_s=self.queue_leave_s)
        self.resumption = Resumption(self, rows)
        workshops = HubWorkshops(lambda: self.db)
        news = HubNews(workshops.forget)
        news.watch(self.db)
        self.tornado_settings.update(
            orchestra_queue=self.queue,
            orchestra_workshops=workshops,
            orchestra_hosts=self.hosts,
            orchestra_seat_origin=SeatOrigin(self.seat_origin),
            orchestra_clock=self.clock,
            orchestra_news=news,
            orchestra_database=self.hub_database,
        )
        prefix = self.hub_prefix
        self.template_vars = {
            "assets": f"{prefix}orchestra/static/",
            "hub_css": f"{prefix}static/css/style.min.css",
            "app_url": self.hosts.app,
            "home_url": f"{self.hosts.app}{prefix}workshops/",
            **self.template_vars,
        }
        super().init_tornado_settings()
        settings = self.tornado_settings  # tornado makes a route of its own for JupyterHub's static files
        ((_, settings["static_handler_class"]),) = with_workshops([("", settings["static_handler_class"])])
        settings["concurrent_spawn_limit"] = 0  # JupyterHub would answer 429 where the queue lets wait

    def init_handlers(self) -> None:
        """JupyterHub's routes, and ours before them."""
        super().init_handlers()
        ours = self.add_url_prefix(self.hub_prefix, [*page_handlers(), *api_handlers(), *digest_handlers()])
        self.handlers = with_workshops([*ours, *self.handlers])

    def init_tornado_application(self) -> None:
        """The application, with the hosts below the domain that aren't the hub's."""
        super().init_tornado_application()
        pattern = rf"(?!app\.)[^.]+\.{re.escape(self.hosts.domain)}"
        elsewhere = subdomain_handlers(self.hub_prefix, self.base_url)
        self.tornado_application.add_handlers(pattern, with_workshops(elsewhere))

    async def start(self) -> None:
        """As JupyterHub. Starts that an earlier hub didn't get to have their places before the first page is answered,
        and begin once all of the hub is there."""
        self.resumption.begin()
        await super().start()
        self.queue.open()

    async def cleanup(self) -> None:
        """As JupyterHub, after the queue is closed: places are kept for the next hub, unless seats are stopped. Seats
        that wait for news get their answers first."""
        self.tornado_settings["orchestra_news"].close()
        await self.resumption.end()
        await self.queue.close()
        if self.cleanup_servers:
            self.queue.forget_all()
        await super().cleanup()

    async def start_service(self, service_name: str, service: Any, ssl_context: Any = None) -> bool:
        """As JupyterHub, but a service of its own isn't waited for: its route is added at once, so that the hub's pages
        are there while it is still starting, or away."""
        if service.managed:
            return bool(await super().start_service(service_name, service, ssl_context))
        self.log.info("Adding external service %s", service_name)
        return True
