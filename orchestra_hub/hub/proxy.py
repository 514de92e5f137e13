"""Traefik as the hub's proxy, with routes of seats on their own hosts."""

from __future__ import annotations

from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy

from orchestra_hub.hub.seams import SeatRouteMixin

__all__ = ["OrchestraTraefikProxy"]


class OrchestraTraefikProxy(SeatRouteMixin, TraefikFileProviderProxy):  # type: ignore[misc]  # no types
    """Traefik with the file provider, started and watched by `orchestra-hub up`."""
