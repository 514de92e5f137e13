"""Sign-in on a running platform: names, where one is led afterwards, forms without their token, cookies."""

from __future__ import annotations

import html
import re
from urllib.parse import quote, urlsplit

import pytest

from orchestra_hub.ids import seat_label, server_name
from tests.people import PASSWORD, Person
from tests.running import Platform, until

REFUSED = [
    "", " ", ".", "..", "a/b", "a\\b", "../x", "a b", "-a", "a-", "a..b", "Ада", "\u0430dmin", "a" * 65, "a" * 200,
    "a\nb", "a+b", "a~b", "a\x00b", "<b>", "a?b", "a#b", "a%2fb", "a,b", "\uff41dmin/x",
]  # fmt: skip
TAKEN = ["admin", "ADMIN", "Admin", " admin ", "\uff41\uff44\uff4d\uff49\uff4e"]
WORKING = ["a--b", "user@example.org", "1", "UPPER.case", "x" * 64, "api", "app", "a_b"]
ELSEWHERE = [
    "//evil.example", "/\\evil.example", "\\\\evil.example", "https:evil.example", "https://evil.example/x",
    "///evil.example",
    "/%09/evil.example", "http://app.localhost.evil.example/", "http://evil.example@x/", "javascript:alert(1)",
    "http:///evil.example", "/\t/evil.example", "////evil.example",
]  # fmt: skip


def _sign_up_as(person: Person, name: str) -> tuple[int, str]:
    form = person.get("/hub/signup")
    answer = person.submit(
        form, "/hub/signup", username=name, signup_password=person.password,
        signup_password_confirmation=person.password,
    )  # fmt: skip
    return answer.status_code, html.unescape(answer.text)


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_cannot_be_used_gets_the_rule(platform: Platform, name: str) -> None:
    with Person.new(platform, name, sign_up=False) as person:
        status, page = _sign_up_as(person, name)
        assert (status, "That name can't be used: take 1 to 64" in page) == (422, True), page


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_is_taken_however_it_is_written(platform: Platform, name: str) -> None:
    with Person.new(platform, name, sign_up=False) as person:
        status, page = _sign_up_as(person, name)
        assert (status, "That name is taken" in page) == (422, True), page


def test_every_allowed_name_has_a_place_with_a_host_of_its_own(platform: Platform) -> None:
    workshop = platform.opened(session="names", seats=50)
    hosts = set()
    for name in [*WORKING, workshop["id"]]:
        with Person.new(platform, name) as person:
            person.join(workshop["id"])
            page = person.page(workshop["id"])
            assert 'id="start"' in page.text, name
            hosts.add(seat_label(workshop["id"], name.lower()))
    assert len(hosts) == len(WORKING) + 1
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", host) for host in hosts), hosts


def test_an_unusual_name_works_in_a_notebook(platform: Platform) -> None:
    """A name that can be written otherwise in a URL: start, a link to a file, stop."""
    workshop = platform.opened(session="unusual")
    with Person.new(platform, "odd--user@example.org") as person:
        person.join(workshop["id"])
        url = person.start(workshop["id"])
        person.open_seat(url)
        assert person.seat_request(url, "GET", "api/contents").status_code == 200
        person.stop(workshop["id"])
        away = person.get(f"{url}lab/tree/01%20x.ipynb")
        assert f"/hub/workshops/{workshop['id']}" in str(away.url)
        form = person.submit(away, f"/hub/workshops/{workshop['id']}/start", next=_wanted(away.text))
        assert form.status_code == 200
        opened = until(lambda: _open_link(person.get(str(form.url)).text), within_s=60, message="ready")
        assert opened == f"{url}lab/tree/01%20x.ipynb"
        person.stop(workshop["id"])


def _wanted(page: str) -> str:
    found = re.search(r'name="next" value="([^"]+)"', page)
    assert found, page
    return html.unescape(found[1])


def _open_link(page: str) -> str:
    found = re.search(r'id="open"[^>]*href="([^"]+)"', page)
    return html.unescape(found[1]) if found else ""


@pytest.mark.parametrize("where", ELSEWHERE)
def test_next_never_leads_to_another_host(platform: Platform, where: str) -> None:
    """After sign-up, after sign-in, where one is signed in already, and in a link to a file."""
    asked = quote(where, safe="")
    with Person.new(platform, f"next-{ELSEWHERE.index(where)}", sign_up=False) as person:
        form = person.get(f"/hub/signup?next={asked}")
        action = html.unescape(re.search(r'<form action="([^"]+)"', form.text)[1])  # type: ignore[index]
        person.client.follow_redirects = False
        answer = person.submit(
            form, action, username=person.name, signup_password=person.password,
            signup_password_confirmation=person.password,
        )  # fmt: skip
        _stays(platform, answer.headers["location"])
        person.client.follow_redirects = True
        person.sign_out()
        form = person.get(f"/hub/login?next={asked}")
        action = html.unescape(re.search(r'<form action="([^"]+)"', form.text)[1])  # type: ignore[index]
        person.client.follow_redirects = False
        answer = person.submit(form, action, username=person.name, password=person.password)
        _stays(platform, answer.headers["location"])
        _stays(platform, person.get(f"/hub/login?next={asked}").headers["location"])
        for path in ("spawn/next-one/x", "workshops/none-such-x/user-redirect" + quote(where)):
            moved = person.get(f"/hub/{path}?next={asked}")
            if "location" in moved.headers:
                _stays(platform, moved.headers["location"])


def _stays(platform: Platform, location: str) -> None:
    # a browser drops tabs and line ends in a URL and takes a backslash for a slash (WHATWG URL, 4.4)
    seen = re.sub(r"[\t\r\n]", "", location).replace("\\", "/")
    parts = urlsplit(seen)
    ours = parts.netloc == f"app.localhost:{platform.port}" and parts.scheme == "http"
    assert ours or (not parts.scheme and not parts.netloc and seen.startswith("/") and seen[:2] != "//"), location


def test_next_on_the_launch_page_is_for_ones_own_seat_alone(platform: Platform) -> None:
    workshop = platform.opened(session="launch")
    with Person.new(platform, "next-two") as person:
        person.join(workshop["id"])
        person.start(workshop["id"])
        for where in [*ELSEWHERE, "/user/admin/x/", "/hub/logout"]:
            page = person.get(f"/hub/workshops/{workshop['id']}?next={quote(where, safe='')}").text
            link = urlsplit(_open_link(page))
            assert link.netloc == f"{seat_label(workshop['id'], 'next-two')}.localhost:{platform.port}", where
            assert link.path == f"/user/next-two/{server_name(workshop['id'])}/", where
        person.stop(workshop["id"])


def test_a_form_without_its_token_changes_nothing(platform: Platform) -> None:
    workshop = platform.opened(session="xsrf")
    with Person.new(platform, "xena") as person:
        person.join(workshop["id"])
        for token in ({}, {"_xsrf": "made-up"}):
            for where in ("start", "stop"):
                answer = person.client.post(f"{person.app}/hub/workshops/{workshop['id']}/{where}", data=token)
                assert answer.status_code == 403, where
        assert 'id="start"' in person.page(workshop["id"]).text
        assert person.get(f"/hub/workshops/{workshop['id']}/start").status_code == 200, "a link starts nothing"
        assert 'id="start"' in person.page(workshop["id"]).text
        for path in ("/hub/signup", "/hub/login", "/hub/change-password"):
            refused = person.client.post(f"{person.app}{path}", data={"username": "x"})
            assert refused.status_code == 403, path
            says = "Sign in again" if path == "/hub/login" else "<h1>Not allowed</h1>"
            assert says in refused.text, "a page, not an empty answer"


def test_a_sign_in_form_that_was_open_too_long_comes_again_and_works(platform: Platform) -> None:
    """With what was typed, but the password, and still leading where it led."""
    with Person.new(platform, "lateday") as person:
        person.client.cookies.clear()
        typed = {"_xsrf": "of-last-week", "username": "lateday", "password": PASSWORD}
        again = person.client.post(f"{person.app}/hub/login?next=/hub/token", data=typed)
        assert (again.status_code, "Sign in again" in again.text) == (403, True), again.text
        assert 'value="lateday"' in again.text and PASSWORD not in again.text
        action = re.search(r'action="([^"]*login[^"]*)"', again.text)
        assert action, again.text
        there = person.submit(again, html.unescape(action[1]), username="lateday", password=PASSWORD)
        assert (there.status_code, there.url.path) == (200, "/hub/token"), there.url


def test_accounts_are_let_in_and_out_by_a_button_of_ours_alone(platform: Platform) -> None:
    """nativeauthenticator does it on a GET, which a page in any seat can make an administrator's browser send."""
    with Person.new(platform, "victim"), Person.new(platform, "admin", sign_up=False) as admin:
        admin.sign_in(platform.admin_password)
        assert "victim" in admin.get("/hub/authorize").text
        for headers in (
            {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"}, {},
            {"Referer": "http://seat.localhost/"}, {"Referer": f"{admin.app}.evil.example/"},
        ):  # fmt: skip
            for what in ("authorize", "discard"):
                assert admin.get(f"/hub/{what}/victim", headers=headers).status_code == 403, (what, headers)
        with Person.new(platform, "victim", sign_up=False) as victim:
            assert victim.sign_in().status_code == 200
            assert admin.get("/hub/authorize/victim", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
            victim.sign_out()
            assert victim.sign_in().status_code == 403, "the button works"


def test_cookies_stay_on_the_host_that_set_them(platform: Platform) -> None:
    workshop = platform.opened(session="cookies")
    with Person.new(platform, "cody") as cody:
        cody.join(workshop["id"])
        url = cody.start(workshop["id"])
        cody.open_seat(url)
        jar = list(cody.client.cookies.jar)
        assert {cookie.domain for cookie in jar} == {"app.localhost", urlsplit(url).hostname}
        assert not [cookie for cookie in jar if cookie.domain_specified], "a cookie names a domain"
        seats = [cookie for cookie in jar if cookie.domain == urlsplit(url).hostname]
        assert all(cookie.path.startswith(f"/user/cody/{server_name(workshop['id'])}") for cookie in seats), seats
        cody.stop(workshop["id"])
