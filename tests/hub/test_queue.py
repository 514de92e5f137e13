"""Many press the button at once: nobody is refused, everybody has a place, and the hub may be killed meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.narrow import held_start, one_at_a_time
from tests.people import Person
from tests.running import Platform, until


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that starts one seat at a time."""
    with one_at_a_time(tmp_path_factory.mktemp("narrow")) as running:
        yield running


def place_of(person: Person, workshop_id: str) -> int | None:
    """Where the page says that somebody stands; None when they don't wait."""
    text = person.page(workshop_id).text
    assert 'id="failure"' not in text, text
    found = re.search(r'id="progress-text">You are (?:next|number (\d+)) in line', text)
    return None if found is None else int(found[1] or 1)


@contextmanager
def events_of(person: Person, workshop_id: str) -> Iterator[Iterator[dict[str, object]]]:
    """What the page of a start is told, as its EventSource reads it."""
    page = person.page(workshop_id).text
    found = re.search(r'data-events="([^"]+)"', page)
    assert found, page
    url = f"{person.app}{found[1].replace('&amp;', '&')}"
    with person.client.stream("GET", url, headers={"Accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200, answer.read()
        yield (json.loads(line[5:]) for line in answer.iter_lines() if line.startswith("data:"))


def everybody(platform: Platform, stack: ExitStack, workshop_id: str, *names: str) -> list[Person]:
    people = [stack.enter_context(Person.new(platform, name)) for name in names]
    for person in people:
        person.join(workshop_id)
    return people


def order_of_starts(asked: list[tuple[Person, str]]) -> list[str]:
    """The names in the order in which their seats became ready; all keep looking at their pages."""
    order: list[str] = []

    def all_ready() -> bool:
        for person, workshop_id in asked:
            if 'id="open"' in person.page(workshop_id).text and person.name not in order:
                order.append(person.name)
        return len(order) == len(asked)

    until(all_ready, within_s=120, message=f"all are ready, so far {order}")
    return order


def test_starts_beyond_the_limit_wait_fairly_and_each_sees_their_place(narrow: Platform) -> None:
    big, small = narrow.opened(session="big")["id"], narrow.opened(session="small")["id"]
    with ExitStack() as stack:
        crowd = everybody(narrow, stack, big, "q1", "q2", "q3", "q4")
        (late,) = everybody(narrow, stack, small, "q9")
        for person in crowd:
            assert person.press_start(big).status_code == 200
        late.press_start(small)
        assert [place_of(person, big) for person in crowd[1:]] == [2, 3, 4], "one of the other workshop is before them"
        assert place_of(late, small) == 1
        with events_of(crowd[3], big) as events:
            first = next(event for event in events if "place" in event)
            assert (first["place"], first["of"]) == (4, 4)
            assert re.fullmatch(
                r"You are number 4 in line; your notebook's turn comes in about \d+ s", str(first["message"])
            )
            started = order_of_starts([(late, small), *((person, big) for person in crowd)])
            assert started == ["q1", "q9", "q2", "q3", "q4"]
            last = next(event for event in events if event.get("ready") or event.get("failed"))
            assert last.get("ready"), last
        for person in crowd:
            person.press_stop(big)
        late.press_stop(small)


def test_leaving_the_page_or_pressing_leave_gives_the_place_to_the_next(narrow: Platform) -> None:
    workshop = narrow.opened(session="leave")["id"]
    with ExitStack() as stack:
        first, gone, leaver, stays = everybody(narrow, stack, workshop, "l1", "l2", "l3", "l4")
        with held_start(narrow, first, workshop):
            for person in (gone, leaver, stays):
                person.press_start(workshop)
            assert place_of(stays, workshop) == 3
            with events_of(leaver, workshop) as events:  # the page of somebody who presses "Leave the line"
                assert next(event for event in events if "place" in event)["place"] == 2
                page = leaver.page(workshop)
                assert 'id="start"' in leaver.submit(page, f"/hub/workshops/{workshop}/stop").text
            assert place_of(stays, workshop) == 2
            with events_of(stays, workshop) as events:  # an open page keeps its place, one that was closed doesn't
                places = (event["place"] for event in events if "place" in event)
                assert next(place for place in places if place == 1) == 1
            assert 'id="start"' in gone.page(workshop).text
        until(lambda: 'id="open"' in stays.page(workshop).text, within_s=60, message="ready")
        for person in (first, stays):
            person.press_stop(workshop)


def test_a_hub_killed_with_people_in_line_keeps_their_order(narrow: Platform) -> None:
    workshop = narrow.opened(session="killed")["id"]
    with ExitStack() as stack:
        crowd = everybody(narrow, stack, workshop, "k1", "k2", "k3", "k4")
        with held_start(narrow, crowd[0], workshop):
            for person in crowd[1:3]:
                person.press_start(workshop)
            asked = narrow.api("POST", f"/workshops/{workshop}/seats/k4/start")
            assert (asked.status_code, asked.json()["state"], asked.json()["place"]) == (202, "waiting", 3), asked.text
            assert [place_of(person, workshop) for person in crowd[1:]] == [1, 2, 3]
            seats = narrow.api("GET", f"/workshops/{workshop}/seats").json()["items"]
            assert [seat["place"] for seat in seats] == [None, 1, 2, 3]
        os.kill(narrow.children()["hub"], signal.SIGKILL)

        def first_page() -> str | None:
            try:
                page = crowd[1].page(workshop)
            except httpx.HTTPError:
                return None
            return page.text if page.status_code == 200 else None

        again = until(first_page, within_s=40, every_s=0.01, message="the hub is back") or ""
        assert 'id="leave"' in again, f"the place is there from the first page on: {again}"
        assert order_of_starts([(person, workshop) for person in crowd]) == ["k1", "k2", "k3", "k4"]
        for person in crowd:
            assert len(narrow.servers_of(person.name)) == 1, "one seat each"
            person.press_stop(workshop)


def test_a_seat_whose_workshop_ends_while_it_waits_is_not_started(narrow: Platform) -> None:
    other, ending = narrow.opened(session="other")["id"], narrow.opened(session="ending")["id"]
    with ExitStack() as stack:
        (first,) = everybody(narrow, stack, other, "e1")
        (second,) = everybody(narrow, stack, ending, "e2")
        with held_start(narrow, first, other):
            second.press_start(ending)
            assert place_of(second, ending) == 1
            assert narrow.api("POST", f"/workshops/{ending}/end", json={}).status_code == 200
        until(lambda: 'id="open"' in first.page(other).text, within_s=60, message="ready")
        until(lambda: "refusal" in second.page(ending).text, within_s=30, message="over")
        assert not narrow.servers_of("e2")
        first.press_stop(other)
