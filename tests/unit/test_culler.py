"""The arbiter hook: limits per workshop, and the culler's own for every other server."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from jupyterhub_idle_culler import cull_idle

from orchestra_hub.hub_api import HubAPI
from orchestra_hub.workshop import facts_of
from orchestra_services.culler import HubLimits, NextRound, OrchestraCuller, orchestra_arbiter
from tests.hub_wire import TOKEN, Group, hub_wire
from tests.unit.workshops import a_workshop

SHORT = a_workshop(id="counting-may-abcdef", idle_timeout_s=60)


def server(name: str) -> dict[str, Any]:
    return {"name": name, "full_name": f"ada/{name}", "ready": True}


async def known() -> dict[str, int] | None:
    return {SHORT.server_name: 60}


async def unknown() -> dict[str, int] | None:
    return None


@pytest.mark.parametrize(
    ("name", "inactive_s", "culled"),
    [
        (SHORT.server_name, 59, False),
        (SHORT.server_name, 60, True),
        ("", 599, False),
        ("", 600, True),
        ("mine", 61, False),
    ],
)
async def test_each_server_has_its_own_limit(name: str, inactive_s: int, culled: bool) -> None:
    inactive = timedelta(seconds=inactive_s)
    answer = await orchestra_arbiter(inactive=inactive, inactive_limit=600, server=server(name), limits=known, user={})
    assert answer is culled


async def test_what_is_not_known_is_not_culled() -> None:
    long_ago = timedelta(days=1)
    assert not await orchestra_arbiter(inactive=None, inactive_limit=600, server=server(""), limits=known)
    assert not await orchestra_arbiter(inactive=long_ago, inactive_limit=600, server=server(""), limits=unknown)


async def test_limits_come_from_the_hubs_groups_and_are_kept() -> None:
    now_s = 0.0
    async with hub_wire() as wire, HubAPI(wire.url, TOKEN) as hub:
        limits = HubLimits(hub, cache_s=30, monotonic=lambda: now_s)
        facts = facts_of(SHORT, [])
        wire.groups["staff"] = Group()
        wire.groups[SHORT.id] = Group(properties={"orchestra": facts.model_dump(mode="json")})
        assert await limits() == {SHORT.server_name: 60}
        wire.groups[SHORT.id].properties["orchestra"]["idle_timeout_s"] = 90
        now_s = 29
        assert await limits() == {SHORT.server_name: 60}
        now_s = 30
        assert await limits() == {SHORT.server_name: 90}


async def test_old_limits_hold_while_the_hub_is_away(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    async with HubAPI("http://127.0.0.1:1/hub/api", TOKEN) as nowhere:
        assert await HubLimits(nowhere, cache_s=30)() is None
    assert "nothing is culled" in caplog.text
    async with hub_wire() as wire, HubAPI(wire.url, TOKEN) as hub:
        limits = HubLimits(hub, cache_s=30, monotonic=lambda: now_s)
        wire.groups[SHORT.id] = Group(properties={"orchestra": facts_of(SHORT, []).model_dump(mode="json")})
        await limits()
        wire.groups.clear()

        async def broken(_: str) -> None:
            raise RuntimeError

        wire.before = broken
        now_s = 31
        assert await limits() == {SHORT.server_name: 60}


async def test_the_real_culler_takes_the_hook() -> None:
    """jupyterhub-idle-culler calls it with what it is made for: this fails when a new version calls it otherwise."""
    asked: list[dict[str, Any]] = []

    async def noting(**asked_with: Any) -> bool:
        asked.append(asked_with)
        return await orchestra_arbiter(**asked_with, limits=known)

    async with hub_wire() as wire:
        wire.sign_up("ada", "bob")
        wire.run_seat("ada", SHORT.id)
        await cull_idle(wire.url, TOKEN, 600, logging.getLogger("culler"), cull_arbiter=noting)
        assert [one["server"]["name"] for one in asked] == [SHORT.server_name]
        assert set(asked[0]) >= {"inactive", "inactive_limit", "server"}
        assert wire.running(SHORT.id) == set()


@pytest.mark.parametrize(
    ("name", "inactive_s", "due_s"), [(SHORT.server_name, 20, 40), (SHORT.server_name, 61, 0), ("", 20, 580)]
)
async def test_the_arbiter_says_when_a_server_could_be_due(name: str, inactive_s: int, due_s: float) -> None:
    told: list[float] = []
    inactive = timedelta(seconds=inactive_s)
    await orchestra_arbiter(
        inactive=inactive, inactive_limit=600, server=server(name), limits=known, due=told.append, user={}
    )
    assert told == [due_s]


@pytest.mark.parametrize(
    ("seen", "shortest_limit_s", "pause_s"),
    [
        ([], 3600, 60),
        ([3000, 40, 500], 3600, 40),
        ([3000], 3600, 60),
        ([2], 3600, 15),
        ([3000], 30, 30),
        ([], 1, 15),
    ],
)
def test_a_round_comes_when_something_can_be_due_and_never_before_or_after_its_bounds(
    seen: list[float], shortest_limit_s: float, pause_s: float
) -> None:
    rounds = NextRound(15, 60)
    rounds.due(0)
    rounds.begin()
    for due_s in seen:
        rounds.due(due_s)
    assert rounds.pause_s(shortest_limit_s) == pause_s


def test_its_options_are_described() -> None:
    for name, trait in OrchestraCuller.class_own_traits(config=True).items():
        assert trait.help, name
