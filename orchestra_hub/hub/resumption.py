"""Starts that an earlier hub was asked for and didn't get to: begun again in their old order.

JupyterHub starts servers from a request's handler (`BaseHandler.spawn_single_user` sets the proxy's route and watches
the server). The request here is one that nobody sent.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from jupyterhub import orm
from jupyterhub.handlers.base import BaseHandler
from tornado.httputil import HTTPServerRequest

from orchestra_hub.hub.queue_rows import QueueRows, Row

__all__ = ["Resumption"]

_STILL_WANTED = timedelta(minutes=15)


class _Nobody:
    """The connection of a request nobody sent."""

    context = None

    def set_close_callback(self, callback: Any) -> None:
        """It never closes."""


class Resumption:
    """Begins what is left over. `hub` is the running application; `end` before the loop's tasks are cancelled."""

    def __init__(self, hub: Any, rows: QueueRows) -> None:
        self._hub = hub
        self._rows = rows
        self._starts: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Put every start that is left over into the queue again, in order."""
        for row in self._rows.left_over(_STILL_WANTED):
            user = self._hub.db.get(orm.User, row.user_id)
            spawner = None if user is None else self._hub.users[user].spawners.get(row.server)
            if user is None or (spawner is not None and spawner.active):
                self._rows.leave(row.number)
                continue
            self._hub.log.info("start resumed user=%s server=%s number=%d", user.name, row.server, row.number)
            self._starts.append(asyncio.create_task(self._start(row, user), name=f"resume {user.name}/{row.server}"))

    async def end(self) -> None:
        """Forget about them; those that wait are in the table still."""
        for start in self._starts:
            start.cancel()
        await asyncio.gather(*self._starts, return_exceptions=True)

    async def _start(self, row: Row, orm_user: orm.User) -> None:
        application = self._hub.tornado_application
        request = HTTPServerRequest(method="POST", uri=f"{self._hub.hub_prefix}api/", connection=_Nobody())  # type: ignore[arg-type]  # it has what tornado asks of one
        handler = BaseHandler(application, request)
        handler.attended_start = row.attended
        user = self._hub.users[orm_user]
        try:
            user.get_or_create_spawner(row.server, row.server, replace_failed=True)
            await handler.spawn_single_user(user, row.server, row.server)
        except Exception as error:  # task boundary: JupyterHub keeps the reason in the spawner, for the person's page
            self._hub.log.warning("start resumed user=%s server=%s failed: %s", user.name, row.server, error)
