"""`OrchestraClient`: the REST API from Python.

```python
with OrchestraClient("http://api.localhost:8000", token) as client:
    workshop = client.create_workshop(WorkshopCreate(template="rnaseq-intro", session="2026nov", opens_at="now"))
    print(workshop.join_url)
```

Guarantees: answers are the models of `orchestra_hub.api_models`; whatever goes wrong is one of `orchestra_hub.errors`,
with the service's own sentence (RFC 9457 problem details) when it gave one. No error holds the token. Nothing is sent
twice: a change that got no answer may have been made, and its error says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from orchestra_hub.api_models import (
    Change,
    End,
    Enrol,
    EnrolmentPage,
    EventPage,
    EventView,
    Extend,
    Health,
    Join,
    Joined,
    Me,
    MendedView,
    RosterEntry,
    SeatList,
    SeatView,
    TemplateList,
    TemplateView,
    WorkshopCreate,
    WorkshopPage,
    WorkshopView,
)
from orchestra_hub.errors import InvalidInput, OrchestraError, Temporary
from orchestra_hub.localhost import LoopbackTransport
from orchestra_hub.problems import READS, UNANSWERED, error_of
from orchestra_hub.workshop import Role, State

__all__ = ["OrchestraClient"]

Model = TypeVar("Model", bound=BaseModel)
_PAGE = 200


class OrchestraClient:
    """The API at `base_url` (`https://api.example.org`), as the user whose Hub API token is given.

    `local_domain` is a domain whose names are this machine, beside `localhost`. Close it, or use it in `with`.
    Methods raise `InvalidInput`, `NotAllowed`, `NotFound`, `Conflict` (and its kinds) and `Temporary`.
    """

    def __init__(
        self, base_url: str, token: str | None = None, *, local_domain: str = "localhost", timeout_s: float = 30
    ) -> None:
        try:
            url = httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise InvalidInput(f"{base_url!r} is not a URL; it looks like 'http://api.localhost:8000'.") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise InvalidInput(f"{base_url!r} is not a URL; it looks like 'http://api.localhost:8000'.")
        headers = {"Accept": "application/json", "User-Agent": "orchestra-hub-client"}
        if token:
            headers["Authorization"] = f"token {token}"
        self._base_url = str(url).rstrip("/")
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout_s, transport=LoopbackTransport(local_domain)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def health(self) -> Health:
        """Whether the service can do its work; raises `Temporary` when it can't."""
        return self._get("/v1/health", Health)

    def me(self) -> Me:
        """Whose token this is."""
        return self._get("/v1/me", Me)

    def openapi(self) -> dict[str, Any]:
        """The API's own description, OpenAPI 3.1."""
        found: dict[str, Any] = self._send("GET", "/v1/openapi.json").json()
        return found

    def templates(self) -> list[TemplateView]:
        """The templates that can be used, in order of name."""
        return self._get("/v1/templates", TemplateList).items

    def template(self, name: str) -> TemplateView:
        """One template."""
        return self._get(f"/v1/templates/{_segment(name)}", TemplateView)

    def workshops(
        self, *, states: Iterable[State] = (), mine: bool = False, damaged: dict[str, str] | None = None
    ) -> Iterator[WorkshopView]:
        """Workshops, newest first, fetched page by page as they are used.

        Into `damaged` go those the asker answers for that can't be read, with what is wrong and what to do.
        """
        query: dict[str, Any] = {"limit": _PAGE, "state": [state.value for state in states]}
        if mine:
            query["mine"] = "true"
        while True:
            page = self._get("/v1/workshops", WorkshopPage, params=query)
            if damaged is not None:
                damaged |= page.damaged
            yield from page.items
            if page.next is None:
                return
            query["after"] = page.next

    def workshop(self, workshop_id: str) -> WorkshopView:
        """One workshop."""
        return self._get(_path(workshop_id), WorkshopView)

    def create_workshop(self, wanted: WorkshopCreate) -> WorkshopView:
        """Make a workshop."""
        return self._post("/v1/workshops", WorkshopView, wanted)

    def extend(
        self,
        workshop_id: str,
        *,
        hours: float | None = None,
        expires_at: datetime | None = None,
        version: int | None = None,
    ) -> WorkshopView:
        """Move a workshop's end, by hours or to a date; never past its deadline."""
        wanted = _request(Extend, hours=hours, expires_at=expires_at, version=version)
        return self._post(_path(workshop_id, "extend"), WorkshopView, wanted)

    def cancel(self, workshop_id: str, *, version: int | None = None) -> WorkshopView:
        """Cancel a workshop; data it has is kept as after an end."""
        return self._post(_path(workshop_id, "cancel"), WorkshopView, _request(Change, version=version))

    def end(self, workshop_id: str, *, version: int | None = None, damaged: bool = False) -> WorkshopView:
        """End a workshop now: it expires. `damaged`: one that can't be mended."""
        wanted = _request(End, version=version, damaged=True) if damaged else _request(Change, version=version)
        return self._post(_path(workshop_id, "end"), WorkshopView, wanted)

    def mend(self, workshop_id: str) -> MendedView:
        """Put right what somebody damaged in a workshop by hand."""
        return self._post(_path(workshop_id, "mend"), MendedView)

    def join(self, workshop_id: str, *, code: str | None = None, invitation: str | None = None) -> Joined:
        """Take a place in a workshop."""
        return self._post(_path(workshop_id, "join"), Joined, _request(Join, code=code, invitation=invitation))

    def leave(self, workshop_id: str) -> None:
        """Give one's place back."""
        self._send("POST", _path(workshop_id, "leave"))

    def enrolments(self, workshop_id: str) -> EnrolmentPage:
        """Everybody in a workshop, and invitations not used yet."""
        return self._get(_path(workshop_id, "enrolments"), EnrolmentPage)

    def enrol(self, workshop_id: str, user: str, role: Role = Role.LEARNER) -> RosterEntry:
        """Put a person on the roster; who has no account gets an invitation."""
        return self._post(_path(workshop_id, "enrolments"), RosterEntry, _request(Enrol, user=user, role=role))

    def remove(self, workshop_id: str, user: str) -> None:
        """Take a person's place away."""
        self._send("DELETE", _path(workshop_id, "enrolments", user))

    def seats(self, workshop_id: str) -> list[SeatView]:
        """The seats the asker may see."""
        return self._get(_path(workshop_id, "seats"), SeatList).items

    def start_seat(self, workshop_id: str, user: str) -> SeatView:
        """Start a seat; it answers before the seat is ready."""
        return self._post(_path(workshop_id, "seats", user, "start"), SeatView)

    def stop_seat(self, workshop_id: str, user: str) -> SeatView:
        """Stop a seat; its files stay."""
        return self._post(_path(workshop_id, "seats", user, "stop"), SeatView)

    def events(self, workshop_id: str) -> Iterator[EventView]:
        """What happened in a workshop, oldest first, fetched page by page as they are used."""
        query: dict[str, Any] = {"limit": _PAGE}
        while True:
            page = self._get(_path(workshop_id, "events"), EventPage, params=query)
            yield from page.items
            if page.next is None:
                return
            query["after"] = page.next

    def export(self, workshop_id: str, target: Path) -> int:
        """Write the asker's own files to `target` as a tar.gz; returns its size in bytes. A failure leaves no file."""
        partial = target.with_name(f".{target.name}.part")
        try:
            with self._translated("GET"), self._http.stream("GET", _path(workshop_id, "export")) as response:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target.stat().st_size

    def _get(self, path: str, model: type[Model], *, params: Mapping[str, Any] | None = None) -> Model:
        return _parsed(self._send("GET", path, params=params), model)

    def _post(self, path: str, model: type[Model], body: BaseModel | None = None) -> Model:
        content = None if body is None else body.model_dump(mode="json", exclude_none=True)
        return _parsed(self._send("POST", path, json=content), model)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._translated(method):
            response = self._http.request(method, path, **options)
        if not response.is_success:
            raise error_of(response)
        return response

    @contextmanager
    def _translated(self, method: str) -> Iterator[None]:
        advice = "try again." if method in READS else UNANSWERED
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Temporary(f"Nothing answers at {self._base_url}; is `orchestra-hub up` running there?") from error
        except httpx.TimeoutException as error:
            raise Temporary(f"{self._base_url} did not answer in time; {advice}") from error
        except httpx.HTTPError as error:
            broke = f"The connection to {self._base_url} broke ({type(error).__name__})"
            raise Temporary(f"{broke}; {advice}") from error


def _path(workshop_id: str, *rest: str) -> str:
    return "/".join(("/v1/workshops", _segment(workshop_id), *(_segment(part) for part in rest)))


def _segment(text: str) -> str:
    """`text` as one segment of a path: nothing in it can lead to another route."""
    if text in ("", ".", ".."):
        raise InvalidInput(f"{text!r} is not a name.")
    return "".join(char if char.isascii() and (char.isalnum() or char in "-_.~@") else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())


def _request(model: type[Model], **values: Any) -> Model:
    """A request's body; raises `InvalidInput` for what the service would refuse."""
    try:
        return model(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise _refused(error) from error


def _refused(error: ValidationError) -> InvalidInput:
    first = error.errors()[0]
    pointer = "".join(f"/{part}" for part in first["loc"])
    return InvalidInput(f"{pointer or 'The request'}: {first['msg']}.", field=pointer or None)


def _parsed(response: httpx.Response, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise OrchestraError(
            f"{response.request.url.copy_with(query=None)} answered what can't be read here; is it another release?"
        ) from error
