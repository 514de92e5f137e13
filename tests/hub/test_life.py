"""Time passes: warnings, extension, the end, files as an archive, removal that is looked for again."""

from __future__ import annotations

import io
import tarfile

from orchestra_hub.ids import server_name
from tests.people import Person
from tests.running import Platform, soon, until


def test_a_workshop_from_open_to_purged_on_the_real_clock(platform: Platform) -> None:
    workshop = platform.workshop(session="short", expires_at=soon(45), hours=None, retention_h=25 / 3600)
    workshop_id = workshop["id"]
    platform.wait_state(workshop_id, "open", "closing")
    with Person.new(platform, "elsa") as elsa, Person.new(platform, "frode") as frode:
        for person in (elsa, frode):
            person.join(workshop_id)
        url = elsa.start(workshop_id)
        elsa.open_seat(url)
        made = elsa.seat_request(
            url, "PUT", "api/contents/mine.txt", json={"type": "file", "format": "text", "content": "7"}
        )
        assert made.status_code == 201
        notices = elsa.seat_request(url, "GET", "orchestra/notices").json()
        assert notices["ends_at"], notices
        platform.wait_state(workshop_id, "expired", within_s=60)
        name = server_name(workshop_id)
        until(
            lambda: not platform.hub_api("GET", "/users/elsa").json()["servers"].get(name, {}).get("ready"),
            within_s=20, message="the seat stopped at the end",
        )  # fmt: skip
        until(  # 400 while the old server is still on its way out
            lambda: platform.hub_api("POST", f"/users/elsa/servers/{name}", json={}).status_code == 403,
            within_s=10, message="nobody can start a seat after the end",
        )  # fmt: skip
        page = elsa.page(workshop_id)
        assert "kept until" in page.text
        archive = elsa.get(f"/services/workshops/{workshop_id}/export")
        assert archive.status_code == 200, archive.text
        with tarfile.open(fileobj=io.BytesIO(archive.content)) as packed:
            names = packed.getnames()
            assert any(name.endswith("mine.txt") for name in names), names
        nothing = frode.get(f"/services/workshops/{workshop_id}/export")
        assert nothing.status_code == 404, "somebody without files"
        purged = platform.wait_state(workshop_id, "purged", within_s=60)
    assert purged["purge_record"]["checked"], purged
    assert not (platform.data_dir / "workshops" / workshop_id).exists()
    assert platform.hub_api("GET", f"/groups/{workshop_id}").status_code == 404
    servers = platform.hub_api("GET", "/users/elsa?include_stopped_servers=1").json()["servers"]
    assert name not in servers
    events = platform.api("GET", f"/workshops/{workshop_id}/events").text
    assert "elsa" not in events
    assert "frode" not in events


def test_an_extension_reaches_the_page_and_the_seat_but_not_past_the_deadline(platform: Platform) -> None:
    workshop = platform.opened(session="longer", hours=1)
    with Person.new(platform, "exa") as exa:
        exa.join(workshop["id"])
        url = exa.start(workshop["id"])
        exa.open_seat(url)
        before = exa.seat_request(url, "GET", "orchestra/notices").json()["ends_at"]
        done = platform.cli("workshop", "extend", workshop["id"], "--hours", "1")
        assert workshop["id"] in done.stdout or "extended" in done.stdout.lower(), done.stdout
        until(
            lambda: exa.seat_request(url, "GET", "orchestra/notices").json()["ends_at"] != before,
            within_s=25, message="the extension shows in the notebook",
        )  # fmt: skip
        refused = platform.api("POST", f"/workshops/{workshop['id']}/extend", json={"hours": 10_000})
        assert refused.status_code == 422, refused.text
        assert "deadline" in refused.text


def test_cancelled_while_open_keeps_its_data_the_same_way(platform: Platform) -> None:
    workshop = platform.opened(session="cancel", expires_at=soon(20), hours=None, retention_h=0)
    with Person.new(platform, "cara") as cara:
        cara.join(workshop["id"])
        url = cara.start(workshop["id"])
        cara.open_seat(url)
        assert platform.api("POST", f"/workshops/{workshop['id']}/cancel", json={}).status_code == 200
        until(
            lambda: not _ready(platform, "cara", server_name(workshop["id"])),
            within_s=20, message="seats of a cancelled workshop stop",
        )  # fmt: skip
        archive = cara.get(f"/services/workshops/{workshop['id']}/export")
        assert archive.status_code == 200
    purged = platform.wait_state(workshop["id"], "purged", within_s=40)
    assert purged["cancelled_at"] and purged["purge_record"]["removed"]["seats"] == 1
    assert not (platform.data_dir / "workshops" / workshop["id"]).exists()


def test_a_name_used_again_inherits_nothing(platform: Platform) -> None:
    workshop = platform.opened(session="again")
    with Person.new(platform, "reuse") as first:
        first.join(workshop["id"])
        url = first.start(workshop["id"])
        first.open_seat(url)
        first.seat_request(
            url, "PUT", "api/contents/secret.txt", json={"type": "file", "format": "text", "content": "s"}
        )
        first.stop(workshop["id"])
    assert platform.hub_api("DELETE", "/users/reuse").status_code == 204
    with Person.new(platform, "reuse") as second:
        page = second.page(workshop["id"])
        assert "/services/workshops/join/" in str(page.url), "the new account has the old one's place"
        second.join(workshop["id"])
        url = second.start(workshop["id"])
        second.open_seat(url)
        assert second.seat_request(url, "GET", "api/contents/secret.txt").status_code == 404


def _ready(platform: Platform, user: str, server: str) -> bool:
    servers = platform.hub_api("GET", f"/users/{user}").json()["servers"]
    return bool(servers.get(server, {}).get("ready"))
