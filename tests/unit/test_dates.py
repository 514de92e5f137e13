"""Times without offset don't get in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestra_hub.dates import in_utc, moment_from, told, utcnow
from orchestra_hub.errors import InvalidInput
from tests.unit.workshops import NOON


@pytest.mark.parametrize("text", ["2030-05-06T12:00Z", "2030-05-06T14:00+02:00", " now ", "NOW"])
def test_a_moment_is_read_in_utc(text: str) -> None:
    assert moment_from(text, NOON) == NOON
    assert moment_from(text, NOON).tzinfo is UTC


@pytest.mark.parametrize("text", ["2030-05-06T12:00", "2030-05-06", "soon", "", "12:00Z"])
def test_what_isnt_a_moment_is_refused_with_the_field(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        moment_from(text, NOON, field="/opens_at")
    assert refused.value.field == "/opens_at"


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has no offset"):
        in_utc(datetime(2030, 5, 6))


def test_the_clock_is_aware() -> None:
    assert utcnow().tzinfo is UTC


def test_told_is_for_any_reader() -> None:
    assert told(moment_from("2030-05-06T14:30+02:00", NOON)) == "2030-05-06 12:30 UTC"
