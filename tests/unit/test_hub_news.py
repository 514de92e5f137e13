"""News of the hub's database: told after the commit, to those it concerns, one after the other; on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from jupyterhub import orm
from sqlalchemy.orm import Session

from orchestra_hub.hub.groups import HubWorkshops
from orchestra_hub.hub.news import HubNews, facts_topic, sign_in_topics
from orchestra_hub.ids import server_name
from orchestra_hub.lifecycle import effective_state, next_change
from orchestra_hub.workshop import HUB_PROPERTY, State, facts_of
from tests.unit.workshops import NOON, a_workshop

WORKSHOP = a_workshop()


@pytest.fixture
def db() -> Iterator[Session]:
    session: Session = orm.new_session_factory("sqlite:///:memory:")()
    session.add(orm.OAuthClient(identifier="jupyterhub"))
    session.add(orm.OAuthClient(identifier="jupyterhub-user-ada"))
    session.add(orm.Group(name=WORKSHOP.id, properties=_properties()))
    session.add(orm.User(name="ada"))
    session.commit()
    yield session
    session.close()
    session.get_bind().dispose()  # type: ignore[union-attr]  # an engine here


def _properties(**fields: Any) -> dict[str, Any]:
    return {HUB_PROPERTY: facts_of(WORKSHOP.model_copy(update=fields), []).model_dump(mode="json")}


def _news(db: Session, spread_s: float = 0.0) -> HubNews:
    news = HubNews(lambda: None, spread_s)
    news.watch(db)
    return news


def _never() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def _waiting(news: HubNews, number: int) -> None:
    while news.waiting < number:
        await asyncio.sleep(0)


async def test_an_extension_wakes_who_waits_for_its_workshop_and_nobody_else(db: Session) -> None:
    news = _news(db)
    concerned = asyncio.create_task(news.wait([facts_topic(WORKSHOP.id)], 20, _never()))
    other = asyncio.create_task(news.wait([facts_topic("another-may-abcdef")], 20, _never()))
    await _waiting(news, 2)
    group = orm.Group.find(db, WORKSHOP.id)
    group.properties = _properties(expires_at=NOON + timedelta(hours=9))
    db.flush()
    await asyncio.sleep(0)
    assert not concerned.done(), "not committed yet"
    db.commit()
    await asyncio.wait_for(concerned, 5)
    assert not other.done()
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    assert news.waiting == 0


async def test_what_is_rolled_back_is_no_news(db: Session) -> None:
    news = _news(db)
    waits = asyncio.create_task(news.wait([facts_topic(WORKSHOP.id)], 0.2, _never()))
    await _waiting(news, 1)
    orm.Group.find(db, WORKSHOP.id).properties = _properties(title="Other")
    db.flush()
    db.rollback()
    db.add(orm.User(name="bob"))
    db.commit()
    await asyncio.sleep(0)
    assert not waits.done()
    await waits


@pytest.mark.parametrize("client_id", ["jupyterhub", "jupyterhub-user-ada"])
async def test_a_token_that_ends_wakes_its_users_seats_and_the_seat_it_was_made_for(
    db: Session, client_id: str
) -> None:
    ada = orm.User.find(db, "ada")
    ada.new_api_token(client_id=client_id, scopes=[])
    (token,) = ada.api_tokens
    news = _news(db)
    by_user, by_client = sign_in_topics(ada.id, client_id)
    waits = [asyncio.create_task(news.wait([topic], 20, _never())) for topic in (by_user, by_client)]
    await _waiting(news, 2)
    db.delete(token)
    db.commit()
    await asyncio.wait_for(asyncio.gather(*waits), 5)


async def test_many_hear_of_one_change_one_after_the_other(db: Session) -> None:
    news = _news(db, spread_s=0.001)
    heard: list[int] = []

    async def wait(number: int) -> None:
        await news.wait([facts_topic(WORKSHOP.id)], 20, _never())
        heard.append(number)

    waits = [asyncio.create_task(wait(number)) for number in range(100)]
    await _waiting(news, 100)
    orm.Group.find(db, WORKSHOP.id).properties = _properties(title="Other")
    db.commit()
    while not heard:
        await asyncio.sleep(0)
    assert len(heard) < 100, "others get their turn in between"
    await asyncio.wait_for(asyncio.gather(*waits), 5)


async def test_nobody_waits_when_the_connection_is_gone_or_the_hub_ends(db: Session) -> None:
    news = _news(db)
    hung_up = _never()
    gone = asyncio.create_task(news.wait([facts_topic(WORKSHOP.id)], 60, hung_up))
    left = asyncio.create_task(news.wait([facts_topic(WORKSHOP.id)], 60, _never()))
    await _waiting(news, 2)
    hung_up.set_result(None)
    await asyncio.wait_for(gone, 5)
    assert news.waiting == 1
    news.close()
    await asyncio.wait_for(left, 5)
    await asyncio.wait_for(news.wait([facts_topic(WORKSHOP.id)], 60, _never()), 5)


def test_which_server_is_whose_is_remembered_until_the_groups_change(db: Session) -> None:
    workshops = HubWorkshops(lambda: db)
    HubNews(workshops.forget).watch(db)
    name = server_name(WORKSHOP.id)
    second = "counting-may-bcdefg"
    assert workshops.id_of_server(name) == WORKSHOP.id
    assert workshops.id_of_server(server_name(second)) is None
    db.add(orm.Group(name=second, properties=_properties(id=second)))
    db.commit()
    assert workshops.id_of_server(server_name(second)) == second
    db.delete(orm.Group.find(db, WORKSHOP.id))
    db.commit()
    assert workshops.id_of_server(name) is None
    orm.Group.find(db, second).properties = {}
    db.flush()
    assert workshops.id_of_server(server_name(second)) is None
    db.rollback()
    assert workshops.id_of_server(server_name(second)) == second


@pytest.mark.parametrize("state", list(State))
def test_the_state_changes_by_the_clock_at_the_next_change_and_not_before(state: State) -> None:
    workshop = a_workshop(state=state, prepared_at=NOON - timedelta(minutes=5))
    now = NOON - timedelta(hours=1)
    for _ in range(10):
        following = next_change(workshop, now)
        if following is None:
            break
        just_before = following - timedelta(microseconds=1)
        assert effective_state(workshop, now) == effective_state(workshop, just_before)
        now = following
    assert next_change(workshop, now) is None
    assert effective_state(workshop, now) == effective_state(workshop, now + timedelta(days=365))
