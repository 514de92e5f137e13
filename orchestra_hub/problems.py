"""From a problem-details answer (RFC 9457) back to one of our errors. Pure."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from pydantic import ValidationError

from orchestra_hub.api_models import Problem
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

__all__ = ["READS", "UNANSWERED", "error_of"]

_BY_NAME: dict[str, type[Conflict]] = {
    "stale-version": StaleVersion,
    "workshop-damaged": WorkshopDamaged,
    "workshop-full": WorkshopFull,
    "wrong-state": WrongState,
}
_BY_STATUS: dict[int, Callable[[str], OrchestraError]] = {
    400: InvalidInput,
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    405: NotFound,
    409: Conflict,
    410: NotFound,
    412: StaleVersion,
    413: InvalidInput,
    415: InvalidInput,
    422: InvalidInput,
}
_LONGEST_WAIT_S = 3600
READS = ("GET", "HEAD")
UNANSWERED = "what was asked for may have been done all the same: look before you ask again."
"""What a change that got no answer means."""


def error_of(response: httpx.Response) -> OrchestraError:
    """The error that an unsuccessful answer stands for; its message is the service's sentence and what is at fault."""
    problem = _problem(response)
    status = response.status_code
    if problem is None:
        message, name = f"{response.request.url.copy_with(query=None)} answered {status}.", ""
        if status >= 500 and response.request.method not in READS:  # a proxy's word for a service that is away
            message = f"{message[:-1]}; {UNANSWERED}"
        if status == 401:
            message = "The token isn't valid (any more); on this machine `orchestra-hub up` makes a new one."
    else:
        said = problem.detail
        faults = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in problem.errors if fault.detail not in said)
        message = f"{problem.detail} {faults}".strip()
        name = problem.type.rsplit(":", 1)[-1].rsplit("/", 1)[-1]
    if status == 409 and name in _BY_NAME:
        return _BY_NAME[name](message)
    if status == 429 and name == "too-many-attempts":
        return TooManyAttempts(message, retry_after_s=_retry_after_s(response))
    if status == 429 or status >= 500:
        return Temporary(message, retry_after_s=_retry_after_s(response))
    if status in (400, 422) and problem is not None and problem.errors:
        return InvalidInput(message, field=problem.errors[0].pointer)
    return _BY_STATUS.get(status, OrchestraError)(message)


def _problem(response: httpx.Response) -> Problem | None:
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return None


def _retry_after_s(response: httpx.Response) -> int:
    value = response.headers.get("retry-after", "")
    return min(int(value), _LONGEST_WAIT_S) if value.isascii() and value.isdigit() else 5
