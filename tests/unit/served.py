"""A small HTTP server that answers what a test tells it to: the API's client meets it at the wire."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request as it came over the wire."""

    method: str
    path: str
    authorization: str | None
    body: Any


@dataclass
class Served:
    """Answers by method and path: status, body (bytes, or a value for JSON), headers. What was asked is kept."""

    answers: dict[str, tuple[int, Any, dict[str, str]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    first: dict[str, list[tuple[int, Any, dict[str, str]]]] = field(default_factory=dict)
    port: int = 0

    @property
    def url(self) -> str:
        """Where it listens, by a name below localhost."""
        return f"http://api.localhost:{self.port}"

    def answer(self, route: str, body: Any, status: int = 200, **headers: str) -> None:
        """From now on, `route` (`GET /v1/me`) is answered so."""
        self.answers[route] = (status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def then(self, route: str, body: Any, status: int = 200) -> None:
        """The next time, once, `route` is answered so; in the order of the calls."""
        self.first.setdefault(route, []).append((status, body, {}))

    def problem(self, route: str, status: int, kind: str, detail: str, **more: Any) -> None:
        """From now on, `route` is refused (RFC 9457)."""
        body = {"type": f"urn:orchestra-hub:problem:{kind}", "title": kind, "status": status, "detail": detail, **more}
        self.answer(route, body, status, content_type="application/problem+json")


@contextmanager
def serving() -> Iterator[Served]:
    """A server on a port of its own."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            served.asked.append(
                Asked(self.command, self.path, self.headers["Authorization"], json.loads(content) if content else None)
            )
            missing: tuple[int, Any, dict[str, str]] = (404, {"not": "here"}, {})
            route = f"{self.command} {self.path}"
            once = served.first.get(route)
            status, body, headers = once.pop(0) if once else served.answers.get(route, missing)
            answer = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", headers.get("claims", str(len(answer))))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_DELETE = _any

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test's output stays clean."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        served.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


WORKSHOP: dict[str, Any] = {
    "id": "rnaseq-intro-2026nov-k3x9qz",
    "title": "RNA-seq for beginners",
    "teacher": "Genomics team",
    "template": "rnaseq-intro",
    "state": "open",
    "opens_at": "2026-11-03T08:00:00Z",
    "expires_at": "2026-11-03T12:00:00Z",
    "deadline": "2026-11-05T08:00:00Z",
    "purge_at": "2026-11-17T12:00:00Z",
    "created_at": "2026-10-20T10:00:00Z",
    "seats": 30,
    "join_policy": "code",
    "warning_s": 900,
    "lead_time_s": 600,
    "idle_timeout_s": 3600,
    "retention_s": 1209600,
    "prepared": True,
    "version": 3,
    "url": "http://rnaseq-intro-2026nov-k3x9qz.localhost:8000/",
    "launch_url": "http://app.localhost:8000/hub/workshops/rnaseq-intro-2026nov-k3x9qz",
    "manage_url": "http://app.localhost:8000/services/workshops/rnaseq-intro-2026nov-k3x9qz",
    "join_url": "http://rnaseq-intro-2026nov-k3x9qz.localhost:8000/?code=k7mw2xqa",
    "learners": 12,
    "server_time": "2026-11-03T09:15:00Z",
    "a_field_of_a_later_release": True,
}
"""A workshop as the API answers it."""
