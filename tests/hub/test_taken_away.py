"""What was taken away is gone within 30 s: tokens and roles, in the service and in seats (log-out: `test_learner`)."""

from __future__ import annotations

from tests.people import Person
from tests.running import Platform, until

SOON_S = 30


def test_a_revoked_token_opens_neither_service_nor_seat(platform: Platform) -> None:
    workshop = platform.opened(session="revoked")
    with Person.new(platform, "reva") as reva:
        reva.join(workshop["id"])
        url = reva.start(workshop["id"])
        made = platform.hub_api("POST", "/users/reva/tokens", json={"note": "to be revoked"}).json()

        def statuses() -> list[int]:
            with platform.http() as client:
                seat = client.get(f"{url}api/contents", headers={"Authorization": f"token {made['token']}"})
            return [platform.api("GET", "/me", token=made["token"]).status_code, seat.status_code]

        assert statuses() == [200, 200], "the control"
        assert platform.hub_api("DELETE", f"/users/reva/tokens/{made['id']}").status_code == 204
        until(lambda: statuses() == [401, 403], within_s=SOON_S, every_s=1, message="the token is dead")
        reva.stop(workshop["id"])


def test_a_lost_role_is_lost_everywhere(platform: Platform) -> None:
    """An admin, a creator of workshops and an instructor who are none any more."""
    workshop = platform.opened(session="lost", join_policy="roster")
    creators = "/groups/workshop-creators"
    with Person.new(platform, "rolf") as rolf, Person.new(platform, "sitter") as sitter:
        for name, role in (("rolf", "instructor"), ("sitter", "learner")):
            added = platform.api("POST", f"/workshops/{workshop['id']}/enrolments", json={"user": name, "role": role})
            assert added.status_code == 201
        url = sitter.start(workshop["id"])
        platform.hub_api("POST", creators)
        assert platform.hub_api("POST", f"{creators}/users", json={"users": ["rolf"]}).status_code == 200
        assert platform.hub_api("PATCH", "/users/rolf", json={"admin": True}).status_code == 200
        token = platform.hub_api("POST", "/users/rolf/tokens", json={"note": "roles"}).json()["token"]
        roster = f"/workshops/{workshop['id']}/enrolments"
        manage = f"{rolf.app}/services/workshops/{workshop['id']}"

        def seat() -> int:
            with platform.http() as client:
                return client.get(f"{url}api/contents", headers={"Authorization": f"token {token}"}).status_code

        def me() -> dict[str, bool]:
            found: dict[str, bool] = platform.api("GET", "/me", token=token).json()
            return {key: found[key] for key in ("operator", "may_create")}

        until(lambda: me()["operator"], within_s=SOON_S, every_s=1, message="operator")
        assert (seat(), rolf.client.get(manage).status_code) == (200, 200), "the control"
        assert platform.hub_api("PATCH", "/users/rolf", json={"admin": False}).status_code == 200
        until(
            lambda: me() == {"operator": False, "may_create": True}, within_s=SOON_S, every_s=1, message="no operator"
        )
        until(lambda: seat() == 403, within_s=SOON_S, every_s=1, message="another's seat is shut")
        assert rolf.get("/hub/admin").status_code == 403
        assert platform.api("GET", roster, token=token).status_code == 200, "still an instructor"
        assert platform.hub_api("DELETE", f"{creators}/users", json={"users": ["rolf"]}).status_code in (200, 204)
        until(lambda: not me()["may_create"], within_s=SOON_S, every_s=1, message="no creator")
        assert platform.api("DELETE", f"{roster}/rolf").status_code == 204
        assert platform.api("GET", roster, token=token).status_code == 404, "no instructor, at once"
        assert rolf.client.get(manage).status_code == 404
        assert "/services/workshops/join/" in str(rolf.page(workshop["id"]).url)
        sitter.stop(workshop["id"])


def test_a_log_out_ends_copies_of_the_services_and_the_seats_cookies(platform: Platform) -> None:
    """Whoever copied them, from another program of the same person's machine, say, is out with the person."""
    workshop = platform.opened(session="copied")
    with Person.new(platform, "copied") as person, platform.http() as copier:
        person.join(workshop["id"])
        url = person.start(workshop["id"])
        person.open_seat(url)
        assert person.get("/services/workshops/").status_code == 200
        for cookie in person.client.cookies.jar:
            if cookie.name != "jupyterhub-hub-login":  # that one is the hub's own: see the security page
                copier.cookies.jar.set_cookie(cookie)

        def statuses() -> list[int]:
            page = copier.get(f"{person.app}/services/workshops/", headers={"Sec-Fetch-Mode": "navigate"})
            return [page.status_code, copier.get(f"{url}api/contents").status_code]

        assert statuses() == [200, 200], "the control"
        person.sign_out()
        until(lambda: statuses() == [302, 403], within_s=SOON_S, every_s=1, message="the copies are dead")
        person.sign_in()
        person.stop(workshop["id"])
