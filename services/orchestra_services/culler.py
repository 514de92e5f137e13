"""Stops servers nobody uses: jupyterhub-idle-culler with a limit per workshop.

A seat's limit is its workshop's `idle_timeout_s`, read from the Hub groups' properties, so culling goes on while our
database is away. A server of no workshop has the culler's own limit (`timeout`). When limits can't be read and never
were, nothing is culled.

Run it with `python -m orchestra_services.culler`; it takes every option of `python -m jupyterhub_idle_culler` and needs
`JUPYTERHUB_API_URL` and `JUPYTERHUB_API_TOKEN`. Its token's least scopes: `list:users`, `read:servers`,
`delete:servers`, `list:groups`, `read:groups`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, TypeAlias

from jupyterhub_idle_culler import IdleCuller, cull_idle
from tornado.ioloop import IOLoop
from traitlets import Float, Integer, Unicode

from orchestra_hub.errors import OrchestraError
from orchestra_hub.hub_api import HubAPI
from orchestra_hub.ids import server_name

__all__ = ["HubLimits", "NextRound", "OrchestraCuller", "orchestra_arbiter"]

IdleLimits: TypeAlias = Callable[[], Awaitable[Mapping[str, int] | None]]
"""Answers the limit in seconds of every workshop's servers by server name; None when that isn't known."""

_log = logging.getLogger("orchestra_services.culler")  # not __name__: that is __main__ when it runs as the program


async def orchestra_arbiter(
    *,
    inactive: timedelta | None,
    inactive_limit: float,
    server: Mapping[str, Any],
    limits: IdleLimits,
    due: Callable[[float], None] = lambda _: None,
    **_: Any,
) -> bool:
    """Whether the culler stops `server`: `cull_arbiter_hook` of jupyterhub-idle-culler 2, once `limits` is bound.

    `inactive` is the time since the last activity, `inactive_limit` the culler's own limit in seconds, `server` the Hub
    API's server model. Arguments of later versions are ignored. `due` is told the seconds until this server could be
    stopped; 0 where that isn't known.
    """
    name = server.get("full_name") or server.get("name") or "(default server)"
    if inactive is None:
        due(0)
        _log.debug("server=%s not culled: its last activity is not known", name)
        return False
    known = await limits()
    if known is None:
        due(0)
        _log.debug("server=%s not culled: the workshops' limits are not known", name)
        return False
    limit_s = known.get(server.get("name") or "", inactive_limit)
    idle_s = inactive.total_seconds()
    due(max(0.0, limit_s - idle_s))
    if idle_s < limit_s:
        _log.debug("server=%s not culled: unused for %d s, its limit is %d s", name, idle_s, limit_s)
        return False
    _log.info("server=%s culled: unused for %d s, its limit is %d s", name, idle_s, limit_s)
    return True


class HubLimits:
    """Limits from the Hub's groups, read again after `cache_s`. Old ones hold while the hub doesn't answer."""

    def __init__(self, hub: HubAPI, cache_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._hub = hub
        self._cache_s = cache_s
        self._monotonic = monotonic
        self._read_at: float | None = None
        self._limits: dict[str, int] | None = None
        self._reading = asyncio.Lock()

    async def __call__(self) -> Mapping[str, int] | None:
        """The limits by server name; None while none were ever read."""
        async with self._reading:
            now = self._monotonic()
            if self._read_at is None or now - self._read_at >= self._cache_s:
                self._read_at = now
                await self._read()
            return self._limits

    async def _read(self) -> None:
        try:
            groups = await self._hub.groups()
        except OrchestraError as error:
            _log.warning("limits not read, %s: %s", "old ones hold" if self._limits else "nothing is culled", error)
            return
        self._limits = {server_name(group.name): group.facts.idle_timeout_s for group in groups if group.facts}


class NextRound:
    """When servers must be listed again, from what the last round saw: activity only ever moves a stop to later, and a
    server started since can't be due before the shortest limit."""

    def __init__(self, shortest_s: float, longest_s: float) -> None:
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._due_s = longest_s

    def begin(self) -> None:
        """A round begins."""
        self._due_s = self._longest_s

    def due(self, seconds: float) -> None:
        """A server seen in it could be stopped in so many seconds."""
        self._due_s = min(self._due_s, seconds)

    def pause_s(self, shortest_limit_s: float) -> float:
        """Seconds until the next round, of which one may be left out whenever none of the limits got shorter."""
        return max(self._shortest_s, min(self._due_s, shortest_limit_s))


class OrchestraCuller(IdleCuller):  # type: ignore[misc]  # jupyterhub_idle_culler has no types
    """The idle culler with our hook in place and defaults that suit seats."""

    name = "orchestra-culler"

    config_file = Unicode("", help="A configuration file to read. None by default.").tag(config=True)
    timeout = Integer(
        3600,
        help="Seconds a server of no workshop may stand unused. Seats have their workshop's own limit and ignore this.",
    ).tag(config=True)
    cull_every = Integer(
        15,
        help="The least seconds between two rounds; a server is stopped up to so much later than its limit, and than "
        "the time its page counts down to. Each round lists all running servers.",
    ).tag(config=True)
    cull_at_least_every = Integer(
        60,
        help="The most seconds between two rounds. Within them a round is left out in which, by what the last one saw, "
        "no server can be due.",
    ).tag(config=True)
    limits_cache_s = Float(
        30, help="Seconds the workshops' limits are kept before they are read from the Hub's groups again."
    ).tag(config=True)

    def start(self) -> None:
        """Cull until interrupted."""
        token, url = os.environ.get("JUPYTERHUB_API_TOKEN", ""), self.url or ""
        if not token or not url:
            self.log.error("The culler ends: it does not know JUPYTERHUB_API_URL and JUPYTERHUB_API_TOKEN. Set them.")
            self.exit(1)
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname).1s %(message)s")
        logging.getLogger("orchestra_services").setLevel(self.log_level)
        if self.generate_config:
            super().start()  # prints and exits
        if self.config_file:
            self.load_config_file(self.config_file)
        hub = HubAPI(url, token)
        loop = IOLoop.current()
        try:
            loop.run_sync(functools.partial(self._cull_for_ever, HubLimits(hub, cache_s=self.limits_cache_s), token))
        except KeyboardInterrupt:
            self.log.info("The culler ends.")
        finally:
            loop.run_sync(hub.aclose)

    async def _cull_for_ever(self, limits: HubLimits, token: str) -> None:
        """As `IdleCuller.start` of jupyterhub-idle-culler 2, whose rounds come at a fixed interval."""
        rounds = NextRound(self.cull_every, self.cull_at_least_every)
        arbiter = functools.partial(orchestra_arbiter, limits=limits, due=rounds.due)
        while True:
            rounds.begin()
            try:
                await cull_idle(
                    url=self.url,
                    api_token=token,
                    inactive_limit=self.timeout,
                    logger=self.log,
                    cull_users=self.cull_users,
                    remove_named_servers=self.remove_named_servers,
                    max_age=self.max_age,
                    concurrency=self.concurrency,
                    ssl_enabled=self.ssl_enabled,
                    internal_certs_location=self.internal_certs_location,
                    cull_admin_users=self.cull_admin_users,
                    api_page_size=self.api_page_size,
                    cull_default_servers=self.cull_default_servers,
                    cull_named_servers=self.cull_named_servers,
                    cull_arbiter=arbiter,
                )
            except Exception:  # round boundary: the hub may be away
                self.log.exception("This round of culling failed, the next one comes.")
                rounds.due(0)
            shortest_s = await self._shortest(limits)
            began = time.monotonic()
            pause_s = rounds.pause_s(shortest_s)
            while (left_s := pause_s - (time.monotonic() - began)) > 0:
                await asyncio.sleep(min(left_s, self.cull_every))
                if await self._shortest(limits) < shortest_s:  # a workshop with a shorter limit is new
                    break

    async def _shortest(self, limits: HubLimits) -> float:
        return min([self.timeout, *(await limits() or {}).values()])


if __name__ == "__main__":
    OrchestraCuller.launch_instance()
