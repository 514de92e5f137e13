"""The pages of the workshops service: signing in, joining, running a workshop, files, and a page for every refusal."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from orchestra_hub.ids import server_name
from orchestra_hub.workshop import State
from tests.workshops_service import PREFIX, Service, running_service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(tmp_path) as running:
        yield running


async def _down(_: str) -> None:
    raise RuntimeError("the hub is away")


def _page(answer: httpx.Response, status: int, *words: str) -> httpx.Response:
    """A page of ours, seen to be whole."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=UTF-8"
    text = answer.text
    assert '<html lang="en">' in text and "<main" in text and text.count("<h1") == 1
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=|\sstyle=|<style", text), "nothing inline"
    assert not re.search(r'(?:src|href)="(?:https?:)?//(?!\w[\w-]*\.localhost)', text), "nothing from elsewhere"
    for word in words:
        assert word in text, (word, text)
    return answer


# ------------------------------------------------------------------------------------------------ signing in


async def test_who_is_not_signed_in_is_led_through_the_hub_and_back(service: Service) -> None:
    made = await service.create(join_policy="code")
    path = f"join/{made['id']}?code={made['join_code']}"
    async with service.browser(None) as browser:
        away = await browser.get(path)
        assert away.status_code == 302
        assert away.headers["location"].startswith(
            f"{service.app}/hub/api/oauth2/authorize?client_id=service-workshops"
        )
        assert "code_challenge" in away.headers["location"]
        back = await browser.sign_in("ada", path)
        assert back.headers["location"] == f"{PREFIX}{path}", "the code is kept on the way"
        cookies = {cookie.name: cookie for cookie in browser.http.cookies.jar}
        assert cookies["service-workshops"].path == PREFIX
        assert cookies["service-workshops"].domain == "app.localhost", "no wider than the hub's own host"
        assert cookies["service-workshops"].has_nonstandard_attr("HttpOnly")


async def test_a_sign_in_that_nobody_asked_for_is_refused(service: Service) -> None:
    async with service.browser(None) as browser:
        _page(await browser.get("oauth_callback?code=ada&state=forged"), 403)
        _page(await browser.get("oauth_callback"), 400)
        assert not [cookie for cookie in browser.http.cookies.jar if cookie.name == "service-workshops"]


async def test_a_session_that_ended_leads_to_sign_in_again(service: Service) -> None:
    async with service.browser("ada") as browser:
        assert (await browser.get("")).status_code == 200
        service.wire.tokens.clear()
        browser.http.cookies.set("jupyterhub-session-id", "other", domain="app.localhost", path="/")
        assert (await browser.get("")).status_code == 302


async def test_the_hub_is_away(service: Service) -> None:
    async with service.browser("ada") as browser:
        service.wire.before = _down
        browser.http.cookies.set("jupyterhub-session-id", "other", domain="app.localhost", path="/")
        _page(await browser.get(""), 503, "Not possible just now")


# ------------------------------------------------------------------------------------------------ my workshops


async def test_my_workshops(service: Service) -> None:
    taught, learnt = await service.create(title="Taught <here>"), await service.create("root", title="Learnt")
    await service.join("grace", learnt["id"])
    await service.teach("grace", taught["id"])
    async with service.browser("grace") as browser:
        page = _page(await browser.get(""), 200, "Workshops I run", "Workshops I learn in", "Taught &lt;here&gt;")
        assert f'href="{PREFIX}{taught["id"]}"' in page.text
        assert f'href="/hub/workshops/{learnt["id"]}"' in page.text
        assert 'href="/hub/logout"' in page.text
    async with service.browser("eve") as browser:
        _page(await browser.get(""), 200, "You have no workshops yet")
    async with service.browser("root") as browser:
        _page(await browser.get(""), 200, "All other workshops", "Taught")


async def test_addresses_that_are_not_there(service: Service) -> None:
    async with service.browser("ada") as browser:
        for path in (
            "nothing-here",
            "a/b/c",
            "join/nothing-here",
            "nothing-here/export",
            "/elsewhere",
            "NOTHING",
            "%ff",
        ):
            answer = await browser.get(path)
            if path == "%ff":
                assert 400 <= answer.status_code < 500
                continue
            _page(answer, 404)
        assert (await browser.http.delete(f"{service.app}{PREFIX}")).status_code in (403, 405)


async def test_head_is_answered_as_get_without_the_body(service: Service) -> None:
    made = await service.create()
    await service.join("ada", made["id"])
    async with service.browser("ada") as browser, service.browser("grace") as owner:
        for whose, path in (
            (browser, ""),
            (browser, "nothing-here"),
            (browser, f"join/{made['id']}"),
            (owner, made["id"]),
        ):
            url = f"{service.app}{PREFIX}{path}"
            head, get = await whose.http.head(url), await whose.http.get(url)
            assert (head.status_code, head.content) == (get.status_code, b""), path
            assert head.headers["content-type"] == get.headers["content-type"]
        assert (await browser.http.head(f"{service.app}{PREFIX}{made['id']}/export")).status_code == 405


async def test_the_look_is_served_here(service: Service) -> None:
    async with service.browser(None) as browser:
        for name in ("orchestra.css", "orchestra.js", "theme.js", "copy.js", "favicon.svg"):
            answer = await browser.get(f"static/{name}")
            assert answer.status_code == 200, name
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await browser.get("static/%2e%2e/__init__.py")).status_code in (403, 404)


# ------------------------------------------------------------------------------------------------ joining


async def test_joining_with_the_button(service: Service) -> None:
    made = await service.create()
    async with service.browser("ada") as browser:
        page = _page(await browser.get(f"join/{made['id']}"), 200, "Counting", "Join this workshop")
        assert service.store.enrolments(made["id"]) == [], "looking never joins"
        done = await browser.submit(page, f"join/{made['id']}")
        assert (done.status_code, done.headers["location"]) == (303, f"/hub/workshops/{made['id']}")
        assert service.wire.groups[made["id"]].members == {"ada"}
        again = await browser.get(f"join/{made['id']}")
        assert (again.status_code, again.headers["location"]) == (302, f"/hub/workshops/{made['id']}")


async def test_joining_by_code(service: Service) -> None:
    made = await service.create(join_policy="code")
    path = f"join/{made['id']}"
    async with service.browser("ada") as browser:
        page = _page(await browser.get(path), 200, 'id="code"')
        wrong = _page(await browser.submit(page, path, code="WRONG"), 403, "The code is wrong", 'value="WRONG"')
        _page(await browser.submit(wrong, path, code="x" * 300), 403, "code")
        _page(await browser.submit(wrong, path, code="\x00"), 403, "code")
        with_code = _page(await browser.get(f"{path}?code={made['join_code']}"), 200, "Join this workshop")
        assert 'id="code"' not in with_code.text
        assert f'name="code" value="{made["join_code"]}"' in with_code.text
        done = await browser.submit(with_code, path, code=made["join_code"])
        assert done.status_code == 303


async def test_a_form_without_its_token_joins_nobody(service: Service) -> None:
    made = await service.create()
    async with service.browser("ada") as browser:
        await browser.get(f"join/{made['id']}")
        _page(await browser.post(f"join/{made['id']}", {}), 403)
        _page(await browser.post(f"join/{made['id']}", {"_xsrf": "forged"}), 403)
    assert service.store.enrolments(made["id"]) == []


async def test_full(service: Service) -> None:
    made = await service.create(seats=1)
    async with service.browser("bob") as browser:
        page = await browser.get(f"join/{made['id']}")
        await service.join("ada", made["id"])
        _page(await browser.submit(page, f"join/{made['id']}"), 409, "This workshop is full", "Ask your instructor")
        _page(await browser.get(f"join/{made['id']}"), 409, "This workshop is full")


async def test_not_on_the_roster(service: Service) -> None:
    made = await service.create(join_policy="roster")
    async with service.browser("ada") as browser:
        _page(await browser.get(f"join/{made['id']}"), 403, "You are not enrolled", "“ada”")


async def test_an_invitation(service: Service) -> None:
    made = await service.create(join_policy="roster", seats=1)
    answer = await service.api("grace", "POST", f"/workshops/{made['id']}/enrolments", json={"user": "who comes"})
    link = urlsplit(answer.json()["invitation"]["url"])
    token = link.query.removeprefix("invitation=")
    async with service.browser("ada") as browser:
        page = _page(await browser.get(f"{link.path}?{link.query}"), 200, f'name="invitation" value="{token}"')
        assert (await browser.submit(page, f"join/{made['id']}", invitation=token)).status_code == 303
    async with service.browser("bob") as browser:
        page = await browser.get(f"{link.path}?{link.query}")
        _page(await browser.submit(page, f"join/{made['id']}", invitation=token), 403, "invitation has been used")


@pytest.mark.parametrize("how", ["expired", "cancelled", "purged"])
async def test_over(service: Service, how: str) -> None:
    made = await service.opened()
    if how == "cancelled":
        await service.api("grace", "POST", f"/workshops/{made['id']}/cancel", json={})
    elif how == "purged":
        service.purge(made["id"])
    else:
        service.clock.forward(hours=5)
    async with service.browser("ada") as browser:
        _page(await browser.get(f"join/{made['id']}"), 410, "Nobody can join it any more")


async def test_joined_while_the_hub_is_away_is_told_and_goes_on_later(service: Service) -> None:
    made = await service.create()
    async with service.browser("ada") as browser:
        page = await browser.get(f"join/{made['id']}")
        service.wire.before = _down
        _page(await browser.submit(page, f"join/{made['id']}"), 503, "Your place is kept")
        assert service.store.enrolment(made["id"], "ada") is not None
        service.wire.before = None
        assert (await browser.get(f"join/{made['id']}")).headers["location"] == f"/hub/workshops/{made['id']}"


async def test_a_place_the_hub_lost_is_told_again_instead_of_going_round(service: Service) -> None:
    made = await service.create()
    await service.join("ada", made["id"])
    service.wire.groups[made["id"]].members.clear()
    async with service.browser("ada") as browser:
        assert (await browser.get(f"join/{made['id']}")).status_code == 302
    assert service.wire.groups[made["id"]].members == {"ada"}


# ------------------------------------------------------------------------------------------------ running it


async def test_the_page_of_those_who_run_it(service: Service) -> None:
    made = await service.opened(join_policy="code")
    await service.join("ada", made["id"], code=made["join_code"])
    async with service.browser("grace") as browser:
        page = _page(await browser.get(made["id"]), 200, "Counting", "1 of 3 places", made["join_code"], 'id="extend"')
        assert f'value="{made["join_url"]}"' in page.text
        assert 'id="trouble"' not in page.text


async def test_who_sees_that_page(service: Service) -> None:
    made = await service.create()
    await service.join("ada", made["id"])
    await service.teach("bob", made["id"])
    async with service.browser("ada") as browser:
        assert (await browser.get(made["id"])).headers["location"] == f"/hub/workshops/{made['id']}"
    async with service.browser("eve") as browser:
        _page(await browser.get(made["id"]), 404)
    async with service.browser("bob") as browser:
        page = _page(await browser.get(made["id"]), 200)
        assert 'id="cancel"' not in page.text, "cancelling is the owner's"
        _page(await browser.get(f"{made['id']}/cancel"), 403)


async def test_why_it_is_stuck_is_there(service: Service) -> None:
    made = await service.create()
    service.store.note_trouble(
        made["id"], "The environment can't be installed.", 3, service.clock(), fence=service.fence()
    )
    async with service.browser("grace") as browser:
        _page(await browser.get(made["id"]), 200, "It is stuck", "The environment can&#39;t be installed.", "3 times")


async def test_more_time(service: Service) -> None:
    made = await service.opened()
    async with service.browser("grace") as browser:
        page = await browser.get(made["id"])
        done = await browser.submit(page, f"{made['id']}/extend", amount="30", unit="minutes")
        assert (done.status_code, done.headers["location"]) == (303, f"{PREFIX}{made['id']}?done=extend")
        _page(await browser.get(done.headers["location"]), 200, "The new end is set")
        assert service.store.workshop(made["id"]).expires_at.isoformat() == "2030-05-06T16:30:00+00:00"
        await browser.submit(page, f"{made['id']}/extend", amount="2", unit="hours")
        assert service.store.workshop(made["id"]).expires_at.isoformat() == "2030-05-06T18:30:00+00:00"
        _page(await browser.submit(page, f"{made['id']}/extend", amount="100", unit="hours"), 422, "deadline")
        for amount in ("x", "", "nan", "1e999", "-"):
            _page(await browser.submit(page, f"{made['id']}/extend", amount=amount), 422, "is not a number")
        _page(await browser.post(f"{made['id']}/extend", {"amount": "1"}), 403)
        assert (await browser.get(f"{made['id']}/extend")).headers["location"] == f"{PREFIX}{made['id']}"


@pytest.mark.parametrize(("what", "state"), [("end", State.EXPIRED), ("cancel", State.CANCELLED)])
async def test_stopping_it_asks_before(service: Service, what: str, state: State) -> None:
    made = await service.opened()
    async with service.browser("grace") as browser:
        page = await browser.get(made["id"])
        assert f'href="{PREFIX}{made["id"]}/{what}"' in page.text
        sure = _page(await browser.get(f"{made['id']}/{what}"), 200, "undone", 'id="sure"')
        assert service.store.workshop(made["id"]).state is State.OPEN
        done = await browser.submit(sure, f"{made['id']}/{what}")
        assert done.status_code == 303
        after = _page(await browser.get(done.headers["location"]), 200, 'id="done"')
        assert 'id="extend"' not in after.text
        assert (await service.api("grace", "GET", f"/workshops/{made['id']}")).json()["state"] == state.value
        _page(await browser.submit(sure, f"{made['id']}/{what}"), 409, 'id="problem"')


async def test_an_owner_takes_an_instructors_place(service: Service) -> None:
    made = await service.opened()
    async with service.browser("grace") as browser:
        page = _page(await browser.get(made["id"]), 200, 'id="teach"')
        done = await browser.submit(page, f"{made['id']}/teach")
        assert done.headers["location"].endswith("?done=teach")
        after = _page(await browser.get(made["id"]), 200, "My notebook")
        assert 'id="teach"' not in after.text
    assert service.wire.groups[made["id"]].properties["orchestra"]["instructors"] == [service.wire.key("grace")]


async def test_a_change_while_the_hub_is_away_is_made(service: Service) -> None:
    made = await service.opened()
    async with service.browser("grace") as browser:
        page = await browser.get(made["id"])
        service.wire.before = _down
        done = await browser.submit(page, f"{made['id']}/extend", amount="30", unit="minutes")
        assert done.headers["location"].endswith("?done=later")


async def test_what_was_removed_is_shown_to_operators(service: Service) -> None:
    made = await service.opened()
    service.purge(made["id"])
    async with service.browser("root") as browser:
        _page(await browser.get(made["id"]), 200, "What was removed", "nothing is left")
    async with service.browser("grace") as browser:
        _page(await browser.get(made["id"]), 404)


# ------------------------------------------------------------------------------------------------ files


async def test_ones_own_files(service: Service) -> None:
    made = await service.opened()
    await service.join("ada", made["id"])
    async with service.browser("ada") as browser:
        _page(await browser.get(f"{made['id']}/export"), 404, "no files")
        (service.home_of("ada", made["id"]) / "mine.txt").write_text("7")
        service.clock.forward(hours=5)
        answer = await browser.get(f"{made['id']}/export")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert answer.headers["x-content-type-options"] == "nosniff"
    async with service.browser("eve") as browser:
        _page(await browser.get(f"{made['id']}/export"), 404)
    assert server_name(made["id"])


async def test_markup_in_what_people_write_stays_text(service: Service) -> None:
    evil = "<script>alert(1)</script>\"'"
    made = await service.opened(title=evil, teacher=evil)
    await service.join("ada", made["id"])
    for who, path in (
        ("bob", f"join/{made['id']}"),
        ("grace", made["id"]),
        ("grace", f"{made['id']}/end"),
        ("grace", ""),
    ):
        async with service.browser(who) as browser:
            assert "<script>alert" not in _page(await browser.get(path), 200).text
    async with service.browser("bob") as browser:
        page = await browser.get(f"join/{made['id']}?code=%22%3E%3Cscript%3Ealert(1)")
        assert "<script>alert" not in page.text
