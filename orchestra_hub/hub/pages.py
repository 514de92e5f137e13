"""Pages for signed-in people on the hub's host: my workshops, and a workshop's launch page with its seat.

They need nothing but the hub: starting and stopping work while the workshops service is away. Joining, leaving and
downloads are the service's, and linked from here.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from jupyterhub import orm
from jupyterhub.apihandlers.auth import OAuthAuthorizeHandler
from jupyterhub.handlers.base import BaseHandler, UserUrlHandler
from jupyterhub.handlers.pages import SpawnHandler, SpawnPendingHandler
from jupyterhub.handlers.static import CacheControlStaticFilesHandler
from jupyterhub.utils import url_path_join
from tornado import web
from tornado.httputil import url_concat

from orchestra_hub.hub.api import failure_of
from orchestra_hub.hub.database import unusable
from orchestra_hub.hub.groups import HubWorkshops, MemberOf
from orchestra_hub.hub.hosts import Hosts, SeatOrigin
from orchestra_hub.hub.queue import StartQueue
from orchestra_hub.hub.seams import refused
from orchestra_hub.hub.views import SeatView, damaged_view, public_view, seat_view, unknown_view
from orchestra_hub.ids import server_name
from orchestra_hub.web import CONTENT_SECURITY_POLICY, from_our_pages, static_folder
from orchestra_hub.workshop import Role, WorkshopFacts

__all__ = ["page_handlers"]


class _Page(BaseHandler):  # type: ignore[misc]  # jupyterhub has no types
    """A page of ours on the hub's host."""

    @property
    def content_security_policy(self) -> str:
        """Nothing inline, nothing from elsewhere."""
        return CONTENT_SECURITY_POLICY

    @property
    def workshops(self) -> HubWorkshops:
        found: HubWorkshops = self.settings["orchestra_workshops"]
        return found

    @property
    def hosts(self) -> Hosts:
        hosts: Hosts = self.settings["orchestra_hosts"]
        return hosts

    @property
    def queue(self) -> StartQueue:
        queue: StartQueue = self.settings["orchestra_queue"]
        return queue

    @property
    def now(self) -> datetime:
        moment: datetime = self.settings["orchestra_clock"]()
        return moment

    def page_url(self, workshop_id: str) -> str:
        """The launch page of a workshop, below the hub's prefix."""
        return str(url_path_join(self.hub.base_url, "workshops", workshop_id))

    def service_url(self, *parts: str) -> str:
        """A page of the workshops service, on the same host."""
        return str(url_path_join(self.base_url, "services/workshops", *parts))

    async def show(self, template: str, status: int = 200, **names: Any) -> None:
        """Render a page with what every page of ours has."""
        user = self.current_user
        self.set_status(status)
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        html = await self.render_template(
            template,
            user_name=None if user is None else user.name,
            now=self.now,
            **names,
        )
        self.finish(html)

    async def head(self, *parts: str) -> None:
        """As GET; tornado leaves the body out."""
        answer = self.get(*parts)
        if answer is not None:
            await answer

    async def member_or_page(self, workshop_id: str) -> MemberOf | None:
        """The asker's part in a workshop; None when a page (unknown) or a redirect (not enrolled) was answered."""
        member = self.workshops.member(self.current_user.orm_user, workshop_id)
        if member is None:
            view = damaged_view() if self.workshops.is_damaged(workshop_id) else unknown_view()
            if view.status == 503:
                self.set_header("Retry-After", "30")
            await self.show("workshop_public.html", view.status, view=view, facts=None, link=None)
            return None
        if member.role is None:
            join = self.service_url("join", workshop_id)
            code = self.get_query_argument("code", "")
            self.redirect(f"{join}?code={quote(code[:64], safe='')}" if code else join)
            return None
        return member


class MyWorkshops(_Page):
    """`/hub/workshops/`: everything the signed-in person is enrolled in."""

    @web.authenticated
    async def get(self) -> None:
        """The list, latest first."""
        now = self.now
        rows = [
            (m.facts, public_view(m.facts, now), m.role) for m in self.workshops.of_user(self.current_user.orm_user)
        ]
        await self.show("workshops_mine.html", rows=rows, page_url=self.page_url, service_url=self.service_url)


class LaunchPage(_Page):
    """`/hub/workshops/{id}`: a workshop and one's seat in it."""

    @web.authenticated
    async def get(self, workshop_id: str) -> None:
        """The page; while a seat starts it shows how far it is, and leads on when it is ready."""
        member = await self.member_or_page(workshop_id)
        if member is not None:
            await self.show_launch(member)

    async def show_launch(self, member: MemberOf, failure: str | None = None) -> None:
        """The page; `failure` is why a start that was asked for just now didn't even begin."""
        user = self.current_user
        facts, name = member.facts, _server(member.facts)
        running = user.spawners[name] if name in user.orm_user.orm_spawners else None
        self.queue.seen(user.orm_user.id, name)
        if running is not None and running.ready and await running.poll() is not None:
            await running.poll_and_notify()
        seat = seat_view(
            facts, member.role,
            pending=None if running is None else running.pending,
            ready=running is not None and running.ready,
            failure=failure or (None if running is None else failure_of(running)),
            refusal=member.refusal(self.now),
            place=self.queue.place(user.orm_user.id, name),
        )  # fmt: skip
        await self._show_seat(facts, member.role or Role.LEARNER, seat, running)

    async def _show_seat(self, facts: WorkshopFacts, role: Role, seat: SeatView, running: Any) -> None:
        user, name = self.current_user, _server(facts)
        state = public_view(facts, self.now)
        seat_origin = user.seat_origin_of(name) or ""
        target = self._target(user.server_url(name))
        progress = None if running is None else url_concat(running._progress_url, {"_xsrf": self.xsrf_token.decode()})
        await self.show(
            "workshop_seat.html",
            facts=facts, role=role, seat=seat, view=state, target=target, progress=progress,
            wanted=target[len(seat_origin) :] if target != user.server_url(name) else "",
            xsrf=self.xsrf_token.decode(), page_url=self.page_url(facts.id), service_url=self.service_url,
            public_url=self.hosts.workshop(facts.id),
            keeps_files=facts.template.learner_export and state.badge not in ("gone",),
            over=state.status == 410,
        )  # fmt: skip

    def _target(self, seat_url: str) -> str:
        """Where "open" leads: `next` when it is a path of this very seat, else the template's first page."""
        wanted = self.get_argument("next", "")
        path = urlsplit(seat_url).path
        if wanted.startswith(path) and "\\" not in wanted:
            return f"{seat_url[: -len(path)]}{wanted}"
        return seat_url


class StartSeat(LaunchPage):
    """`POST /hub/workshops/{id}/start`: start one's seat (or find it started), then back to the page."""

    attended_start = True  # who leaves the page gives up the place in the line

    @web.authenticated
    async def get(self, workshop_id: str) -> None:
        """To the page: a link starts nothing."""
        self.redirect(self.page_url(workshop_id))

    @web.authenticated
    async def post(self, workshop_id: str) -> None:
        """Start; the page that follows shows progress, or why it was refused."""
        member = await self.member_or_page(workshop_id)
        if member is None:
            return
        refusal = member.refusal(self.now)
        if refusal is None:
            failure = await self._start(member.facts)
            if failure is not None:
                await self.show_launch(member, failure)
                return
        else:
            self.log.info("start refused workshop=%s user=%s: %s", workshop_id, self.current_user.name, refusal)
        wanted = self.get_body_argument("next", "")
        page = self.page_url(workshop_id)
        self.redirect(url_concat(page, {"next": wanted}) if wanted else page, status=303)

    async def _start(self, facts: WorkshopFacts) -> str | None:
        """Why the start didn't even begin, as when the disk is full; None when it did, or waits its turn."""
        user, name = self.current_user, _server(facts)
        spawner = user.get_or_create_spawner(name, name, replace_failed=True)
        if spawner.active or spawner.pending:
            return None
        spawner._spawn_future = None
        start = asyncio.ensure_future(self.spawn_single_user(user, name, name))
        # What goes wrong is kept by JupyterHub in the spawner and shown by the page; retrieve it so that the loop
        # doesn't report it as lost.
        start.add_done_callback(lambda done: done.cancelled() or done.exception())
        done, _ = await asyncio.wait([start], timeout=0.2)
        error = start.exception() if done else None
        if error is None or spawner._spawn_future is not None:
            return None
        self.log.warning("start not begun workshop=%s user=%s: %s", facts.id, user.name, error)
        if unusable(error) is not None:
            raise error
        if isinstance(error, web.HTTPError) and error.status_code == 429:  # JupyterHub's active_server_limit
            return "As many notebooks run on this platform as its operator allows. Try again in a few minutes."
        return str(getattr(error, "jupyterhub_message", None) or "The notebook could not be started.")


class StopSeat(_Page):
    """`POST /hub/workshops/{id}/stop`: stop one's seat, or give up its place in the line; files stay."""

    @web.authenticated
    async def post(self, workshop_id: str) -> None:
        """Stop, then back to the page."""
        member = await self.member_or_page(workshop_id)
        if member is None:
            return
        user, name = self.current_user, _server(member.facts)
        spawner = user.spawners.get(name) if name in user.orm_user.orm_spawners else None
        if spawner is not None and spawner.ready and not spawner.pending:
            await self.stop_single_user(user, name)
        elif spawner is not None and self.queue.leave(user.orm_user.id, name):
            await asyncio.wait([spawner._spawn_future], timeout=1)  # cancelled; so that the page shows no start
        self.redirect(self.page_url(workshop_id), status=303)


class SeatMenu(_Page):
    """Where JupyterLab's Hub menu leads: its hub prefix is `/hub/workshops/{id}/` in seats."""

    async def get(self, workshop_id: str, what: str, rest: str = "") -> None:
        """`home` and `spawn` lead to the workshop's page, `logout` signs out of everything, and `user-redirect`, a link
        to a file that people pass on, to that file in the asker's own seat."""
        if what == "logout":
            self.redirect(url_path_join(self.hub.base_url, "logout"))
        elif what == "user-redirect":
            self._to_own_seat(workshop_id, self.request.uri.partition("/user-redirect")[2])
        else:
            self.redirect(self.page_url(workshop_id))

    def _to_own_seat(self, workshop_id: str, rest: str) -> None:
        # `rest` as it came, escapes and query too: a file may be called "my notes.ipynb"
        user = self.current_user
        if user is None:
            self.redirect(url_concat(self.get_login_url(), {"next": self.request.uri}))
            return
        self.redirect(url_path_join(self.hub.base_url, "user", user.escaped_name, server_name(workshop_id), rest))


class _ToSeatPage:
    """Before one of JupyterHub's pages about a server: those of seats have a page of their own."""

    def seat_page(self, user_name: str | None, server_name: str, wanted: str = "") -> str | None:
        """The launch page for the asker's own seat; None for every other server."""
        user = self.current_user  # type: ignore[attr-defined]
        if user is None or user.name != user_name:
            return None
        workshop_id = user.workshops.id_of_server(server_name)
        if workshop_id is None:
            return None
        page = url_path_join(self.hub.base_url, "workshops", workshop_id)  # type: ignore[attr-defined]
        return str(url_concat(page, {"next": wanted}) if wanted else page)


class SeatUrl(_ToSeatPage, UserUrlHandler):  # type: ignore[misc]  # jupyterhub has no types
    """`/hub/user/{name}/{server}/…`: to the seat when it runs, else to its workshop's page."""

    @web.authenticated
    async def get(self, user_name: str, user_path: str) -> None:
        """As JupyterHub, except for one's own stopped or starting seat."""
        name = (user_path or "/").lstrip("/").split("/", 1)[0]
        path = self.request.uri[len(self.hub.base_url) - 1 :]
        page = self.seat_page(user_name, name, path)
        spawner = self.current_user.spawners.get(name) if self.current_user and page else None
        wants_json = "/api/" in (user_path or "") or "text/html" not in self.request.headers.get("Accept", "text/html")
        if page is not None and not wants_json and (spawner is None or not spawner.ready):
            self.redirect(page)
            return
        await super().get(user_name, user_path)


class SeatSpawn(_ToSeatPage, SpawnHandler):  # type: ignore[misc]  # jupyterhub has no types
    """`/hub/spawn/{name}/{server}`: a link never starts a seat, the page's button does.

    JupyterHub starts an ordinary server on a mere GET; that is done for links on the hub's own pages alone, or a page
    in any seat could start servers by an image.
    """

    @web.authenticated
    async def get(self, user_name: str | None = None, server_name: str = "") -> None:
        """As JupyterHub, except for one's own seat; from elsewhere to the page with the button."""
        page = self.seat_page(user_name, server_name or "", self.get_query_argument("next", ""))
        if page is not None:
            self.redirect(page)
        elif from_our_pages(self.request.headers, self.settings["orchestra_hosts"].app):
            await super().get(user_name, server_name)
        else:
            self.redirect(url_path_join(self.hub.base_url, "home"))


class SeatSpawnPending(_ToSeatPage, SpawnPendingHandler):  # type: ignore[misc]  # jupyterhub has no types
    """`/hub/spawn-pending/{name}/{server}`: progress of seats is on their workshop's page."""

    @web.authenticated
    async def get(self, user_name: str, server_name: str = "") -> None:
        """As JupyterHub, except for one's own seat."""
        page = self.seat_page(user_name, server_name or "", self.get_query_argument("next", ""))
        if page is None:
            await super().get(user_name, server_name)
        else:
            self.redirect(page)


class SeatAuthorize(OAuthAuthorizeHandler):  # type: ignore[misc]  # jupyterhub has no types
    """Sign-in to a server; where a workshop's seats share one origin, only to one's own seat."""

    @web.authenticated
    async def get(self) -> None:
        """As JupyterHub, but refuses another's seat with the reason when `seat_origin` is `workshop`."""
        self._refuse_shared_origin()
        await super().get()

    @web.authenticated
    def post(self) -> Any:
        """As JupyterHub, with the same refusal."""
        self._refuse_shared_origin()
        return super().post()

    def _refuse_shared_origin(self) -> None:
        if self.settings["orchestra_seat_origin"] is not SeatOrigin.WORKSHOP:
            return
        asked = self.get_argument("client_id", "")
        client = self.db.query(orm.OAuthClient).filter_by(identifier=asked).first()
        spawner = None if client is None else client.spawner
        if spawner is None or spawner.user is self.current_user.orm_user:
            return
        if self.settings["orchestra_workshops"].id_of_server(spawner.name) is not None:
            raise refused(
                "On this platform all notebooks of a workshop share one web address (seat_origin is 'workshop'), so a "
                "learner's notebook could read what you open next on it. Opening somebody else's notebook is "
                "therefore refused; with seat_origin 'learner' it is possible."
            )


def _server(facts: WorkshopFacts) -> str:
    return server_name(facts.id)


def page_handlers() -> list[tuple[Any, ...]]:
    """Routes below `/hub`, before JupyterHub's own."""
    workshop = r"/workshops/([a-z0-9-]{1,63})"
    return [
        (r"/workshops/?", MyWorkshops),
        (workshop, LaunchPage),
        (rf"{workshop}/start", StartSeat),
        (rf"{workshop}/stop", StopSeat),
        (rf"{workshop}/(|home|logout|spawn|user-redirect)(/.*)?", SeatMenu),
        (r"/orchestra/static/(.*)", CacheControlStaticFilesHandler, {"path": static_folder()}),
        (r"/user/(?P<user_name>[^/]+)(?P<user_path>/.*)?", SeatUrl),
        (r"/spawn", SeatSpawn),
        (r"/spawn/([^/]+)", SeatSpawn),
        (r"/spawn/([^/]+)/([^/]+)", SeatSpawn),
        (r"/spawn-pending/([^/]+)/([^/]+)", SeatSpawnPending),
        (r"/api/oauth2/authorize", SeatAuthorize),
    ]
