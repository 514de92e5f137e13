"""Who asks: a Hub API token or a Hub OAuth session, turned into an account of the hub.

Guarantees:

- A token counts only if it may use this service (scope `access:services!service=workshops`): a seat's own server token
  can't.
- What the hub says of a token holds for `CACHE_S` seconds, with the token and the sign-in session as key: signing out
  counts at once, a revoked token or a lost admin right within that time.
- The account's key comes from the hub's own record of when it was made, read with this service's token.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

from jupyterhub.services.auth import HubOAuth
from tornado.web import HTTPError

from orchestra_hub.errors import HubUnavailable, NotAllowed
from orchestra_hub.hub_api import HubAPI
from orchestra_services.workshops.context import Person
from orchestra_services.workshops.problems import NotSignedIn

__all__ = ["CACHE_S", "Door", "cookie_secret", "hub_oauth"]

CACHE_S = 10  # 0 would mean for ever to JupyterHub's HubAuth
_MOST_CACHED = 10_000


def cookie_secret(api_token: str) -> bytes:
    """What signs this service's cookies: made from its token, so it lasts as long and every replica has the same."""
    return hmac.digest(api_token.encode(), b"orchestra-hub workshops service: cookies", hashlib.sha256)


def hub_oauth(
    *, api_url: str, api_token: str, hub_host: str, prefix: str, client_id: str, redirect_uri: str, https: bool
) -> Any:
    """JupyterHub's own sign-in for services, set up from values instead of its environment."""
    return HubOAuth(
        api_url=api_url,
        api_token=api_token,
        hub_host=hub_host,
        hub_prefix="/hub/",
        base_url=prefix,
        oauth_client_id=client_id,
        oauth_redirect_uri=redirect_uri,
        access_scopes={"access:services", f"access:services!service={client_id.removeprefix('service-')}"},
        cache_max_age=CACHE_S,
        cookie_options={"secure": True} if https else {},
    )


class Door:
    """Lets people in. `monotonic` gives seconds that only grow."""

    def __init__(self, oauth: Any, hub: HubAPI, *, creators_group: str, monotonic: Callable[[], float]) -> None:
        self.oauth = oauth
        self._hub = hub
        self._creators_group = creators_group
        self._monotonic = monotonic
        self._people: dict[str, tuple[float, Person]] = {}

    async def by_token(self, token: str | None) -> Person:
        """The person behind a token from a header. Raises `NotSignedIn`, `NotAllowed`, `HubUnavailable`."""
        if not token:
            raise NotSignedIn(
                "A token is needed: send `Authorization: Bearer <token>`. Make one on the hub's page /hub/token."
            )
        try:
            model = await self.oauth.user_for_token(token, sync=False)
        except HTTPError as error:
            raise HubUnavailable("The hub can't say just now whose token this is. Try again.") from error
        if model is None:
            raise NotSignedIn(
                "The hub doesn't know this token (any more). Make a new one on the hub's page /hub/token."
            )
        return await self.person(model, token)

    async def by_session(self, handler: Any) -> Person | None:
        """The person signed in to this browser; None when nobody is. Raises `NotAllowed`, `HubUnavailable`."""
        try:
            model = await self.oauth.get_user(handler, sync=False)
        except HTTPError as error:
            raise HubUnavailable("The hub can't say just now who you are. Try again in a moment.") from error
        if model is None:
            return None
        return await self.person(model, self.oauth.get_token(handler) or "")

    async def person(self, model: dict[str, Any], token: str) -> Person:
        """The person the hub's `model` of a token names."""
        if model.get("kind", "user") != "user":
            raise NotAllowed("This token belongs to a service. Use one of a user: a place belongs to a person.")
        if not self.oauth.check_scopes(self.oauth.access_scopes, model):
            raise NotAllowed(
                "This token may not use the workshops service: it lacks the scope access:services!service=workshops."
            )
        now = self._monotonic()
        key = hashlib.sha256(f"{model['name']}\n{token}".encode()).hexdigest()
        until, cached = self._people.get(key, (0.0, None))
        if cached is not None and now < until:
            return cached
        user = await self._hub.user(model["name"])
        if user is None:
            raise NotSignedIn("The account of this token is gone.")
        person = Person(user.account, operator=user.admin, creator=self._creators_group in user.groups)
        self._remember(key, person, now)
        return person

    def _remember(self, key: str, person: Person, now: float) -> None:
        if len(self._people) >= _MOST_CACHED:
            self._people = {known: entry for known, entry in self._people.items() if entry[0] > now}
        if len(self._people) < _MOST_CACHED:
            self._people[key] = (now + CACHE_S, person)
