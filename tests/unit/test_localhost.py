"""Names below the local domain reach this machine, by a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from orchestra_hub.localhost import AsyncLoopbackTransport, LoopbackTransport, is_below


class _TellsTheHost(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = f"{self.headers['Host']} {self.path} {body.decode()}".encode()
        self.send_response(200)
        self.send_header("Set-Cookie", "seen=1; Path=/")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output stays clean."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _TellsTheHost) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["localhost", "app.localhost", "a--b.localhost", "APP.LocalHost", "127.0.0.1"])
def test_the_host_that_was_asked_for_is_asked_for(port: int, host: str) -> None:
    with httpx.Client(transport=LoopbackTransport()) as client:
        response = client.post(f"http://{host}:{port}/x?y=1", content="body")
    assert response.text == f"{host.lower()}:{port} /x?y=1 body"
    assert response.request.url.host == host.lower()


async def test_the_same_without_blocking(port: int) -> None:
    async with httpx.AsyncClient(transport=AsyncLoopbackTransport()) as client:
        response = await client.post(f"http://api.localhost:{port}/x", content="body")
    assert response.text == f"api.localhost:{port} /x body"


async def test_a_domain_of_this_machine_needs_no_name_server(port: int) -> None:
    with httpx.Client(transport=LoopbackTransport("hub.invalid")) as client:
        assert client.get(f"http://app.hub.invalid:{port}/").text == f"app.hub.invalid:{port} / "
    async with httpx.AsyncClient(transport=AsyncLoopbackTransport("hub.invalid")) as other:
        assert (await other.get(f"http://hub.invalid:{port}/")).status_code == 200


def test_cookies_stay_with_the_host_that_set_them(port: int) -> None:
    with httpx.Client(transport=LoopbackTransport()) as client:
        client.get(f"http://one.localhost:{port}/")
        first = client.build_request("GET", f"http://one.localhost:{port}/")
        second = client.build_request("GET", f"http://two.localhost:{port}/")
    assert first.headers["Cookie"] == "seen=1"
    assert "Cookie" not in second.headers


@pytest.mark.parametrize(
    ("host", "below"),
    [
        ("localhost", True),
        ("a.b.localhost", True),
        ("localhost.", True),
        ("notlocalhost", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_what_is_below_a_domain(host: str, below: bool) -> None:
    assert is_below(host, "localhost") is below
