"""Every route of the hub, the service and the workshops' hosts, walked from their own tables: headers, forged changes,
redirects that lead away, and what is sent being shown unescaped. A new route is walked without being named here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from tests.hub.routes import METHODS, Walked, hub_routes, service_routes, workshop_host_routes
from tests.hub.test_sign_in import ELSEWHERE, _stays
from tests.people import Person, xsrf_in
from tests.running import Platform

NOBODY = "nobody-here"
MARK = "zq<\"'&>zq\r\nX-Injected: yes"
PARAMETERS = (
    "next", "code", "invitation", "state", "error", "error_description", "client_id", "redirect_uri", "response_type",
    "scope", "username", "display_name", "name", "message", "done", "amount", "unit", "what", "html_message", "reason",
)  # fmt: skip
SIGNS_OUT = {"/hub/logout"}
ALLOWED_SOURCES = {"'none'", "'self'", "'unsafe-inline'", "data:"}

HUB, SERVICE, WORKSHOP_HOST = hub_routes(NOBODY), service_routes(NOBODY), workshop_host_routes(NOBODY)
ON_APP = [*HUB, *SERVICE]


@pytest.fixture(scope="module")
def admin(platform: Platform) -> Iterator[Person]:
    """Somebody who may do everything, so that nothing is refused for want of rights."""
    with Person.new(platform, "admin", sign_up=False) as person:
        person.sign_in(platform.admin_password)
        person.get("/services/workshops/")
        person.client.follow_redirects = False
        yield person


@pytest.fixture(scope="module")
def visitor(platform: Platform) -> Iterator[Person]:
    """Somebody who isn't signed in."""
    with Person.new(platform, "visitor", sign_up=False) as person:
        person.client.follow_redirects = False
        yield person


def test_every_route_has_a_path() -> None:
    """What the walks below go by."""
    for route in [*ON_APP, *WORKSHOP_HOST]:
        assert re.fullmatch(route.pattern.removesuffix("$"), route.path), f"no path is found for {route.pattern}"
    assert len(ON_APP) > 90
    assert {"/hub/login", "/hub/token", "/hub/api/users", "/services/workshops/"} <= {route.path for route in ON_APP}


def _policy(answer: httpx.Response) -> dict[str, list[str]]:
    directives = [part.split() for part in answer.headers.get("content-security-policy", "").split(";") if part.strip()]
    return {words[0]: words[1:] for words in directives}


def _check_headers(platform: Platform, answer: httpx.Response, *, strict: bool) -> None:
    told = (str(answer.url), answer.status_code, answer.headers)
    policy = _policy(answer)
    assert policy.get("frame-ancestors") == ["'none'"] or policy.get("default-src") == ["'none'"], told
    assert "default-src" in policy, told
    ours = {platform.origin("*"), platform.origin("app")}
    for directive, sources in policy.items():
        if directive != "report-uri":
            assert set(sources) <= ALLOWED_SOURCES | (ours if directive == "form-action" else set()), told
    if strict:
        assert "'unsafe-inline'" not in str(policy), told
    assert answer.headers.get("x-content-type-options") == "nosniff", told


@pytest.mark.parametrize("who", ["admin", "visitor"])
def test_every_answer_has_its_headers(platform: Platform, who: str, request: pytest.FixtureRequest) -> None:
    person: Person = request.getfixturevalue(who)
    for route in ON_APP:
        if route.path not in SIGNS_OUT:
            _check_headers(platform, person.get(route.path), strict=route.ours)
    for path in ("/hub/error/503", "/hub/none-such", "/hub/api/none-such", "/hub/static/css/style.min.css",
                 "/services/workshops/api/v1/none", "/services/workshops/static/none", "/none/such"):  # fmt: skip
        _check_headers(platform, person.get(path), strict=False)
    for host in ("none-such-abc234", "none-such-abc234--x", "hub"):
        for route in WORKSHOP_HOST:
            _check_headers(platform, person.get(f"{platform.origin(host)}{route.path}"), strict=True)
    for path in ("/v1/health", "/v1/me", "/v1/none", "/"):
        _check_headers(platform, person.get(f"{platform.origin('api')}{path}"), strict=True)


def test_every_change_needs_the_token_of_a_page(platform: Platform, admin: Person) -> None:
    """With an admin's cookies, as a page on any other host would send it: without a token, with a made-up one, with
    that of somebody who isn't signed in."""
    with Person.new(platform, "another", sign_up=False) as stranger:
        strangers = xsrf_in(stranger.get("/hub/login").text)
    changed = []
    for route in ON_APP:
        for method in [m for m in route.methods if m != "GET"]:
            for token in (None, "made-up", strangers):
                answer = _forged(admin, route, method, token)
                if answer.status_code == 405 or route.path in HARMLESS:
                    continue
                refused = answer.status_code == 403 or (answer.status_code == 404 and "/hub/api/" not in route.path)
                if not refused:
                    changed.append((method, route.path, token, answer.status_code, answer.text[:200]))
    assert not changed
    assert platform.hub_api("GET", "/user").json()["name"] == "admin", "all of it still runs"


PLAIN = {"Content-Type": "text/plain"}
HARMLESS = {
    "/hub/security/csp-report": "writes a line into the log, for whoever is signed in",
    "/hub/api/oauth2/token": "asks for a client's secret, and no cookie counts",
    f"/hub/api/authorizations/token/{NOBODY}": "is gone from JupyterHub, and says so",
    "/hub/api/authorizations/token": "the same",
}


def _forged(admin: Person, route: Walked, method: str, token: str | None) -> httpx.Response:
    headers = {
        "Origin": "http://a-seat.localhost", "Referer": "http://a-seat.localhost/", "Sec-Fetch-Site": "same-site",
        "Accept": "text/html", **({"X-XSRFToken": token} if token else {}),
    }  # fmt: skip
    url = f"{admin.app}{route.path}"
    if "/api/" in route.path:  # JSON as a form can send it
        return admin.client.request(method, url, content=b'{"name": "x"}', headers={**headers, **PLAIN})
    data = {"name": "x", **({"_xsrf": token} if token else {})}
    return admin.client.request(method, url, data=data, headers=headers)


def test_the_right_token_is_let_through(admin: Person) -> None:
    """What makes the test above one that can fail."""
    token = xsrf_in(admin.get("/hub/change-password").text)
    let_in = 0
    for route in HUB:
        if "DELETE" in route.methods and "/api/" in route.path:
            answer = _forged(admin, route, "DELETE", token)
            let_in += answer.status_code in (204, 400, 404) and "XSRF" not in answer.text.upper()
    assert let_in >= 8


def test_no_page_leads_to_another_host(platform: Platform, admin: Person, visitor: Person) -> None:
    tricks = [where for where in ELSEWHERE if "\t" not in where][:6]
    for person in (admin, visitor):
        for route in ON_APP:
            if "GET" not in route.methods or "/static" in route.path or "/api/v1/" in route.path:
                continue
            if route.path in SIGNS_OUT and person is admin:
                continue
            for trick in tricks:
                there = quote(trick, safe="")
                query = "&".join(f"{name}={there}" for name in ("next", "redirect_uri", "url", "state", "callback"))
                answer = person.get(f"{route.path}?{query}")
                if "location" in answer.headers:
                    _stays(platform, answer.headers["location"])


def test_oauth_sends_nobody_away(platform: Platform, admin: Person, visitor: Person) -> None:
    """The hub's sign-in for services: only to the address that was registered, whatever `redirect_uri` says."""
    right = f"{platform.origin('app')}/services/workshops/oauth_callback"

    def ask(redirect: str, client: str = "service-workshops") -> httpx.Response:
        query = f"client_id={client}&redirect_uri={quote(redirect, safe='')}&response_type=code&state=x"
        return admin.get(f"/hub/api/oauth2/authorize?{query}")

    assert ask(right).headers["location"].startswith(f"{right}?code="), "the control"
    for wrong in (
        *ELSEWHERE,
        f"{right}/../../evil",
        f"{right}@evil.example",
        f"{right}?x=1",
        right.replace("app", "x"),
    ):
        for answer in (ask(wrong), ask(wrong, "no-such-client")):
            assert answer.status_code in (400, 403, 404), (wrong, answer.headers.get("location"))
    for state in ("", "made-up", "e30=", quote("//evil.example", safe="")):
        path = f"/services/workshops/oauth_callback?code=made-up&state={state}"
        assert visitor.get(path).status_code in (400, 403), state
        assert admin.get(path).headers.get("location") == "/services/workshops/", "who is signed in already stays so"


def _shows_nothing_raw(answer: httpx.Response) -> None:
    told = (str(answer.request.method), str(answer.url), answer.status_code)
    assert "x-injected" not in answer.headers, told
    if answer.headers.get("content-type", "text/html").startswith(("text/html", "image/svg", "application/xhtml")):
        assert "zq<" not in answer.text, told
        assert 'zq"' not in answer.text and "\"'&" not in answer.text, told


def test_nothing_that_is_sent_is_shown_unescaped(platform: Platform, admin: Person, visitor: Person) -> None:
    marked = quote(MARK, safe="")
    query = "&".join(f"{name}={marked}" for name in PARAMETERS)
    hostile = {"X-Request-ID": "zq<b>zq", "Referer": f"{admin.app}/zq<b>zq", "User-Agent": "zq<b>zq"}
    for person in (admin, visitor):
        token = xsrf_in(person.get("/hub/change-password" if person is admin else "/hub/login").text)
        for route in [*hub_routes(marked), *service_routes(marked)]:
            if route.path in SIGNS_OUT:
                continue
            _shows_nothing_raw(person.get(f"{route.path}?{query}", headers=hostile))
            if "POST" in route.methods and "/api/" not in route.path and "spawn" not in route.path:
                fields = {name: MARK for name in (*PARAMETERS, *FIELDS)} | {"_xsrf": token}
                answer = person.client.post(
                    f"{person.app}{route.path}?{query}", data=fields, headers={**hostile, "Accept": "text/html"}
                )
                _shows_nothing_raw(answer)
        for host in ("none-such-abc234", "none-such-abc234--x"):
            for route in workshop_host_routes(marked):
                _shows_nothing_raw(person.get(f"{platform.origin(host)}{route.path}?{query}", headers=hostile))
        for method in METHODS:
            _shows_nothing_raw(person.client.request(method, f"{person.app}/hub/{marked}/{marked}?{query}"))
            _shows_nothing_raw(person.client.request(method, f"{person.app}/{marked}?{query}"))


FIELDS = (
    "password", "signup_password", "signup_password_confirmation", "old_password", "new_password",
    "new_password_confirmation",
)  # fmt: skip
