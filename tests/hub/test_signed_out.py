"""Who signed out, whose token was revoked, who lost a role or a place: their websockets in seats close within 30 s.

On a real platform, with real kernels' websockets, real seats and the real hub.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.people import Person, open_websocket, running_seat
from tests.running import Platform, until

PROMISED_S = 30
SIGNED_OUT = 4403


@contextmanager
def socket(platform: Platform, url: str, path: str, headers: dict[str, str]) -> Iterator[Any]:
    """A websocket of a seat, open."""
    there = urlsplit(url_of(url, path))
    with open_websocket(there.netloc, platform.port, there.path, headers) as opened:
        yield opened


def url_of(seat_url: str, path: str) -> str:
    """An address in a seat."""
    parts = urlsplit(seat_url)
    return f"{parts.scheme}://{parts.netloc}/" + "/".join(parts.path.strip("/").split("/")[:3]) + f"/{path}"


def cookies(person: Person, url: str) -> dict[str, str]:
    """What the person's browser sends to a seat."""
    return {"Cookie": person.client.build_request("GET", url).headers.get("Cookie", "")}


def new_kernel(person: Person, url: str) -> str:
    """The path of a new kernel's websocket in one's own seat."""
    made = person.seat_request(url, "POST", "api/kernels", json={"name": "python3"})
    assert made.status_code == 201, made.text
    return f"api/kernels/{made.json()['id']}/channels"


def new_terminal(person: Person, url: str) -> str:
    """The path of a new terminal's websocket in one's own seat."""
    made = person.seat_request(url, "POST", "api/terminals")
    assert made.status_code == 200, made.text
    return f"terminals/websocket/{made.json()['name']}"


def close_code(opened: Any) -> int | None:
    """The code it is closed with, within the time promised."""
    deadline = time.monotonic() + PROMISED_S
    while True:
        try:
            opened.recv(timeout=max(0.0, deadline - time.monotonic()))
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else None


def is_open(opened: Any) -> bool:
    """Whether the other side answers."""
    return bool(opened.ping().wait(timeout=5))


def token_of(platform: Platform, name: str) -> dict[str, str]:
    """A new token of a person: its id and the token."""
    made = platform.hub_api("POST", f"/users/{name}/tokens", json={"note": "a script"})
    assert made.status_code in (200, 201), made.text
    found: dict[str, str] = made.json()
    return found


def test_a_log_out_closes_the_sockets_of_that_sign_in_and_no_other(platform: Platform) -> None:
    """Kernels', terminals' and events' alike."""
    with running_seat(platform, "olga") as (olga, url, _), Person.new(platform, "olga", sign_up=False) as at_home:
        kernel = new_kernel(olga, url)
        at_home.sign_in()
        at_home.open_seat(url)
        with socket(platform, url, kernel, cookies(at_home, url)) as other, ExitStack() as opened:
            mine = [
                opened.enter_context(socket(platform, url, path, cookies(olga, url)))
                for path in (kernel, new_terminal(olga, url), "api/events/subscribe")
            ]
            assert all(map(is_open, mine))
            olga.sign_out()
            assert list(map(close_code, mine)) == [SIGNED_OUT] * 3
            assert is_open(other), "another browser's sign-in goes on"
            refused = olga.seat_request(url, "GET", "api/status")
            assert refused.status_code == 403, refused.text
            assert at_home.seat_request(url, "GET", "api/status").status_code == 200


def test_a_revoked_token_closes_its_sockets_and_a_good_sign_in_stays_open(platform: Platform) -> None:
    with running_seat(platform, "rita") as (rita, url, _):
        kernel = new_kernel(rita, url)
        token = token_of(platform, "rita")
        with (
            socket(platform, url, kernel, cookies(rita, url)) as kept,
            socket(platform, url, kernel, {"Authorization": f"token {token['token']}"}) as script,
        ):
            began = time.monotonic()
            assert is_open(script)
            gone = platform.hub_api("DELETE", f"/users/rita/tokens/{token['id']}")
            assert gone.status_code == 204, gone.text
            assert close_code(script) == SIGNED_OUT
            until(lambda: time.monotonic() - began > PROMISED_S + 1, within_s=PROMISED_S + 5)
            assert is_open(kept), "whoever is signed in stays, looked at or not"


def test_an_admin_who_is_none_any_more_is_put_out_of_others_seats(platform: Platform) -> None:
    with running_seat(platform, "lena") as (lena, url, _), Person.new(platform, "adam"):
        kernel = new_kernel(lena, url)
        header = {"Authorization": f"token {token_of(platform, 'adam')['token']}"}
        status = url_of(url, "api/status")
        with platform.http() as script:
            assert script.get(status, headers=header).status_code in (403, 404)
            assert platform.hub_api("PATCH", "/users/adam", json={"admin": True}).status_code == 200
            until(lambda: script.get(status, headers=header).status_code == 200, within_s=PROMISED_S)
            with socket(platform, url, kernel, header) as opened:
                assert is_open(opened)
                assert platform.hub_api("PATCH", "/users/adam", json={"admin": False}).status_code == 200
                assert close_code(opened) == SIGNED_OUT
                assert script.get(status, headers=header).status_code == 403


def test_a_place_that_was_taken_away_closes_the_sockets(platform: Platform) -> None:
    with (
        running_seat(platform, "theo") as (theo, url, workshop),
        socket(platform, url, new_kernel(theo, url), cookies(theo, url)) as opened,
    ):
        assert is_open(opened)
        gone = platform.api("DELETE", f"/workshops/{workshop}/enrolments/theo")
        assert gone.status_code in (200, 204), gone.text
        close_code(opened)  # the seat stops, whatever the code
        with pytest.raises((ConnectionClosed, OSError)):
            opened.send(json.dumps({}))


def test_a_held_answer_comes_with_an_extension_and_old_seats_are_answered_at_once(platform: Platform) -> None:
    with running_seat(platform, "hera") as (hera, url, workshop):
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
