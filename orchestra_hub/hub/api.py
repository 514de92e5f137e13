"""Routes that Orchestra Hub adds to the Hub API.

- `GET /hub/api/orchestra/workshops/{id}/seats`: every seat of a workshop in one answer, for services.
- `GET /hub/api/orchestra/notices`: what a seat shows the people in it. Asked with the seat's own server token, which
  gains no scope by it: the seat is known from the `access:servers!server=` scope every server token has. With
  `?after={version}&wait_s={seconds}` the answer is held until it would be another one (a long poll).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.scopes import Scope
from jupyterhub.utils import AnyTimeoutError, isoformat
from sqlalchemy import or_
from sqlalchemy.orm import Session
from tornado import web

from orchestra_hub.hub.groups import HubWorkshops, account_of
from orchestra_hub.hub.news import HubNews, Topic, facts_topic, sign_in_topics
from orchestra_hub.hub.seat import SeatMixin
from orchestra_hub.ids import server_name
from orchestra_hub.lifecycle import next_change

__all__ = ["LONGEST_WAIT_S", "api_handlers", "failure_of"]

LONGEST_WAIT_S = 900.0

_OWN_SERVER = re.compile(r"access:servers!server=(?P<user>[^/]+)/(?P<server>.*)")


def failure_of(spawner: Any) -> str | None:
    """Why a server's last start failed, or why it ended unasked, as a sentence for its user; None when neither."""
    future = spawner._spawn_future
    if not spawner._failed or future is None or not future.done() or future.cancelled():
        return None if spawner.active or not isinstance(spawner, SeatMixin) else spawner.ended_because()
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
        running = user.spawners[orm_spawner.name]  # made anew for a stopped one, which may know why it ended
        place = self.settings["orchestra_queue"].place(orm_user.id, orm_spawner.name)
        return {
            "user": orm_user.name,
            "account_key": account_of(orm_user).key,
            "server": orm_spawner.name,
            "ready": bool(running.ready),
            "pending": running.pending,
            "stopped": not running.active,
            "started": isoformat(orm_spawner.started),
            "last_activity": isoformat(orm_spawner.last_activity),
            "url": user.server_url(orm_spawner.name),
            "failure": failure_of(running),
            "place": None if place is None else place.number,
            "wait_s": None if place is None else round(place.wait_s, 1),
        }


@dataclass(frozen=True)
class _SeatNotices:
    """What a seat is told now, what can change it, and when it changes by the clock alone."""

    body: dict[str, Any]
    topics: tuple[Topic, ...]
    changes_at: datetime | None


class NoticesHandler(APIHandler):  # type: ignore[misc]  # jupyterhub has no types
    """What a seat shows and must know: its workshop's end, its idle limit, the hub's clock, whether sign-ins ended."""

    def initialize(self) -> None:
        """Made with the request; `_hung_up` is done once the seat's connection is closed."""
        self._hung_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_connection_close(self) -> None:
        """The seat has gone: nobody waits any more."""
        if not self._hung_up.done():
            self._hung_up.set_result(None)

    async def get(self) -> None:
        """The notices of the seat whose token this is; 403 for any other token, or once the token has ended.

        `after` is the `version` of the answer the seat has: the same one isn't given again before `wait_s` seconds (at
        most `LONGEST_WAIT_S`). Without them, as seats started by an older release ask, the answer comes at once.
        """
        token = self.get_token()
        own = self._own_server(token)
        if token is None or token.user is None or own is None:
            raise web.HTTPError(403, "Only a server's own token may ask for its notices.")
        token_id, after = token.id, self.get_query_argument("after", "")
        until_s = time.monotonic() + self._wait_s()
        news: HubNews = self.settings["orchestra_news"]
        notices = self._notices(token_id, own)
        while notices.body["version"] == after:
            now: datetime = self.settings["orchestra_clock"]()
            left_s = until_s - time.monotonic()
            if left_s <= 0 or news.closed:
                break
            if notices.changes_at is not None:
                left_s = min(left_s, max(0.0, (notices.changes_at - now).total_seconds()) + 0.01)
            await news.wait(notices.topics, left_s, unless=self._hung_up)
            if self._hung_up.done():
                break
            notices = self._notices(token_id, own)
        self.set_header("Cache-Control", "no-store")
        self.write(json.dumps(notices.body))

    def _wait_s(self) -> float:
        try:
            wait_s = float(self.get_query_argument("wait_s", "0"))
        except ValueError:
            wait_s = math.nan
        if not 0 <= wait_s < math.inf:
            raise web.HTTPError(400, "wait_s was refused: it is a number of seconds, 0 or more.")
        return min(wait_s, LONGEST_WAIT_S)

    def _notices(self, token_id: int, own: str) -> _SeatNotices:
        token = self.db.get(orm.APIToken, token_id)
        if token is None or token.user is None:
            raise web.HTTPError(403, "This server's token has ended.")
        now: datetime = self.settings["orchestra_clock"]()
        orm_spawner = token.user.orm_spawners.get(own)
        client_id = None if orm_spawner is None else orm_spawner.oauth_client_id
        topics = sign_in_topics(token.user_id, client_id)
        news: HubNews = self.settings["orchestra_news"]
        living, ends_at = _sign_ins(self.db, token.user_id, client_id)
        sign_ins = f"{living}-{news.times(topics)}"
        body: dict[str, Any] = {"server_time": now.isoformat(), "workshop": None, "sign_ins": sign_ins}
        moments = [ends_at]
        workshops: HubWorkshops = self.settings["orchestra_workshops"]
        workshop_id = workshops.id_of_server(own)
        member = None if workshop_id is None else workshops.member(token.user, workshop_id)
        if member is not None:
            facts = member.facts
            body["workshop"] = {
                "id": facts.id,
                "title": facts.title,
                "state": member.state(now).value,
                "expires_at": facts.expires_at.isoformat(),
                "warning_s": facts.warning_s,
                "idle_timeout_s": facts.idle_timeout_s,
                "page_url": f"{self.settings['orchestra_hosts'].app}{self.hub.base_url}workshops/{facts.id}",
            }
            active = orm_spawner.last_activity if orm_spawner is not None else None
            body["last_activity"] = None if active is None else active.replace(tzinfo=UTC).isoformat()
            topics += (facts_topic(facts.id),)
            moments.append(next_change(facts, now))
        body["version"] = _digest([body["workshop"], sign_ins])
        return _SeatNotices(body, topics, min((moment for moment in moments if moment is not None), default=None))

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


def _sign_ins(db: Session, user_id: int, client_id: str | None) -> tuple[str, datetime | None]:
    """Stands for the set of sign-ins a server may have believed, the owner's tokens and its OAuth client's: another
    string once one of them has ended. And when the first of them ends by its date."""
    token = orm.APIToken
    found = db.query(token.id, token.expires_at).filter(or_(token.user_id == user_id, token.client_id == client_id))
    now = token.now()
    living = [(token_id, ends) for token_id, ends in found.order_by(token.id) if ends is None or ends > now]
    first = min((ends for _, ends in living if ends is not None), default=None)
    return _digest([token_id for token_id, _ in living]), None if first is None else first.replace(tzinfo=UTC)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def api_handlers() -> list[tuple[Any, ...]]:
    """Routes below `/hub`."""
    return [
        (r"/api/orchestra/workshops/([a-z0-9-]+)/seats", WorkshopSeatsHandler),
        (r"/api/orchestra/notices", NoticesHandler),
    ]
