"""The Hub API client: JupyterHub's statuses become our answers and errors."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from orchestra_hub.errors import (
    HubUnavailable,
    NotAllowed,
    NotFound,
    OrchestraError,
    ProvisionFailed,
    Temporary,
    WrongState,
)
from orchestra_hub.hub_api import HubAPI
from orchestra_hub.workshop import facts_of
from tests.hub_wire import TOKEN, HubWire, hub_wire
from tests.unit.workshops import a_workshop

WORKSHOP = a_workshop()
FACTS = facts_of(WORKSHOP, ["grace"])


@pytest.fixture
async def wire() -> AsyncIterator[HubWire]:
    async with hub_wire() as running:
        yield running


@pytest.fixture
async def hub(wire: HubWire) -> AsyncIterator[HubAPI]:
    async with HubAPI(wire.url, TOKEN) as api:
        yield api


async def test_a_user_has_the_key_of_its_account(hub: HubAPI, wire: HubWire) -> None:
    wire.sign_up("ada")
    user = await hub.user("ada")
    assert user is not None and user.key == wire.key("ada") and not user.groups
    assert await hub.user("nobody") is None


async def test_all_users_come_over_pages(hub: HubAPI, wire: HubWire) -> None:
    wire.sign_up(*(f"user-{number}" for number in range(450)))
    assert [user.name for user in await hub.users()] == list(wire.users)


async def test_a_group_is_made_once_and_its_facts_come_back(hub: HubAPI) -> None:
    assert await hub.group_members(WORKSHOP.id) is None
    assert await hub.ensure_group(FACTS) is True
    assert await hub.ensure_group(FACTS) is False
    group = await hub.group(WORKSHOP.id)
    assert group is not None and group.facts == FACTS
    assert await hub.groups() == [group]


async def test_damaged_facts_are_none(hub: HubAPI, wire: HubWire) -> None:
    await hub.ensure_group(FACTS)
    wire.groups[WORKSHOP.id].properties = {"orchestra": {"id": 3}}
    group = await hub.group(WORKSHOP.id)
    assert group is not None and group.facts is None


async def test_members_are_added_all_or_none_and_removed_as_far_as_they_are_there(hub: HubAPI, wire: HubWire) -> None:
    await hub.ensure_group(FACTS)
    wire.sign_up("ada", "bob", "eve")
    with pytest.raises(NotFound, match="No such user: gone"):
        await hub.add_members(WORKSHOP.id, ["ada", "gone"])
    await hub.add_members(WORKSHOP.id, ["ada", "bob", "eve"])
    await hub.remove_members(WORKSHOP.id, ["gone", "bob", "ada"])
    assert await hub.group_members(WORKSHOP.id) == ["eve"]


async def test_deleting_what_is_not_there_is_no_error(hub: HubAPI) -> None:
    await hub.ensure_group(FACTS)
    assert await hub.delete_group(WORKSHOP.id) is True
    assert await hub.delete_group(WORKSHOP.id) is False
    with pytest.raises(NotFound):
        await hub.put_facts(FACTS)


async def test_a_server_starts_stops_and_is_forgotten(hub: HubAPI, wire: HubWire) -> None:
    wire.sign_up("ada")
    assert await hub.start("ada", WORKSHOP.server_name) is True
    assert await hub.start("ada", WORKSHOP.server_name) is True
    (seat,) = await hub.seats(WORKSHOP.id)
    assert seat.user == "ada" and seat.ready and seat.active and seat.account_key == wire.key("ada")
    assert await hub.stop("ada", WORKSHOP.server_name) is True
    assert not (await hub.seats(WORKSHOP.id))[0].active
    assert await hub.stop("ada", WORKSHOP.server_name, remove=True) is True
    assert await hub.seats(WORKSHOP.id) == []
    assert await hub.stop("ada", WORKSHOP.server_name) is True


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (403, "You are not enrolled in this workshop.", NotAllowed),
        (409, "This workshop's time is over.", WrongState),
        (429, "Too many are starting. Try again in a moment.", Temporary),
        (500, "The disk is full. Tell your instructor.", ProvisionFailed),
        (404, "No such user", NotFound),
        (400, "ada:x is pending stop", Temporary),
    ],
)
async def test_a_refused_start_says_the_hubs_sentence(
    hub: HubAPI, wire: HubWire, status: int, message: str, error: type[OrchestraError]
) -> None:
    wire.sign_up("ada")
    wire.refuse_start = (status, message)
    with pytest.raises(error) as refused:
        await hub.start("ada", WORKSHOP.server_name)
    assert type(refused.value) is error
    if status != 400:
        assert str(refused.value) == message


async def test_a_start_under_way_is_no_error(hub: HubAPI, wire: HubWire) -> None:
    wire.refuse_start = (400, "ada:x is pending spawn")
    assert await hub.start("ada", WORKSHOP.server_name) is False


async def test_a_refused_token_says_what_to_check_and_not_the_token(wire: HubWire) -> None:
    async with HubAPI(wire.url, "wrong-token") as api:
        with pytest.raises(HubUnavailable, match="Check its scopes") as refused:
            await api.user("ada")
    assert "wrong-token" not in str(refused.value)


async def test_no_hub_and_no_json_are_unavailable() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/ada"):
            raise httpx.ConnectError("refused")
        return httpx.Response(200 if "groups" in request.url.path else 502, text="<html>")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        hub = HubAPI("http://hub/api", TOKEN, client)
        for asking in (hub.user("ada"), hub.user("bob"), hub.group(WORKSHOP.id)):
            with pytest.raises(HubUnavailable):
                await asking
        await hub.aclose()
        assert not client.is_closed
