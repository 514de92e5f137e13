"""A real hub's listing of workshops in short: what the reconciler compares is what it must be."""

from __future__ import annotations

import json

from orchestra_hub.group_digest import group_digest
from tests.people import Person
from tests.running import Platform, until


def test_the_hubs_digest_is_of_the_facts_and_members_as_they_were_written(platform: Platform) -> None:
    """Were it of another text, every sweep would look at every workshop closely, for ever."""
    workshop_id = platform.opened(session="digest")["id"]
    reconciler = platform.tokens()["reconciler"]

    def outline() -> dict[str, object]:
        after, found = "", {}
        while after is not None:
            page = platform.hub_api("GET", f"/orchestra/workshops?after={after}", token=reconciler).json()
            found |= {item["id"]: item for item in page["items"]}
            after = page["next"]
        return found[workshop_id]

    with Person.new(platform, "digest-one") as person:
        person.join(workshop_id)
        group = platform.hub_api("GET", f"/groups/{workshop_id}").json()
        assert group["users"] == ["digest-one"]
        assert outline()["digest"] == group_digest(json.dumps(group["properties"]), group["users"])
        assert (outline()["running"], outline()["strangers"]) == (0, 0)
        person.start(workshop_id)
        assert (outline()["running"], outline()["strangers"]) == (1, 0)
        body = {"users": ["digest-one"]}
        assert platform.hub_api("DELETE", f"/groups/{workshop_id}/users", json=body).status_code == 200
        assert outline()["strangers"] == 1
        assert platform.hub_api("POST", f"/groups/{workshop_id}/users", json=body).status_code == 200
        person.stop(workshop_id)
        until(lambda: outline()["running"] == 0, within_s=10, message="stopped")


def test_only_who_reads_all_groups_and_servers_may_list_them(platform: Platform) -> None:
    with Person.new(platform, "digest-two"):
        made = platform.hub_api("POST", "/users/digest-two/tokens", json={"note": "own"}).json()["token"]
        assert platform.hub_api("GET", "/orchestra/workshops", token=made).status_code == 403
