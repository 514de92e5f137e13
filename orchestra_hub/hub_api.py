"""The Hub API (JupyterHub 6) as our services use it, with our own words and errors.

Every call has a time-out. Asking twice is always safe: what is already so is no error. Errors:

- `HubUnavailable`: no answer, a server error, or this service's token was refused.
- `NotAllowed`, `WrongState`, `Temporary`: the hub refused a start; `str()` of it is the hub's own sentence.
- `NotFound`: no such user, group or server, where that isn't an answer in itself.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from orchestra_hub.errors import HubUnavailable, NotAllowed, NotFound, ProvisionFailed, Temporary, WrongState
from orchestra_hub.ids import account_key
from orchestra_hub.workshop import HUB_PROPERTY, Account, WorkshopFacts, parse_time

__all__ = ["ChangeGuard", "GroupOutline", "HubAPI", "HubGroup", "HubUser", "SeatStatus"]

_READ_TIMEOUT_S = 15.0
_START_TIMEOUT_S = 60.0  # the hub answers 202 after `slow_spawn_timeout`, 10 s; stopping takes a grace period
_PAGE = 200
_REFUSED = range(400, 501)


@dataclass(frozen=True)
class HubUser:
    """A user of the hub. `key` tells this account from another of the same name (`ids.account_key`)."""

    name: str
    key: str
    admin: bool
    groups: tuple[str, ...]

    @property
    def account(self) -> Account:
        """Name and key."""
        return Account(name=self.name, key=self.key)


@dataclass(frozen=True)
class HubGroup:
    """A group of the hub; `facts` is None when it isn't a workshop's or somebody damaged them."""

    name: str
    members: frozenset[str]
    facts: WorkshopFacts | None


@dataclass(frozen=True, slots=True)
class GroupOutline:
    """A workshop's group in short (`orchestra_hub.hub.digests`)."""

    id: str
    digest: str
    running: int
    strangers: int


@dataclass(frozen=True)
class SeatStatus:
    """A seat's server as the hub sees it. `pending` is `spawn`, `stop` or None; `failure` a sentence or None;
    `place` and `wait_s` say where in the hub's line a start waits."""

    user: str
    account_key: str
    server: str
    ready: bool
    pending: str | None
    stopped: bool
    started: datetime | None
    last_activity: datetime | None
    url: str
    failure: str | None
    place: int | None = None
    wait_s: float | None = None

    @property
    def active(self) -> bool:
        """Whether it runs, starts or stops."""
        return not self.stopped or self.pending is not None


class ChangeGuard(Protocol):
    """Who may change the hub, and until when. Both methods raise when it may not be changed (any more)."""

    async def check(self) -> None:
        """Before a change is begun."""

    def confirm(self) -> None:
        """In the moment in which it is sent."""


class HubAPI:
    """Calls the Hub API at `api_url` (`http://127.0.0.1:8081/hub/api`) with a service's token.

    Use it as `async with`, or call `aclose()`. A `client` given stays the giver's to close.
    """

    def __init__(
        self,
        api_url: str,
        token: str,
        client: httpx.AsyncClient | None = None,
        guard: ChangeGuard | None = None,
    ) -> None:
        self._url = api_url.rstrip("/")
        self._token = token
        self._headers = {"Authorization": f"token {token}"}
        self._owns_client = client is None
        self._client = client if client is not None else httpx.AsyncClient(trust_env=False)
        self._guard = guard

    def guarded(self, guard: ChangeGuard) -> Self:
        """The same hub through the same connections; what `guard` raises keeps a call that changes something from
        being made."""
        return type(self)(self._url, self._token, self._client, guard)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless the client was given."""
        if self._owns_client:
            await self._client.aclose()

    async def ping(self) -> None:
        """Raises `HubUnavailable` unless the hub answers."""
        await self._ask("GET", "")

    # Users

    async def user(self, name: str) -> HubUser | None:
        """The user called `name`; None when there is none."""
        response = await self._ask("GET", f"users/{_part(name)}", silent=(404,))
        return None if response.status_code == 404 else _user(_object(response))

    async def users(self) -> list[HubUser]:
        """All users, page by page."""
        return [_user(model) for model in await self._pages("users")]

    # Groups

    async def group(self, workshop_id: str) -> HubGroup | None:
        """The workshop's group; None when there is none."""
        response = await self._ask("GET", f"groups/{_part(workshop_id)}", silent=(404,))
        return None if response.status_code == 404 else _group(_object(response))

    async def groups(self) -> list[HubGroup]:
        """All groups, page by page."""
        return [_group(model) for model in await self._pages("groups")]

    async def group_outlines(self) -> list[GroupOutline]:
        """Every workshop's group in short, page by page."""
        found: list[GroupOutline] = []
        after: str | None = ""
        while after is not None:
            page = _object(await self._ask("GET", f"orchestra/workshops?after={_part(after)}"))
            try:
                found += [GroupOutline(**item) for item in page["items"]]
                after = page["next"]
            except (KeyError, TypeError) as error:
                raise HubUnavailable("The hub's answer to GET orchestra/workshops is not as it should be.") from error
        return found

    async def group_members(self, workshop_id: str) -> list[str] | None:
        """The names of those in the workshop's group, sorted; None when there is no group."""
        group = await self.group(workshop_id)
        return None if group is None else sorted(group.members)

    async def ensure_group(self, facts: WorkshopFacts) -> bool:
        """Make the workshop's group if it isn't there, and write its facts; whether it had to be made."""
        response = await self._ask("POST", f"groups/{_part(facts.id)}", {}, silent=(409,))
        await self.put_facts(facts)
        return response.status_code != 409

    async def put_facts(self, facts: WorkshopFacts) -> None:
        """Write the facts into the workshop's group; raises `NotFound` when there is none."""
        body = {HUB_PROPERTY: facts.model_dump(mode="json")}
        await self._ask("PUT", f"groups/{_part(facts.id)}/properties", body)

    async def add_members(self, workshop_id: str, names: Collection[str]) -> None:
        """Add users to the group; raises `NotFound`, and adds nobody, when the group or one of them isn't there."""
        if names:
            await self._ask("POST", f"groups/{_part(workshop_id)}/users", {"users": sorted(names)})

    async def remove_members(self, workshop_id: str, names: Collection[str]) -> None:
        """Take users out of the group. Those who aren't in it, or are no users any more, are no error."""
        path = f"groups/{_part(workshop_id)}/users"
        try:
            if names:
                await self._ask("DELETE", path, {"users": sorted(names)})
        except NotFound:  # one of them is gone: the hub then removes nobody
            for name in names if len(names) > 1 else ():
                await self.remove_members(workshop_id, [name])

    async def delete_group(self, workshop_id: str) -> bool:
        """Delete the group; whether there was one."""
        response = await self._ask("DELETE", f"groups/{_part(workshop_id)}", silent=(404,))
        return response.status_code != 404

    # Servers

    async def seats(self, workshop_id: str) -> list[SeatStatus]:
        """Every seat of a workshop that the hub knows, running or stopped, its user enrolled or not."""
        response = await self._ask("GET", f"orchestra/workshops/{_part(workshop_id)}/seats")
        return [_seat(model) for model in _list(response)]

    async def start(self, user: str, server: str) -> bool:
        """Start a server; True once it runs, False while it still starts. Starting or running already is fine.

        Raises the hub's refusal: `NotAllowed`, `WrongState`, `Temporary`; `ProvisionFailed` when it failed to start.
        """
        response = await self._ask("POST", _server(user, server), timeout_s=_START_TIMEOUT_S, silent=_REFUSED)
        code, sentence = response.status_code, _message(response)
        if code < 400:
            return code != 202
        if code == 400 and sentence.endswith("is already running"):
            return True
        if code == 400 and sentence.endswith(("is pending spawn", "is pending check")):
            return False
        if code == 400 and " is pending " in sentence:
            raise Temporary("The server is just stopping. Try again in a few seconds.")
        if code == 500:
            raise ProvisionFailed(sentence or "The hub could not start the server. Try again.")
        raise self._refusal(response, sentence, "start")

    async def stop(self, user: str, server: str, remove: bool = False) -> bool:
        """Stop a server, and forget it if `remove`; True once done, False while it still stops. None there: True."""
        body = {"remove": True} if remove else None
        response = await self._ask("DELETE", _server(user, server), body, timeout_s=_START_TIMEOUT_S, silent=(400, 404))
        if response.status_code == 400:
            raise Temporary(_message(response) or "The hub can't stop the server just now. Try again.")
        return response.status_code != 202

    # The wire

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = _READ_TIMEOUT_S,
        silent: Iterable[int] = (),
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        url = path if "://" in path else f"{self._url}/{path}"
        sent = None if body is None else json.dumps(body).encode()
        extensions = {}
        if self._guard is not None and method != "GET":
            await self._guard.check()
            extensions["trace"] = _confirming(self._guard)
        try:
            response = await self._client.request(
                method, url, content=sent, headers={**self._headers, **(headers or {})}, timeout=timeout_s,
                extensions=extensions,
            )  # fmt: skip
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise HubUnavailable(f"The hub does not answer ({method} {path.split('?')[0]}: {why}).") from error
        if response.is_success or response.status_code in silent:
            return response
        raise self._refusal(response, _message(response), f"{method} {path.split('?')[0]}")

    def _refusal(self, response: httpx.Response, sentence: str, what: str) -> Exception:
        code = response.status_code
        if code == 403 and sentence.startswith(("Missing or invalid credentials", "Action is not authorized")):
            return HubUnavailable(f"The hub refused this service's token for {what}: {sentence} Check its scopes.")
        if code == 404 or (code == 400 and sentence.startswith("No such user")):
            return NotFound(sentence or f"The hub knows nothing of what {what} needs.")
        if code == 403:
            return NotAllowed(sentence)
        if code == 429:
            return Temporary(sentence, retry_after_s=_seconds(response.headers.get("Retry-After")))
        if code >= 500 or code < 400:
            return HubUnavailable(f"The hub answered {what} with status {code}: {sentence}")
        return WrongState(sentence or f"The hub answered {what} with status {code}.")

    async def _pages(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        accept = {"Accept": "application/jupyterhub-pagination+json"}
        while True:
            model = _object(await self._ask("GET", f"{path}?offset={len(found)}&limit={_PAGE}", headers=accept))
            items = model.get("items")
            if not isinstance(items, list):
                raise HubUnavailable(f"The hub's answer to GET {path} has no items.")
            found += items
            if not items or not model.get("_pagination", {}).get("next"):
                return found


def _confirming(guard: ChangeGuard) -> Callable[[str, object], Awaitable[None]]:
    """httpcore's `trace` extension: the guard has the last word once there is a connection, before a byte is sent."""

    async def trace(event: str, _: object) -> None:
        if event.endswith(".send_request_headers.started"):
            guard.confirm()

    return trace


def _part(value: str) -> str:
    return quote(value, safe="@")


def _server(user: str, server: str) -> str:
    return f"users/{_part(user)}/servers/{_part(server)}" if server else f"users/{_part(user)}/server"


def _object(response: httpx.Response) -> dict[str, Any]:
    model = _json(response)
    if not isinstance(model, dict):
        raise HubUnavailable(f"The hub's answer to {response.request.url.path} is no JSON object.")
    return model


def _list(response: httpx.Response) -> list[dict[str, Any]]:
    model = _json(response)
    if not isinstance(model, list):
        raise HubUnavailable(f"The hub's answer to {response.request.url.path} is no JSON list.")
    return model


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise HubUnavailable(f"The hub's answer to {response.request.url.path} is no JSON.") from error


def _message(response: httpx.Response) -> str:
    try:
        model = response.json()
    except ValueError:
        return ""
    return str(model.get("message") or "") if isinstance(model, dict) else ""


def _seconds(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else 5


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)


def _user(model: Mapping[str, Any]) -> HubUser:
    created = model.get("created")
    if created is None:
        raise HubUnavailable("The hub does not tell this service when accounts were made: its token needs read:users.")
    key = account_key(model["name"], parse_time(created))
    return HubUser(model["name"], key, bool(model.get("admin")), tuple(model.get("groups", ())))


def _group(model: Mapping[str, Any]) -> HubGroup:
    facts: WorkshopFacts | None
    try:
        facts = WorkshopFacts.model_validate((model.get("properties") or {}).get(HUB_PROPERTY))
    except (ValidationError, AttributeError):
        facts = None
    if facts is not None and facts.id != model["name"]:
        facts = None  # another workshop's
    return HubGroup(model["name"], frozenset(model.get("users", ())), facts)


def _seat(model: Mapping[str, Any]) -> SeatStatus:
    plain = {name: model[name] for name in SeatStatus.__dataclass_fields__ if name in model}
    return SeatStatus(**{**plain, "started": _time(model["started"]), "last_activity": _time(model["last_activity"])})
