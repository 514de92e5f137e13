"""A real single-user server as a seat, and the few answers of a hub that it needs, over real HTTP.

The hub's side is only what comes over the wire: who has this token, which workshop is this, thanks for the activity.
The server is JupyterHub's own single-user server with JupyterLab, started with the arguments a spawner gives.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import httpx

from orchestra_spawner.seat import launch_arguments

__all__ = ["PREFIX", "WORKSHOP_ID", "HubWire", "SeatServer", "running_seat", "until"]

WORKSHOP_ID = "data-science-2026nov-k3x9qz"
PREFIX = "/user/ada/ws/"
DEADLINE_S = 60.0

T = TypeVar("T")


def until(what: str, look: Callable[[], T | None], deadline_s: float = DEADLINE_S) -> T:
    """The first answer of `look` that is true; fails with `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        threading.Event().wait(0.05)


class HubWire:
    """A hub as a seat sees it. Change its attributes to change what it says; `away()` closes its port for a while."""

    def __init__(self) -> None:
        self.server_token = secrets.token_hex(16)
        self.user_token = secrets.token_hex(16)
        self.clock_ahead = timedelta(0)
        self.expires_in = timedelta(hours=3)
        self.expires_at = self.now() + self.expires_in
        self.idle_timeout_s: int | None = 3600
        self.is_seat = True
        self.last_activity: datetime | None = None
        self.activity: list[dict[str, Any]] = []
        self.asked = 0
        self.identified = 0
        self.sign_ins = "1"
        self.signed_out: set[str] = set()
        self._serve(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.clock_ahead

    def ends_in(self, seconds: float) -> None:
        self.expires_at = self.now() + timedelta(seconds=seconds)

    def notices(self, after: str = "", wait_s: float = 0.0) -> dict[str, Any]:
        """The answer, held as the hub holds it."""
        self.asked += 1
        until_s = time.monotonic() + wait_s
        while self._version() == after and time.monotonic() < until_s and self._open:
            threading.Event().wait(0.02)
        workshop = {
            "id": WORKSHOP_ID,
            "title": "Python for data science",
            "state": "open",
            "expires_at": self.expires_at.isoformat(),
            "warning_s": 900,
            "idle_timeout_s": self.idle_timeout_s,
            "page_url": f"{self.url}/hub/workshops/{WORKSHOP_ID}",
        }
        return {
            "server_time": self.now().isoformat(),
            "workshop": workshop if self.is_seat else None,
            "last_activity": self.last_activity and self.last_activity.isoformat(),
            "sign_ins": self.sign_ins,
            "version": self._version(),
        }

    def _version(self) -> str:
        said = (self.expires_at, self.idle_timeout_s, self.is_seat, self.clock_ahead, self.sign_ins)
        return hashlib.sha256(repr(said).encode()).hexdigest()[:16]

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON for one request."""
        address = urlsplit(path)
        asked = dict(parse_qsl(address.query))
        match method, address.path:
            case "GET", "/hub/api" | "/hub/api/":
                return 200, {"version": "6.1.1"}
            case "GET", "/hub/api/orchestra/notices":
                if token != self.server_token:
                    return 403, {}
                return 200, self.notices(asked.get("after", ""), float(asked.get("wait_s", 0)))
            case "GET", "/hub/api/user":
                scopes = ["access:servers!server=ada/ws", "access:servers"]
                self.identified += 1
                known = token in (self.user_token, self.server_token) and token not in self.signed_out
                user = {"kind": "user", "name": "ada", "scopes": scopes, "groups": [], "admin": False}
                return (200, user) if known else (403, {})
            case "POST", "/hub/api/users/ada/activity":
                if token != self.server_token:
                    return 403, {}
                report = json.loads(body)
                self.activity.append(report)
                self.last_activity = datetime.fromisoformat(report["servers"]["ws"]["last_activity"])
                return 200, {}
        return 404, {}

    def _serve(self, port: int) -> None:
        wire = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                token = self.headers.get("Authorization", "").split(" ")[-1]
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = wire.answer(self.command, self.path, token, body)
                sent = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("X-JupyterHub-Version", "6.1.1")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                with suppress(BrokenPipeError):
                    self.wfile.write(sent)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._open = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._open = False
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def last_activity_is(self, moment: datetime) -> bool:
        """Whether the newest report said `moment`, to the millisecond."""
        known = self.last_activity
        return known is not None and abs((known - moment).total_seconds()) < 0.05

    @contextmanager
    def without(self, token: str) -> Iterator[None]:
        """A hub at which this token has ended."""
        self.signed_out.add(token)
        self.sign_ins += "x"
        try:
            yield
        finally:
            self.signed_out.discard(token)
            self.sign_ins += "x"

    @contextmanager
    def away(self) -> Iterator[None]:
        self.close()
        try:
            yield
        finally:
            self._serve(self.port)


class SeatServer:
    """A running seat: its address, a signed-in HTTP client, and what its log says."""

    def __init__(self, hub: HubWire, port: int, log: Path) -> None:
        self.hub = hub
        self.origin = f"http://127.0.0.1:{port}"
        self.url = self.origin + PREFIX
        self.page = f"{self.url}lab?token={hub.user_token}"
        self.log = log
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"token {hub.user_token}"}, timeout=30)

    def notices(self) -> dict[str, Any]:
        answer = self.http.get("orchestra/notices")
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told

    def last_activity(self) -> datetime:
        return datetime.fromisoformat(self.http.get("api/status").raise_for_status().json()["last_activity"])


@contextmanager
def running_seat(
    hub: HubWire, folder: Path, *, workshop_id: str | None = WORKSHOP_ID, theme: str = "JupyterLab Light"
) -> Iterator[SeatServer]:
    """A seat that answers, with intervals short enough for tests; stopped at the end."""
    settings = folder / "config/lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    no_news = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(no_news))
    home = folder / "home"
    home.mkdir(parents=True)
    log = folder / "seat.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    access = json.dumps(["access:servers!server=ada/ws"])
    env = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "ORCHESTRA", "JPY"))} | {
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "SHELL": "/bin/bash",
        "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry),
        "JUPYTERHUB_ALLOW_TOKEN_IN_URL": "1",
        "JUPYTERHUB_API_TOKEN": hub.server_token,
        "JUPYTERHUB_API_URL": f"{hub.url}/hub/api",
        "JUPYTERHUB_ACTIVITY_URL": f"{hub.url}/hub/api/users/ada/activity",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-ada-ws",
        "JUPYTERHUB_HOST": hub.url,
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": access,
        "JUPYTERHUB_OAUTH_SCOPES": access,
        "JUPYTERHUB_SERVER_NAME": "ws",
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}{PREFIX}",
        "JUPYTERHUB_USER": "ada",
        "ORCHESTRA_NOTICE_INTERVAL_S": "0.3",
        "ORCHESTRA_ACTIVITY_INTERVAL_S": "0.2",
        "ORCHESTRA_SIGN_IN_CHECK_S": "0.5",
        "JUPYTERHUB_ACTIVITY_INTERVAL": "1",
    }
    if workshop_id is not None:
        env["ORCHESTRA_WORKSHOP_ID"] = workshop_id
    argv = [sys.executable, "-m", "jupyterhub.singleuser", "--allow-root", *launch_arguments()]
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, env=env, cwd=home, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    seat = SeatServer(hub, port, log)

    def answers() -> bool:
        assert process.poll() is None, f"the seat ended:\n{log.read_text()}"
        try:
            return seat.http.get("api").is_success
        except httpx.TransportError:
            return False

    try:
        until("the seat answers", answers)
        yield seat
    finally:
        seat.http.close()
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server; kernels follow it. Jupyter Server 2.21 at times hangs when a page was closed just before."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
