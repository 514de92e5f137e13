"""Every scope a service has is one it can't do without: docs/reference/scopes.md gives the reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from orchestra_hub.errors import OrchestraError
from orchestra_hub.hub_api import HubAPI
from orchestra_hub.ids import server_name
from orchestra_hub.localhost import AsyncLoopbackTransport
from orchestra_services.up.hub_config import load_roles
from tests.people import Person
from tests.running import Platform


@pytest.mark.parametrize("service", ["reconciler", "workshops", "culler"])
def test_every_scope_of_a_service_is_needed(platform: Platform, service: str) -> None:
    """A token with all of a service's scopes does its work; with any one less, some of it is refused."""
    (scopes,) = [role["scopes"] for role in load_roles() if role.get("services") == [service]]
    workshop_id = platform.opened(session=f"s-{service}")["id"]
    with Person.new(platform, f"scope-{service}") as person:
        person.join(workshop_id)
        person.start(workshop_id)
        refused = asyncio.run(_refused(platform, service, scopes, person.name, workshop_id))
        assert refused == [], "with all of them"
        for scope in scopes:
            fewer = [other for other in scopes if other != scope]
            assert asyncio.run(_refused(platform, service, fewer, person.name, workshop_id)), scope


async def _refused(platform: Platform, service: str, scopes: list[str], user: str, workshop_id: str) -> list[str]:
    """Which of a service's calls the hub refuses to a token with `scopes`, or answers with less than it needs."""
    made = platform.hub_api("POST", "/users/admin/tokens", json={"scopes": scopes, "note": "scopes"})
    assert made.status_code == 201, made.text
    token, refused = made.json()["token"], []
    async with (
        httpx.AsyncClient(transport=AsyncLoopbackTransport(), timeout=30) as client,
        HubAPI(f"{platform.origin('app')}/hub/api", token, client) as hub,
    ):
        for name, call in _calls(platform, hub, token, service, user, workshop_id).items():
            try:
                if await call() in (None, []):
                    refused.append(name)
            except OrchestraError:
                refused.append(name)
    return refused


def _calls(
    platform: Platform, hub: HubAPI, token: str, service: str, user: str, workshop_id: str
) -> dict[str, Callable[[], Awaitable[Any]]]:
    """What each service asks of the hub. None or an empty list is as good as a refusal."""
    server = server_name(workshop_id)

    async def running() -> list[str]:
        answer = platform.hub_api("GET", "/users?state=ready", token=token)
        models = answer.json() if answer.status_code == 200 else []
        return [model["name"] for model in models if server in (model.get("servers") or {})]

    async def limits() -> list[str]:
        return [group.name for group in await hub.groups() if group.facts]

    async def members() -> bool:
        facts = next(group.facts for group in await hub.groups() if group.name == workshop_id)
        assert facts is not None
        await hub.ensure_group(facts)
        await hub.add_members(workshop_id, [user])
        return True

    stop = {"stop": lambda: hub.stop(user, "one-that-is-not-there")}  # what runs is needed for the next look
    if service == "culler":
        return {"running": running, "limits": limits, **stop}
    start = {"start": lambda: hub.start(user, server)} if service == "workshops" else {}
    return {
        **start,
        "account": lambda: hub.user(user),
        "seats": lambda: hub.seats(workshop_id),
        "group": members,
        **stop,
    }
