"""The line of starts: order, fairness, estimates, words."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_hub.hub.line import Place, Turns, Waiting, estimate_s, in_order, smoothed_s, told

NAMES = st.sampled_from(["", "a", "b", "c"])
LINES = st.lists(NAMES, max_size=40).map(
    lambda groups: [Waiting(f"{number}/{group}", group, number) for number, group in enumerate(groups)]
)


def _keys(order: list[Waiting]) -> list[int]:
    return [each.number for each in order]


def test_one_workshop_is_served_as_people_came() -> None:
    waiting = [Waiting(str(number), "a", number) for number in (3, 1, 2)]
    assert _keys(in_order(waiting, Turns())) == [1, 2, 3]


def test_two_of_another_workshop_do_not_wait_for_sixty() -> None:
    waiting = [Waiting(str(n), "big", n) for n in range(60)] + [Waiting(str(n), "small", n) for n in (60, 61)]
    order = _keys(in_order(waiting, Turns()))
    assert order.index(60) == 1
    assert order.index(61) == 3


def test_the_workshop_that_had_its_turn_comes_after_the_one_that_had_not() -> None:
    turns = Turns().given("big")
    waiting = [Waiting("1", "big", 1), Waiting("2", "big", 2), Waiting("3", "late", 3)]
    assert _keys(in_order(waiting, turns)) == [3, 1, 2]
    assert _keys(in_order(waiting[:2], turns.given("late"))) == [1, 2]


def test_who_was_away_has_saved_up_no_turns() -> None:
    turns = Turns()
    for _ in range(20):
        turns = turns.given("big")
    waiting = [Waiting(str(n), "big", n) for n in (1, 2)] + [Waiting(str(n), "new", n) for n in (3, 4, 5)]
    assert _keys(in_order(waiting, turns)) == [3, 1, 4, 2, 5]
    assert turns.counts == {"big": 20}


@given(LINES)
def test_everybody_is_in_the_order_once_and_nobody_overtakes_in_their_workshop(waiting: list[Waiting]) -> None:
    order = in_order(reversed(waiting), Turns())
    assert sorted(_keys(order)) == _keys(waiting)
    for group in {each.workshop for each in waiting}:
        own = [each.number for each in order if each.workshop == group]
        assert own == sorted(own)


@given(LINES, st.lists(NAMES, max_size=10))
def test_the_order_is_that_in_which_turns_are_given_one_by_one(waiting: list[Waiting], before: list[str]) -> None:
    turns = Turns()
    for workshop in before:
        turns = turns.given(workshop)
    foretold, left, given_turns = in_order(waiting, turns), list(waiting), []
    while left:
        following = in_order(left, turns)[0]
        turns = turns.given(following.workshop)
        left.remove(following)
        given_turns.append(following)
    assert given_turns == foretold


@given(LINES)
def test_at_every_moment_no_workshop_is_more_than_one_start_ahead_of_one_that_waits(waiting: list[Waiting]) -> None:
    order = in_order(waiting, Turns())
    served: Counter[str] = Counter()
    for place, each in enumerate(order):
        served[each.workshop] += 1
        still = {later.workshop for later in order[place + 1 :]}
        assert all(served[each.workshop] <= served[group] + 1 for group in still)


def test_the_estimate_grows_with_the_place_and_falls_with_starts_at_once() -> None:
    assert estimate_s(6, 3, 10.0) == 20.0
    assert estimate_s(1, 0, 10.0) == 10.0, "no limit is no division by zero"
    assert smoothed_s(10.0, 20.0) == pytest.approx(13.0)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place(1, 4, 2.0), "You are next in line; your notebook's turn comes in about 5 s"),
        (Place(12, 40, 41.0), "You are number 12 in line; your notebook's turn comes in about 40 s"),
        (Place(30, 40, 95.0), "You are number 30 in line; your notebook's turn comes in about 100 s"),
        (Place(40, 40, 300.0), "You are number 40 in line; your notebook's turn comes in about 5 min"),
        (Place(2, 2, 9.0, "Memory is short."), "You are number 2 in line. Memory is short."),
    ],
)
def test_a_place_is_told_in_words(place: Place, words: str) -> None:
    assert told(place) == words
