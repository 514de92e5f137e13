"""The seat's two calls to the hub, made with the server's own token: read notices, report activity.

Every failure comes out as `HubUnavailable` with a sentence; the token is in no message.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import url_concat
from tornado.iostream import IOStream
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.tcpclient import TCPClient

from orchestra_hub.errors import HubUnavailable
from orchestra_spawner.seat.notices import HubAnswer, read_answer

__all__ = ["HubAddress", "HubLink", "hub_address"]

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class HubAddress:
    """Where the hub is for this server, as JupyterHub's spawner put it into the environment."""

    api_url: str
    activity_url: str
    server_name: str
    token: str = field(repr=False)
    tls: ssl.SSLContext | None = None


def hub_address(env: Mapping[str, str]) -> HubAddress:
    """The hub's address from `JUPYTERHUB_*`, with internal TLS where the hub has it (`JUPYTERHUB_SSL_*`)."""
    tls = None
    if env.get("JUPYTERHUB_SSL_KEYFILE") and env.get("JUPYTERHUB_SSL_CERTFILE"):
        tls = ssl.create_default_context(cafile=env.get("JUPYTERHUB_SSL_CLIENT_CA") or None)
        tls.load_cert_chain(env["JUPYTERHUB_SSL_CERTFILE"], env["JUPYTERHUB_SSL_KEYFILE"])
    return HubAddress(
        api_url=env.get("JUPYTERHUB_API_URL", "").rstrip("/"),
        activity_url=env.get("JUPYTERHUB_ACTIVITY_URL", ""),
        server_name=env.get("JUPYTERHUB_SERVER_NAME", ""),
        token=env.get("JUPYTERHUB_API_TOKEN", ""),
        tls=tls,
    )


class _WatchedTCPClient(TCPClient):
    """Connections on which a hub that is gone without a word (its machine, the network) is noticed: nothing is sent for
    minutes while it holds an answer."""

    async def connect(self, *args: Any, **kwargs: Any) -> IOStream:
        stream = await super().connect(*args, **kwargs)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2)):
            if hasattr(socket, option):
                stream.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        return stream


class HubLink:
    """The hub over HTTP. Whoever makes one closes it."""

    def __init__(self, address: HubAddress) -> None:
        self._address = address
        self._client: SimpleAsyncHTTPClient | None = None  # made on the running loop

    def close(self) -> None:
        """End open connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def notices(self, *, after: str | None = None, wait_s: float = 0.0) -> HubAnswer:
        """What the hub says about this server's workshop: now, or with `after`, the version of an earlier answer, once
        it says something else, at the latest after `wait_s`."""
        url = f"{self._address.api_url}/orchestra/notices"
        if after is not None:
            url = url_concat(url, {"after": after, "wait_s": f"{wait_s:.1f}"})
        response = await self._ask(url, None, wait_s=0.0 if after is None else wait_s)
        try:
            return read_answer(json.loads(response.body))
        except ValueError as error:
            raise HubUnavailable("The hub's answer about notices is no JSON.") from error

    async def report_activity(self, when: datetime) -> None:
        """Tell the hub that something happened here at `when` (hub's clock); the body is JupyterHub's own."""
        moment = when.isoformat().replace("+00:00", "Z")
        body = {"servers": {self._address.server_name: {"last_activity": moment}}, "last_activity": moment}
        await self._ask(self._address.activity_url, json.dumps(body))

    async def _ask(self, url: str, body: str | None, *, wait_s: float = 0.0) -> HTTPResponse:
        if self._client is None:
            self._client = SimpleAsyncHTTPClient(force_instance=True)
            self._client.tcp_client = _WatchedTCPClient()
        try:
            return await self._client.fetch(
                HTTPRequest(
                    url,
                    method="GET" if body is None else "POST",
                    headers={"Authorization": f"token {self._address.token}", "Content-Type": "application/json"},
                    body=body,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    request_timeout=wait_s + REQUEST_TIMEOUT_S,
                    follow_redirects=False,
                    ssl_options=self._address.tls,
                )
            )
        except (HTTPClientError, OSError, ValueError) as error:
            raise HubUnavailable(f"The hub at {url} didn't answer as it should: {error}.") from error
