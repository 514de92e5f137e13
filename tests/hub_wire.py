"""A small HTTP server that speaks the part of the Hub API our services use: JupyterHub 6's routes, statuses, messages.

For tests that need the hub's answers, and its failures, at an exact moment. `tests/hub` runs the real one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tornado import web
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from orchestra_hub.group_digest import group_digest
from orchestra_hub.hub.digests import PAGE
from orchestra_hub.ids import account_key, is_workshop_id, server_name
from tests.unit.workshops import NOON

__all__ = ["TOKEN", "HubWire", "hub_wire"]

TOKEN = "the-service-token"


@dataclass
class Group:
    """A Hub group."""

    members: set[str] = field(default_factory=set)
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass
class Server:
    """A user's server; `slow` ones take that many looks to stop."""

    ready: bool = True
    pending: str | None = None
    slow: int = 0


@dataclass
class HubWire:
    """What the hub holds, open to the test. `before` is awaited with each request's method and path.

    `services` are the tokens of services besides `TOKEN`; `callers` has the token of each of `calls`.
    """

    users: dict[str, datetime] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    servers: dict[tuple[str, str], Server] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    services: set[str] = field(default_factory=lambda: {TOKEN})
    before: Callable[[str], Awaitable[None]] | None = None
    refuse_start: tuple[int, str] | None = None
    admins: set[str] = field(default_factory=set)
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    url: str = ""

    def sign_up(self, *names: str, created: datetime = NOON) -> None:
        """Make accounts."""
        self.users |= dict.fromkeys(names, created)

    def add_group(self, name: str, *members: str) -> None:
        """A group that isn't a workshop's."""
        self.groups[name] = Group(set(members))

    def token_of(self, name: str, *, kind: str = "user", scopes: tuple[str, ...] = ("access:services",)) -> str:
        """A token of somebody, as good as one that OAuth gave."""
        token = f"{kind}-{name}-{len(self.tokens)}"
        self.tokens[token] = {"kind": kind, "name": name, "scopes": list(scopes), "session_id": None}
        return token

    def delete_user(self, name: str) -> None:
        """Delete an account, as JupyterHub does: its memberships and servers go too."""
        del self.users[name]
        for group in self.groups.values():
            group.members.discard(name)
        self.servers = {key: server for key, server in self.servers.items() if key[0] != name}

    def key(self, name: str) -> str:
        """An account's key."""
        return account_key(name, self.users[name])

    def run_seat(self, name: str, workshop_id: str, **state: Any) -> Server:
        """Let somebody's seat run."""
        server = self.servers[name, server_name(workshop_id)] = Server(**state)
        return server

    def running(self, workshop_id: str) -> set[str]:
        """Whose seats run."""
        return {
            user for (user, name), server in self.servers.items() if name == server_name(workshop_id) and server.ready
        }

    def writes(self, caller: str | None = None) -> list[str]:
        """The calls that changed something or meant to, of all or of one service's token."""
        told = zip(self.calls, self.callers, strict=True)
        return [call for call, token in told if not call.startswith("GET ") and caller in (None, token)]


@asynccontextmanager
async def hub_wire() -> AsyncIterator[HubWire]:
    """The server on a port of its own."""
    wire = HubWire()
    routes: list[tuple[str, type[_Handler]]] = [
        (r"/hub/api/user", _TokenOwner), (r"/hub/api/oauth2/token", _OAuthToken),
        (r"/hub/api/", _Root), (r"/hub/api/users", _Users), (r"/hub/api/users/([^/]+)", _User),
        (r"/hub/api/groups", _Groups),
        (r"/hub/api/groups/([^/]+)", _Group), (r"/hub/api/groups/([^/]+)/users", _Members),
        (r"/hub/api/groups/([^/]+)/properties", _Properties),
        (r"/hub/api/users/([^/]+)/servers/([^/]+)", _Server),
        (r"/hub/api/orchestra/workshops", _Outlines),
        (r"/hub/api/orchestra/workshops/([a-z0-9-]+)/seats", _Seats),
    ]  # fmt: skip
    server = HTTPServer(web.Application([(path, handler, {"wire": wire}) for path, handler in routes]))
    socket, port = bind_unused_port()
    server.add_socket(socket)
    wire.url = f"http://127.0.0.1:{port}/hub/api"
    try:
        yield wire
    finally:
        server.stop()
        await server.close_all_connections()


class _Handler(web.RequestHandler):
    def initialize(self, wire: HubWire) -> None:
        self.wire = wire

    async def prepare(self) -> None:
        token = self.request.headers.get("Authorization", "").removeprefix("token ")
        self.wire.calls.append(f"{self.request.method} {self.request.path.removeprefix('/hub/api/')}")
        self.wire.callers.append(token)
        if token not in self.wire.services:
            raise web.HTTPError(403, "Missing or invalid credentials.")
        if self.wire.before is not None:
            await self.wire.before(self.wire.calls[-1])

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1]
        message = getattr(error, "log_message", None) or "Internal Server Error"
        self.finish({"status": status_code, "message": message})

    def log_exception(self, *_: Any) -> None:
        """Nothing: the tests ask for errors."""

    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.request.body) if self.request.body else {}
        return found

    def group(self, name: str) -> Group:
        if name not in self.wire.groups:
            raise web.HTTPError(404, f"No such group: {name}")
        return self.wire.groups[name]

    def user_model(self, name: str) -> dict[str, Any]:
        groups = [group for group, held in self.wire.groups.items() if name in held.members]
        created = self.wire.users[name].replace(tzinfo=None).isoformat() + "Z"
        servers = {called: server_model(called, server) for (user, called), server in self.wire.servers.items()
                   if user == name and server.ready}  # fmt: skip
        return {
            "name": name,
            "admin": name in self.wire.admins,
            "groups": groups,
            "created": created,
            "servers": servers,
        }

    def group_model(self, name: str) -> dict[str, Any]:
        group = self.group(name)
        return {"kind": "group", "name": name, "users": sorted(group.members), "properties": group.properties}

    def page(self, items: list[dict[str, Any]]) -> None:
        offset, limit = int(self.get_argument("offset", "0")), int(self.get_argument("limit", "50"))
        following = {"url": "next"} if offset + limit < len(items) else None
        self.write({"items": items[offset : offset + limit], "_pagination": {"next": following}})


def server_model(name: str, server: Server) -> dict[str, Any]:
    """What the Hub API says of a server; it was started long ago and never used."""
    return {
        "name": name, "ready": server.ready, "pending": server.pending, "stopped": not server.ready,
        "started": "2020-01-01T00:00:00Z", "last_activity": None, "url": "http://seat/",
    }  # fmt: skip


class _Root(_Handler):
    def get(self) -> None:
        self.write({"version": "6.1.1"})


class _TokenOwner(_Handler):
    async def prepare(self) -> None:
        """Any token that is known may ask whose it is."""
        self.wire.calls.append("GET user")
        self.wire.callers.append("")
        if self.wire.before is not None:
            await self.wire.before("GET user")

    def get(self) -> None:
        token = self.request.headers.get("Authorization", "").removeprefix("token ")
        if token not in self.wire.tokens:
            raise web.HTTPError(403, "Missing or invalid credentials.")
        self.write(self.wire.tokens[token])


class _OAuthToken(_Handler):
    async def prepare(self) -> None:
        """The service says who it is in the form."""

    def post(self) -> None:
        if self.get_body_argument("client_secret") != TOKEN or not self.get_body_argument("code_verifier", ""):
            raise web.HTTPError(400, "bad client")
        self.write({"access_token": self.wire.token_of(self.get_body_argument("code")), "token_type": "Bearer"})


class _Users(_Handler):
    def get(self) -> None:
        self.page([self.user_model(name) for name in self.wire.users])


class _User(_Handler):
    def get(self, name: str) -> None:
        if name not in self.wire.users:
            raise web.HTTPError(404)
        self.write(self.user_model(name))


class _Groups(_Handler):
    def get(self) -> None:
        self.page([self.group_model(name) for name in self.wire.groups])


class _Group(_Handler):
    def get(self, name: str) -> None:
        self.write(self.group_model(name))

    def post(self, name: str) -> None:
        if name in self.wire.groups:
            raise web.HTTPError(409, f"Group {name} already exists")
        self.wire.groups[name] = Group()
        self.set_status(201)

    def delete(self, name: str) -> None:
        self.group(name)
        del self.wire.groups[name]
        self.set_status(204)


class _Members(_Handler):
    def names(self) -> list[str]:
        names: list[str] = self.body()["users"]
        for name in names:
            if name not in self.wire.users:
                raise web.HTTPError(400, f"No such user: {name}")
        return names

    def post(self, name: str) -> None:
        self.group(name).members.update(self.names())
        self.write(self.group_model(name))

    def delete(self, name: str) -> None:
        self.group(name).members.difference_update(self.names())
        self.write(self.group_model(name))


class _Properties(_Handler):
    def put(self, name: str) -> None:
        self.group(name).properties = self.body()
        self.write(self.group_model(name))


class _Server(_Handler):
    def post(self, user: str, name: str) -> None:
        if self.wire.refuse_start is not None:
            raise web.HTTPError(*self.wire.refuse_start)
        if user not in self.wire.users:
            raise web.HTTPError(404)
        if (user, name) in self.wire.servers and self.wire.servers[user, name].ready:
            raise web.HTTPError(400, f"{user}:{name} is already running")
        self.wire.servers[user, name] = Server()
        self.set_status(201)

    def delete(self, user: str, name: str) -> None:
        if (user, name) not in self.wire.servers:
            raise web.HTTPError(404, f"{user} has no server named '{name}'")
        server = self.wire.servers[user, name]
        if server.slow:
            server.pending = "stop"
            self.set_status(202)
            return
        server.ready, server.pending = False, None
        if self.body().get("remove"):
            del self.wire.servers[user, name]
        self.set_status(204)


class _Outlines(_Handler):
    def get(self) -> None:
        after = self.get_argument("after")
        names = sorted(name for name in self.wire.groups if name > after)[:PAGE]
        running: dict[str, set[str]] = {}
        for (user, called), server in self.wire.servers.items():
            if server.ready or server.pending:
                running.setdefault(called, set()).add(user)
        items = [self.outline(name, running.get(server_name(name), set())) for name in names if is_workshop_id(name)]
        self.write({"items": items, "next": names[-1] if len(names) == PAGE else None})

    def outline(self, name: str, running: set[str]) -> dict[str, Any]:
        group = self.wire.groups[name]
        digest = group_digest(json.dumps(group.properties), group.members)
        return {"id": name, "digest": digest, "running": len(running), "strangers": len(running - group.members)}


class _Seats(_Handler):
    def get(self, workshop_id: str) -> None:
        name = server_name(workshop_id)
        found = [(user, server) for (user, called), server in self.wire.servers.items() if called == name]
        self.write(json.dumps([self.model(user, name, server) for user, server in found]))

    def model(self, user: str, name: str, server: Server) -> dict[str, Any]:
        seat = {
            "user": user,
            "account_key": self.wire.key(user),
            "server": name,
            "url": "http://seat/",
            "failure": None,
        }
        model = seat | {key: value for key, value in server_model(name, server).items() if key != "name"}
        if server.pending == "stop":
            server.slow -= 1
            if server.slow <= 0:
                server.ready, server.pending = False, None
        return model
