"""The queue of starts with its table in a real database: how many begin at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from orchestra_hub.hub.queue import Asked, StartQueue
from orchestra_hub.hub.queue_rows import QueueRows


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[QueueRows]:
    engine = create_engine(f"sqlite:///{tmp_path}/hub.sqlite")
    with Session(engine) as session:
        made = QueueRows(lambda: session, lambda: datetime(2026, 11, 24, tzinfo=UTC))
        made.make_table()
        yield made
    engine.dispose()


@pytest.mark.parametrize(("limit", "begun"), [(0, 5), (2, 2), (9, 5)])
async def test_as_many_begin_as_the_limit_says_and_0_is_none(rows: QueueRows, limit: int, begun: int) -> None:
    queue = StartQueue(rows, starts_at_once=limit, leave_s=60)
    queue.open()
    running: set[int] = set()
    go_on = asyncio.Event()

    async def start(user_id: int) -> None:
        async with queue.turn(Asked(user_id, "s", "w", attended=False, obstacle=lambda: None)):
            running.add(user_id)
            await go_on.wait()

    starts = []
    for user_id in range(5):
        starts.append(asyncio.create_task(start(user_id)))
        await asyncio.sleep(0)  # asked for one after the other
        await asyncio.sleep(0)
    assert running == set(range(begun)), "in the order in which they were asked for"
    go_on.set()
    await asyncio.gather(*starts)
    assert running == set(range(5)), "the others had their turn"
    await queue.close()


async def test_until_it_is_open_starts_have_places_and_none_begins(rows: QueueRows) -> None:
    queue = StartQueue(rows, starts_at_once=1, leave_s=60)
    began: list[int] = []

    async def start(user_id: int) -> None:
        async with queue.turn(Asked(user_id, "s", "w", attended=False, obstacle=lambda: None)):
            began.append(user_id)

    starts = []
    for user_id in (7, 8):
        starts.append(asyncio.create_task(start(user_id)))
        await asyncio.sleep(0)
    places = [queue.place(user_id, "s") for user_id in (7, 8)]
    assert [place and place.number for place in places] == [1, 2] and not began
    queue.open()
    await asyncio.gather(*starts)
    assert began == [7, 8]
    await queue.close()
