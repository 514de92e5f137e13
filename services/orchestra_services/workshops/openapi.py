"""The OpenAPI 3.1 document, made from the table of routes and the pydantic models. Pure."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from orchestra_hub import __version__
from orchestra_hub.api_models import Problem
from orchestra_hub.permissions import TABLE
from orchestra_services.workshops.problems import PROBLEM_TYPE
from orchestra_services.workshops.routes import ROUTES, Route

__all__ = ["document", "error_statuses"]

_REF = "#/components/schemas/{model}"
_PARAMETERS = {
    "workshop_id": ("The workshop's id.", "rnaseq-intro-2026nov-k3x9qz"),
    "user": ("A hub user name.", "ada"),
    "name": ("A template's name.", "rnaseq-intro"),
}
_DESCRIPTIONS = {
    200: "Done.",
    201: "Made.",
    202: "Under way; ask for the seats to see how far it is.",
    204: "Done; nothing to say.",
    400: "The request can't be read: no JSON, no UTF-8.",
    401: "No token, or one the hub doesn't know (any more).",
    403: "The asker may not do this.",
    404: "No such thing, or nothing the asker may know of.",
    413: "The body is larger than 1 MiB.",
    415: "The body isn't `application/json`.",
    422: "Fields can't be accepted; `errors` says which and why.",
    429: "Too many wrong codes or invitations from this account and address; try again after `Retry-After` seconds.",
    500: "A fault of ours.",
    503: "The database or the hub doesn't answer; try again after `Retry-After` seconds.",
}
_INTRODUCTION = """\
The REST API of Orchestra Hub. Ask it with a Hub API token of yours (`Authorization: Bearer …`, from the hub's page
`/hub/token`); it acts as you. Times are ISO 8601 with offset. Every refusal is a problem-details answer (RFC 9457), its
`type` stays the same between releases. Every answer has an `X-Request-ID`; operators find it in the log.
"""


def error_statuses(route: Route) -> tuple[int, ...]:
    """The refusals a route can answer with, ascending."""
    statuses = {500, 503}
    if not route.public:
        statuses |= {401, 403}
    if "{" in route.path:
        statuses.add(404)
    if route.request is not None:
        statuses |= {400, 413, 415, 422}
    if route.query is not None:
        statuses |= {400, 422}
    if route.conflicts is not None or "{workshop_id}" in route.path:
        statuses.add(409)
    if route.guessable:
        statuses.add(429)
    return tuple(sorted(statuses - set(route.statuses)))


def document(server_url: str = "/") -> dict[str, Any]:
    """The whole document. `server_url` is where the API is served; the default is for the documentation."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Orchestra Hub", "version": __version__, "description": _INTRODUCTION},
        "servers": [{"url": server_url}],
        "tags": [{"name": name} for name in dict.fromkeys(route.tag for route in ROUTES)],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "hubToken": {"type": "http", "scheme": "bearer", "description": "A Hub API token of a user."}
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "description": _permission(route),
        "tags": [route.tag],
        "security": [] if route.public else [{"hubToken": []}],
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": _responses(route),
    }
    if route.request is not None:
        required = any(field.is_required() for field in route.request.model_fields.values())
        operation["requestBody"] = {"required": required, "content": _content(route.request)}
    return operation


def _permission(route: Route) -> str:
    if route.public:
        return "For anybody."
    askers = sorted({asker.value for action in route.actions for asker in TABLE[action]})
    if not askers or "visitor" in askers:
        return "For everybody who is signed in."
    return f"For: {', '.join(askers)}."


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PARAMETERS[name][0],
            "schema": {"type": "string"},
            "example": _PARAMETERS[name][1],
        }
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(ref_template=_REF)
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", []),
            "description": field.pop("description"),
            "schema": field,
        }
        for name, field in schema["properties"].items()
    ]


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in route.statuses:
        done = {"description": _DESCRIPTIONS[status], "headers": _headers(status)}
        responses[str(status)] = done if route.response is None else {**done, "content": _content(route.response)}
    for status in error_statuses(route):
        description = _conflicts(route) if status == 409 else _DESCRIPTIONS[status]
        responses[str(status)] = {
            "description": description,
            "headers": _headers(status),
            "content": {PROBLEM_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
        }
    return dict(sorted(responses.items()))


def _headers(status: int) -> dict[str, Any]:
    text: dict[str, Any] = {"schema": {"type": "string"}}
    headers = {"X-Request-ID": {"description": "Names this request in the log.", **text}}
    if status == 201:
        headers["Location"] = {"description": "Where the new thing is, when it has an address.", **text}
    if status == 401:
        headers["WWW-Authenticate"] = {"description": "How to sign in.", **text}
    if status == 503:
        headers["Retry-After"] = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
    return headers


def _content(answer: type[BaseModel] | str) -> dict[str, Any]:
    if answer == "application/json":
        return {answer: {"schema": {"type": "object"}}}
    if isinstance(answer, str):
        return {answer: {}}  # OpenAPI 3.1: binary content has no schema
    return {"application/json": {"schema": {"$ref": _REF.format(model=answer.__name__)}}}


def _schemas() -> dict[str, Any]:
    wanted: dict[type[BaseModel], JsonSchemaMode] = {Problem: "serialization"}
    read: Literal["validation"] = "validation"
    for route in ROUTES:
        for model in (route.request, route.query):
            if model is not None:
                wanted[model] = read
        if isinstance(route.response, type):
            wanted[route.response] = "serialization"
    _, schema = models_json_schema(list(wanted.items()), ref_template=_REF)
    queries = {route.query.__name__ for route in ROUTES if route.query is not None}
    found: dict[str, Any] = schema["$defs"]
    return {name: found[name] for name in sorted(found) if name not in queries}


def _conflicts(route: Route) -> str:
    damaged = "Part of what is kept of the workshop is damaged." if "{workshop_id}" in route.path else ""
    return f"{route.conflicts or ''} {damaged}".strip()
