"""The Jupyter Server extension of a seat: settings, and the wiring of its parts.

Guarantees: does nothing at all without `ORCHESTRA_WORKSHOP_ID`; never keeps a seat from starting because the hub is
away; leaves no task behind when the server stops.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from traitlets import Float, Unicode, default

from orchestra_hub.errors import HubUnavailable
from orchestra_spawner.seat.activity import BusyKernels, running_terminals, untrack_background_requests
from orchestra_spawner.seat.handlers import KeepHandler, NoticesHandler, SignedInHandler
from orchestra_spawner.seat.hub_link import HubLink, hub_address
from orchestra_spawner.seat.notice_board import NoticeBoard
from orchestra_spawner.seat.notices import page_notices, report_due
from orchestra_spawner.seat.sign_ins import SignIns, watch_websockets

__all__ = ["Seat", "SeatExtension", "lead_hub_menu_to_workshop"]

LABEXTENSIONS = Path(__file__).parent / "labextension"
ACTIVITY_KEY = "orchestra_seat"
NEWS_PLUGIN = "@jupyterlab/apputils-extension:announcements"

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
PageConfigHook = Callable[[Any, dict[str, Any]], dict[str, Any]]


def _utcnow() -> datetime:
    return datetime.now(UTC)


class Seat:
    """What the handlers and the tasks share: the server's activity and the hub's newest answer."""

    def __init__(self, web_app: Any, hub: HubLink, board: NoticeBoard, clock: Callable[[], datetime], log: Log) -> None:
        self.board = board
        self._log = log
        self._reported: datetime | None = None
        self._report_failed = False
        self._web_app = web_app
        self._hub = hub
        self._clock = clock
        self._busy_kernels = BusyKernels(web_app.settings["kernel_manager"])

    def page_notices(self) -> dict[str, Any]:
        """What the page is told now."""
        return page_notices(
            self.board.answer,
            last_activity=self._last_activity(),
            hub_now=self.board.on_hub_clock(self._clock()),
            refresh_s=self.board.interval_s,
        )

    async def keep(self) -> bool:
        """Activity now, and whether the hub has heard of it. If not, `look` tells it again later."""
        self._mark_active()
        return await self._report()

    async def look(self) -> None:
        """Count running cells and commands as activity; tell the hub if it would stop the seat otherwise."""
        if self._busy_kernels.ids() or running_terminals(self._web_app.settings.get("terminal_manager")):
            self._mark_active()
        answer = self.board.answer
        if answer and report_due(answer, self._last_activity(), self.board.on_hub_clock(self._clock())):
            await self._report()

    async def report_news(self) -> None:
        """Tell the hub of the newest activity unless it has heard of it: an idle seat reports nothing.

        In place of JupyterHub's own report (6.1: the same moment again and again), as often as that.
        """
        if self._reported is None or self._web_app.last_activity() > self._reported:
            await self._report()

    def _last_activity(self) -> datetime:
        moment: datetime = self._web_app.last_activity()
        return self.board.on_hub_clock(moment)

    def _mark_active(self) -> None:
        self._web_app.settings["last_activity_times"][ACTIVITY_KEY] = self._clock()

    async def _report(self) -> bool:
        moment: datetime = self._web_app.last_activity()
        try:
            await self._hub.report_activity(self.board.on_hub_clock(moment))
        except HubUnavailable as error:
            level = logging.DEBUG if self._report_failed else logging.WARNING
            self._log.log(level, "Activity is reported later: %s", error)
            self._report_failed = True
            return False
        self._reported, self._report_failed = moment, False
        self.board.hub_knows_of(self.board.on_hub_clock(moment))
        return True


class SeatExtension(ExtensionApp):
    """Notices and honest activity for a seat; see `orchestra_spawner.seat`."""

    name = "orchestra-seat"

    workshop_id = Unicode(
        help="The workshop this server is a seat of, from $ORCHESTRA_WORKSHOP_ID. Empty: the extension does nothing."
    ).tag(config=True)
    notice_interval_s = Float(
        help="""Seconds between two questions of the page to this server, and the first pause before the hub is asked
        again when it is away. Default: $ORCHESTRA_NOTICE_INTERVAL_S or 10. An extension shows in the page after this
        and a few seconds; the hub itself holds its answer until there is something new."""
    ).tag(config=True)
    sign_in_check_s = Float(
        help="""Seconds between two looks whether people other than the seat's owner are still let in (of the owner's
        sign-ins the hub tells by itself); their websockets are closed otherwise. Default: $ORCHESTRA_SIGN_IN_CHECK_S or
        15. Each look costs the hub one token look-up for each such sign-in with an open websocket. With more than 20 a
        lost role is seen later than after the 30 s that are promised."""
    ).tag(config=True)
    activity_interval_s = Float(
        help="""Seconds between two looks at kernels and terminals. Default: $ORCHESTRA_ACTIVITY_INTERVAL_S or 15. Keep
        it well under a workshop's idle limit: a cell that runs between two looks only is not seen here."""
    ).tag(config=True)

    @default("workshop_id")
    def _default_workshop_id(self) -> str:
        return os.environ.get("ORCHESTRA_WORKSHOP_ID", "")

    @default("notice_interval_s")
    def _default_notice_interval_s(self) -> float:
        return float(os.environ.get("ORCHESTRA_NOTICE_INTERVAL_S") or 10)

    @default("activity_interval_s")
    def _default_activity_interval_s(self) -> float:
        return float(os.environ.get("ORCHESTRA_ACTIVITY_INTERVAL_S") or 15)

    @default("sign_in_check_s")
    def _default_sign_in_check_s(self) -> float:
        return float(os.environ.get("ORCHESTRA_SIGN_IN_CHECK_S") or 15)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._tasks: list[asyncio.Task[None]] = []
        self._hub: HubLink | None = None

    def _link_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Runs after JupyterLab was linked (in the order of names) and before any extension makes its handlers."""
        super()._link_jupyter_server_extension(serverapp)
        if self.workshop_id:
            _offer_front_end(serverapp)

    def initialize_handlers(self) -> None:
        """Add the page's two addresses. Called while the server is being set up: the loop doesn't run yet."""
        if not self.workshop_id:
            self.log.debug("No seat: ORCHESTRA_WORKSHOP_ID isn't set.")
            return
        assert self.serverapp is not None  # linked before any handler is made
        self._hub = HubLink(hub_address(os.environ))
        board = NoticeBoard(self._hub, interval_s=self.notice_interval_s, clock=_utcnow, log=self.log)
        self._seat = Seat(self.serverapp.web_app, self._hub, board, _utcnow, self.log)
        self.handlers.extend(
            [
                (r"/orchestra/notices", NoticesHandler, {"seat": self._seat}),
                (r"/orchestra/keep", KeepHandler, {"seat": self._seat}),
                (r"/orchestra/signed-in", SignedInHandler),
            ]
        )

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Runs once every extension is loaded, JupyterHub's own too, whose page config hook is wrapped here."""
        if not self.workshop_id:
            return
        settings = serverapp.web_app.settings
        settings["page_config_hook"] = lead_hub_menu_to_workshop(settings.get("page_config_hook"), self.workshop_id)
        untrack_background_requests(serverapp.web_app, serverapp.base_url)
        sign_ins = SignIns(
            serverapp.identity_provider.hub_auth,  # type: ignore[attr-defined]  # JupyterHub's own, without types
            owner=os.environ.get("JUPYTERHUB_USER", ""),
            check_s=self.sign_in_check_s,
            board=self._seat.board,
            log=self.log,
        )
        watch_websockets(serverapp.web_app, sign_ins)
        for apps in serverapp.extension_manager.extension_apps.values():
            for app in apps:
                if app.has_trait("hub_activity_url"):  # JupyterHub's single-user extension
                    app.notify_activity = self._seat.report_news
        self._tasks = [
            asyncio.create_task(self._seat.board.keep_fresh(), name="orchestra-seat notices"),
            asyncio.create_task(self._keep_looking(), name="orchestra-seat activity"),
            asyncio.create_task(sign_ins.keep_checked(), name="orchestra-seat sign-ins"),
        ]
        self.log.info("Seat of workshop %s: notices every %g s.", self.workshop_id, self.notice_interval_s)

    async def stop_extension(self) -> None:
        """Cancel and await all tasks, close the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._hub is not None:
            self._hub.close()

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self._seat.look()
            except Exception:  # task boundary: one bad look must not end all later ones
                self.log.exception("Activity: this look failed, the next one comes.")
            await asyncio.sleep(self.activity_interval_s)


def lead_hub_menu_to_workshop(hook: PageConfigHook | None, workshop_id: str) -> PageConfigHook:
    """A page config hook that does what `hook` does, and fits JupyterLab to a workshop's seat.

    - JupyterLab's hub-extension (4.6) opens `{hubHost}{hubPrefix}home` and `{hubHost}{hubPrefix}spawn/{user}/{server}`,
      and `shareUrl` is what "Copy Shareable Link" begins with: all lead to the workshop's own pages.
    - The page gets no token: it signs its requests with its cookie alone, which a new sign-in in another tab renews, so
      that an open notebook goes on after it. (A token in the page would stay the old one.)
    - No question about news of the Jupyter project: nothing in a class asks for another host.
    """

    def page_config_hook(handler: Any, page_config: dict[str, Any]) -> dict[str, Any]:
        if hook is not None:
            page_config = hook(handler, page_config)
        if page_config.get("hubPrefix"):
            page_config["hubPrefix"] = f"{page_config['hubPrefix'].rstrip('/')}/workshops/{workshop_id}/"
            page_config["shareUrl"] = f"{page_config['hubPrefix']}user-redirect"
        page_config["token"] = ""
        page_config["disabledExtensions"] = [*page_config.get("disabledExtensions", []), NEWS_PLUGIN]
        return page_config

    return page_config_hook


def _offer_front_end(serverapp: ServerApp) -> None:
    """Let JupyterLab and Notebook, whichever are there, find our prebuilt extension where it lies."""
    for apps in serverapp.extension_manager.extension_apps.values():
        for app in apps:
            if app.has_trait("extra_labextensions_path"):
                app.extra_labextensions_path = [*app.extra_labextensions_path, str(LABEXTENSIONS)]
