"""Hashing: right and wrong ones, the same work for every kind, and a loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import bcrypt
import pytest

from orchestra_hub.passwords import PASSWORD_MAX_BYTES, Passwords, fits, hashed, threads_for

CHEAP = bcrypt.hashpw(b"correct-horse", bcrypt.gensalt(4))


def test_right_and_wrong() -> None:
    assert fits("correct-horse", hashed("correct-horse"))
    assert fits("correct-horse", CHEAP)
    assert not fits("Correct-horse", CHEAP)
    assert not fits("", CHEAP)
    assert not fits("correct-horse", None)
    assert not fits("", None)
    assert not fits("correct-horse", b"damaged")


def test_what_is_beyond_bcrypts_limit_is_not_left_out() -> None:
    longest = "é" * (PASSWORD_MAX_BYTES // 2)
    kept = hashed(longest)
    assert fits(longest, kept)
    assert not fits(longest + "x", kept)
    assert not fits("x" * 100_000, kept)


@pytest.mark.parametrize("strange", ["a\x00b", "\ud800", "🔑" * 18])
def test_any_text_can_be_tried(strange: str) -> None:
    assert not fits(strange, CHEAP)
    assert not fits(strange, None)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("right-one", hashed("right-one")), ("wrong", hashed("x")), ("unknown", None), ("x" * 500, hashed("x" * 72)),
     ("x" * 500, None), ("damaged", b"damaged")],
    ids=["right", "wrong", "unknown", "too long", "too long, unknown", "damaged"],
)  # fmt: skip
def test_every_answer_takes_one_whole_run_of_the_usual_cost(
    given: str, kept: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: list[bytes] = []
    run = bcrypt.hashpw

    def counted(password: bytes, salt: bytes) -> bytes:
        made = run(password, salt)
        costs.append(made[:7])
        return made

    monkeypatch.setattr(bcrypt, "hashpw", counted)
    fits(given, kept)
    assert costs == [b"$2b$12$"]


def test_one_core_is_left_for_pages() -> None:
    assert [threads_for(cores) for cores in (1, 2, 4, 64)] == [1, 1, 3, 63]


async def test_the_event_loop_goes_on_while_passwords_are_hashed() -> None:
    passwords = Passwords()
    work: list[asyncio.Future[Any]] = [asyncio.ensure_future(passwords.hashed(f"password-{n}")) for n in range(3)]
    work += [asyncio.ensure_future(passwords.fits("password", None)) for _ in range(3)]
    turns = 0
    while not all(each.done() for each in work):
        await asyncio.sleep(0)
        turns += 1
    assert turns > 1000, "hashing holds the event loop up"
    assert fits("password-1", work[1].result())
