"""Ids, hosts and keys are what DNS and JupyterHub take, and nobody's are another's."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_hub import ids
from orchestra_hub.errors import InvalidInput

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABELS = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+)*", fullmatch=True)
COURSES = LABELS.filter(lambda text: len(text) <= ids.COURSE_NAME_MAX)
SESSIONS = LABELS.filter(lambda text: len(text) <= 15)
WORKSHOP_IDS = st.builds(ids.new_workshop_id, COURSES, SESSIONS)
USER_NAMES = st.one_of(
    st.text(min_size=1, max_size=80),
    st.text(alphabet="aA-_.@b", min_size=1, max_size=40),
    LABELS,
)


@given(COURSES, SESSIONS)
def test_a_new_id_is_valid_and_says_its_course_and_session(course: str, session: str) -> None:
    made = ids.new_workshop_id(course, session)
    assert made.startswith(f"{course}-{session}-")
    assert ids.is_workshop_id(made) and ids.check_workshop_id(made) == made
    assert DNS_LABEL.fullmatch(made) and "--" not in made
    assert set(made[-ids.RANDOM_LENGTH :]) <= set(ids.UNAMBIGUOUS_ALPHABET)


def test_ids_of_one_course_differ() -> None:
    assert len({ids.new_workshop_id("counting", "may") for _ in range(200)}) == 200


@given(WORKSHOP_IDS, USER_NAMES)
def test_a_seat_label_is_a_dns_label_whoever_it_is(workshop_id: str, user_name: str) -> None:
    label = ids.seat_label(workshop_id, user_name)
    assert len(label) <= 63 and DNS_LABEL.fullmatch(label)
    assert not ids.is_workshop_id(label)
    workshop_part = ids.workshop_label_of(label)
    assert ids.workshop_label_of(ids.seat_label(workshop_id, "somebody-else")) == workshop_part
    assert len(workshop_id) > 31 or workshop_part == workshop_id


@given(WORKSHOP_IDS, WORKSHOP_IDS, USER_NAMES, USER_NAMES)
def test_no_two_seats_share_a_label(one: str, other: str, somebody: str, another: str) -> None:
    seats = {(workshop_id, user) for workshop_id in (one, other) for user in (somebody, another)}
    assert len({ids.seat_label(workshop_id, user) for workshop_id, user in seats}) == len(seats)


@pytest.mark.parametrize(("one", "other"), [("Ada", "ada"), ("a.b", "a-b"), ("a--b", "a-b"), ("ä", "a"), ("a", "a ")])
def test_names_that_look_alike_have_different_labels(one: str, other: str) -> None:
    assert ids.seat_label("counting-may-abcdef", one) != ids.seat_label("counting-may-abcdef", other)


@given(WORKSHOP_IDS)
def test_a_server_name_is_what_the_hub_takes(workshop_id: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", ids.server_name(workshop_id))
    assert len(ids.server_name(workshop_id)) <= 30


@pytest.mark.parametrize("label", sorted(ids.RESERVED_LABELS))
def test_a_reserved_host_is_no_workshop(label: str) -> None:
    assert not ids.is_workshop_id(label)
    with pytest.raises(InvalidInput):
        ids.check_workshop_id(label)


@pytest.mark.parametrize("text", ["", "-a", "a-", "a--b", "A", "a_b", "a.b", "ä", "a" * 64, "a\n", "../a"])
def test_what_is_no_label_is_no_workshop(text: str) -> None:
    assert not ids.is_workshop_id(text)


@pytest.mark.parametrize(
    ("course", "session", "field"),
    [
        ("", "may", "/course"),
        ("RNA", "may", "/course"),
        ("a" * 41, "may", "/course"),
        ("counting", "may--june", "/session"),
        ("a" * 40, "b" * 16, "/session"),
    ],
)
def test_parts_that_dont_fit_are_refused_with_the_field(course: str, session: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ids.new_workshop_id(course, session)
    assert refused.value.field == field


def test_an_account_key_belongs_to_one_account() -> None:
    made = datetime(2030, 1, 1, tzinfo=UTC)
    key = ids.account_key("ada", made)
    assert key == ids.account_key("ada", made.replace(tzinfo=None))
    assert key == ids.account_key("ada", made.astimezone(timezone(timedelta(hours=5))))
    assert key != ids.account_key("ada", made + timedelta(microseconds=1))
    assert key != ids.account_key("Ada", made)
    assert DNS_LABEL.fullmatch(key)
