"""The REST API of the workshops service: every route, who may use it, what it refuses and how."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from orchestra_hub.errors import ProvisionFailed
from orchestra_hub.ids import server_name
from orchestra_hub.workshop import State
from orchestra_services.workshops.api import api_handlers
from orchestra_services.workshops.app import WorkshopsApp
from orchestra_services.workshops.auth import cookie_secret
from orchestra_services.workshops.bounded import MAX_BODY_BYTES
from orchestra_services.workshops.problems import KINDS, Kind
from orchestra_services.workshops.routes import ROUTES, Route
from orchestra_services.workshops.server import make_application, make_server
from orchestra_spawner.local_provisioner import LocalProvisioner
from tests.hub_wire import TOKEN
from tests.workshops_service import PREFIX, Service, make_template, running_service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(tmp_path) as running:
        yield running


def _problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem details of a refusal, seen to be whole."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["type"] == f"urn:orchestra-hub:problem:{kind}", found
    assert found["status"] == status and found["title"] and found["detail"]
    assert found["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"
    return found


async def _down(_: str) -> None:
    raise RuntimeError("the hub is away")


# ------------------------------------------------------------------------------------------------ platform


async def test_health_says_which_part_is_away(service: Service) -> None:
    answer = await service.api(None, "GET", "/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    by_address = await service.http.get(f"http://127.0.0.1:{service.port}/v1/health")
    assert by_address.status_code == 200, "probes ask by address"
    service.wire.before = _down
    answer = await service.api(None, "GET", "/health")
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert (parts["database"]["ok"], parts["hub"]["ok"]) == (True, False)


async def test_the_document_is_served(service: Service) -> None:
    document = (await service.api(None, "GET", "/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": f"{service.api_url}/"}]


async def test_who_is_asking(service: Service) -> None:
    assert (await service.api("ada", "GET", "/me")).json() == {"name": "ada", "operator": False, "may_create": False}
    assert (await service.api("grace", "GET", "/me")).json()["may_create"] is True
    assert (await service.api("root", "GET", "/me")).json()["operator"] is True


async def test_what_every_answer_has(service: Service) -> None:
    answer = await service.api("ada", "GET", "/me", headers={"X-Request-ID": "0B8F9A52-0000-4000-8000-000000000000"})
    assert answer.headers["x-request-id"] == "0b8f9a52-0000-4000-8000-000000000000", "the proxy's own is kept"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not [name for name in answer.headers if name.startswith("access-control-")], "no other origin is let in"
    assert "server" not in answer.headers and "set-cookie" not in answer.headers
    strange = await service.api("ada", "GET", "/me", headers={"X-Request-ID": "a b"})
    assert strange.headers["x-request-id"] != "a b"


async def test_paths_and_methods_that_are_not_there(service: Service) -> None:
    for path in ("/nothing", "/workshops/a/b/c/d", "/", "/workshops/"):
        _problem(await service.api("ada", "GET", path), 404, "not-found")
    answer = await service.api("root", "DELETE", "/workshops")
    _problem(answer, 405, "wrong-method")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))
    strange = await service.api("root", "BREW", "/workshops")
    _problem(strange, 405, "wrong-method")
    options = await service.api(None, "OPTIONS", "/workshops")
    assert options.status_code == 204 and "POST" in options.headers["allow"]
    head = await service.api("ada", "HEAD", "/me")
    assert (head.status_code, head.content) == (200, b"")
    other = await service.http.get(f"http://127.0.0.1:{service.port}/v1/me")
    assert other.status_code == 404, "nothing but health under a host that isn't ours"


# ------------------------------------------------------------------------------------------------ who asks


async def test_no_token_and_bad_tokens(service: Service) -> None:
    for headers in ({}, {"Authorization": "Bearer nope"}, {"Authorization": "Basic YTpi"}, {"Authorization": "token"}):
        answer = await service.api(None, "GET", "/me", headers=headers)
        _problem(answer, 401, "not-signed-in")
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_both_words_before_a_token(service: Service) -> None:
    for word in ("token", "Bearer", "bearer"):
        answer = await service.api(None, "GET", "/me", headers={"Authorization": f"{word} {service.token('ada')}"})
        assert answer.status_code == 200, word


async def test_tokens_that_are_not_a_persons_for_this_service(service: Service) -> None:
    seat = service.wire.token_of("ada", scopes=("access:servers!server=ada/x", "users:activity!user=ada"))
    robot = service.wire.token_of("reconciler", kind="service")
    for token in (seat, robot):
        answer = await service.api(None, "GET", "/me", headers={"Authorization": f"Bearer {token}"})
        _problem(answer, 403, "not-allowed")


async def test_the_scope_of_this_service_alone_is_enough(service: Service) -> None:
    token = service.wire.token_of("ada", scopes=("access:services!service=workshops", "read:users:name!user=ada"))
    answer = await service.api(None, "GET", "/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["name"] == "ada"
    other = service.wire.token_of("ada", scopes=("access:services!service=other",))
    answer = await service.api(None, "GET", "/me", headers={"Authorization": f"Bearer {other}"})
    _problem(answer, 403, "not-allowed")


async def test_a_token_whose_account_is_gone(service: Service) -> None:
    token = service.token("ada")
    service.wire.delete_user("ada")
    answer = await service.api(None, "GET", "/me", headers={"Authorization": f"Bearer {token}"})
    _problem(answer, 401, "not-signed-in")


async def test_a_cookie_is_nothing_on_the_api_host(service: Service) -> None:
    async with service.browser("ada") as browser:
        cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.http.cookies.jar)
        assert "service-workshops" in cookie
        answer = await service.api(None, "GET", "/me", headers={"Cookie": cookie})
        _problem(answer, 401, "not-signed-in")


async def test_what_the_hub_said_is_kept_for_ten_seconds_only(service: Service) -> None:
    for _ in range(5):
        await service.api("ada", "GET", "/me")
    assert service.wire.calls.count("GET user") == 1
    assert service.wire.calls.count("GET users/ada") == 1


async def test_the_hub_is_away(service: Service) -> None:
    service.wire.before = _down
    answer = await service.api("ada", "GET", "/me")
    _problem(answer, 503, "temporary")
    assert int(answer.headers["retry-after"]) > 0


# ------------------------------------------------------------------------------------------------ templates


async def test_templates_and_the_broken_ones(service: Service) -> None:
    make_template(service.folder / "templates", "broken", more="unknown: 1\n")
    seen = (await service.api("ada", "GET", "/templates")).json()
    assert [item["name"] for item in seen["items"]] == ["counting"]
    assert seen["broken"] == {}
    for_operators = (await service.api("root", "GET", "/templates")).json()
    assert "broken" in for_operators["broken"]
    assert str(service.folder) not in json.dumps(for_operators), "no path of the machine"
    assert (await service.api("ada", "GET", "/templates/counting")).json()["max_duration_h"] == 48
    _problem(await service.api("ada", "GET", "/templates/nothing"), 404, "not-found")
    refused = await service.api("root", "POST", "/workshops", json={**NEW, "template": "broken"})
    assert _problem(refused, 422, "invalid-input")["errors"][0]["pointer"] == "/template"


# ------------------------------------------------------------------------------------------------ workshops

NEW = {"template": "counting", "session": "may", "opens_at": "now"}


async def test_a_new_workshop_and_its_group(service: Service) -> None:
    answer = await service.api("grace", "POST", "/workshops", json={**NEW, "hours": 2, "teacher": "the teacher"})
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"/v1/workshops/{made['id']}"
    assert made["id"].startswith("counting-may-")
    assert (made["state"], made["owner"], made["teacher"], made["seats"]) == ("scheduled", "grace", "the teacher", 3)
    assert made["url"] == f"http://{made['id']}.localhost:{service.port}/"
    assert made["join_url"] == f"{made['url']}?code={made['join_code']}"
    assert made["launch_url"] == f"{service.app}/hub/workshops/{made['id']}"
    assert made["hub_informed"] is True
    facts = service.wire.groups[made["id"]].properties["orchestra"]
    assert facts["title"] == "Counting" and made["join_code"] not in json.dumps(facts)


async def test_who_may_make_workshops(service: Service) -> None:
    assert (await service.api("root", "POST", "/workshops", json=NEW)).status_code == 201
    _problem(await service.api("ada", "POST", "/workshops", json=NEW), 403, "not-allowed")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"template": "nothing"}, "/template"),
        ({"hours": 49}, "/expires_at"),
        ({"expires_at": "2020-01-01T00:00Z"}, "/expires_at"),
        ({"opens_at": "2030-05-01T00:00Z", "hours": 1}, "/expires_at"),
        ({"session": "x" * 50, "course": "y" * 40}, "/session"),
        ({"seats": 0}, "/seats"),
        ({"unknown": 1}, "/unknown"),
        ({"session": None}, "/session"),
    ],
)
async def test_new_workshops_that_are_refused(service: Service, fields: dict[str, Any], pointer: str) -> None:
    problem = _problem(await service.api("grace", "POST", "/workshops", json={**NEW, **fields}), 422, "invalid-input")
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


async def test_a_workshop_made_while_the_hub_is_away_is_made(service: Service) -> None:
    await service.api("grace", "GET", "/me")  # known for the next seconds
    service.wire.before = _down
    answer = await service.api("grace", "POST", "/workshops", json=NEW)
    assert (answer.status_code, answer.json()["hub_informed"]) == (201, False)
    assert service.store.workshop(answer.json()["id"]).due_at is not None, "the reconciler will tell it"


async def test_what_whom_sees_of_a_workshop(service: Service) -> None:
    made = await service.create(join_policy="code")
    path = f"/workshops/{made['id']}"
    await service.join("ada", made["id"], code=made["join_code"])
    await service.teach("bob", made["id"])
    for who in ("grace", "root", "bob"):
        seen = (await service.api(who, "GET", path)).json()
        assert (seen["learners"], seen["instructors"], seen["join_code"]) == (1, 1, made["join_code"]), who
    for who, role in (("ada", "learner"), ("cleo", None)):
        seen = (await service.api(who, "GET", path)).json()
        assert (seen["my_role"], seen["title"]) == (role, "Counting")
        for hidden in ("join_code", "join_url", "owner", "learners", "trouble", "statistics", "purge_record"):
            assert seen[hidden] is None, (who, hidden)
    _problem(await service.api("ada", "GET", "/workshops/counting-may-nobody"), 404, "not-found")
    _problem(await service.api("ada", "GET", "/workshops/No%20Id"), 404, "not-found")


async def test_the_state_is_the_one_that_holds(service: Service) -> None:
    made = await service.opened()
    path = f"/workshops/{made['id']}"
    assert (await service.api("ada", "GET", path)).json()["state"] == "open"
    service.clock.forward(hours=3, minutes=50)
    assert (await service.api("ada", "GET", path)).json()["state"] == "closing"
    service.clock.forward(minutes=10)
    assert (await service.api("ada", "GET", path)).json()["state"] == "expired"
    assert service.store.workshop(made["id"]).state is State.OPEN, "nobody wrote it yet"


async def test_lists_hold_ones_own_and_everything_for_operators(service: Service) -> None:
    theirs = [await service.create(session=f"s{number}") for number in range(5)]
    other = await service.create("root", session="other")
    await service.join("ada", theirs[2]["id"])

    async def listed(who: str, query: str = "") -> list[str]:
        answer = await service.api(who, "GET", f"/workshops{query}")
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    assert set(await listed("grace")) == {made["id"] for made in theirs}
    assert await listed("ada") == [theirs[2]["id"]]
    assert await listed("cleo") == []
    assert set(await listed("root")) == {*(made["id"] for made in theirs), other["id"]}
    assert await listed("root", "?mine=true") == [other["id"]]
    first = (await service.api("grace", "GET", "/workshops?limit=2")).json()
    second = (await service.api("grace", "GET", f"/workshops?limit=3&after={first['next']}")).json()
    assert [item["id"] for item in first["items"] + second["items"]] == await listed("grace")
    assert second["next"] is None
    service.clock.forward(hours=5)
    assert set(await listed("grace", "?state=expired&state=purged")) == {made["id"] for made in theirs}
    assert await listed("grace", "?state=scheduled") == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=x", "/limit"),
        ("state=gone", "/state/0"),
        ("unknown=1", "/unknown"),
        ("after=A", "/after"),
    ],
)
async def test_lists_that_are_refused(service: Service, query: str, pointer: str) -> None:
    problem = _problem(await service.api("ada", "GET", f"/workshops?{query}"), 422, "invalid-input")
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


async def test_a_query_that_is_no_utf_8(service: Service) -> None:
    _problem(await service.api("ada", "GET", "/workshops?after=%ff"), 400, "malformed-request")


async def test_extending_up_to_the_deadline(service: Service) -> None:
    made = await service.opened()
    path = f"/workshops/{made['id']}/extend"
    answer = await service.api("grace", "POST", path, json={"hours": 1.5})
    assert answer.status_code == 200 and answer.json()["expires_at"] == "2030-05-06T17:30:00Z"
    assert service.wire.groups[made["id"]].properties["orchestra"]["expires_at"].startswith("2030-05-06T17:30")
    answer = await service.api("grace", "POST", path, json={"expires_at": "2030-05-06T20:00:00+02:00"})
    assert answer.json()["expires_at"] == "2030-05-06T18:00:00Z"
    problem = _problem(await service.api("grace", "POST", path, json={"hours": 10_000}), 422, "invalid-input")
    assert "deadline" in problem["detail"] and problem["errors"][0]["pointer"] == "/expires_at"
    _problem(await service.api("grace", "POST", path, json={"hours": -100}), 422, "invalid-input")
    _problem(await service.api("grace", "POST", path, json={}), 422, "invalid-input")
    _problem(await service.api("grace", "POST", path, json={"hours": 1, "version": 1}), 409, "stale-version")
    service.clock.forward(hours=10)
    _problem(await service.api("grace", "POST", path, json={"hours": 1}), 409, "wrong-state")


async def test_hours_count_from_the_end_that_stands_when_they_are_added(service: Service) -> None:
    """Several people who press "one hour more" at once all get it; the reconciler's own writes refuse nobody."""
    made = await service.opened()
    path = f"/workshops/{made['id']}/extend"
    answers = await asyncio.gather(*(service.api("grace", "POST", path, json={"hours": 1}) for _ in range(3)))
    done = [answer for answer in answers if answer.status_code == 200]
    assert done and all(answer.status_code in (200, 409) for answer in answers)
    assert service.store.workshop(made["id"]).expires_at.hour == 16 + len(done)


async def test_ending_and_cancelling(service: Service) -> None:
    made, early = await service.opened(), await service.create(session="later", opens_at="2030-06-01T00:00Z")
    answer = await service.api("grace", "POST", f"/workshops/{made['id']}/end")
    assert (answer.status_code, answer.json()["state"], answer.json()["ended_early"]) == (200, "expired", True)
    _problem(await service.api("grace", "POST", f"/workshops/{early['id']}/end", json={}), 409, "wrong-state")
    answer = await service.api("grace", "POST", f"/workshops/{early['id']}/cancel", json={"version": early["version"]})
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert service.wire.groups[early["id"]].properties["orchestra"]["state"] == "cancelled"
    _problem(await service.api("grace", "POST", f"/workshops/{early['id']}/cancel", json={}), 409, "wrong-state")


async def test_an_ended_workshops_group_is_never_made_again(service: Service) -> None:
    made = await service.opened()
    del service.wire.groups[made["id"]]
    await service.api("grace", "POST", f"/workshops/{made['id']}/end")
    assert made["id"] not in service.wire.groups


async def test_events_name_nobody(service: Service) -> None:
    made = await service.create()
    await service.join("ada", made["id"])
    first = (await service.api("grace", "GET", f"/workshops/{made['id']}/events?limit=1")).json()
    rest = (await service.api("grace", "GET", f"/workshops/{made['id']}/events?after={first['next']}")).json()
    assert [event["kind"] for event in first["items"] + rest["items"]] == ["created", "enrolled"]
    assert rest["next"] is None
    assert "ada" not in json.dumps(rest)


# ------------------------------------------------------------------------------------------------ people


async def test_joining_by_each_policy(service: Service) -> None:
    by_link = await service.create()
    answer = await service.join("ada", by_link["id"])
    assert answer.status_code == 200
    assert answer.json() == {
        "user": "ada", "role": "learner", "joined_at": "2030-05-06T12:00:00Z", "in_hub": True,
        "launch_url": by_link["launch_url"],
    }  # fmt: skip
    assert service.wire.groups[by_link["id"]].members == {"ada"}
    assert (await service.join("ada", by_link["id"])).status_code == 200, "again changes nothing"

    by_code = await service.create(join_policy="code")
    _problem(await service.join("ada", by_code["id"]), 403, "not-allowed")
    _problem(await service.join("ada", by_code["id"], code="wrong"), 403, "not-allowed")
    assert (await service.join("ada", by_code["id"], code=by_code["join_code"].upper())).status_code == 200

    by_roster = await service.create(join_policy="roster")
    _problem(await service.join("ada", by_roster["id"]), 403, "not-allowed")
    added = await service.api("grace", "POST", f"/workshops/{by_roster['id']}/enrolments", json={"user": "ada"})
    assert (added.status_code, added.json()["enrolment"]["user"]) == (201, "ada")
    assert (await service.join("ada", by_roster["id"])).status_code == 200


async def test_full_and_over(service: Service) -> None:
    made = await service.create(seats=1)
    assert (await service.join("ada", made["id"])).status_code == 200
    _problem(await service.join("bob", made["id"]), 409, "workshop-full")
    await service.teach("cleo", made["id"])  # takes no learner's place
    service.clock.forward(hours=5)
    _problem(await service.join("dan", made["id"]), 409, "wrong-state")


async def test_many_at_once_and_few_places(service: Service) -> None:
    names = [f"person-{number}" for number in range(40)]
    service.wire.sign_up(*names)
    made = await service.create(seats=10)
    answers = await asyncio.gather(*(service.join(name, made["id"]) for name in names))
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [409] * 30
    assert len(service.wire.groups[made["id"]].members) == 10


async def test_joining_while_the_hub_is_away(service: Service) -> None:
    made = await service.create()
    await service.api("ada", "GET", "/me")
    service.wire.before = _down
    answer = await service.join("ada", made["id"])
    assert (answer.status_code, answer.json()["in_hub"]) == (200, False)
    place = service.store.enrolment(made["id"], "ada")
    assert place is not None and not place.in_hub
    service.wire.before = None
    assert (await service.join("ada", made["id"])).json()["in_hub"] is True


async def test_joining_makes_the_group_that_is_missing(service: Service) -> None:
    made = await service.create()
    del service.wire.groups[made["id"]]
    assert (await service.join("ada", made["id"])).json()["in_hub"] is True
    assert service.wire.groups[made["id"]].members == {"ada"}


async def test_leaving_frees_the_place_and_stops_the_seat(service: Service) -> None:
    made = await service.opened(seats=1)
    await service.join("ada", made["id"])
    service.wire.run_seat("ada", made["id"])
    answer = await service.api("ada", "POST", f"/workshops/{made['id']}/leave")
    assert (answer.status_code, answer.content) == (204, b"")
    assert service.wire.groups[made["id"]].members == set()
    assert service.wire.running(made["id"]) == set()
    assert (await service.join("bob", made["id"])).status_code == 200
    _problem(await service.api("ada", "POST", f"/workshops/{made['id']}/leave"), 404, "not-found")


async def test_the_roster(service: Service) -> None:
    made = await service.create()
    path = f"/workshops/{made['id']}/enrolments"
    await service.join("ada", made["id"])
    await service.teach("bob", made["id"])
    invited = (await service.api("bob", "POST", path, json={"user": "Nobody Yet"})).json()["invitation"]
    assert invited["url"].startswith(f"{service.app}{PREFIX}join/{made['id']}?invitation=")
    roster = (await service.api("grace", "GET", path)).json()
    assert {(item["user"], item["role"]) for item in roster["items"]} == {("ada", "learner"), ("bob", "instructor")}
    assert [(item["label"], item["url"]) for item in roster["invitations"]] == [("Nobody Yet", None)]
    assert "key" not in json.dumps(roster)
    assert service.wire.groups[made["id"]].properties["orchestra"]["instructors"] == [service.wire.key("bob")]
    assert (await service.api("bob", "DELETE", f"{path}/ada")).status_code == 204
    _problem(await service.api("bob", "DELETE", f"{path}/ada"), 404, "not-found")
    _problem(await service.api("bob", "DELETE", f"{path}/%00"), 404, "not-found")
    for name in (".", "..", "a/b"):
        answer = await service.api("grace", "POST", path, json={"user": name})
        assert answer.json()["invitation"]["label"] == name, "no account is called so"


async def test_an_invitation_works_once(service: Service) -> None:
    made = await service.create(join_policy="roster")
    path = f"/workshops/{made['id']}/enrolments"
    invited = (await service.api("grace", "POST", path, json={"user": "who comes", "role": "instructor"})).json()
    token = invited["invitation"]["url"].split("invitation=")[1]
    answer = await service.join("ada", made["id"], invitation=token)
    assert (answer.status_code, answer.json()["role"]) == (200, "instructor")
    assert service.wire.groups[made["id"]].properties["orchestra"]["instructors"] == [service.wire.key("ada")]
    _problem(await service.join("bob", made["id"], invitation=token), 403, "not-allowed")


async def test_only_the_owner_makes_and_removes_instructors(service: Service) -> None:
    made = await service.create()
    path = f"/workshops/{made['id']}/enrolments"
    await service.teach("bob", made["id"])
    await service.teach("cleo", made["id"])
    _problem(await service.api("bob", "POST", path, json={"user": "ada", "role": "instructor"}), 403, "not-allowed")
    _problem(await service.api("bob", "DELETE", f"{path}/cleo"), 403, "not-allowed")
    assert (await service.api("grace", "DELETE", f"{path}/cleo")).status_code == 204
    await service.join("ada", made["id"])
    raised = await service.api("grace", "POST", path, json={"user": "ada", "role": "instructor"})
    assert raised.json()["enrolment"]["role"] == "instructor"


async def test_a_name_used_again_inherits_nothing(service: Service) -> None:
    made = await service.opened()
    await service.join("ada", made["id"])
    service.home_of("ada", made["id"])
    service.wire.delete_user("ada")
    service.tokens.pop("ada")
    service.wire.sign_up("ada", created=service.clock.forward(hours=1))
    seen = (await service.api("ada", "GET", f"/workshops/{made['id']}")).json()
    assert seen["my_role"] is None
    _problem(await service.api("ada", "GET", f"/workshops/{made['id']}/export"), 404, "not-found")
    _problem(await service.api("root", "POST", f"/workshops/{made['id']}/seats/ada/start"), 404, "not-found")


# ------------------------------------------------------------------------------------------------ seats


async def test_starting_and_stopping_ones_seat(service: Service) -> None:
    made = await service.opened()
    path = f"/workshops/{made['id']}/seats"
    await service.join("ada", made["id"])
    await service.join("bob", made["id"])
    answer = await service.api("ada", "POST", f"{path}/ada/start")
    assert (answer.status_code, answer.json()["state"], answer.json()["user"]) == (200, "ready", "ada")
    assert service.wire.running(made["id"]) == {"ada"}
    assert (await service.api("ada", "POST", f"{path}/ada/start")).status_code == 200, "again changes nothing"
    await service.api("bob", "POST", f"{path}/bob/start")
    assert [seat["user"] for seat in (await service.api("ada", "GET", path)).json()["items"]] == ["ada"]
    assert len((await service.api("grace", "GET", path)).json()["items"]) == 2
    _problem(await service.api("ada", "POST", f"{path}/bob/stop"), 403, "not-allowed")
    answer = await service.api("ada", "POST", f"{path}/ada/stop")
    assert (answer.status_code, answer.json()["state"]) == (200, "stopped")
    service.wire.servers["bob", server_name(made["id"])].slow = 3
    answer = await service.api("grace", "POST", f"{path}/bob/stop")
    assert (answer.status_code, answer.json()["state"]) == (202, "stopping")
    _problem(await service.api("grace", "POST", f"{path}/cleo/start"), 404, "not-found")


async def test_starts_that_are_refused(service: Service) -> None:
    made = await service.create(opens_at="2030-06-01T00:00Z")
    path = f"/workshops/{made['id']}/seats/ada/start"
    await service.join("ada", made["id"])
    assert "not open yet" in _problem(await service.api("ada", "POST", path), 409, "wrong-state")["detail"]
    opened = await service.opened(session="open")
    await service.join("ada", opened["id"])
    service.wire.refuse_start = (403, "Not you.")
    path = f"/workshops/{opened['id']}/seats/ada/start"
    assert _problem(await service.api("ada", "POST", path), 403, "not-allowed")["detail"] == "Not you."
    service.wire.refuse_start = (429, "Too many at once.")
    _problem(await service.api("ada", "POST", path), 503, "temporary")


# ------------------------------------------------------------------------------------------------ permissions


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if "{workshop_id}" in route.path], ids=lambda r: r.operation_id
)
async def test_strangers_learn_nothing_and_learners_do_nothing_that_is_not_theirs(service: Service, route: Any) -> None:
    """404 for who has no part in the workshop, 403 for a learner; looking and joining is for everybody."""
    made = await service.opened()
    await service.join("ada", made["id"])
    await service.join("bob", made["id"])
    path = route.path.removeprefix("/v1").format(workshop_id=made["id"], user="bob")
    body = {"extend_workshop": {"hours": 1}, "enrol": {"user": "cleo"}}.get(route.operation_id, {})
    options = {"json": body} if route.request else {}
    stranger = await service.api("eve", route.method, path, **options)
    learner = await service.api("ada", route.method, path, **options)
    nobody = await service.api(None, route.method, path, **options)
    assert nobody.status_code == 401
    if route.operation_id in ("get_workshop", "join_workshop"):
        assert (stranger.status_code, learner.status_code) == (200, 200)
        return
    _problem(stranger, 404, "not-found")
    if route.operation_id in ("leave_workshop", "list_seats"):
        assert learner.is_success
    elif route.operation_id == "export_files":
        _problem(learner, 404, "not-found")
    else:
        _problem(learner, 403, "not-allowed")


# ------------------------------------------------------------------------------------------------ export


async def test_ones_own_files_until_the_purge(service: Service) -> None:
    made = await service.opened()
    await service.join("ada", made["id"])
    await service.join("bob", made["id"])
    path = f"/workshops/{made['id']}/export"
    _problem(await service.api("ada", "GET", path), 404, "not-found")
    (service.home_of("ada", made["id"]) / "mine.txt").write_text("7" * 300_000)
    service.clock.forward(hours=5)
    answer = await service.api("ada", "GET", path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["content-disposition"] == f'attachment; filename="{made["id"]}--ada.tar.gz"'
    assert answer.headers["transfer-encoding"] == "chunked" and "content-length" not in answer.headers
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as packed:
        assert any(name.endswith("mine.txt") for name in packed.getnames())
    _problem(await service.api("bob", "GET", path), 404, "not-found")
    _problem(await service.api("ada", "POST", path), 405, "wrong-method")
    assert (await service.api("ada", "HEAD", path)).status_code == 405
    service.purge(made["id"])
    _problem(await service.api("ada", "GET", path), 404, "not-found")


async def test_a_template_may_keep_files_from_learners(service: Service) -> None:
    make_template(service.folder / "templates", "closed", more="learner_export: false\n")
    made = await service.create(template="closed")
    await service.join("ada", made["id"])
    await service.teach("bob", made["id"])
    for who in ("ada", "bob"):
        service.home_of(who, made["id"])
    _problem(await service.api("ada", "GET", f"/workshops/{made['id']}/export"), 403, "not-allowed")
    assert (await service.api("bob", "GET", f"/workshops/{made['id']}/export")).status_code == 200


class _BreaksOff(LocalProvisioner):
    """A disk that fails halfway."""

    async def export(self, workshop_id: str, account_key: str) -> AsyncGenerator[bytes, None]:
        yield b"x" * 1000
        raise ProvisionFailed("the disk is gone")


async def test_a_download_that_breaks_off_is_seen_to_be_broken(service: Service, tmp_path: Path) -> None:
    made = await service.create()
    await service.join("ada", made["id"])
    assert service.door is not None
    broken = replace(service.context, provisioner=_BreaksOff(tmp_path))
    server = make_server(make_application(broken, service.door, prefix=PREFIX, cookie_secret=cookie_secret(TOKEN)))
    server.listen(0, "127.0.0.1")
    port = next(iter(server._sockets.values())).getsockname()[1]
    url = f"http://api.localhost:{port}/v1/workshops/{made['id']}/export"
    try:
        with pytest.raises(httpx.RemoteProtocolError):
            await service.http.get(url, headers={"Authorization": f"Bearer {service.token('ada')}"})
    finally:
        server.stop()
        await server.close_all_connections()


# ------------------------------------------------------------------------------------------------ bad input


async def test_bodies_that_are_no_json(service: Service) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b"{", b"\xff", b"nonsense", b'{"a": 1}}', b"[" * 100_000, b'{"session": "\\ud800"}', b"'"):
        answer = await service.api("grace", "POST", "/workshops", content=body, headers=headers)
        _problem(answer, 400, "malformed-request")
    for body in (b"[]", b"1", b"null", b'"x"'):
        answer = await service.api("grace", "POST", "/workshops", content=body, headers=headers)
        _problem(answer, 422, "invalid-input")


async def test_only_json_is_taken(service: Service) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await service.api(
            "grace", "POST", "/workshops", content=json.dumps(NEW), headers={"Content-Type": media_type}
        )
        _problem(answer, 415, "wrong-media-type")
    form = {"Content-Type": "multipart/form-data"}
    _problem(
        await service.api("grace", "POST", "/workshops", content=json.dumps(NEW), headers=form),
        400,
        "malformed-request",
    )
    answer = await service.api(
        "grace",
        "POST",
        "/workshops",
        content=json.dumps(NEW),
        headers={"Content-Type": "Application/JSON; charset=utf-8"},
    )
    assert answer.status_code == 201


async def test_bodies_over_a_mebibyte(service: Service) -> None:
    headers = {"Content-Type": "application/json"}
    large = b'{"title": "' + b"x" * MAX_BODY_BYTES + b'"}'

    async def in_chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    for content in (large, in_chunks()):
        answer = await service.api("grace", "POST", "/workshops", content=content, headers=headers)
        _problem(answer, 413, "too-large")
    exactly = json.dumps({**NEW, "x": ""}).encode()
    exactly = exactly[:-2] + b"y" * (MAX_BODY_BYTES - len(exactly)) + exactly[-2:]
    answer = await service.api("grace", "POST", "/workshops", content=exactly, headers=headers)
    _problem(answer, 422, "invalid-input")
    assert (await service.api("grace", "GET", "/me")).status_code == 200


_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 2**64, 10**400, 1e308, 0.1, "", " ", "\u0000", "\ud7ff", "a" * 70_000, "../..",
    "%00",
    "now", "1e9", "2030-05-06T12:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2030-13-45", "2030-05-06",
    "2030-05-06T12:00:00+99:99", "<script>", "'; DROP TABLE workshops; --", "\u202e", "名", "💥", [], {}, [[]],
    {"a": {"b": []}}, ["learner"], {"$ref": "#"}, "learner", "purged", "counting",
)  # fmt: skip


async def test_odd_values_never_are_a_fault_of_ours(service: Service) -> None:
    """More than 200 bad inputs, none of which is answered with 5xx."""
    made = await service.opened()
    workshop = f"/workshops/{made['id']}"
    asked = 0
    targets = [
        ("/workshops", NEW, ("template", "session", "course", "opens_at", "expires_at", "hours", "seats", "title")),
        (f"{workshop}/extend", {}, ("hours", "expires_at", "version")),
        (f"{workshop}/join", {}, ("code", "invitation")),
        (f"{workshop}/enrolments", {"user": "ada"}, ("user", "role")),
    ]
    for path, plain, names in targets:
        for name in names:
            for value in _ODD:
                answer = await service.api("root", "POST", path, json={**plain, name: value})
                assert answer.status_code < 500, (path, name, value, answer.text)
                asked += 1
    for value in (text for text in _ODD if isinstance(text, str) and len(text) < 1000):
        part = "".join(f"%{byte:02x}" for byte in value.encode())
        for method, path in (
            ("GET", f"/workshops/{part}"), ("GET", f"/templates/{part}"), ("GET", f"/workshops?after={part}"),
            ("GET", f"{workshop}/events?after={part}"), ("DELETE", f"{workshop}/enrolments/{part}"),
            ("POST", f"{workshop}/seats/{part}/start"), ("GET", f"/workshops/%ff{part}"),
        ):  # fmt: skip
            answer = await service.api("root", method, path)
            assert answer.status_code < 500, (method, path, answer.text)
            asked += 1
    assert asked > 200


async def test_broken_http_is_answered_or_cut(service: Service) -> None:
    for sent in (b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\x16\x03\x01\x00\xa5\x01\x00"):
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(sent)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert b" 5" not in answer[:13]
    assert (await service.api("ada", "GET", "/me")).status_code == 200


async def test_a_fault_of_ours_says_nothing_of_itself(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.store.close()
    (service.folder / "orchestra.sqlite").write_bytes(b"no database at all")
    for leftover in service.folder.glob("orchestra.sqlite-*"):
        leftover.unlink()
    answer = await service.api("ada", "GET", "/workshops")
    assert answer.status_code in (500, 503)
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(service.folder) not in answer.text and "Traceback" not in answer.text


# ------------------------------------------------------------------------------------------------ the pages' API


async def test_the_pages_api_takes_cookies_and_asks_for_the_xsrf_token(service: Service) -> None:
    made = await service.create()
    base = f"{service.app}{PREFIX}api/v1"
    async with service.browser("ada") as browser:
        same_origin = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
        page = await browser.get("join/" + made["id"])
        xsrf = page.text.split('name="_xsrf" value="')[1].split('"')[0]
        seen = await browser.http.get(f"{base}/me", headers={**same_origin, "X-XSRFToken": xsrf})
        assert seen.json()["name"] == "ada"
        join = f"{base}/workshops/{made['id']}/join"
        _problem(await browser.http.post(join, json={}, headers=same_origin), 403, "forged-request")
        forged = {**same_origin, "X-XSRFToken": "x" + xsrf[1:]}
        _problem(await browser.http.post(join, json={}, headers=forged), 403, "forged-request")
        assert service.store.enrolments(made["id"]) == []
        done = await browser.http.post(join, json={}, headers={**same_origin, "X-XSRFToken": xsrf})
        assert done.status_code == 200, done.text
    token = {"Authorization": f"Bearer {service.token('bob')}"}
    assert (await service.http.post(join, json={}, headers=token)).status_code == 200, "a token needs no XSRF token"
    _problem(await service.http.get(f"{base}/nothing"), 404, "not-found")


def test_both_hosts_have_the_same_routes(tmp_path: Path) -> None:
    plain = api_handlers(None, None, {})  # type: ignore[arg-type]  # nothing is asked
    below = api_handlers(None, None, {}, prefix=f"{PREFIX}api", pages=True)  # type: ignore[arg-type]  # as above
    assert len(plain) == len(below)


# ------------------------------------------------------------------------------------------------ the process


async def test_the_application_starts_from_its_settings_and_ends(service: Service, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = WorkshopsApp(
        data_dir=str(tmp_path / "other"), database_url=f"sqlite:///{tmp_path / 'other.sqlite'}", hub_api_token=TOKEN,
        hub_api_url=service.wire.url, bind_url=f"http://127.0.0.1:{port}", public_url=f"http://localhost:{port}",
    )  # fmt: skip
    async with app.serving():
        answer = await service.http.get(f"http://api.localhost:{port}/v1/health")
        assert answer.status_code == 200
        templates = await service.http.get(
            f"http://api.localhost:{port}/v1/templates", headers={"Authorization": f"Bearer {service.token('ada')}"}
        )
        assert "rnaseq-intro" in templates.text, "those that come along"
    with pytest.raises(httpx.ConnectError):
        await service.http.get(f"http://api.localhost:{port}/v1/health")


def test_a_missing_setting_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    monkeypatch.delenv("ORCHESTRA_DATA_DIR", raising=False)
    app = WorkshopsApp()
    app.log.propagate = True
    with pytest.raises(SystemExit) as ended:
        app.start()
    assert ended.value.code == 1


REFERENCE = (Path(__file__).parents[2] / "docs" / "reference" / "workshops-service.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(WorkshopsApp.class_own_traits(config=True)))
def test_every_setting_says_what_it_does(name: str) -> None:
    trait = WorkshopsApp.class_own_traits(config=True)[name]
    assert trait.help and len(trait.help.strip()) > 20
    assert f"`{name}`" in REFERENCE


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)
def test_every_route_is_in_the_documentation(route: Route) -> None:
    assert f"| {route.method} | `{route.path}` |" in REFERENCE


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_of_problem_is_in_the_documentation(kind: Kind) -> None:
    assert f"| {kind.status} | `{kind.name}` |" in REFERENCE


# --------------------------------------------------------------------------------------------------- what doesn't fit


async def test_a_workshop_that_cannot_fit_is_made_and_warned_about_with_the_figures(service: Service) -> None:
    total = psutil.virtual_memory().total
    fitting = await service.create(seats=1)
    assert fitting["warnings"] == []
    each = 2**20 * 1024  # of the template in these tests
    seats = total // each + 10
    made = await service.create(seats=seats)
    memory = next(said for said in made["warnings"] if "of memory" in said)
    assert f"Seats for {seats} learners and 1 instructor of up to 1 GiB of memory are {seats + 1} GiB" in memory
    assert "promised to another workshop at that time" in memory
    async with service.browser("grace") as browser:
        page = await browser.get(made["id"])
        assert memory in page.text
    again = (await service.api("grace", "GET", f"/workshops/{made['id']}")).json()
    assert again["warnings"] == made["warnings"]
