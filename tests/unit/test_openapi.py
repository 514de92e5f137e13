"""The OpenAPI document is valid, whole, and the one in the documentation."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orchestra_services.workshops.openapi import document, error_statuses
from orchestra_services.workshops.problems import KINDS
from orchestra_services.workshops.routes import ROUTES, Route

KEPT = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return document()


def _operation(whole: dict[str, Any], route: Route) -> dict[str, Any]:
    found: dict[str, Any] = whole["paths"][route.path][route.method.lower()]
    return found


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _dicts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _dicts(inner)


def test_it_is_openapi_3_1(whole: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", whole["openapi"])
    assert set(whole) == {"openapi", "info", "servers", "tags", "paths", "components"}
    assert whole["info"]["title"] and whole["info"]["version"]
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole


def test_every_reference_leads_somewhere(whole: dict[str, Any]) -> None:
    schemas = whole["components"]["schemas"]
    for name in schemas:
        assert re.fullmatch(r"[a-zA-Z0-9._-]+", name), name
    used = set()
    for part in _dicts(whole):
        if isinstance(part.get("$ref"), str):
            assert part["$ref"].startswith("#/components/schemas/"), part
            used.add(part["$ref"].rsplit("/", 1)[1])
    assert used <= set(schemas)


def test_every_schema_is_json_schema(whole: dict[str, Any]) -> None:
    """OpenAPI 3.1 takes JSON Schema 2020-12 as it is."""
    for schema in whole["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_examples_fit_their_schemas(whole: dict[str, Any]) -> None:
    root = {"components": whole["components"]}
    for model in whole["components"]["schemas"].values():
        for name, field in model.get("properties", {}).items():
            for example in field.get("examples", []):
                validator = jsonschema.Draft202012Validator({**root, **field})
                assert not list(validator.iter_errors(example)), (model["title"], name, example)


def test_operations_have_names_of_their_own() -> None:
    names = [route.operation_id for route in ROUTES]
    assert len(set(names)) == len(names)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_described_with_its_refusals(whole: dict[str, Any], route: Route) -> None:
    operation = _operation(whole, route)
    assert operation["summary"] and operation["description"] and operation["tags"]
    assert {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"} == set(
        re.findall(r"\{(\w+)\}", route.path)
    )
    assert ("requestBody" in operation) is (route.request is not None)
    expected = {*route.statuses, *error_statuses(route)}
    assert {int(status) for status in operation["responses"]} == expected
    for status, response in operation["responses"].items():
        assert response["description"]
        if int(status) in error_statuses(route):
            assert "application/problem+json" in response["content"]
    assert operation["security"] == ([] if route.public else [{"hubToken": []}])


def test_no_path_is_there_without_a_route(whole: dict[str, Any]) -> None:
    described = {(method.upper(), path) for path, item in whole["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_every_kind_of_problem_has_its_own_name() -> None:
    names = [kind.name for kind in KINDS.values()]
    assert len(set(names)) == len(names)
    documented = {status for route in ROUTES for status in error_statuses(route)}
    assert {kind.status for kind in KINDS.values()} - documented <= {405}  # the one every path has


def test_the_documentation_holds_this_document(whole: dict[str, Any]) -> None:
    """`ORCHESTRA_WRITE_DOCS=1` writes it anew."""
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("ORCHESTRA_WRITE_DOCS") == "1":
        KEPT.write_text(text, encoding="utf-8")
    assert KEPT.read_text(encoding="utf-8") == text, "docs/reference/openapi.json is old: ORCHESTRA_WRITE_DOCS=1"
