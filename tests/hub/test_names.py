"""Names that try to be somebody else's: used again after a deletion, taken before their teacher came, look-alikes."""

from __future__ import annotations

import html

from orchestra_hub.ids import RESERVED_LABELS, server_name
from tests.people import PASSWORD, Person
from tests.running import Platform, until

WRITE = "from pathlib import Path; Path('secret-of-the-first.txt').write_text('mine'); print('written')"


def test_a_name_used_again_has_nothing_of_the_one_before(platform: Platform) -> None:
    """Password, tokens, cookies, place, role, files, the running seat: all the first account's, and gone with it."""
    workshop = platform.opened(session="again", join_policy="code")
    named = platform.workshop(session="again-2", join_policy="roster")
    with Person.new(platform, "phoenix") as first:
        for made in (workshop, named):
            enrolled = platform.api(
                "POST", f"/workshops/{made['id']}/enrolments", json={"user": "phoenix", "role": "instructor"}
            )
            assert enrolled.json()["enrolment"]["role"] == "instructor"
        token = platform.hub_api("POST", "/users/phoenix/tokens", json={"note": "old"}).json()["token"]
        url = first.start(workshop["id"])
        first.open_seat(url)
        assert first.run(url, WRITE) == "written\n"
        assert "instructor</span>" in first.page(workshop["id"]).text, "the control"
        assert platform.api("GET", "/me", token=token).status_code == 200, "the control"
        deleted = platform.hub_api("DELETE", "/users/phoenix")
        assert deleted.status_code == 204, deleted.text
        assert not platform.everything_of("phoenix"), "its notebook runs on"
        assert first.seat_request(url, "GET", "api/contents").status_code in (403, 404, 424)
        with Person.new(platform, "phoenix", sign_up=False) as second:
            second.password = "another-account-4"
            assert second.sign_in(PASSWORD).status_code == 403, "the password of before"
            assert second.sign_up().status_code == 200
            assert platform.hub_api("GET", "/users/phoenix").json()["groups"] == []
            assert platform.hub_api("GET", "/user", token=token).status_code == 403
            assert "/hub/login" in str(first.get("/hub/workshops/").url), "the cookie of before"
            until(
                lambda: platform.api("GET", "/me", token=token).status_code == 401
                and "/hub/login" in str(first.get(f"/services/workshops/{workshop['id']}").url),
                within_s=30, every_s=1, message="the service has heard that the account is gone",
            )  # fmt: skip
            own = platform.hub_api("POST", "/users/phoenix/tokens", json={"note": "new"}).json()["token"]
            for made in (workshop, named):
                found = platform.api("GET", f"/workshops/{made['id']}", token=own).json()
                assert (found["my_role"], found["join_code"], found["owner"]) == (None, None, None)
                for path in ("enrolments", "seats", "export", "events"):
                    assert platform.api("GET", f"/workshops/{made['id']}/{path}", token=own).status_code == 404, path
                assert "/services/workshops/join/" in str(second.page(made["id"]).url)
            assert second.join(named["id"]).status_code == 403, "the roster has an account, not a name"
            assert second.join(workshop["id"], workshop["join_code"]).status_code == 200
            assert "instructor</span>" not in second.page(workshop["id"]).text, "a teacher by name alone"
            again = second.start(workshop["id"])
            second.open_seat(again)
            files = second.seat_request(again, "GET", "api/contents").json()["content"]
            assert files, "the workshop's own files"
            assert "secret-of-the-first.txt" not in [entry["name"] for entry in files]
            assert first.seat_request(again, "GET", "api/contents").status_code == 403, "the seat's cookie of before"
            second.stop(workshop["id"])


def test_an_account_is_deleted_while_its_seat_starts(platform: Platform) -> None:
    workshop = platform.opened(session="dels")
    with Person.new(platform, "mayfly") as mayfly:
        mayfly.join(workshop["id"])
        mayfly.press_start(workshop["id"])
        assert until(
            lambda: platform.hub_api("DELETE", "/users/mayfly").status_code == 204, within_s=30, message="deleted"
        )
        until(lambda: not platform.everything_of("mayfly"), within_s=10, message="nothing of it runs")
        assert mayfly.sign_in().status_code == 403
        assert mayfly.sign_up().status_code == 200, "the name is free again"


def test_a_teachers_name_taken_before_they_came_gets_no_role(platform: Platform) -> None:
    """On the roster under a name nobody has: an invitation, not a place for whoever takes the name."""
    workshop = platform.opened(session="before", join_policy="roster", teacher="Prof. Early")
    listed = platform.api(
        "POST", f"/workshops/{workshop['id']}/enrolments", json={"user": "prof.early", "role": "instructor"}
    ).json()
    assert listed["enrolment"] is None
    link = listed["invitation"]["url"]
    with Person.new(platform, "prof.early") as squatter, Person.new(platform, "real.prof") as teacher:
        assert "/services/workshops/join/" in str(squatter.page(workshop["id"]).url)
        assert squatter.join(workshop["id"]).status_code == 403
        assert squatter.get(f"/services/workshops/{workshop['id']}").status_code == 404
        page = teacher.get(link)
        token = html.unescape(page.text.partition('name="invitation" value="')[2].partition('"')[0])
        path = f"/services/workshops/join/{workshop['id']}"
        joined = teacher.submit(page, path, invitation=token)
        assert "instructor</span>" in joined.text, "whoever has the link is the teacher"
        again = squatter.get(link)
        assert squatter.submit(again, path, invitation=token).status_code == 403, "it works once"


INVISIBLE = ["\u200b", "\u200d", "\u202e", "\u2066", "\ufeff", "\u00ad", "\u180e", "\u034f", "\U000e0041"]
LOOKALIKES = [
    *(f"adm{sign}in" for sign in INVISIBLE),
    *(f"{sign}admin" for sign in INVISIBLE),
    "\u0430dmin",
    "\u03b1dmin",
    "adm\xedn",
    "\uff41\uff44\uff4d\uff49\uff4e\u200b",
    "\u0251dmin",
    "adm\u0131n",
    "ADM\u0130N",
    "\U0001d41a\U0001d41d\U0001d426\U0001d422\U0001d427\u0301",
    "\U0001f600",
    "teacher\U0001f600",
    "\U0001f469\u200d\U0001f3eb",
    "%61dmin",
    "admin%00",
    "admin/",
    "./admin",
    "admin;",
    "a" * 200,
    "\u00e9" * 64,
]
ALSO_ADMIN = [
    "\U0001d41a\U0001d41d\U0001d426\U0001d422\U0001d427",
    "\u24d0\u24d3\u24dc\u24d8\u24dd",
    "\xaadmin",
    "\uff21dmin",
    "\u3000admin",
    "admin\xa0",
    "ADMIN",
    "admin\t",
]


def test_no_lookalike_of_a_name_is_an_account(platform: Platform) -> None:
    """Each gets a clear answer: not a name, or taken (as it is that very name to the platform)."""
    with Person.new(platform, "looks", sign_up=False) as person:
        for names, said in ((LOOKALIKES, "That name can't be used"), (ALSO_ADMIN, "That name is taken")):
            for name in names:
                person.name = name
                answer = person.sign_up()
                shown = html.unescape(answer.text)
                assert (answer.status_code, said in shown) == (422, True), (ascii(name), shown)
        person.name = "\u202eadmin"
        assert person.sign_in("whatever-it-is").status_code == 403


def test_names_of_hosts_and_workshops_are_names_like_others(platform: Platform) -> None:
    """Their seat is on a host of its own, never on the host whose name they took."""
    workshop = platform.opened(session="hosts", seats=10)
    for name in (
        workshop["id"],
        server_name(workshop["id"]),
        "hub",
        "user",
        "workshops",
        "localhost",
        "root.orchestra",
    ):
        with Person.new(platform, name) as person:
            person.join(workshop["id"])
            page = person.page(workshop["id"])
            assert 'id="start"' in page.text, name
            model = platform.hub_api("GET", f"/users/{name}").json()
            assert model["groups"] == [workshop["id"]]
    assert "grafana" in RESERVED_LABELS
    with Person.new(platform, "grafana") as person:
        person.join(workshop["id"])
        url = person.start(workshop["id"])
        assert url.startswith(f"http://{workshop['id']}--{person.name}.") or "--grafana" in url
        person.open_seat(url)
        assert platform.api("GET", "/health").status_code == 200
        person.stop(workshop["id"])
