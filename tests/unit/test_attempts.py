"""Counting wrong attempts: how many, whose, for how long. `limits` reads the system's clock: windows are short here."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from orchestra_hub.attempts import Attempts
from orchestra_hub.errors import TooManyAttempts
from tests.running import until


def wrong(attempts: Attempts, account: str = "ada", address: str = "192.0.2.1") -> None:
    with attempts.one(account, address):
        pass


def right(attempts: Attempts, account: str = "ada", address: str = "192.0.2.1") -> None:
    with attempts.one(account, address) as attempt:
        attempt.right = True


def test_the_eleventh_wrong_one_is_refused_and_says_when() -> None:
    attempts = Attempts(10, 300)
    for _ in range(10):
        wrong(attempts)
    for attempt in (wrong, right):
        with pytest.raises(TooManyAttempts) as refused:
            attempt(attempts)
        assert 1 <= refused.value.retry_after_s <= 300
        assert "Try again in 5 minutes" in str(refused.value)


def test_account_and_address_count_together() -> None:
    attempts = Attempts(10, 300)
    for _ in range(10):
        wrong(attempts)
    for number in range(60):
        right(attempts, f"learner-{number}")
    right(attempts, address="192.0.2.2")
    with pytest.raises(TooManyAttempts):
        right(attempts)


def test_right_ones_are_neither_counted_nor_forget_the_wrong() -> None:
    attempts = Attempts(3, 300)
    for _ in range(20):
        right(attempts)
    for _ in range(3):
        right(attempts)
        wrong(attempts)
        if _ < 2:
            right(attempts)
    with pytest.raises(TooManyAttempts):
        right(attempts)


def test_what_is_under_way_counts_so_that_nothing_slips_through_at_once() -> None:
    attempts = Attempts(10, 300)
    with ExitStack() as under_way:
        held = [under_way.enter_context(attempts.one("ada", "192.0.2.1")) for _ in range(10)]
        with pytest.raises(TooManyAttempts) as refused:
            wrong(attempts)
        assert refused.value.retry_after_s == 1
        for attempt in held[:9]:
            attempt.right = True
    for _ in range(9):  # one of them was wrong
        wrong(attempts)
    with pytest.raises(TooManyAttempts):
        wrong(attempts)


def test_one_that_broke_off_counts() -> None:
    attempts = Attempts(1, 300)
    with pytest.raises(RuntimeError), attempts.one("ada", "192.0.2.1"):
        raise RuntimeError
    with pytest.raises(TooManyAttempts):
        wrong(attempts)


def test_the_wait_ends_when_it_was_said_to() -> None:
    attempts = Attempts(2, 1)
    wrong(attempts)
    wrong(attempts)
    with pytest.raises(TooManyAttempts) as refused:
        wrong(attempts)
    said = time.monotonic() + refused.value.retry_after_s

    def let_in() -> bool:
        try:
            right(attempts)
        except TooManyAttempts:
            return False
        return True

    until(let_in, within_s=5, every_s=0.02)
    assert time.monotonic() < said + 2


def test_no_name_or_address_collides_with_another() -> None:
    attempts = Attempts(1, 300)
    wrong(attempts, "a", "1/b")
    right(attempts, "b/a", "1")
    wrong(attempts, "\ud800", "")
    right(attempts, "", "\ud800")
