"""One test per seam of `orchestra_hub.hub.seams`: each fails naming the seam when a new JupyterHub moves it."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.apihandlers.users import UserAPIHandler, UserServerAPIHandler
from jupyterhub.handlers.base import BaseHandler, UserUrlHandler
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import Spawner, SpawnException
from jupyterhub.user import User, UserDict
from tornado.web import RequestHandler

from orchestra_hub.hub.groups import HubWorkshops
from orchestra_hub.hub.hosts import Hosts, SeatOrigin
from orchestra_hub.hub.seams import (
    AccountAPI,
    SeatServerAPI,
    WorkshopHandlerMixin,
    WorkshopUserDict,
    subdomain_hook,
    with_workshops,
)
from orchestra_hub.ids import server_name
from orchestra_hub.templates import builtin_templates_root, snapshot
from orchestra_hub.workshop import HUB_PROPERTY, JoinPolicy, State, WorkshopFacts
from tests.people import Person
from tests.running import Platform, until

ID = "python-data-science-2026nov-k3x9qz"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

SEAMS: list[tuple[str, Any, list[str]]] = [
    ("UserDict.from_orm", UserDict.from_orm, ["self", "orm_user"]),
    ("UserDict.__getitem__", UserDict.__getitem__, ["self", "key"]),
    ("User.server_url", User.server_url, ["self", "server_name"]),
    ("User._new_spawner", User._new_spawner, ["self", "server_name", "spawner_class", "kwargs"]),
    ("User.spawn", User.spawn, ["self", "server_name", "display_name", "options", "handler"]),
    (
        "BaseHandler.spawn_single_user",
        BaseHandler.spawn_single_user,
        ["self", "user", "server_name", "display_name", "options"],
    ),
    ("User.sync_groups", User.sync_groups, ["self", "group_names"]),
    ("APIHandler.server_model", APIHandler.server_model, ["self", "spawner", "user"]),
    ("UserUrlHandler._redirect_to_user_server", UserUrlHandler._redirect_to_user_server, ["self", "user", "spawner"]),
    ("BaseHandler._set_cookie", BaseHandler._set_cookie, ["self", "key", "value", "encrypted", "overrides"]),
    ("BaseHandler.clear_cookie", BaseHandler.clear_cookie, ["self", "cookie_name", "kwargs"]),
    (
        "BaseHandler._check_named_server_request",
        BaseHandler._check_named_server_request,
        ["self", "user", "server_name", "display_name", "check_limit"],
    ),
    ("UserServerAPIHandler.put", UserServerAPIHandler.put, ["self", "user_name", "server_name"]),
    ("UserServerAPIHandler.post", UserServerAPIHandler.post, ["self", "user_name", "server_name"]),
    ("UserServerAPIHandler.patch", UserServerAPIHandler.patch, ["self", "user_name", "server_name"]),
    ("UserServerAPIHandler.delete", UserServerAPIHandler.delete, ["self", "user_name", "server_name"]),
    ("UserAPIHandler.delete", UserAPIHandler.delete, ["self", "user_name"]),
    ("BaseHandler.set_default_headers", BaseHandler.set_default_headers, ["self"]),
    ("BaseHandler.content_security_policy", BaseHandler.content_security_policy.fget, ["self"]),
    ("BaseHandler.prepare", BaseHandler.prepare, ["self"]),
    ("BaseHandler.get_current_user", BaseHandler.get_current_user, ["self"]),
    ("BaseHandler._record_activity", BaseHandler._record_activity, ["self", "obj", "timestamp"]),
    ("RequestHandler._handle_request_exception", RequestHandler._handle_request_exception, ["self", "e"]),
    ("Proxy.delete_user", Proxy.delete_user, ["self", "user", "server_name"]),
    ("Spawner.run_post_stop_hook", Spawner.run_post_stop_hook, ["self"]),
    (
        "SpawnException",
        SpawnException.__init__,
        ["self", "message", "reason", "log_message", "message_html", "status_code"],
    ),
]


@pytest.mark.parametrize(("seam", "function", "parameters"), SEAMS, ids=[seam[0] for seam in SEAMS])
def test_a_seam_has_the_shape_we_override(seam: str, function: Any, parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == parameters, f"JupyterHub moved the seam {seam}"


def facts(**changes: Any) -> WorkshopFacts:
    values: dict[str, Any] = {
        "id": ID, "title": "Python", "teacher": "A teacher", "state": State.OPEN, "opens_at": NOW - timedelta(hours=1),
        "expires_at": NOW + timedelta(hours=1), "deadline": NOW + timedelta(hours=9),
        "purge_at": NOW + timedelta(days=9), "warning_s": 900, "idle_timeout_s": 3600, "seats": 3,
        "join_policy": JoinPolicy.OPEN, "prepared": True, "cancelled_at": None, "ended_early": False, "instructors": [],
        "template": snapshot(builtin_templates_root() / "python-data-science"), "version": 1, "trouble": None,
    }  # fmt: skip
    return WorkshopFacts(**{**values, **changes})


@pytest.fixture
def session(tmp_path: Path) -> Any:
    made = orm.new_session_factory(f"sqlite:///{tmp_path}/hub.sqlite")()
    yield made
    engine = made.get_bind()
    made.close()
    engine.dispose()


@pytest.fixture
def users(session: Any) -> WorkshopUserDict:
    group = orm.Group(name=ID)
    group.properties = {HUB_PROPERTY: facts().model_dump(mode="json")}
    user = orm.User(name="ada")
    session.add_all([group, user, orm.Group(name="staff")])
    user.groups.append(group)
    session.commit()
    settings: dict[str, Any] = {
        "orchestra_workshops": HubWorkshops(lambda: session),
        "orchestra_hosts": Hosts.from_public_url("http://localhost:8000"),
        "orchestra_seat_origin": SeatOrigin.LEARNER,
        "orchestra_clock": lambda: NOW,
        "subdomain_host": "http://app.localhost:8000",
        "subdomain_hook": subdomain_hook,
        "domain": "app.localhost",
        "base_url": "/",
        "allow_named_servers": True,
    }
    return WorkshopUserDict(lambda: session, settings)


def test_users_are_ours_whichever_way_they_are_found(users: WorkshopUserDict, session: Any) -> None:
    orm_user = orm.User.find(session, "ada")
    for key in ("ada", orm_user.id, orm_user):
        assert type(users[key]).__name__ == "WorkshopUser", f"UserDict seam: users[{key!r}] isn't ours"


def test_server_url_is_on_the_seats_host_and_others_stay(users: WorkshopUserDict) -> None:
    name = server_name(ID)
    user = users["ada"]
    host = f"{name}--ada.localhost:8000" if len(ID) > 31 else f"{ID}--ada.localhost:8000"
    assert user.server_url(name) == f"http://{host}/user/ada/{name}/"
    assert user.public_url(name) == user.server_url(name), "User.public_url no longer uses server_url"
    assert user.server_url("mine") == "http://user--ada.localhost:8000/user/ada/mine/"
    assert user.server_url() == "http://user--ada.localhost:8000/user/ada/"


def test_one_origin_for_a_whole_workshop_when_asked(users: WorkshopUserDict) -> None:
    users.settings["orchestra_seat_origin"] = SeatOrigin.WORKSHOP
    name = server_name(ID)
    assert users["ada"].server_url(name) == f"http://{ID}.localhost:8000/user/ada/{name}/"


def test_an_authenticators_groups_leave_workshops_alone(users: WorkshopUserDict, session: Any) -> None:
    user = users["ada"]
    user.sync_groups(["staff"])
    assert {group.name for group in user.groups} == {ID, "staff"}, "sync_groups took a workshop away"
    user.sync_groups([])
    assert {group.name for group in user.groups} == {ID}, "sync_groups took a workshop away"
    session.add(orm.User(name="bob"))
    session.commit()
    users["bob"].sync_groups([ID, "new"])
    assert {group.name for group in users["bob"].groups} == {"new"}, "an authenticator's claim enrolled somebody"


def test_the_limit_of_starts_is_the_queues_not_jupyterhubs() -> None:
    """`BaseHandler.spawn_single_user` answers 429 by this setting and nothing else; `tests/hub/test_queue.py` shows
    that starts wait instead."""
    source = inspect.getsource(BaseHandler.concurrent_spawn_limit.fget)
    assert "settings" in source and "concurrent_spawn_limit" in source


def test_every_handler_of_jupyterhub_is_mixed() -> None:
    from jupyterhub import apihandlers, handlers

    routes = with_workshops([*handlers.default_handlers, *apihandlers.default_handlers])
    for route in routes:
        if issubclass(route[1], BaseHandler):
            assert issubclass(route[1], WorkshopHandlerMixin), f"{route[1]} lacks the mixin"
    used = [route[1] for route in routes]
    assert used.count(SeatServerAPI) == 2, "SeatServerAPI: servers have other routes now (a server, a named server)"
    assert used.count(AccountAPI) == 1, "AccountAPI: accounts have other routes now"
    ours = (SeatServerAPI, AccountAPI)
    for theirs in (UserServerAPIHandler, UserAPIHandler):
        others = [cls for cls in used if issubclass(cls, theirs) and cls not in ours]
        assert not others, f"{others} do what {theirs} does, without our refusals"


# --- on a running platform ---------------------------------------------------------------------------------------


def test_a_seat_from_url_to_route(platform: Platform) -> None:
    """`server_url`, `_new_spawner`, `server_model`, the OAuth redirect, `delete_user`, on one seat."""
    workshop = platform.opened(session="seams")
    name = server_name(workshop["id"])
    with Person.new(platform, "seam-one") as person:
        person.join(workshop["id"])
        url = person.start(workshop["id"])
        host = urlsplit(url).netloc
        assert host.startswith(name) or host.startswith(workshop["id"]), url
        model = platform.hub_api("GET", f"/users/seam-one/servers/{name}").json()
        assert urlsplit(model["url"]).netloc == host, "server_model gives another URL than the seat's"
        assert model["full_url"] == model["url"]
        rules = platform.data_dir / "run" / "rules.toml"
        assert host.partition(":")[0] in rules.read_text(), "_new_spawner: the route isn't on the seat's host"
        person.open_seat(url)
        person.stop(workshop["id"])
        assert host.partition(":")[0] not in rules.read_text(), "Proxy.delete_user left the stopped seat's route"


def test_cookies_of_the_hub_are_for_its_host_alone(platform: Platform) -> None:
    with platform.http() as client:
        answer = client.get(f"{platform.origin('app')}/hub/login")
        cookies = answer.headers.get_list("set-cookie")
    with Person.new(platform, "seam-cookie") as person:
        cookies += person.client.get(f"{person.app}/hub/workshops/").headers.get_list("set-cookie")
        jar = list(person.client.cookies.jar)
    assert jar
    assert not [cookie for cookie in cookies if "domain=" in cookie.lower()], "a hub cookie names a domain"
    assert not [cookie for cookie in jar if cookie.domain_specified], "a hub cookie names a domain"


def test_nobody_starts_a_seat_they_have_no_place_for(platform: Platform) -> None:
    """`User.spawn` and `_check_named_server_request`: every door asks enrolment."""
    workshop = platform.opened(session="doors")
    name = server_name(workshop["id"])
    with Person.new(platform, "seam-stranger") as person:
        page = person.get("/hub/token")
        assert page.status_code == 200
    for method in ("POST", "PUT"):
        answer = platform.hub_api(method, f"/users/seam-stranger/servers/{name}", json={})
        assert answer.status_code == 403, f"{method} let a stranger have a seat: {answer.text}"
    servers = platform.hub_api("GET", "/users/seam-stranger?include_stopped_servers=1").json()["servers"]
    assert name not in servers


def test_ordinary_servers_work_beside_seats(platform: Platform) -> None:
    """Default servers and named servers of no workshop start, open and stop as JupyterHub's own."""
    with Person.new(platform, "seam-plain") as person:
        for server in ("", "mine"):
            path = f"/users/seam-plain/servers/{server}" if server else "/users/seam-plain/server"
            answer = platform.hub_api("POST", path, json={})
            assert answer.status_code in (201, 202), answer.text
            model = platform.hub_api("GET", "/users/seam-plain").json()["servers"][server]
            until(
                lambda server=server: platform.hub_api("GET", "/users/seam-plain").json()["servers"][server]["ready"],
                within_s=60, message="ordinary server ready",
            )  # fmt: skip
            opened = person.open_seat(model["url"])
            assert "jupyter" in opened.text.lower()
            assert platform.hub_api("DELETE", path).status_code in (202, 204)
