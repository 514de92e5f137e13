"""Traefik as the hub's proxy, with routes of seats on their own hosts."""

from __future__ import annotations

from typing import Any

from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy
from traitlets import List, Unicode

from orchestra_hub.hub.seams import SeatRouteMixin

__all__ = ["OrchestraTraefikProxy"]


class OrchestraTraefikProxy(SeatRouteMixin, TraefikFileProviderProxy):  # type: ignore[misc]  # no types
    """Traefik with the file provider, started and watched by `orchestra-hub up`."""

    entry_points = List(
        Unicode(),
        ["http"],
        config=True,
        help="Traefik's entry points at which everything is served; `up` has a second one when it listens on another "
        "address besides 127.0.0.1.",
    )

    def _dynamic_config_for_route(self, routespec: str, target: str, data: Any) -> tuple[dict[str, Any], Any]:
        """As the base class, at all entry points instead of the one."""
        config, ours = super()._dynamic_config_for_route(routespec, target, data)
        for router in config["http"]["routers"].values():
            router["entryPoints"] = list(self.entry_points)
        return config, ours
