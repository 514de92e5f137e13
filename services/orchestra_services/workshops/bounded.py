"""No body larger than a limit reaches a handler, however it is sent; who sends one is told so (413).

Tornado by itself answers a bare 400 and closes, or keeps a chunked body of any size in memory until its own limit.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable
from uuid import uuid4

from tornado import httputil

from orchestra_services.workshops.problems import PROBLEM_TYPE, TooLarge, problem_for

__all__ = ["MAX_BODY_BYTES", "Bounded"]

MAX_BODY_BYTES = 1024 * 1024

_log = logging.getLogger("orchestra.workshops.access")


class Bounded(httputil.HTTPServerConnectionDelegate):
    """Stands before an application. What is too large is read to its end and dropped, so that its sender hears us."""

    def __init__(self, application: httputil.HTTPServerConnectionDelegate, limit_bytes: int = MAX_BODY_BYTES) -> None:
        self._application = application
        self._limit_bytes = limit_bytes

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> httputil.HTTPMessageDelegate:
        """The delegate for one request."""
        inner = self._application.start_request(server_conn, request_conn)
        return _Counted(inner, request_conn, self._limit_bytes)

    def on_close(self, server_conn: object) -> None:
        """Pass on."""
        self._application.on_close(server_conn)


class _Counted(httputil.HTTPMessageDelegate):
    def __init__(
        self, inner: httputil.HTTPMessageDelegate, connection: httputil.HTTPConnection, limit_bytes: int
    ) -> None:
        self._inner = inner
        self._connection = connection
        self._limit_bytes = limit_bytes
        self._size_bytes = 0

    def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: httputil.HTTPHeaders
    ) -> Awaitable[None] | None:
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self._size_bytes += len(chunk)
        return None if self._size_bytes > self._limit_bytes else self._inner.data_received(chunk)

    def finish(self) -> None:
        if self._size_bytes <= self._limit_bytes:
            self._inner.finish()
            return
        request_id = str(uuid4())
        error = TooLarge(f"A body may have {self._limit_bytes} bytes at most; this one has {self._size_bytes}.")
        body = json.dumps(problem_for(error, request_id).model_dump(mode="json")).encode()
        headers = httputil.HTTPHeaders(
            {"Content-Type": PROBLEM_TYPE, "Content-Length": str(len(body)), "X-Request-ID": request_id}
        )
        _log.info("413 a body of %s bytes request=%s", self._size_bytes, request_id)
        self._connection.write_headers(httputil.ResponseStartLine("HTTP/1.1", 413, "Content Too Large"), headers, body)
        self._connection.finish()
        self._inner.on_connection_close()

    def on_connection_close(self) -> None:
        self._inner.on_connection_close()
