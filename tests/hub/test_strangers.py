"""What a learner has (cookies, tokens, the seat's own token) against what isn't theirs: all refused.

Every attempt is also made on the learner's own things, where it must work: so a wrong path or a dead cookie can't pass
for a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from orchestra_hub.ids import server_name
from tests.people import Person, xsrf_in
from tests.running import Platform

REFUSED = (401, 403, 404)


@dataclass
class Target:
    """Somebody's things."""

    name: str
    workshop_id: str
    seat: str

    @property
    def server(self) -> str:
        return f"/users/{self.name}/servers/{server_name(self.workshop_id)}"

    @property
    def own_path(self) -> str:
        return urlsplit(self.seat).path

    @property
    def shared(self) -> str:
        """How the hub's API of shares calls the seat."""
        return f"{self.name}/{server_name(self.workshop_id)}"


@dataclass
class Thief:
    """A learner with all they have."""

    platform: Platform
    person: Person
    token: str
    seat_token: str

    def hub(self, method: str, path: str, **body: Any) -> httpx.Response:
        return self.platform.hub_api(method, path, token=self.token, **body)

    def service(self, method: str, path: str, **body: Any) -> httpx.Response:
        return self.platform.api(method, path, token=self.token, **body)

    def by_cookie(self, method: str, path: str, **body: Any) -> httpx.Response:
        """The Hub API as a page of the hub asks it."""
        token = xsrf_in(self.person.get("/hub/change-password").text)
        headers = {"X-XSRFToken": token, "Referer": f"{self.person.app}/hub/home", "Accept": "application/json"}
        return self.person.client.request(method, f"{self.person.app}/hub/api{path}", headers=headers, **body)

    def replayed(self, target: Target) -> httpx.Response:
        """All cookies of the own seat, sent to the target's under the names that has."""
        own = [c for c in self.person.client.cookies.jar if c.domain not in ("app.localhost",) and c.value]
        mine, theirs = f"user-{self.person.name}", f"user-{target.name}"
        cookies = "; ".join(f"{cookie.name.replace(mine, theirs)}={cookie.value}" for cookie in own)
        token = next(cookie.value or "" for cookie in own if cookie.name == "_xsrf")
        with self.platform.http() as client:
            return client.get(
                f"{target.seat}api/contents", headers={"Cookie": cookies, "X-XSRFToken": token, "Referer": target.seat}
            )

    def bearing(self, token: str, url: str) -> httpx.Response:
        with self.platform.http() as client:
            return client.get(url, headers={"Authorization": f"token {token}"} if token else {})


@pytest.fixture(scope="module")
def scene(platform: Platform) -> Iterator[tuple[Thief, Target, Target, str]]:
    """A thief, their own things, those of another learner in the same workshop, and a workshop they aren't in."""
    shared = platform.opened(session="theft")
    other = platform.opened(session="theft-other", join_policy="code")
    with ExitStack() as held:
        mal, bea = (held.enter_context(Person.new(platform, name)) for name in ("mal", "bea"))
        seats = {}
        for person in (mal, bea):
            person.join(shared["id"])
            seats[person.name] = person.start(shared["id"])
            person.open_seat(seats[person.name])
        bea.join(other["id"], other["join_code"])
        mal.get("/services/workshops/")
        token = platform.hub_api("POST", "/users/mal/tokens", json={"note": "x"}).json()["token"]
        seat_token = next(
            process.info["environ"]["JUPYTERHUB_API_TOKEN"]
            for process in platform.everything_of("mal")
            if "JUPYTERHUB_API_TOKEN" in (process.info["environ"] or {}) and isinstance(process, psutil.Process)
        )
        targets = [Target(name, shared["id"], seats[name]) for name in ("mal", "bea")]
        yield Thief(platform, mal, token, seat_token), targets[0], targets[1], other["id"]
        for person in (mal, bea):
            person.stop(shared["id"])


ON_PEOPLE: dict[str, Callable[[Thief, Target], httpx.Response]] = {
    "seat, cookies": lambda t, x: t.person.seat_request(x.seat, "GET", "api/contents"),
    "seat, cookies replayed": lambda t, x: t.replayed(x),
    "seat, through sign-in": lambda t, x: t.person.get(f"{x.seat}api/contents"),
    "seat, token": lambda t, x: t.bearing(t.token, f"{x.seat}api/contents"),
    "seat, the seat's token": lambda t, x: t.bearing(t.seat_token, f"{x.seat}api/contents"),
    "seat's address on the hub": lambda t, x: t.person.get(f"/hub{x.own_path}api/contents"),
    "hub, who": lambda t, x: t.hub("GET", f"/users/{x.name}"),
    "hub, who by cookie": lambda t, x: t.by_cookie("GET", f"/users/{x.name}"),
    "hub, server": lambda t, x: t.hub("GET", x.server),
    "hub, server by cookie": lambda t, x: t.by_cookie("GET", x.server),
    "hub, progress": lambda t, x: t.hub("GET", f"{x.server}/progress"),
    "hub, tokens": lambda t, x: t.hub("GET", f"/users/{x.name}/tokens"),
    "hub, new token": lambda t, x: t.hub("POST", f"/users/{x.name}/tokens", json={"note": "y"}),
    "hub, new token by cookie": lambda t, x: t.by_cookie("POST", f"/users/{x.name}/tokens", json={"note": "y"}),
    "hub, activity": lambda t, x: t.hub(
        "POST", f"/users/{x.name}/activity", json={"last_activity": "2020-01-01T00:00:00Z"}
    ),
    "hub, a server made": lambda t, x: t.hub("PUT", f"/users/{x.name}/servers/planted", json={}),
    "service, files": lambda t, x: t.service(
        "GET", f"/workshops/{x.workshop_id}/seats" if x.name == t.person.name else f"/workshops/{x.workshop_id}/events"
    ),
    "service, start": lambda t, x: t.service("POST", f"/workshops/{x.workshop_id}/seats/{x.name}/start"),
}  # fmt: skip
CHANGING: dict[str, Callable[[Thief, Target], httpx.Response]] = {
    "hub, stop": lambda t, x: t.hub("DELETE", x.server),
    "hub, stop by cookie": lambda t, x: t.by_cookie("DELETE", x.server),
    "hub, shared": lambda t, x: t.hub("POST", f"/shares/{x.shared}", json={"user": "mal"}),
    "hub, share code": lambda t, x: t.hub("POST", f"/share-codes/{x.shared}", json={}),
    "hub, made an admin": lambda t, x: t.hub("PATCH", f"/users/{x.name}", json={"admin": True}),
    "hub, deleted": lambda t, x: t.hub("DELETE", f"/users/{x.name}"),
    "hub, admin access": lambda t, x: t.hub("POST", f"/users/{x.name}/admin-access"),
    "service, stop": lambda t, x: t.service("POST", f"/workshops/{x.workshop_id}/seats/{x.name}/stop"),
    "service, off the roster": lambda t, x: t.service("DELETE", f"/workshops/{x.workshop_id}/enrolments/{x.name}"),
    "service, on the roster": lambda t, x: t.service(
        "POST", f"/workshops/{x.workshop_id}/enrolments", json={"user": x.name}
    ),
}  # fmt: skip


@pytest.mark.parametrize("attempt", ON_PEOPLE)
def test_what_works_on_ones_own_is_refused_on_anothers(scene: tuple[Thief, Target, Target, str], attempt: str) -> None:
    thief, own, others, _ = scene
    refused = ON_PEOPLE[attempt](thief, others)
    assert refused.status_code in REFUSED, (refused.status_code, str(refused.url), refused.text[:300])
    allowed = ON_PEOPLE[attempt](thief, own)
    assert allowed.status_code < 400, (allowed.status_code, str(allowed.url), allowed.text[:300])


def test_nothing_of_anothers_is_changed(scene: tuple[Thief, Target, Target, str]) -> None:
    thief, _, others, _ = scene
    for name, attempt in CHANGING.items():
        assert attempt(thief, others).status_code in REFUSED, name
    model = thief.platform.hub_api("GET", f"/users/{others.name}").json()
    assert (model["admin"], model["servers"][server_name(others.workshop_id)]["ready"]) == (False, True)
    assert "planted" not in model["servers"]


READS_OF_ADMINS = (
    "/users",
    "/groups",
    "/services",
    "/proxy",
    "/services/workshops",
    "/orchestra/workshops/{other}/seats",
)


def test_the_hubs_rooms_of_operators_are_shut(scene: tuple[Thief, Target, Target, str]) -> None:
    thief, own, _, other = scene
    for path in (*READS_OF_ADMINS, f"/groups/{other}"):
        path = path.format(other=other)
        for answer in (thief.hub("GET", path), thief.by_cookie("GET", path),
                       thief.platform.hub_api("GET", path, token=thief.seat_token)):  # fmt: skip
            listed = answer.json() if answer.status_code == 200 else None
            assert answer.status_code in REFUSED or listed in ({}, []) or _own_alone(listed, own.name), (path, listed)
        assert thief.platform.hub_api("GET", path).status_code == 200, f"the control: {path}"
    for method, path in (
        ("POST", "/shutdown"), ("POST", "/users"), ("POST", "/groups"), ("POST", f"/groups/{other}/users"),
        ("DELETE", f"/groups/{other}/users"), ("DELETE", f"/groups/{other}"), ("PUT", f"/groups/{other}/properties"),
        ("POST", "/users/somebody-new"), ("PATCH", "/proxy"), ("PATCH", f"/users/{own.name}"),
        ("POST", "/groups/workshop-creators"), ("POST", "/services/evil"),
    ):  # fmt: skip
        for answer in (thief.hub(method, path, json={"users": [own.name], "admin": True}),
                       thief.by_cookie(method, path, json={"users": [own.name], "admin": True})):  # fmt: skip
            assert answer.status_code in REFUSED, (method, path, answer.status_code, answer.text)
    for page in ("/hub/admin", "/hub/authorize", f"/hub/change-password/{own.name}", "/hub/change-password/bea",
                 "/hub/metrics"):  # fmt: skip
        assert thief.person.get(page).status_code in REFUSED, page
    assert thief.person.get("/hub/token").status_code == 200, "the control"


def _own_alone(listed: Any, name: str) -> bool:
    models = listed.values() if isinstance(listed, dict) else listed
    return all(isinstance(model, dict) and model.get("name") == name for model in models)


def test_the_seats_own_token_is_good_for_its_seat_alone(scene: tuple[Thief, Target, Target, str]) -> None:
    """It is in the environment of every kernel: what a learner's code can have."""
    thief, own, others, _ = scene
    platform, token = thief.platform, thief.seat_token
    assert platform.hub_api("GET", "/orchestra/notices", token=token).status_code == 200, "the control"
    for method, path in (
        ("GET", own.server), ("POST", own.server), ("DELETE", own.server), ("PATCH", own.server),
        ("POST", f"/users/{own.name}/tokens"), ("GET", f"/users/{own.name}/tokens"), ("GET", others.server),
        ("POST", f"/users/{others.name}/activity"),
    ):  # fmt: skip
        answer = platform.hub_api(method, path, token=token, json={"last_activity": "2020-01-01T00:00:00Z"})
        assert answer.status_code in REFUSED, (method, path, answer.text)
    for path in ("/me", "/workshops", f"/workshops/{own.workshop_id}", f"/workshops/{own.workshop_id}/export"):
        assert platform.api("GET", path, token=token).status_code in REFUSED, path


def test_another_workshop_is_shut(scene: tuple[Thief, Target, Target, str]) -> None:
    thief, own, _, other = scene
    platform = thief.platform
    public = thief.service("GET", f"/workshops/{other}").json()
    assert (public["join_code"], public["my_role"], public["owner"]) == (None, None, None)
    join_url = platform.api("GET", f"/workshops/{other}").json()["join_url"]
    assert join_url not in str(public)
    for method, path, body in (
        ("GET", "enrolments", None), ("GET", "seats", None), ("GET", "events", None), ("GET", "export", None),
        ("POST", "extend", {"hours": 1}), ("POST", "end", {}), ("POST", "cancel", {}), ("POST", "leave", None),
        ("POST", "enrolments", {"user": "mal"}), ("POST", "seats/mal/start", None), ("POST", "seats/bea/start", None),
        ("POST", "join", {}), ("POST", "join", {"code": "made-up"}),
    ):  # fmt: skip
        answer = thief.service(method, f"/workshops/{other}/{path}", json=body)
        assert answer.status_code in REFUSED, (method, path, answer.status_code, answer.text)
        form = xsrf_in(thief.person.get(f"/services/workshops/join/{other}").text)
        by_page = thief.person.client.request(
            method, f"{thief.person.app}/services/workshops/api/v1/workshops/{other}/{path}", json=body,
            headers={"X-XSRFToken": form},
        )  # fmt: skip
        assert by_page.status_code in REFUSED, (method, path, by_page.status_code)
    for page in ("", "/extend", "/end", "/cancel", "/teach", "/export"):
        url = f"{thief.person.app}/services/workshops/{other}{page}"
        for answer in (thief.person.get(url), thief.person.client.post(url, data={"_xsrf": form})):
            assert answer.status_code in (*REFUSED, 405), (page, answer.status_code)
    for page in (f"/services/workshops/{own.workshop_id}/{what}" for what in ("extend", "end", "cancel", "teach")):
        answer = thief.person.client.post(f"{thief.person.app}{page}", data={"_xsrf": form, "amount": "5"})
        assert answer.status_code in REFUSED, (page, answer.status_code)
    with platform.http() as nobody:
        plain = nobody.get(f"{platform.origin(other)}/")
        all_cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in thief.person.client.cookies.jar)
        with_cookies = nobody.get(f"{platform.origin(other)}/", headers={"Cookie": all_cookies})
        texts = [re.sub(r'data-now="[^"]+"', "", answer.text) for answer in (plain, with_cookies)]
        assert texts[0] == texts[1], "a workshop's host knows nobody"
        assert "mal" not in with_cookies.text
        assert nobody.get(
            f"{platform.origin('api')}/v1/me", headers={"Cookie": all_cookies}
        ).status_code == 401, "the API knows no cookies"  # fmt: skip
