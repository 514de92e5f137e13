"""A workshop's own host: one page per state with its HTTP status, no cookie, nothing else."""

from __future__ import annotations

import html
import re

from tests.people import Person
from tests.running import Platform, soon, until


def test_the_page_of_an_open_workshop(platform: Platform) -> None:
    workshop = platform.opened(session="page", title="Counting & plotting <b>", teacher="The teacher")
    with platform.http() as client:
        page = client.get(workshop["url"])
        assert page.status_code == 200
        assert "Counting &amp; plotting &lt;b&gt;" in page.text
        assert "The teacher" in page.text
        assert workshop["expires_at"][:10] in page.text
        assert "Go to my notebook" in page.text
        assert "set-cookie" not in page.headers, "a workshop's host knows nobody"
        assert "script-src 'self'" in page.headers["content-security-policy"]
        for asset in ("/hub/static/css/style.min.css", "/hub/orchestra/static/orchestra.css"):
            assert client.get(workshop["url"].rstrip("/") + asset).status_code == 200, asset
        for elsewhere in ("/hub/login", "/hub/home", "/hub/api/", "/services/workshops/", "/x"):
            answer = client.get(workshop["url"].rstrip("/") + elsewhere)
            assert answer.status_code == 404, elsewhere
            assert "set-cookie" not in answer.headers, elsewhere


def test_one_page_and_status_for_every_state(platform: Platform) -> None:
    later = platform.workshop(session="later", opens_at=soon(7200), hours=2)
    cancelled = platform.workshop(session="cancelled", opens_at=soon(7200), hours=2)
    assert platform.api("POST", f"/workshops/{cancelled['id']}/cancel", json={}).status_code == 200
    ended = platform.opened(session="ended")
    assert platform.api("POST", f"/workshops/{ended['id']}/end", json={}).status_code == 200
    wanted = [
        (later["url"], 403, "Not open yet"),
        (cancelled["url"], 410, "Cancelled"),
        (ended["url"], 410, "Over"),
        (platform.origin("nobody-knows-this"), 404, "No such workshop"),
    ]
    with platform.http() as client:
        for url, status, words in wanted:
            page = until(
                lambda url=url, status=status: (p := client.get(url)).status_code == status and p,
                within_s=15, message=f"{url} answers {status}",
            )  # fmt: skip
            assert words in page.text, url


def test_after_sign_in_full_not_enrolled_and_wrong_code(platform: Platform) -> None:
    full = platform.opened(session="full", seats=1)
    roster = platform.opened(session="roster", join_policy="roster")
    coded = platform.opened(session="coded", join_policy="code")
    code = coded["join_url"].split("code=")[1]
    with Person.new(platform, "first-one") as first, Person.new(platform, "second-one") as second:
        assert "/hub/workshops/" in str(first.join(full["id"]).url)
        answer = second.join(full["id"])
        assert (answer.status_code, "full" in answer.text.lower()) == (409, True), answer.text
        answer = second.join(roster["id"])
        assert answer.status_code == 403, answer.text
        answer = second.join(coded["id"], "WRONGONE")
        assert (answer.status_code, "code" in answer.text.lower()) == (403, True), answer.text
        answer = second.join(coded["id"], code.lower())
        assert "/hub/workshops/" in str(answer.url), answer.text
        unknown = second.get("/hub/workshops/nobody-knows-this")
        assert unknown.status_code == 404


def test_the_public_page_leads_through_sign_up_to_the_place(platform: Platform) -> None:
    """What a learner does with the link: press the button, make an account, press join; the code is kept on the way."""
    workshop = platform.opened(session="link", join_policy="code")
    with Person.new(platform, "by-link", sign_up=False) as person:
        page = person.get(workshop["join_url"])
        link = html.unescape(re.search(r'class="btn btn-primary btn-lg" href="([^"]+)"', page.text)[1])  # type: ignore[index]
        sign_in = person.get(link)
        assert "/hub/login" in str(sign_in.url)
        to_sign_up = html.unescape(re.search(r'id="to_signup" href="([^"]+)"', sign_in.text)[1])  # type: ignore[index]
        form = person.get(to_sign_up)
        action = html.unescape(re.search(r'<form action="([^"]+)"', form.text)[1])  # type: ignore[index]
        joining = person.submit(
            form, action, username="by-link", signup_password=person.password,
            signup_password_confirmation=person.password,
        )  # fmt: skip
        assert "/services/workshops/join/" in str(joining.url), joining.url
        assert "code=" in str(joining.url)
        code = str(joining.url).split("code=")[1]
        done = person.submit(joining, f"/services/workshops/join/{workshop['id']}", code=code)
        assert f"/hub/workshops/{workshop['id']}" in str(done.url), done.text
