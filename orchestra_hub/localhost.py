"""Names below the local domain always reach this machine.

RFC 6761 section 6.3 wants `*.localhost` to be loopback; browsers and systemd-resolved do that, glibc's resolver
(Debian's default) does not. These transports connect to 127.0.0.1 for such a host and change nothing else: the Host
header, the name sent for TLS and the URL in the response stay what was asked for.
"""

from __future__ import annotations

import httpx

__all__ = ["LOOPBACK", "AsyncLoopbackTransport", "LoopbackTransport", "is_below"]

LOOPBACK = "127.0.0.1"


def is_below(host: str, domain: str) -> bool:
    """Whether `host` is `domain` or a name below it; case and a final dot don't count."""
    name, top = host.lower().rstrip("."), domain.lower().rstrip(".")
    return name == top or name.endswith(f".{top}")


def _to_loopback(request: httpx.Request, domains: tuple[str, ...]) -> httpx.Request:
    host = request.url.host
    if not any(is_below(host, domain) for domain in domains):
        return request
    return httpx.Request(
        request.method,
        request.url.copy_with(host=LOOPBACK),
        headers=request.headers,  # the Host header is among them
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )


class LoopbackTransport(httpx.HTTPTransport):
    """For `httpx.Client(transport=...)`. `domain`, when given, is one more domain served on this machine; `address` the
    one to come from."""

    def __init__(self, domain: str = "localhost", address: str | None = None) -> None:
        super().__init__(local_address=address)
        self._domains = ("localhost", domain)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`, to this machine when its host is below a local domain."""
        return super().handle_request(_to_loopback(request, self._domains))


class AsyncLoopbackTransport(httpx.AsyncHTTPTransport):
    """For `httpx.AsyncClient(transport=...)`. `domain`, when given, is one more domain served on this machine."""

    def __init__(self, domain: str = "localhost") -> None:
        super().__init__()
        self._domains = ("localhost", domain)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`, to this machine when its host is below a local domain."""
        return await super().handle_async_request(_to_loopback(request, self._domains))
