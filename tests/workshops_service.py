"""The workshops service in this process: real store, real folders, real sockets; only the hub is one at the wire."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from tornado.testing import bind_unused_port

from orchestra_hub.attempts import Attempts
from orchestra_hub.hub.hosts import Hosts
from orchestra_hub.hub_api import HubAPI
from orchestra_hub.localhost import AsyncLoopbackTransport
from orchestra_hub.store import Store
from orchestra_hub.workshop import Role, State, Workshop, WorkshopFacts, facts_of
from orchestra_services.workshops.auth import Door, cookie_secret, hub_oauth
from orchestra_services.workshops.context import Context, Defaults
from orchestra_services.workshops.server import make_application, make_server
from orchestra_services.workshops.views import PREFIX
from orchestra_spawner.folders import SeatFolders
from orchestra_spawner.local_provisioner import LocalProvisioner
from tests.hub_wire import TOKEN, HubWire, hub_wire
from tests.unit.workshops import SettableClock

__all__ = ["PREFIX", "Browser", "Service", "running_service"]

TEMPLATE = """\
schema_version: 1
name: counting
title: Counting
summary: Counts.
landing: start.ipynb
image: example/seat:1
resources: {cpu: 1, memory: 1Gi, storage: 1Gi}
default_duration_h: 4
max_duration_h: 48
default_seats: 3
"""
PEOPLE = ("root", "grace", "ada", "bob", "cleo", "dan", "eve")


def make_template(root: Path, name: str = "counting", more: str = "") -> Path:
    """A folder with a small valid template."""
    folder = root / name
    (folder / "content").mkdir(parents=True)
    (folder / "content" / "start.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    (folder / "template.yaml").write_text(TEMPLATE.replace("name: counting", f"name: {name}") + more)
    return folder


@dataclass
class Service:
    """A running service and everything around it. `root` is an operator, `grace` may create workshops."""

    wire: HubWire
    store: Store
    clock: SettableClock
    context: Context
    folder: Path
    port: int
    http: httpx.AsyncClient
    tokens: dict[str, str] = field(default_factory=dict)
    door: Door | None = None

    @property
    def app(self) -> str:
        return f"http://app.localhost:{self.port}"

    @property
    def api_url(self) -> str:
        return f"http://api.localhost:{self.port}"

    def token(self, name: str) -> str:
        """Somebody's token, the same each time."""
        if name not in self.tokens:
            self.tokens[name] = self.wire.token_of(name)
        return self.tokens[name]

    async def api(self, who: str | None, method: str, path: str, **options: Any) -> httpx.Response:
        """A call of the API, `path` without `/v1`."""
        headers = {
            **({} if who is None else {"Authorization": f"Bearer {self.token(who)}"}),
            **options.pop("headers", {}),
        }
        return await self.http.request(method, f"{self.api_url}/v1{path}", headers=headers, **options)

    async def create(self, who: str = "grace", **fields: Any) -> dict[str, Any]:
        """A workshop that opens now for four hours, with three places, joined by the link alone."""
        body = {"template": "counting", "session": "may", "opens_at": "now", "join_policy": "open", "seats": 3}
        answer = await self.api(who, "POST", "/workshops", json={**body, **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def opened(self, **fields: Any) -> dict[str, Any]:
        """The same, prepared and open, as the reconciler would have made it."""
        made = await self.create(**fields)
        workshop = self.store.workshop(made["id"])
        await self.context.provisioner.prepare(
            self.facts(made["id"]), self.store.content_of(workshop.template.content_digest)
        )
        self.move(made["id"], State.PREPARING)
        self.store.mark_prepared(made["id"], fence=self.fence())
        self.clock.forward(seconds=1)
        self.move(made["id"], State.OPEN)
        return made

    def facts(self, workshop_id: str) -> WorkshopFacts:
        """What the hub was told."""
        return facts_of(self.store.workshop(workshop_id), [])

    def fence(self) -> int:
        lease = self.store.acquire_lease("reconciler", "test", 60)
        assert lease is not None
        return lease.fence

    def move(self, workshop_id: str, state: State) -> Workshop:
        """Write a state as the reconciler would."""
        return self.store.move(self.store.workshop(workshop_id), state, fence=self.fence())

    def purge(self, workshop_id: str) -> None:
        """Past everything: expired and purged."""
        self.clock.forward(days=400)
        if self.store.workshop(workshop_id).state is not State.CANCELLED:
            self.move(workshop_id, State.EXPIRED)
        self.store.record_purge(workshop_id, {"checked": "nothing is left", "seats": 1}, fence=self.fence())

    async def join(self, who: str, workshop_id: str, **body: Any) -> httpx.Response:
        return await self.api(who, "POST", f"/workshops/{workshop_id}/join", json=body)

    async def teach(self, who: str, workshop_id: str) -> None:
        """Make somebody an instructor."""
        body = {"user": who, "role": Role.INSTRUCTOR.value}
        answer = await self.api("root", "POST", f"/workshops/{workshop_id}/enrolments", json=body)
        assert answer.status_code == 201, answer.text

    def home_of(self, name: str, workshop_id: str) -> Path:
        """Somebody's files, made if need be."""
        home = SeatFolders(self.folder).home(workshop_id, self.wire.key(name))
        home.mkdir(parents=True, exist_ok=True)
        return home

    @asynccontextmanager
    async def browser(self, name: str | None) -> AsyncIterator[Browser]:
        """A browser; signed in when a name is given."""
        async with httpx.AsyncClient(transport=AsyncLoopbackTransport(), timeout=20) as http:
            browser = Browser(self, http)
            if name is not None:
                await browser.sign_in(name)
            yield browser


@dataclass
class Browser:
    """Cookies, forms and redirects as browsers do them."""

    service: Service
    http: httpx.AsyncClient

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """A page below the prefix, or a full path."""
        url = path if "://" in path else f"{self.service.app}{path if path.startswith('/') else PREFIX + path}"
        return await self.http.get(url, **{"headers": {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}, **options})

    async def sign_in(self, name: str, path: str = "") -> httpx.Response:
        """Through the hub and back, as JupyterHub's OAuth does it; answers the redirect to the page."""
        away = await self.get(path)
        assert away.status_code == 302, away.text
        state = parse_qs(urlsplit(away.headers["location"]).query)["state"][0]
        back = await self.get(f"oauth_callback?code={name}&state={state}")
        assert back.status_code == 302, back.text
        return back

    async def submit(self, page: httpx.Response, path: str, **fields: str) -> httpx.Response:
        """Send the form of `page`."""
        found = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        assert found, page.text
        return await self.post(path, {"_xsrf": found[1], **fields})

    async def post(self, path: str, fields: dict[str, str]) -> httpx.Response:
        """Send a form, whatever is in it."""
        headers = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
        return await self.http.post(f"{self.service.app}{PREFIX}{path}", data=fields, headers=headers)


@asynccontextmanager
async def running_service(folder: Path) -> AsyncIterator[Service]:
    """A service with a database and folders of its own, and seven people who have accounts."""
    clock = SettableClock()
    make_template(folder / "templates")
    socket, port = bind_unused_port()
    hosts = Hosts.from_public_url(f"http://localhost:{port}")
    async with hub_wire() as wire:
        wire.sign_up(*PEOPLE)
        wire.admins.add("root")
        wire.add_group("workshop-creators", "grace")
        store = Store.open(f"sqlite:///{folder / 'orchestra.sqlite'}", clock=clock)
        async with HubAPI(wire.url, TOKEN) as hub:
            context = Context(
                store=store, hub=hub, provisioner=LocalProvisioner(folder), hosts=hosts, clock=clock,
                templates_root=folder / "templates", defaults=Defaults(), code_attempts=Attempts(10, 300),
            )  # fmt: skip
            oauth = hub_oauth(
                api_url=wire.url, api_token=TOKEN, hub_host=hosts.app, prefix=PREFIX, client_id="service-workshops",
                redirect_uri=f"{hosts.app}{PREFIX}oauth_callback", https=False,
            )  # fmt: skip
            seconds = SettableClock()
            door = Door(oauth, hub, creators_group="workshop-creators", monotonic=lambda: seconds().timestamp())
            application = make_application(context, door, prefix=PREFIX, cookie_secret=cookie_secret(TOKEN))
            server = make_server(application)
            server.add_socket(socket)
            try:
                async with httpx.AsyncClient(transport=AsyncLoopbackTransport(), timeout=20) as http:
                    yield Service(wire, store, clock, context, folder, port, http, door=door)
            finally:
                server.stop()
                await server.close_all_connections()
                store.close()
