"""Tornado handlers made from the table: read and check a request, call its function, write the answer.

On `api.{domain}` people are known by a token in the `Authorization` header and by nothing else; below the pages on
`app.{domain}` also by the session's cookie, and then every change needs the XSRF token that only our pages can read.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from jupyterhub.services.auth import HubOAuthenticated
from pydantic import BaseModel, ValidationError
from tornado.web import HTTPError, RequestHandler

from orchestra_hub.errors import NotFound, OrchestraError
from orchestra_services.workshops.auth import Door
from orchestra_services.workshops.context import Context, Person, log
from orchestra_services.workshops.export import Download, send
from orchestra_services.workshops.in_time import in_time
from orchestra_services.workshops.problems import (
    PROBLEM_TYPE,
    ForgedRequest,
    MalformedRequest,
    NotSignedIn,
    WrongMediaType,
    WrongMethod,
    headers_for,
    invalid_fields,
    problem_for,
)
from orchestra_services.workshops.routes import ROUTES, Call, Reply, Route

__all__ = ["api_handlers", "new_request_id"]

_REQUEST_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_READS = ("GET", "HEAD", "OPTIONS")


def new_request_id(handler: RequestHandler) -> str:
    """The request's number: the proxy's if it is a UUID, else a new one."""
    given = handler.request.headers.get("X-Request-ID", "")
    return given.lower() if _REQUEST_ID.fullmatch(given) else str(uuid4())


class _Api(RequestHandler):
    """All operations of one path."""

    person: Person | None = None

    def initialize(self, routes: Sequence[Route], context: Context, door: Door, document: dict[str, Any]) -> None:
        """Tornado hands over what the rule has."""
        self._routes = {route.method: route for route in routes}
        self._context = context
        self._door = door
        self._document = document

    @property
    def request_id(self) -> str:
        """The request's number; made at first sight, also for requests tornado refuses by itself."""
        if not hasattr(self, "_request_id"):
            self._request_id = new_request_id(self)
        return self._request_id

    def set_default_headers(self) -> None:
        """What every answer has: never kept, never sniffed, nothing to run, no other origin's business."""
        self.set_header("X-Request-ID", self.request_id)
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.clear_header("Server")

    async def _answer(self, **path: str) -> None:
        route = self._routes.get("GET" if self.request.method == "HEAD" else self.request.method or "")
        if route is None or (self.request.method == "HEAD" and isinstance(route.response, str)):
            raise WrongMethod(self.request.method or "", self._allowed())
        person = None if route.public else await self.who_asks()
        call = Call(
            self._context,
            person,
            path,
            self._body(route),
            self._query(route),
            self._document,
            self.request.remote_ip or "",
        )
        result = await in_time(route.handler(call), self._context.request_timeout_s, route.needs_hub)
        if isinstance(result, Download):
            await send(self, result)
            return
        self._write(route, result if isinstance(result, Reply) else Reply(result))

    get = head = post = put = patch = delete = _answer

    def options(self, **_: str) -> None:
        """What the path allows; no other origin is let in, so no CORS headers."""
        self.set_header("Allow", ", ".join(self._allowed()))
        self.set_status(204)

    def _allowed(self) -> tuple[str, ...]:
        heads = ["HEAD"] if "GET" in self._routes and not isinstance(self._routes["GET"].response, str) else []
        return (*self._routes, *heads, "OPTIONS")

    async def who_asks(self) -> Person:
        """Who asks."""
        self.person = await self._door.by_token(self._door.oauth.get_token(self, in_cookie=False))
        return self.person

    def _body(self, route: Route) -> BaseModel | None:
        if route.request is None:
            return None
        body = self.request.body
        if not body.strip():
            body = b"{}"
        else:
            media_type = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if media_type != "application/json":
                raise WrongMediaType("Send the body as JSON, with `Content-Type: application/json`.")
        try:
            return route.request.model_validate_json(body)
        except ValidationError as error:
            raise invalid_fields(error) from error

    def _query(self, route: Route) -> BaseModel | None:
        if route.query is None:
            return None
        given: dict[str, Any] = {}
        try:
            for name, values in self.request.query_arguments.items():
                texts = [value.decode() for value in values]
                field = route.query.model_fields.get(name)
                given[name] = texts if len(texts) > 1 or (field and _is_list(field.annotation)) else texts[0]
        except UnicodeDecodeError as error:
            raise MalformedRequest("The query string is no UTF-8.") from error
        try:
            return route.query.model_validate(given)
        except ValidationError as error:
            raise invalid_fields(error) from error

    def _write(self, route: Route, reply: Reply) -> None:
        self.set_status(reply.status or route.statuses[0])
        if reply.location is not None:
            self.set_header("Location", self._below_v1(reply.location))
        if reply.content is None:
            return
        self.set_header("Content-Type", "application/json")
        if isinstance(reply.content, BaseModel):
            self.finish(reply.content.model_dump_json())
        else:
            self.finish(reply.content)

    def _below_v1(self, rest: str) -> str:
        before, _, _ = self.request.path.partition("/v1/")
        return f"{before}/v1/{rest}"

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every refusal, ours or tornado's, as problem details."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, HTTPError) or error is None:
            error = self._translated(status_code)
        problem = problem_for(error, self.request_id)
        for name, value in headers_for(error).items():
            self.set_header(name, value)
        self.set_status(problem.status)
        self.set_header("Content-Type", PROBLEM_TYPE)
        self.finish(problem.model_dump_json(exclude_none=True))

    def _translated(self, status: int) -> OrchestraError:
        """Our error for one of tornado's own."""
        match status:
            case 404:
                return NotFound(f"There is nothing at {self.request.path[:200]}.")
            case 405:
                return WrongMethod(self.request.method or "", self._allowed())
            case _ if status < 500:
                return MalformedRequest(
                    "The request is no HTTP that can be read: its line, headers or form are broken."
                )
            case _:
                return OrchestraError("Something went wrong on our side.")

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """A traceback for faults of ours only; refusals have their line in the access log."""
        if value is not None and not isinstance(value, OrchestraError | HTTPError):
            log.error("request=%s failed", self.request_id, exc_info=value)


class _ApiOfPages(HubOAuthenticated, _Api):  # type: ignore[misc]  # jupyterhub has no types
    """The same for our pages, on the hub's host."""

    def initialize(self, routes: Sequence[Route], context: Context, door: Door, document: dict[str, Any]) -> None:
        """Tornado hands over what the rule has."""
        super().initialize(routes, context, door, document)
        self.hub_auth = door.oauth

    def get_current_user(self) -> Any:
        """Only asked by JupyterHub's XSRF cookie, which lasts longer for people who are signed in."""
        return self.person

    async def who_asks(self) -> Person:
        """Who asks, by token or by cookie; by cookie only with the XSRF token."""
        if self._door.oauth.get_token(self, in_cookie=False):
            return await super().who_asks()
        if self.request.method not in _READS:
            try:
                self.check_xsrf_cookie()
            except HTTPError as error:
                raise ForgedRequest(
                    "A change by cookie needs the page's XSRF token in the header X-XSRFToken. Reload the page."
                ) from error
        person = await self._door.by_session(self)
        if person is None:
            raise NotSignedIn("You are not signed in (any more). Sign in again.")
        self.person = person
        return person


def _is_list(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return any(_is_list(part) for part in typing.get_args(annotation))
    return typing.get_origin(annotation) is list


def api_handlers(
    context: Context, door: Door, document: dict[str, Any], *, prefix: str = "", pages: bool = False
) -> list[tuple[str, type[RequestHandler], dict[str, Any]]]:
    """The rules below `prefix` for every path of the table, and one for everything else there."""
    handler: type[RequestHandler] = _ApiOfPages if pages else _Api
    shared = {"context": context, "door": door, "document": document}
    by_path: dict[str, list[Route]] = {}
    for route in ROUTES:
        by_path.setdefault(route.path, []).append(route)
    rules = [
        (re.escape(prefix) + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path), handler, {"routes": routes, **shared})
        for path, routes in by_path.items()
    ]
    return [*rules, (f"{re.escape(prefix)}/.*", _Nothing, shared)]


class _Nothing(_Api):
    """For paths that aren't in the table."""

    def initialize(self, context: Context, door: Door, document: dict[str, Any]) -> None:  # type: ignore[override]  # it has no routes
        """Tornado hands over what the rule has."""
        super().initialize([], context, door, document)

    def prepare(self) -> None:
        """Whatever the method."""
        raise NotFound(f"There is nothing at {self.request.path[:200]}. The API is described at /v1/openapi.json.")
