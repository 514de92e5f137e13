"""What the page asks its own server: `GET orchestra/notices` and `POST orchestra/keep`, and where it signs in again.

Both need a signed-in person with access to this server, as every handler of Jupyter Server; keep needs the XSRF token
too, which Jupyter's `APIHandler` checks. Looking at notices is no activity.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from tornado import web

if TYPE_CHECKING:
    from orchestra_spawner.seat.extension import Seat

__all__ = ["KeepHandler", "NoticesHandler", "SignedInHandler"]

_SIGNED_IN = """<!DOCTYPE html>
<html lang="en">
  <head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Signed in again</title></head>
  <body><h1>You are signed in again</h1><p>Close this tab and go on in your notebook: nothing there was lost.</p></body>
</html>
"""


class _SeatHandler(APIHandler):
    auth_resource = "orchestra"
    _track_activity = False  # keep records its own

    def initialize(self, seat: Seat) -> None:
        self.seat = seat


class NoticesHandler(_SeatHandler):
    """What the page shows: the workshop's end, when the seat stops for idleness."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.finish(json.dumps(self.seat.page_notices()))


class KeepHandler(_SeatHandler):
    """A person wants to keep the seat running: activity now, told to the hub before the answer."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        reported = await self.seat.keep()
        self.finish(json.dumps(self.seat.page_notices() | {"reported": reported}))


class SignedInHandler(JupyterHandler):
    """Where an open notebook whose sign-in ended sends a second tab: through the hub's sign-in, back to here."""

    auth_resource = "orchestra"

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.finish(_SIGNED_IN)
