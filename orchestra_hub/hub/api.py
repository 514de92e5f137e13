"""Routes that Orchestra Hub adds to the Hub API.

- `GET /hub/api/orchestra/workshops/{id}/seats`: every seat of a workshop in one answer, for services.
- `GET /hub/api/orchestra/notices`: what a seat shows the people in it. Asked with the seat's own server token, which
  gains no scope by it: the seat is known from the `access:servers!server=` scope every server token has.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.scopes import Scope
from jupyterhub.utils import AnyTimeoutError, isoformat
from tornado import web

from orchestra_hub.hub.groups import HubWorkshops, account_of
from orchestra_hub.ids import server_name

__all__ = ["api_handlers", "failure_of"]

_OWN_SERVER = re.compile(r"access:servers!server=(?P<user>[^/]+)/(?P<server>.*)")


def failure_of(spawner: Any) -> str | None:
    """Why a server's last start failed, as a sentence for its user; None when it didn't."""
    future = spawner._spawn_future
    if not spawner._failed or future is None or not future.done() or future.cancelled():
        return None
    error = future.exception()
    if isinstance(error, AnyTimeoutError):
        return "The notebook server did not answer in time. The machine may be very busy: try again in a minute."
    return str(getattr(error, "jupyterhub_message", None) or "The notebook could not be started.")


class WorkshopSeatsHandler(APIHandler):  # type: ignore[misc]  # jupyterhub has no types
    """Every named server of a workshop, its owner enrolled or not."""

    def get(self, workshop_id: str) -> None:
        """A list of seats, or 403 for a token that may not read every server."""
        if self.parsed_scopes.get("read:servers") is not Scope.ALL:
            raise web.HTTPError(403, "Reading a workshop's seats needs the scope read:servers on all users.")
        name = server_name(workshop_id)
        found = self.db.query(orm.Spawner).filter(orm.Spawner.name == name).join(orm.User).order_by(orm.User.name)
        self.write(json.dumps([self._seat(orm_spawner) for orm_spawner in found]))

    def _seat(self, orm_spawner: orm.Spawner) -> dict[str, Any]:
        orm_user = orm_spawner.user
        user = self.users[orm_user]
        running = user.spawners.get(orm_spawner.name)
        place = self.settings["orchestra_queue"].place(orm_user.id, orm_spawner.name)
        return {
            "user": orm_user.name,
            "account_key": account_of(orm_user).key,
            "server": orm_spawner.name,
            "ready": bool(running is not None and running.ready),
            "pending": running.pending if running is not None else None,
            "stopped": running is None or not running.active,
            "started": isoformat(orm_spawner.started),
            "last_activity": isoformat(orm_spawner.last_activity),
            "url": user.server_url(orm_spawner.name),
            "failure": None if running is None else failure_of(running),
            "place": None if place is None else place.number,
            "wait_s": None if place is None else round(place.wait_s, 1),
        }


class NoticesHandler(APIHandler):  # type: ignore[misc]  # jupyterhub has no types
    """What a seat shows: its workshop's end, its idle limit, the hub's clock."""

    def get(self) -> None:
        """The notices of the seat whose token this is; 403 for any other token."""
        token = self.get_token()
        own = self._own_server(token)
        if token is None or token.user is None or own is None:
            raise web.HTTPError(403, "Only a server's own token may ask for its notices.")
        now: datetime = self.settings["orchestra_clock"]()
        answer: dict[str, Any] = {"server_time": now.isoformat(), "workshop": None}
        workshops: HubWorkshops = self.settings["orchestra_workshops"]
        workshop_id = workshops.id_of_server(own)
        member = None if workshop_id is None else workshops.member(token.user, workshop_id)
        if member is not None:
            facts = member.facts
            orm_spawner = token.user.orm_spawners.get(own)
            active = orm_spawner.last_activity if orm_spawner is not None else None
            answer["workshop"] = {
                "id": facts.id,
                "title": facts.title,
                "state": member.state(now).value,
                "expires_at": facts.expires_at.isoformat(),
                "warning_s": facts.warning_s,
                "idle_timeout_s": facts.idle_timeout_s,
                "page_url": f"{self.settings['orchestra_hosts'].app}{self.hub.base_url}workshops/{facts.id}",
            }
            answer["last_activity"] = None if active is None else active.replace(tzinfo=UTC).isoformat()
        self.set_header("Cache-Control", "no-store")
        self.write(json.dumps(answer))

    def _own_server(self, token: orm.APIToken | None) -> str | None:
        """The server a token was made for: JupyterHub's note names it, its scopes confirm it."""
        if token is None or not (token.note or "").startswith("Server at "):
            return None
        for scope in token.scopes:
            match = _OWN_SERVER.fullmatch(scope)
            if match and match["user"] == token.user.name:
                return match["server"]
        return None

    def _record_activity(self, obj: Any, timestamp: Any = None) -> bool:
        return False


def api_handlers() -> list[tuple[Any, ...]]:
    """Routes below `/hub`."""
    return [
        (r"/api/orchestra/workshops/([a-z0-9-]+)/seats", WorkshopSeatsHandler),
        (r"/api/orchestra/notices", NoticesHandler),
    ]
