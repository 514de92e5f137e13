"""Every door a seat can be started by, and every way to change one: no place at this time, no start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from orchestra_hub.ids import server_name
from tests.people import Person, xsrf_in
from tests.running import Platform, soon, until


@dataclass
class Visit:
    """Somebody before the door of a seat, with everything in hand that they could have."""

    platform: Platform
    person: Person
    admin: Person
    workshop_id: str
    token: str
    page: httpx.Response  # with a form, from before whatever shuts the door

    @property
    def server(self) -> str:
        return server_name(self.workshop_id)

    @property
    def path(self) -> str:
        return f"/users/{self.person.name}/servers/{self.server}"

    @property
    def spawn_page(self) -> str:
        return f"/hub/spawn/{self.person.name}/{self.server}"

    def server_model(self) -> dict[str, Any] | None:
        """The seat as an admin sees it in the hub; None when nothing is written of it."""
        found = self.platform.hub_api("GET", f"/users/{self.person.name}?include_stopped_servers=1").json()
        model: dict[str, Any] | None = found["servers"].get(self.server)
        return model

    def begun(self) -> bool:
        model = self.server_model()
        return model is not None and bool(model["ready"] or model["pending"])


def by_cookie(visit: Visit, method: str, **body: Any) -> httpx.Response:
    headers = {"X-XSRFToken": xsrf_in(visit.page.text), "Referer": f"{visit.person.app}/hub/home"}
    return visit.person.client.request(method, f"{visit.person.app}/hub/api{visit.path}", headers=headers, **body)


OURS = {"Sec-Fetch-Site": "same-origin"}
SEATS = {"Sec-Fetch-Site": "same-site", "Referer": "http://a-seat.localhost/"}
DOORS: dict[str, Callable[[Visit], httpx.Response]] = {
    "button": lambda v: v.person.submit(v.page, f"/hub/workshops/{v.workshop_id}/start"),
    "hub API, own token": lambda v: v.platform.hub_api("POST", v.path, token=v.token),
    "hub API, own cookie": lambda v: by_cookie(v, "POST"),
    "hub API, admin's token": lambda v: v.platform.hub_api("POST", v.path),
    "spawn form": lambda v: v.person.submit(v.page, v.spawn_page),
    "spawn form of an admin": lambda v: v.admin.submit(v.admin.get("/hub/change-password"), v.spawn_page),
    "spawn link of an admin": lambda v: v.admin.get(v.spawn_page, headers=OURS),
    "spawn link with options of an admin": lambda v: v.admin.get(f"{v.spawn_page}?opt-image=evil", headers=OURS),
    "service's API, own token": lambda v: v.platform.api(
        "POST", f"/workshops/{v.workshop_id}/seats/{v.person.name}/start", token=v.token
    ),
    "service's API, admin's token": lambda v: v.platform.api(
        "POST", f"/workshops/{v.workshop_id}/seats/{v.person.name}/start"
    ),
}  # fmt: skip
# these start nothing for anybody: a link never does, and a seat isn't made without being started
NO_DOORS: dict[str, Callable[[Visit], httpx.Response]] = {
    "spawn link": lambda v: v.person.get(v.spawn_page, headers=OURS),
    "spawn link of an admin, from a seat": lambda v: v.admin.get(v.spawn_page, headers=SEATS),
    "spawn link of an admin, from nowhere": lambda v: v.admin.get(v.spawn_page),
    "spawn link with options": lambda v: v.person.get(f"{v.spawn_page}?opt-image=evil&image=evil"),
    "seat's address": lambda v: v.person.get(f"/hub/user/{v.person.name}/{v.server}/lab"),
    "start as a link": lambda v: v.person.get(f"/hub/workshops/{v.workshop_id}/start"),
    "next": lambda v: v.person.get(f"/hub/login?next={v.spawn_page}"),
    "made, own token": lambda v: v.platform.hub_api("PUT", v.path, token=v.token, json={}),
    "made, own cookie": lambda v: by_cookie(v, "PUT", json={}),
    "made with options": lambda v: v.platform.hub_api("PUT", v.path, token=v.token, json={"user_options": {"a": 1}}),
    "renamed": lambda v: _renamed(v),
}  # fmt: skip


def _renamed(visit: Visit) -> httpx.Response:
    """Another server of theirs gets the seat's name."""
    own = f"/users/{visit.person.name}/servers/mine"
    visit.platform.hub_api("PUT", own, token=visit.token, json={"user_options": {"image": "evil"}})
    return visit.platform.hub_api("PATCH", own, token=visit.token, json={"name": visit.server})


@pytest.fixture(scope="module")
def visits(platform: Platform) -> Iterator[dict[str, Visit]]:
    """One person in front of each kind of shut door, and one for whom they are open."""
    now = {"session": "doors-now", "seats": 5}
    kinds = {
        "stranger": (platform.opened(**now), False),
        "early": (platform.workshop(session="doors-early", opens_at=soon(3600), hours=2), True),
        "late": (platform.opened(session="doors-late"), True),
        "removed": (platform.opened(session="doors-removed"), True),
        "welcome": (platform.opened(session="doors-open"), True),
    }
    with ExitStack() as held:
        admin = held.enter_context(Person.new(platform, "admin", sign_up=False))
        admin.sign_in(platform.admin_password)
        found = {}
        for name, (workshop, joins) in kinds.items():
            person = held.enter_context(Person.new(platform, f"door-{name}"))
            if joins:
                person.join(workshop["id"])
            made = platform.hub_api("POST", f"/users/door-{name}/tokens", json={"note": "own"})
            page = person.get("/hub/change-password")
            found[name] = Visit(platform, person, admin, workshop["id"], made.json()["token"], page)
        late, removed = found["late"], found["removed"]
        assert platform.api("POST", f"/workshops/{late.workshop_id}/end", json={}).status_code == 200
        assert platform.api(
            "DELETE", f"/workshops/{removed.workshop_id}/enrolments/{removed.person.name}"
        ).status_code == 204  # fmt: skip
        platform.wait_state(late.workshop_id, "expired")
        yield found


@pytest.mark.parametrize("who", ["stranger", "early", "late", "removed"])
def test_no_door_opens_for_somebody_without_a_place_at_this_time(visits: dict[str, Visit], who: str) -> None:
    visit = visits[who]
    for name, door in {**DOORS, **NO_DOORS}.items():
        answer = door(visit)
        assert answer.status_code < 500, (name, answer.text)
        if "API" in name or "made" in name or name == "renamed":
            assert answer.status_code in (403, 404, 409), (name, answer.status_code, answer.text)
        assert visit.server_model() is None, f"{name} wrote down a server for somebody {who}: {answer.text}"
    assert not visit.platform.everything_of(visit.person.name)


@pytest.mark.parametrize("name", DOORS)
def test_every_door_opens_for_who_has_a_place(visits: dict[str, Visit], name: str) -> None:
    """What makes the test above one that can fail."""
    visit = visits["welcome"]
    if name.endswith("token") and "service" not in name:
        assert not visit.begun()
    assert DOORS[name](visit).status_code < 400
    assert visit.begun(), name
    model = visit.server_model()
    assert model is not None and model["user_options"] == {}
    visit.platform.hub_api("DELETE", visit.path)
    until(lambda: not visit.begun(), within_s=20, message="stopped")


def test_what_is_no_door_starts_nothing_for_anybody(visits: dict[str, Visit]) -> None:
    visit = visits["welcome"]
    for name, door in NO_DOORS.items():
        door(visit)
        assert not visit.begun(), name


CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "a name to show": ("PATCH", {"display_name": "Mine"}),
    "options": ("PATCH", {"user_options": {"image": "evil"}}),
    "another name": ("PATCH", {"name": "elsewhere"}),
    "made again": ("PUT", {"user_options": {"image": "evil"}}),
    "started with options": ("POST", {"user_options": {"image": "evil"}}),
    "started with options, the old way": ("POST", {"image": "evil"}),
    "started with a name to show": ("POST", {"display_name": "Mine"}),
    "removed": ("DELETE", {"remove": True}),
}


def test_a_learners_own_token_and_cookie_start_and_stop_a_seat_and_change_nothing(visits: dict[str, Visit]) -> None:
    visit = visits["welcome"]
    platform = visit.platform
    visit.person.start(visit.workshop_id)
    assert platform.hub_api("DELETE", visit.path, token=visit.token).status_code in (202, 204), "stop"
    until(lambda: not visit.begun(), within_s=20, message="stopped")
    before = visit.server_model()
    assert before is not None
    for running in (False, True):
        if running:
            assert platform.hub_api("POST", visit.path, token=visit.token, json={}).status_code in (201, 202)
            until(lambda: (visit.server_model() or {}).get("ready"), within_s=60, message="ready")
        for name, (method, body) in CHANGES.items():
            for answer in (
                platform.hub_api(method, visit.path, token=visit.token, json=body), by_cookie(visit, method, json=body),
            ):  # fmt: skip
                assert answer.status_code == 403, (name, answer.status_code, answer.text)
        after = visit.server_model()
        assert after is not None
        for kept in ("name", "display_name", "user_options"):
            assert after[kept] == before[kept], kept
        if running:
            assert after["ready"], "it runs on"
    own = f"/users/{visit.person.name}/servers/own-one"
    for method, body in (("PUT", {"display_name": "One"}), ("PATCH", {"display_name": "Two"})):
        assert platform.hub_api(method, own, token=visit.token, json=body).status_code in (200, 201), method
    assert platform.hub_api("DELETE", own, token=visit.token, json={"remove": True}).status_code == 204, (
        "an ordinary one"
    )
    assert platform.hub_api("DELETE", visit.path, json={"remove": True}).status_code in (202, 204), "an admin removes"
    until(lambda: visit.server_model() is None, within_s=20, message="removed")
