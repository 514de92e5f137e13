"""Who signed out, whose token was revoked, who lost a role or a place: their websockets in seats close within 30 s.

On a real platform, with a real kernel's websocket, a real seat and the real hub.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.people import Person, open_websocket
from tests.running import Platform, until

PROMISED_S = 30
SIGNED_OUT = 4403


@contextmanager
def kernel_socket(platform: Platform, url: str, kernel: str, headers: dict[str, str]) -> Iterator[Any]:
    """A kernel's websocket, open."""
    parts = urlsplit(url)
    prefix = "/" + "/".join(parts.path.strip("/").split("/")[:3]) + "/"
    with open_websocket(parts.netloc, platform.port, f"{prefix}api/kernels/{kernel}/channels", headers) as socket:
        yield socket


def cookies(person: Person, url: str) -> dict[str, str]:
    """What the person's browser sends to a seat."""
    return {"Cookie": person.client.build_request("GET", url).headers.get("Cookie", "")}


def new_kernel(person: Person, url: str) -> str:
    """The id of a new kernel in one's own seat."""
    made = person.seat_request(url, "POST", "api/kernels", json={"name": "python3"})
    assert made.status_code == 201, made.text
    kernel: str = made.json()["id"]
    return kernel


def close_code(socket: Any) -> int | None:
    """The code it is closed with, within the time promised."""
    deadline = time.monotonic() + PROMISED_S
    while True:
        try:
            socket.recv(timeout=max(0.0, deadline - time.monotonic()))
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else None


def is_open(socket: Any) -> bool:
    """Whether the other side answers."""
    return bool(socket.ping().wait(timeout=5))


def token_of(platform: Platform, name: str) -> dict[str, str]:
    """A new token of a person: its id and the token."""
    made = platform.hub_api("POST", f"/users/{name}/tokens", json={"note": "a script"})
    assert made.status_code in (200, 201), made.text
    found: dict[str, str] = made.json()
    return found


def test_a_log_out_closes_the_sockets_of_that_sign_in_and_no_other(platform: Platform) -> None:
    workshop = platform.opened(session="signout")["id"]
    with Person.new(platform, "olga") as olga, Person.new(platform, "olga", sign_up=False) as at_home:
        olga.join(workshop)
        url = olga.start(workshop)
        olga.open_seat(url)
        kernel = new_kernel(olga, url)
        at_home.sign_in()
        at_home.open_seat(url)
        with (
            kernel_socket(platform, url, kernel, cookies(at_home, url)) as other,
            kernel_socket(platform, url, kernel, cookies(olga, url)) as socket,
        ):
            assert is_open(socket)
            olga.sign_out()
            assert close_code(socket) == SIGNED_OUT
            assert is_open(other), "another browser's sign-in goes on"
            refused = olga.seat_request(url, "GET", "api/status")
            assert refused.status_code == 403, refused.text
            assert at_home.seat_request(url, "GET", "api/status").status_code == 200


def test_a_revoked_token_closes_its_sockets_and_a_good_sign_in_stays_open(platform: Platform) -> None:
    workshop = platform.opened(session="revoked")["id"]
    with Person.new(platform, "rita") as rita:
        rita.join(workshop)
        url = rita.start(workshop)
        rita.open_seat(url)
        kernel = new_kernel(rita, url)
        token = token_of(platform, "rita")
        with (
            kernel_socket(platform, url, kernel, cookies(rita, url)) as kept,
            kernel_socket(platform, url, kernel, {"Authorization": f"token {token['token']}"}) as socket,
        ):
            began = time.monotonic()
            assert is_open(socket)
            gone = platform.hub_api("DELETE", f"/users/rita/tokens/{token['id']}")
            assert gone.status_code == 204, gone.text
            assert close_code(socket) == SIGNED_OUT
            until(lambda: time.monotonic() - began > PROMISED_S + 1, within_s=PROMISED_S + 5)
            assert is_open(kept), "whoever is signed in stays, looked at or not"


def test_an_admin_who_is_none_any_more_is_put_out_of_others_seats(platform: Platform) -> None:
    workshop = platform.opened(session="demoted")["id"]
    with Person.new(platform, "lena") as lena, Person.new(platform, "adam"):
        lena.join(workshop)
        url = lena.start(workshop)
        lena.open_seat(url)
        kernel = new_kernel(lena, url)
        token = token_of(platform, "adam")["token"]
        header = {"Authorization": f"token {token}"}
        status = url_of(url, "api/status")
        with platform.http() as script:
            assert script.get(status, headers=header).status_code in (403, 404)
            assert platform.hub_api("PATCH", "/users/adam", json={"admin": True}).status_code == 200
            until(lambda: script.get(status, headers=header).status_code == 200, within_s=PROMISED_S)
            with kernel_socket(platform, url, kernel, header) as socket:
                assert is_open(socket)
                assert platform.hub_api("PATCH", "/users/adam", json={"admin": False}).status_code == 200
                assert close_code(socket) == SIGNED_OUT
                assert script.get(status, headers=header).status_code == 403


def url_of(seat: str, path: str) -> str:
    """An address in a seat."""
    parts = urlsplit(seat)
    return f"{parts.scheme}://{parts.netloc}/" + "/".join(parts.path.strip("/").split("/")[:3]) + f"/{path}"


def test_a_place_that_was_taken_away_closes_the_sockets(platform: Platform) -> None:
    workshop = platform.opened(session="taken")["id"]
    with Person.new(platform, "theo") as theo:
        theo.join(workshop)
        url = theo.start(workshop)
        theo.open_seat(url)
        kernel = new_kernel(theo, url)
        with kernel_socket(platform, url, kernel, cookies(theo, url)) as socket:
            assert is_open(socket)
            gone = platform.api("DELETE", f"/workshops/{workshop}/enrolments/theo")
            assert gone.status_code in (200, 204), gone.text
            close_code(socket)  # the seat stops, whatever the code
            with pytest.raises((ConnectionClosed, OSError)):
                socket.send(json.dumps({}))


def test_a_held_answer_comes_with_an_extension_and_old_seats_are_answered_at_once(platform: Platform) -> None:
    workshop = platform.opened(session="held")["id"]
    with Person.new(platform, "hera") as hera:
        hera.join(workshop)
        url = hera.start(workshop)
        hera.open_seat(url)
        before = hera.seat_request(url, "GET", "orchestra/notices").json()
        longer = platform.api("POST", f"/workshops/{workshop}/extend", json={"hours": 1})
        assert longer.status_code == 200, longer.text
        until(
            lambda: hera.seat_request(url, "GET", "orchestra/notices").json()["ends_at"] > before["ends_at"],
            within_s=10, message="the seat knows of the extension",
        )  # fmt: skip
        (process,) = platform.servers_of("hera")
        token = process.environ()["JUPYTERHUB_API_TOKEN"]
        hub = process.environ()["JUPYTERHUB_API_URL"]
        header = {"Authorization": f"token {token}"}
        ask = f"{hub}/orchestra/notices"
        at_once = httpx.get(ask, headers=header, timeout=5)
        assert at_once.status_code == 200
        version = at_once.json()["version"]
        assert httpx.get(ask, headers=header, params={"after": "older", "wait_s": 60}, timeout=5).status_code == 200
        began = time.monotonic()
        held = httpx.get(ask, headers=header, params={"after": version, "wait_s": 2}, timeout=10)
        assert held.json()["version"] == version
        assert time.monotonic() - began >= 2
        assert httpx.get(ask, headers=header, params={"after": version, "wait_s": "nan"}).status_code == 400
