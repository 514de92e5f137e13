"""Whom this seat has let in: believed no longer than the hub says, open websockets included.

Jupyter Server asks who somebody is once, when a websocket is opened; JupyterHub's `HubOAuth` keeps what the hub said of
a token for minutes. Here both end soon after the sign-in did:

- The hub tells (by the held answer about notices) that a sign-in of the seat's owner ended, or one made for this seat:
  everybody is looked at again at once; also when the hub was away and is back.
- Whatever else opens a seat, an operator's or an instructor's own token, role or share, is asked for every `check_s`.

Guarantees: only a clear no of the hub closes a websocket; a hub that is away or answers with an error closes none, and
whom it let in last may go on for `BELIEVED_S`.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from contextlib import suppress
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from orchestra_spawner.seat.notice_board import NoticeBoard

__all__ = ["SIGNED_OUT", "SignIns", "watch_websockets"]

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]

SIGNED_OUT = 4403
"""The code a websocket is closed with (4000 to 4999 are the application's own, RFC 6455 section 7.4.2)."""

BELIEVED_S = 300
ASK_S = 10.0


class SignIns:
    """Open websockets and remembered answers of the hub. `hub_auth` is JupyterHub's `HubOAuth` of this server."""

    def __init__(
        self,
        hub_auth: Any,
        *,
        owner: str,
        check_s: float,
        board: NoticeBoard,
        log: Log,
    ) -> None:
        self._hub_auth = hub_auth
        self._owner = owner
        self._check_s = check_s
        self._board = board
        self._log = log
        self._sockets: weakref.WeakSet[WebSocketHandler] = weakref.WeakSet()
        self.looks = 0
        hub_auth.cache.max_age = hub_auth.cache.purge_interval = BELIEVED_S

    def opened(self, socket: WebSocketHandler, *, looks: int) -> None:
        """A websocket is open that was let in when `looks` looks at everybody had been made."""
        self._sockets.add(socket)
        if looks != self.looks:  # one was made while it was being opened
            self._board.sign_ins_changed.set()

    async def keep_checked(self) -> None:
        """Look again and again, until cancelled."""
        changed = self._board.sign_ins_changed
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), self._check_s)
            if not self._board.hub_answers:
                changed.clear()  # set again when the hub is back
                await asyncio.sleep(min(1.0, self._check_s))
                continue
            everybody = changed.is_set() or not self._board.hub_tells
            changed.clear()
            try:
                async with asyncio.timeout(ASK_S):
                    await self.check(everybody=everybody)
            except Exception as error:  # task boundary; the hub may have gone just now
                self._log.warning("Sign-ins: the hub didn't say whether they hold (%r); it is asked again.", error)
                await asyncio.sleep(min(1.0, self._check_s))
                if everybody:
                    changed.set()

    async def check(self, *, everybody: bool) -> None:
        """Forget what the hub said, and close websockets of whom it lets in no more: everybody's, or of all but the
        owner."""
        self.looks += everybody
        cache = self._hub_auth.cache
        for key, model in list(cache.values.items()):
            if everybody or not self._is_owner(model):
                cache.pop(key, None)
        asked: dict[tuple[str, str], bool] = {}
        for socket in list(self._sockets):
            if socket.ws_connection is None:
                self._sockets.discard(socket)
                continue
            if not everybody and self._is_owner(getattr(socket, "_cached_hub_user", None)):
                continue
            tokens, session_id = self._tokens(socket)
            for token in tokens:
                if (token, session_id) not in asked:
                    asked[token, session_id] = await self._is_let_in(token, session_id)
            if tokens and not any(asked[token, session_id] for token in tokens):
                self._log.info("Websocket %s closed: its sign-in has ended.", socket.request.path)
                socket.close(SIGNED_OUT, "Signed out")
                self._sockets.discard(socket)

    def _tokens(self, socket: WebSocketHandler) -> tuple[list[str], str]:
        """What the upgrade request signed itself with, as `HubOAuth` looks for it: header or address, then cookie."""
        found = (self._hub_auth.get_token(socket, in_cookie=False), self._hub_auth._get_token_cookie(socket))
        return [token for token in found if token], self._hub_auth.get_session_id(socket)

    async def _is_let_in(self, token: str, session_id: str) -> bool:
        model = await self._hub_auth.user_for_token(token, use_cache=False, session_id=session_id, sync=False)
        return model is not None and bool(self._hub_auth.check_scopes(self._hub_auth.access_scopes, model))

    def _is_owner(self, model: Any) -> bool:
        return isinstance(model, dict) and model.get("kind") == "user" and model.get("name") == self._owner


def watch_websockets(web_app: Application, sign_ins: SignIns) -> None:
    """Let `sign_ins` know of every websocket of `web_app`, whichever extension's it is."""
    find_handler = web_app.find_handler
    made: dict[type, type] = {}

    def find_and_watch(request: HTTPServerRequest, **kwargs: Any) -> Any:
        found = find_handler(request, **kwargs)
        cls = getattr(found, "handler_class", None)
        is_upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        if is_upgrade and isinstance(cls, type) and issubclass(cls, WebSocketHandler):
            if cls not in made:
                made[cls] = _watched(cls, sign_ins)
            found.handler_class = made[cls]
        return found

    web_app.find_handler = find_and_watch  # type: ignore[method-assign]  # on this one application only


def _watched(cls: type[WebSocketHandler], sign_ins: SignIns) -> type[WebSocketHandler]:
    class Watched(cls):  # type: ignore[valid-type, misc]  # the class is known when it runs
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._looks_before = sign_ins.looks
            super().__init__(*args, **kwargs)

        def open(self, *args: str, **kwargs: str) -> Any:
            sign_ins.opened(self, looks=self._looks_before)
            return super().open(*args, **kwargs)

    Watched.__name__ = cls.__name__
    Watched.__qualname__ = cls.__qualname__
    Watched.__module__ = cls.__module__
    return Watched
