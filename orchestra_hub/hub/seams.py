"""The places where Orchestra Hub changes JupyterHub 6, all of them, and nothing else.

| seam | what JupyterHub does | what is needed |
|---|---|---|
| `WorkshopUserDict` | makes `jupyterhub.user.User` in `from_orm` and `__getitem__` | our `WorkshopUser` |
| `WorkshopUser.server_url` | `user host/user/{name}/{server}/` | the seat's host |
| `WorkshopUser._new_spawner` | `proxy_spec` from the user's host | the seat's host |
| `WorkshopUser.spawn` | starts whatever is asked for, at once | enrolment and dates decide, not options; starts wait |
| `WorkshopHandlerMixin.spawn_single_user` | waits for a start | answers at once when that waits in the line |
| `WorkshopUser.sync_groups` | drops every group an authenticator didn't name | workshop groups are kept, never gained |
| `WorkshopHandlerMixin.server_model` | builds its own `url` | the seat's URL |
| `WorkshopHandlerMixin._redirect_to_user_server` | redirects to the user's host | the seat's host |
| `WorkshopHandlerMixin._set_cookie`, `clear_cookie` | the session id also below the hub's host | the hub's host alone |
| `WorkshopHandlerMixin._check_named_server_request` | any free name | a seat's only for those who may start it now |
| `SeatServerAPI.put`, `patch` | makes, renames, edits | seats are made by starting them, and stay as they are |
| `SeatServerAPI.post` | takes user options and a display name | a seat's come from its workshop |
| `SeatServerAPI.delete` | removes whatever one may stop | seats are removed by the platform and by admins |
| `AccountAPI.delete` | gives up half-way while a named server runs | all servers stop before anything is removed |
| `WorkshopHandlerMixin.content_security_policy`, `set_default_headers` | frames alone | nothing from elsewhere |
| `PlainFile` | static files without such headers | the same |
| `WorkshopHandlerMixin.prepare` | in trouble with its database takes people for signed out | once more, else 503 |
| `WorkshopHandlerMixin._record_activity` | writes at every request | not while the database is in trouble |
| `WorkshopHandlerMixin._handle_request_exception` | 500 when the database can't be used | 503, rolled back |
| `SeatRouteMixin.delete_user` | builds the route from `user.proxy_spec` | the seat's own route |
| `subdomain_hook` | a subdomain of the hub's for each user and service | services on the hub's host |

`tests/hub/test_seams.py` has a test per row that fails, naming the seam, when a new JupyterHub moves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from jupyterhub import orm
from jupyterhub.apihandlers.users import UserAPIHandler, UserServerAPIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.proxy import Proxy
from jupyterhub.scopes import needs_scope
from jupyterhub.user import User, UserDict
from jupyterhub.utils import url_escape_path, url_path_join
from sqlalchemy.exc import SQLAlchemyError
from tornado import web

from orchestra_hub.hub.database import HubDatabase, unusable
from orchestra_hub.hub.groups import HubWorkshops, MemberOf, is_workshop_group
from orchestra_hub.hub.hosts import Hosts, SeatOrigin
from orchestra_hub.hub.queue import Asked, StartQueue
from orchestra_hub.ids import seat_label
from orchestra_hub.web import policy_for_jupyterhub

__all__ = [
    "AccountAPI",
    "PlainFile",
    "SeatRouteMixin",
    "SeatServerAPI",
    "WorkshopHandlerMixin",
    "WorkshopUser",
    "WorkshopUserDict",
    "subdomain_hook",
    "with_workshops",
]

_LINE_S = 0.2  # by then a start has begun, was refused, or waits in the line


def subdomain_hook(name: str, domain: str, kind: str) -> str:
    """Host of a user's ordinary servers or of a service; `domain` is the hub's own host `app.{domain}`.

    Services are served on the hub's host, ordinary servers on `user--{name}.{domain}`: one label, so that one wildcard
    record and certificate covers it; no workshop has the reserved id `user`.
    """
    if kind == "service":
        return domain
    return f"{seat_label('user', name)}.{domain.partition('.')[2]}"


class WorkshopUser(User):  # type: ignore[misc]  # jupyterhub has no types
    """A hub user whose servers in workshops have hosts of their own."""

    @property
    def workshops(self) -> HubWorkshops:
        """The hub's workshops."""
        found: HubWorkshops = self.settings["orchestra_workshops"]
        return found

    def seat_origin_of(self, server_name: str) -> str | None:
        """`scheme://host[:port]` of a seat; None for servers that belong to no workshop."""
        workshop_id = self.workshops.id_of_server(server_name)
        if workshop_id is None:
            return None
        hosts: Hosts = self.settings["orchestra_hosts"]
        mode: SeatOrigin = self.settings["orchestra_seat_origin"]
        return hosts.origin(hosts.seat_host_label(workshop_id, self.name, mode))

    def server_url(self, server_name: str = "") -> str:
        """The full URL of a server, on its workshop's or seat's host when it has one."""
        origin = self.seat_origin_of(server_name)
        if origin is None:
            return str(super().server_url(server_name))
        return f"{origin}{url_path_join(self.base_url, url_escape_path(server_name), '/')}"

    def _new_spawner(self, server_name: str, spawner_class: Any = None, **kwargs: Any) -> Any:
        origin = self.seat_origin_of(server_name)
        if origin is not None:
            host = urlsplit(origin).hostname or ""
            kwargs["proxy_spec"] = url_path_join(host, self.base_url, url_escape_path(server_name), "/")
        return super()._new_spawner(server_name, spawner_class, **kwargs)

    async def spawn(
        self, server_name: str = "", display_name: str = "", options: Any = None, handler: Any = None
    ) -> Any:
        """Start a server when its turn comes. Raises 403 with the reason when it is a seat and the user has none to
        start now."""
        workshop_id = self.workshops.id_of_server(server_name)
        self._check_start(workshop_id)
        spawner = self.spawners[server_name]
        asked = Asked(
            user_id=self.orm_user.id,
            server=server_name,
            workshop=workshop_id or "",
            attended=bool(getattr(handler, "attended_start", False)),
            obstacle=getattr(spawner, "start_obstacle", lambda: None),
        )
        queue: StartQueue = self.settings["orchestra_queue"]
        async with queue.turn(asked):
            self._check_start(workshop_id)  # it may have ended, or they left it, while they waited
            return await super().spawn(server_name, display_name, options if workshop_id is None else {}, handler)

    def _check_start(self, workshop_id: str | None) -> None:
        if workshop_id is None:
            return
        member = self.workshops.member(self.orm_user, workshop_id)
        refusal = "The workshop is gone." if member is None else member.refusal(self.settings["orchestra_clock"]())
        if refusal is not None:
            self.log.info("start refused workshop=%s user=%s: %s", workshop_id, self.name, refusal)
            raise refused(refusal)

    def sync_groups(self, group_names: Iterable[str]) -> None:
        """Follow an authenticator's groups; workshops are neither joined nor left through it."""
        kept = {group.name for group in self.orm_user.groups if is_workshop_group(group)}
        asked = set(group_names)
        named = self.db.query(orm.Group).filter(orm.Group.name.in_(asked)) if asked else []
        workshops = {group.name for group in named if is_workshop_group(group)}
        super().sync_groups((asked - workshops) | kept)


def refused(sentence: str, status: int = 403) -> web.HTTPError:
    """An error whose sentence JupyterHub shows to the person (`jupyterhub_message`, JupyterHub's own convention)."""
    error = web.HTTPError(status, sentence.replace("%", "%%"))
    error.jupyterhub_message = sentence  # type: ignore[attr-defined]
    return error


class WorkshopUserDict(UserDict):  # type: ignore[misc]  # jupyterhub has no types
    """Gives a `WorkshopUser` wherever JupyterHub would give its own `User`."""

    def from_orm(self, orm_user: orm.User) -> WorkshopUser:
        """The wrapper of a hub user."""
        return WorkshopUser(orm_user, self.settings)

    def __getitem__(self, key: Any) -> WorkshopUser:
        if isinstance(key, orm.User) and key.id not in self:
            self[key.id] = self.from_orm(key)
        found: WorkshopUser = super().__getitem__(key)
        return found


class WorkshopHandlerMixin:
    """Put before every one of JupyterHub's handlers by `with_workshops`."""

    settings: dict[str, Any]

    async def prepare(self) -> None:
        """JupyterHub's, for a person who is known although the database is in trouble. A session that a failed write
        of somebody else left behind is rolled back first."""
        this: Any = self
        if not this.db.is_active:
            this.db.rollback()
        this.expanded_scopes = set()
        try:
            await this.get_current_user()
        except SQLAlchemyError as error:
            this.log.warning("the hub's database is in trouble: %s", error.__cause__ or error)
            this.db.rollback()
            del this._jupyterhub_user
            await this.get_current_user()
        except Exception:
            this.log.exception("Failed to get current user")
        await super().prepare()  # type: ignore[misc]

    def _record_activity(self, obj: Any, timestamp: Any = None) -> bool:
        database: HubDatabase | None = self.settings.get("orchestra_database")
        if database is not None and database.in_trouble:
            return False
        return bool(super()._record_activity(obj, timestamp))  # type: ignore[misc]

    def _handle_request_exception(self, error: BaseException) -> None:
        refusal = unusable(error)
        if refusal is not None:
            self.db.rollback()  # type: ignore[attr-defined]
            try:
                raise refusal from error
            except web.HTTPError as told:  # tornado takes what to say from `sys.exc_info`
                super()._handle_request_exception(told)  # type: ignore[misc]
            return
        super()._handle_request_exception(error)  # type: ignore[misc]

    def _set_cookie(self, key: str, value: str, encrypted: bool = True, **overrides: Any) -> None:
        overrides.pop("domain", None)
        super()._set_cookie(key, value, encrypted, **overrides)  # type: ignore[misc]

    def clear_cookie(self, cookie_name: str, **kwargs: Any) -> None:
        """Clear a cookie of this host (none has a wider domain)."""
        kwargs.pop("domain", None)
        super().clear_cookie(cookie_name, **kwargs)  # type: ignore[misc]

    @property
    def content_security_policy(self) -> str:
        """JupyterHub's policy, and nothing from elsewhere: pages of ours have a stricter one of their own."""
        policy: str = super().content_security_policy  # type: ignore[misc]
        if "default-src" in policy:
            return policy
        return f"{policy}; {policy_for_jupyterhub(self.settings['orchestra_hosts'].origin('*'))}"

    def set_default_headers(self) -> None:
        """JupyterHub's headers, and none of its answers is taken for something else than it says it is."""
        super().set_default_headers()  # type: ignore[misc]
        self.set_header("X-Content-Type-Options", "nosniff")  # type: ignore[attr-defined]
        self.set_header("Referrer-Policy", "same-origin")  # type: ignore[attr-defined]

    def server_model(self, spawner: Any, *, user: Any = None) -> dict[str, Any]:
        """JupyterHub's model of a server, with the URL it is really at."""
        model: dict[str, Any] = super().server_model(spawner, user=user)  # type: ignore[misc]
        owner = user if user is not None else spawner.user
        if isinstance(owner, orm.User):
            owner = self.settings["users"][owner]
        url = owner.server_url(spawner.name)
        model["url"] = url
        if urlsplit(url).netloc:
            model["full_url"] = url
        return model

    async def _redirect_to_user_server(self, user: WorkshopUser, spawner: Any) -> None:
        origin = user.seat_origin_of(spawner.name)
        if origin is None:
            await super()._redirect_to_user_server(user, spawner)  # type: ignore[misc]
            return
        prefix = self.settings["hub"].base_url
        path = self.request.uri[len(prefix) :]  # type: ignore[attr-defined]
        self.redirect(f"{origin}/{path.lstrip('/')}")  # type: ignore[attr-defined]

    async def spawn_single_user(
        self, user: WorkshopUser, server_name: str = "", display_name: str = "", options: Any = None
    ) -> None:
        """As JupyterHub, but doesn't keep the asker until the turn of a start that waits in the line has come; one
        that was given up is answered with 409."""
        queue: StartQueue = self.settings["orchestra_queue"]
        starting = asyncio.ensure_future(
            super().spawn_single_user(user, server_name, display_name, options)  # type: ignore[misc]
        )
        await asyncio.wait([starting], timeout=_LINE_S)
        if not starting.done() and queue.place(user.orm_user.id, server_name) is not None:
            starting.add_done_callback(lambda done: done.cancelled() or done.exception())  # JupyterHub keeps it
            return
        try:
            await starting
        except asyncio.CancelledError:
            raise refused("The start was given up before its turn came. Ask for it again.", 409) from None

    async def _check_named_server_request(
        self, user: WorkshopUser, server_name: str, display_name: str, check_limit: bool = True
    ) -> None:
        workshop_id = user.workshops.id_of_server(server_name)
        if workshop_id is not None:
            member: MemberOf | None = user.workshops.member(user.orm_user, workshop_id)
            if member is None or member.role is None:
                raise refused("That server's name belongs to a workshop you aren't enrolled in.")
            refusal = member.refusal(self.settings["orchestra_clock"]())
            if refusal is not None:  # before JupyterHub writes down a server that isn't started
                raise refused(refusal)
            check_limit = False
        await super()._check_named_server_request(  # type: ignore[misc]
            user, server_name, display_name, check_limit
        )


class PlainFile:
    """Before a handler of static files: nothing in them runs or loads anything, and they are what they say they are."""

    def set_default_headers(self) -> None:
        """As for pages; stylesheets and scripts aren't held back by it where a page uses them."""
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")  # type: ignore[attr-defined]
        self.set_header("X-Content-Type-Options", "nosniff")  # type: ignore[attr-defined]


class SeatServerAPI(WorkshopHandlerMixin, UserServerAPIHandler):  # type: ignore[misc]  # jupyterhub has no types
    """`/hub/api/users/{name}/servers/{server}`: people start and stop their seats by it, and change nothing else.

    JupyterHub lets everybody do all of it with their own servers: `self` holds `servers`.
    """

    @needs_scope("start:servers")  # type: ignore[untyped-decorator]  # jupyterhub has no types
    async def put(self, user_name: str, server_name: str = "") -> None:
        """As JupyterHub, but not for a seat."""
        self._refuse_for_seats("A notebook in a workshop is made by starting it.", server_name)
        await super().put(user_name, server_name)

    @needs_scope("start:servers")  # type: ignore[untyped-decorator]  # as above
    async def post(self, user_name: str, server_name: str = "") -> None:
        """As JupyterHub; a seat takes neither options nor a name."""
        body = self.get_json_body()
        if body and not (isinstance(body, dict) and not any(body.values())):
            self._refuse_for_seats(
                "What a notebook in a workshop is comes from its workshop: send no body.", server_name
            )
        await super().post(user_name, server_name)

    @needs_scope("start:servers")  # type: ignore[untyped-decorator]  # as above
    async def patch(self, user_name: str, server_name: str = "") -> None:
        """As JupyterHub, but neither from nor to a seat."""
        body = self.get_json_body()
        wanted = body.get("name") if isinstance(body, dict) else None
        names = [server_name, *([wanted] if isinstance(wanted, str) else [])]
        self._refuse_for_seats("A notebook in a workshop keeps its name and what it is.", *names)
        await super().patch(user_name, server_name)

    @needs_scope("delete:servers")  # type: ignore[untyped-decorator]  # as above
    async def delete(self, user_name: str, server_name: str = "") -> None:
        """As JupyterHub; a seat is stopped by its owner, and removed by services and admins alone."""
        body = self.get_json_body()
        removing = isinstance(body, dict) and bool(body.get("remove"))
        if removing and isinstance(self.current_user, User) and not self.current_user.admin:
            self._refuse_for_seats("A notebook in a workshop goes with its workshop. You can stop it.", server_name)
        await super().delete(user_name, server_name)

    def _refuse_for_seats(self, sentence: str, *server_names: str) -> None:
        workshops: HubWorkshops = self.settings["orchestra_workshops"]
        for name in server_names:
            if workshops.id_of_server(name) is not None:
                self.log.info("refused to change a seat server=%s by=%s", name, self.current_user.name)
                raise refused(sentence)


class AccountAPI(WorkshopHandlerMixin, UserAPIHandler):  # type: ignore[misc]  # jupyterhub has no types
    """`/hub/api/users/{name}`."""

    @needs_scope("delete:users")  # type: ignore[untyped-decorator]  # as above
    async def delete(self, user_name: str) -> None:
        """As JupyterHub, once every server of the account has stopped.

        JupyterHub takes the password away, then finds that a named server runs, and leaves the rest.
        """
        user = self.find_user(user_name)
        if user is not None and user.name != self.current_user.name:
            await self._stop_all(user)
        await super().delete(user_name)

    async def _stop_all(self, user: WorkshopUser) -> None:
        active = [(name, spawner) for name, spawner in user.spawners.items() if spawner.active]
        for name, spawner in active:
            if spawner.pending == "spawn":
                spawner._spawn_future.cancel()
                await asyncio.wait([spawner._spawn_future], timeout=_CANCEL_S)
            if spawner.active and not spawner.pending:
                await self.stop_single_user(user, name)
        if any(spawner.active for _, spawner in active):
            raise refused("Servers of this account are still stopping. Try again in a few seconds.", 409)


_CANCEL_S = 10


def with_workshops(handlers: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The same routes, with `WorkshopHandlerMixin` before JupyterHub's handlers, `PlainFile` before static files'."""
    made: dict[type, type] = {UserServerAPIHandler: SeatServerAPI, UserAPIHandler: AccountAPI}

    def mixed(cls: type) -> type:
        first = WorkshopHandlerMixin if issubclass(cls, BaseHandler) else PlainFile
        if not issubclass(cls, BaseHandler | web.StaticFileHandler) or issubclass(cls, first):
            return cls
        if cls not in made:
            made[cls] = type(cls.__name__, (first, cls), {"__module__": cls.__module__})
        return made[cls]

    return [(route[0], mixed(route[1]), *route[2:]) for route in handlers]


class SeatRouteMixin(Proxy):  # type: ignore[misc]  # jupyterhub has no types
    """For a proxy class: a stopped seat's route goes at once."""

    async def delete_user(self, user: WorkshopUser, server_name: str = "") -> None:
        """Remove the route a server was added with."""
        routespec = user.spawners[server_name].proxy_spec
        self.log.info("Removing user %s from proxy (%s)", user.name, routespec)
        await self.delete_route(routespec)
