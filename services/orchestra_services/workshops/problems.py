"""From an error to a status and a problem-details answer (RFC 9457): one table for the API and the pages."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError

from orchestra_hub.api_models import FieldProblem, Problem
from orchestra_hub.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotFound,
    OrchestraError,
    StaleVersion,
    Temporary,
    TooManyAttempts,
    WorkshopDamaged,
    WorkshopFull,
    WrongState,
)

__all__ = [
    "KINDS",
    "ForgedRequest",
    "InvalidFields",
    "Kind",
    "MalformedRequest",
    "NotSignedIn",
    "TooLarge",
    "WrongMediaType",
    "WrongMethod",
    "headers_for",
    "invalid_fields",
    "kind_of",
    "kind_of_status",
    "problem_for",
]

PROBLEM_TYPE = "application/problem+json"
_MOST_FIELDS = 50


class MalformedRequest(InvalidInput):
    """What was sent can't be read at all: no JSON, no UTF-8."""


class InvalidFields(InvalidInput):
    """Fields of a request are at fault; `fields` says which."""

    def __init__(self, fields: list[FieldProblem]) -> None:
        super().__init__("Some of what was sent can't be accepted.")
        self.fields = fields


class NotSignedIn(OrchestraError):
    """No token, or one the hub doesn't know (any more)."""


class ForgedRequest(NotAllowed):
    """A change asked for with a cookie but without the token that shows it came from one of our pages."""


class TooLarge(InvalidInput):
    """A body over the limit."""


class WrongMediaType(InvalidInput):
    """A body that isn't `application/json`."""


class WrongMethod(InvalidInput):
    """A method this path doesn't have. `allowed` are those it has."""

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{method[:20]} isn't possible here. Use {' or '.join(allowed)}.")
        self.allowed = allowed


class Kind(NamedTuple):
    """A kind of problem: its status, and what stays the same between releases."""

    status: int
    name: str
    title: str

    @property
    def uri(self) -> str:
        """What `type` holds."""
        return f"urn:orchestra-hub:problem:{self.name}"


KINDS: Mapping[type[OrchestraError], Kind] = MappingProxyType(
    {
        MalformedRequest: Kind(400, "malformed-request", "The request can't be read"),
        NotSignedIn: Kind(401, "not-signed-in", "Not signed in"),
        NotAllowed: Kind(403, "not-allowed", "Not allowed"),
        ForgedRequest: Kind(403, "forged-request", "Not sent from one of our pages"),
        NotFound: Kind(404, "not-found", "Not found"),
        WrongMethod: Kind(405, "wrong-method", "Not possible here"),
        Conflict: Kind(409, "conflict", "It doesn't fit what stands now"),
        StaleVersion: Kind(409, "stale-version", "Changed meanwhile"),
        WorkshopFull: Kind(409, "workshop-full", "The workshop is full"),
        WorkshopDamaged: Kind(409, "workshop-damaged", "Part of what is kept of the workshop is damaged"),
        WrongState: Kind(409, "wrong-state", "The workshop's state doesn't allow it"),
        TooLarge: Kind(413, "too-large", "Too large"),
        WrongMediaType: Kind(415, "wrong-media-type", "Not JSON"),
        InvalidInput: Kind(422, "invalid-input", "Can't be accepted"),
        TooManyAttempts: Kind(429, "too-many-attempts", "Too many wrong attempts"),
        Temporary: Kind(503, "temporary", "Not possible just now"),
        OrchestraError: Kind(500, "failed", "Something went wrong"),
    }
)
"""The one table. A type that isn't in it has the kind of its nearest base."""


def kind_of(error: BaseException) -> Kind:
    """The kind of an error; anything that isn't ours is a fault of ours, 500."""
    return next((KINDS[base] for base in type(error).__mro__ if base in KINDS), KINDS[OrchestraError])


def kind_of_status(status: int) -> Kind:
    """The kind for a status that tornado or JupyterHub's sign-in chose."""
    for kind in KINDS.values():
        if kind.status == status:
            return kind
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Refused"
    return Kind(status, f"http-{status}", phrase)


def problem_for(error: BaseException, request_id: str) -> Problem:
    """The answer for an error. What isn't ours says nothing about itself: its text may hold anything."""
    kind = kind_of(error)
    known = isinstance(error, OrchestraError)
    detail = str(error) if known else f"This is our fault. Tell an operator the number {request_id}."
    fields: list[FieldProblem] = []
    if isinstance(error, InvalidFields):
        fields = error.fields
    elif isinstance(error, InvalidInput) and error.field:
        fields = [FieldProblem(pointer=error.field, detail=str(error))]
    return Problem(
        type=kind.uri,
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=f"urn:uuid:{request_id}",
        errors=fields,
    )


def headers_for(error: BaseException) -> dict[str, str]:
    """What else the answer says: how to sign in, what is allowed, when to come back."""
    if isinstance(error, NotSignedIn):
        return {"WWW-Authenticate": 'Bearer realm="Orchestra Hub"'}
    if isinstance(error, WrongMethod):
        return {"Allow": ", ".join(error.allowed)}
    if isinstance(error, Temporary):
        return {"Retry-After": str(error.retry_after_s)}
    return {}


def invalid_fields(error: ValidationError) -> InvalidInput:
    """Our error for pydantic's: malformed JSON, or the fields at fault as JSON pointers (RFC 6901)."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    if any(fault["type"] == "json_invalid" for fault in faults):
        return MalformedRequest(f"The body is no JSON: {faults[0]['msg'].removeprefix('Invalid JSON: ')}.")
    return InvalidFields([FieldProblem(pointer=_pointer(f["loc"]), detail=f["msg"]) for f in faults[:_MOST_FIELDS]])


def _pointer(location: tuple[Any, ...]) -> str:
    return "".join("/" + str(part)[:200].replace("~", "~0").replace("/", "~1") for part in location)
