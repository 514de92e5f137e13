"""Requests are refused where they are read, whatever is in them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from orchestra_hub import api_models
from orchestra_hub.api_models import Change, Enrol, Extend, Join, WorkshopCreate, WorkshopQuery
from orchestra_hub.workshop import JoinPolicy, Role, State

PLAIN = {"template": "counting", "session": "may", "opens_at": "now"}


def _create(**fields: object) -> WorkshopCreate:
    return WorkshopCreate.model_validate_json(json.dumps({**PLAIN, **fields}))


def test_the_least_that_makes_a_workshop() -> None:
    wanted = _create()
    assert wanted.opens_at == "now"
    assert wanted.join_policy is JoinPolicy.CODE
    assert wanted.hours is None


@pytest.mark.parametrize("text", ["now", " NOW "])
def test_now_is_a_time(text: str) -> None:
    assert _create(opens_at=text).opens_at == "now"


@pytest.mark.parametrize(
    "text", ["2026-11-03T09:00:00+01:00", "2026-11-03T08:00Z", "20261103T080000Z", " 2026-11-03T08:00:00.000Z "]
)
def test_times_become_utc(text: str) -> None:
    moment = _create(opens_at=text).opens_at
    assert moment == datetime(2026, 11, 3, 8, tzinfo=UTC)
    assert isinstance(moment, datetime) and moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"opens_at": "2026-11-03T09:00:00"}, "opens_at"),
        ({"opens_at": "tomorrow"}, "opens_at"),
        ({"opens_at": 1_700_000_000}, "opens_at"),
        ({"opens_at": "1700000000"}, "opens_at"),
        ({"opens_at": "0001-01-01T00:00:00+23:59"}, "opens_at"),
        ({"opens_at": "9999-12-31T23:59:59-23:59"}, "opens_at"),
        ({"opens_at": None}, "opens_at"),
        ({"expires_at": "2026"}, "expires_at"),
        ({"template": "../../etc"}, "template"),
        ({"template": "Counting"}, "template"),
        ({"template": "counting\n"}, "template"),
        ({"session": ""}, "session"),
        ({"session": "a--b"}, "session"),
        ({"session": "x" * 51}, "session"),
        ({"title": "two\nlines"}, "title"),
        ({"title": "a\x00b"}, "title"),
        ({"title": ""}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"teacher": "x\x1b[31m"}, "teacher"),
        ({"seats": 0}, "seats"),
        ({"seats": 10_001}, "seats"),
        ({"seats": "30"}, "seats"),
        ({"seats": True}, "seats"),
        ({"seats": 1.5}, "seats"),
        ({"hours": 0}, "hours"),
        ({"hours": -1}, "hours"),
        ({"hours": 1e300}, "hours"),
        ({"hours": "4"}, "hours"),
        ({"join_policy": "everybody"}, "join_policy"),
        ({"retention_h": -1}, "retention_h"),
        ({"idle_timeout_min": 0}, "idle_timeout_min"),
        ({"owner": "ada"}, "owner"),
    ],
)
def test_what_is_refused_and_where(fields: dict[str, object], pointer: str) -> None:
    with pytest.raises(ValidationError) as refused:
        _create(**fields)
    assert {fault["loc"][0] for fault in refused.value.errors()} == {pointer}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_hours_are_finite(number: str) -> None:
    with pytest.raises(ValidationError):
        WorkshopCreate.model_validate_json(f'{{"template": "a", "session": "b", "opens_at": "now", "hours": {number}}}')


def test_one_end_at_most() -> None:
    with pytest.raises(ValidationError, match="not both"):
        _create(hours=4, expires_at="2026-11-03T13:00Z")


@pytest.mark.parametrize("body", [{}, {"hours": 1, "expires_at": "2026-11-03T13:00Z"}])
def test_an_extension_has_exactly_one_end(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        Extend.model_validate_json(json.dumps(body))


@pytest.mark.parametrize("version", [0, -1, 2**63, "1", 1.5])
def test_a_version_is_a_small_number(version: object) -> None:
    with pytest.raises(ValidationError):
        Change.model_validate_json(json.dumps({"version": version}))


def test_codes_are_one_line() -> None:
    assert Join(code=None, invitation=None) == Join()
    with pytest.raises(ValidationError):
        Join.model_validate_json('{"code": "a\\u0000b"}')


def test_models_come_back_from_what_they_say() -> None:
    """The client sends what the service reads."""
    wanted = WorkshopCreate(template="counting", session="may", opens_at=datetime(2026, 11, 3, 8, tzinfo=UTC), seats=3)
    assert WorkshopCreate.model_validate_json(wanted.model_dump_json(exclude_none=True)) == wanted
    person = Enrol(user="ada", role=Role.INSTRUCTOR)
    assert Enrol.model_validate_json(person.model_dump_json()) == person


def test_a_query_is_text() -> None:
    query = WorkshopQuery.model_validate({"state": ["open", "closing"], "mine": "true", "limit": "5"})
    assert (query.state, query.mine, query.limit) == ([State.OPEN, State.CLOSING], True, 5)
    with pytest.raises(ValidationError):
        WorkshopQuery.model_validate({"limit": "0"})
    with pytest.raises(ValidationError):
        WorkshopQuery.model_validate({"after": "x' or 1"})


def _models() -> list[type[BaseModel]]:
    found = [getattr(api_models, name) for name in api_models.__all__]
    return [model for model in found if isinstance(model, type) and issubclass(model, BaseModel)]


@pytest.mark.parametrize("model", _models(), ids=lambda model: model.__name__)
def test_every_field_is_described(model: type[BaseModel]) -> None:
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name} has no description"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=_JSON, field=st.sampled_from([*WorkshopCreate.model_fields, *Extend.model_fields]))
def test_anything_is_read_or_refused(value: object, field: str) -> None:
    """No other error than `ValidationError`, whatever stands in a field."""
    for model, plain in ((WorkshopCreate, PLAIN), (Extend, {})):
        try:
            model.model_validate_json(json.dumps({**plain, field: value}))
        except ValidationError as error:
            assert error.errors()
