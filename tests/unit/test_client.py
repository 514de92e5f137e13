"""The API's client, at the wire."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestra_hub.api_models import WorkshopCreate
from orchestra_hub.client import OrchestraClient
from orchestra_hub.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotFound,
    OrchestraError,
    StaleVersion,
    Temporary,
    WorkshopFull,
    WrongState,
)
from orchestra_hub.workshop import State
from tests.unit.served import WORKSHOP, Served, serving

ID = WORKSHOP["id"]


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as made:
        yield made


@pytest.fixture
def client(served: Served) -> Iterator[OrchestraClient]:
    with OrchestraClient(served.url, "a-token") as made:
        yield made


def test_a_workshop_is_asked_for_and_understood(served: Served, client: OrchestraClient) -> None:
    served.answer("POST /v1/workshops", WORKSHOP, 201)
    wanted = WorkshopCreate(template="rnaseq-intro", session="2026nov", opens_at="now", hours=4, seats=30)
    made = client.create_workshop(wanted)
    assert (made.id, made.state, made.learners) == (ID, State.OPEN, 12)
    (asked,) = served.asked
    assert asked.authorization == "token a-token"
    assert asked.body == {
        "template": "rnaseq-intro", "session": "2026nov", "opens_at": "now", "hours": 4, "seats": 30,
        "join_policy": "code",
    }  # fmt: skip


def test_changes_say_only_what_is_changed(served: Served, client: OrchestraClient) -> None:
    for word in ("extend", "cancel", "end"):
        served.answer(f"POST /v1/workshops/{ID}/{word}", WORKSHOP)
    client.extend(ID, hours=1.5)
    client.extend(ID, expires_at=datetime(2026, 11, 3, 15, tzinfo=UTC), version=3)
    client.cancel(ID)
    client.end(ID, version=4)
    assert [asked.body for asked in served.asked] == [
        {"hours": 1.5},
        {"expires_at": "2026-11-03T15:00:00+00:00", "version": 3},
        {},
        {"version": 4},
    ]


def test_what_the_service_would_refuse_is_not_sent(served: Served, client: OrchestraClient) -> None:
    with pytest.raises(InvalidInput, match="hours or expires_at"):
        client.extend(ID)
    assert served.asked == []


def test_lists_go_on_to_the_last_page(served: Served, client: OrchestraClient) -> None:
    second = WORKSHOP | {"id": "other-x-k3x9qz"}
    served.answer("GET /v1/workshops?limit=200&state=open&state=closing", {"items": [WORKSHOP], "next": ID})
    served.answer(f"GET /v1/workshops?limit=200&state=open&state=closing&after={ID}", {"items": [second], "next": None})
    found = client.workshops(states=[State.OPEN, State.CLOSING])
    assert [workshop.id for workshop in found] == [ID, "other-x-k3x9qz"]


@pytest.mark.parametrize("hostile", ["../../hub/api", "a/b", "a?b", "a#b", "é", "%2e"])
def test_a_name_never_leads_to_another_route(served: Served, client: OrchestraClient, hostile: str) -> None:
    with pytest.raises(NotFound):
        client.workshop(hostile)
    (asked,) = served.asked
    assert asked.path.startswith("/v1/workshops/")
    assert asked.path.count("/") == 3
    assert "?" not in asked.path


@pytest.mark.parametrize("hostile", ["", ".", ".."])
def test_what_is_no_name_is_refused(served: Served, client: OrchestraClient, hostile: str) -> None:
    with pytest.raises(InvalidInput):
        client.workshop(hostile)
    assert served.asked == []


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "invalid-input", InvalidInput),
        (401, "not-signed-in", NotAllowed),
        (403, "not-allowed", NotAllowed),
        (404, "not-found", NotFound),
        (409, "conflict", Conflict),
        (409, "stale-version", StaleVersion),
        (409, "workshop-full", WorkshopFull),
        (409, "wrong-state", WrongState),
        (422, "invalid-input", InvalidInput),
        (429, "too-many", Temporary),
        (503, "hub-unavailable", Temporary),
        (418, "teapot", OrchestraError),
    ],
)
def test_a_refusal_becomes_our_error_with_its_sentence(
    served: Served, client: OrchestraClient, status: int, kind: str, error: type[OrchestraError]
) -> None:
    served.problem("GET /v1/me", status, kind, "The sentence.")
    with pytest.raises(OrchestraError, match=r"^The sentence\.$") as caught:
        client.me()
    assert type(caught.value) is error
    assert "a-token" not in str(caught.value)


def test_fields_at_fault_are_named(served: Served, client: OrchestraClient) -> None:
    faults = [{"pointer": "/seats", "detail": "must be at least 1"}]
    served.problem("POST /v1/workshops", 422, "invalid-input", "The request was refused.", errors=faults)
    with pytest.raises(InvalidInput, match=r"refused\. /seats: must be at least 1") as caught:
        client.create_workshop(WorkshopCreate(template="x", session="y", opens_at="now"))
    assert caught.value.field == "/seats"


def test_what_was_said_already_is_not_said_again(served: Served, client: OrchestraClient) -> None:
    faults = [{"pointer": "/expires_at", "detail": "The end is in the past."}]
    served.problem("POST /v1/workshops", 422, "invalid-input", "The end is in the past.", errors=faults)
    with pytest.raises(InvalidInput, match=r"^The end is in the past\.$") as caught:
        client.create_workshop(WorkshopCreate(template="x", session="y", opens_at="now"))
    assert caught.value.field == "/expires_at"


def test_when_to_try_again_is_passed_on(served: Served, client: OrchestraClient) -> None:
    body = {"type": "x:busy", "title": "Busy", "status": 503, "detail": "Busy."}
    served.answer("GET /v1/me", body, 503, content_type="application/problem+json", retry_after="17")
    with pytest.raises(Temporary) as caught:
        client.me()
    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize(("status", "error"), [(502, Temporary), (404, NotFound), (200, OrchestraError)])
def test_an_answer_that_is_not_ours_is_one_sentence(
    served: Served, client: OrchestraClient, status: int, error: type[OrchestraError]
) -> None:
    served.answer("GET /v1/me", b"<html>Bad gateway</html>", status, content_type="text/html")
    with pytest.raises(error) as caught:
        client.me()
    assert "<html>" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_change_without_an_answer_may_have_been_made(served: Served, client: OrchestraClient) -> None:
    wanted = WorkshopCreate(template="x", session="y", opens_at="now")
    served.answer("POST /v1/workshops", b"Bad Gateway", 502, content_type="text/plain")
    with pytest.raises(Temporary, match=r"answered 502; .* may have been done all the same: look before"):
        client.create_workshop(wanted)
    served.answer("POST /v1/workshops", b"{", claims="200")
    with pytest.raises(Temporary, match=r"broke \(\w+\); .* may have been done all the same: look before"):
        client.create_workshop(wanted)
    served.answer("GET /v1/me", b"Bad Gateway", 502, content_type="text/plain")
    with pytest.raises(Temporary, match=r"answered 502\.$"):
        client.me()


def test_nobody_listening_is_one_sentence() -> None:
    with serving() as gone:
        url = gone.url
    with OrchestraClient(url, "t") as client, pytest.raises(Temporary, match="orchestra-hub up"):
        client.me()


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="not a URL"):
        OrchestraClient(url)


def test_an_export_is_written_whole_or_not_at_all(served: Served, client: OrchestraClient, tmp_path: Path) -> None:
    target = tmp_path / "files.tar.gz"
    served.answer(f"GET /v1/workshops/{ID}/export", b"x" * 100_000, content_type="application/gzip")
    assert client.export(ID, target) == 100_000
    target.unlink()
    served.answer(f"GET /v1/workshops/{ID}/export", b"x" * 100, claims="200")
    with pytest.raises(Temporary, match="broke"):
        client.export(ID, target)
    served.problem(f"GET /v1/workshops/{ID}/export", 404, "not-found", "There are no files.")
    with pytest.raises(NotFound, match="no files"):
        client.export(ID, target)
    assert list(tmp_path.iterdir()) == []
