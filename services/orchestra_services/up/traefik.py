"""What Traefik is told at its start. Pure.

The names fit what `jupyterhub_traefik_proxy` expects of a proxy it doesn't start itself: an entry point `http` for
people, `auth_api` for the hub, the API switched on, and the file provider on the routes the hub writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import toml

from orchestra_services.up.settings import DataFolder, InnerPorts

__all__ = ["API_USER", "entry_points", "kept_routes", "proxy_config", "rendered"]

API_USER = "jupyterhub"
"""The name with which the hub signs in to Traefik's API."""

_ENCODED = (
    "allowEncodedBackSlash",
    "allowEncodedHash",
    "allowEncodedPercent",
    "allowEncodedQuestionMark",
    "allowEncodedSemicolon",
    "allowEncodedSlash",
)  # not the null character, which no file name has


def entry_points(addresses: Sequence[str]) -> list[str]:
    """The names of the entry points for people, the first of which the hub takes for its own."""
    return ["http", *(f"http{number}" for number in range(2, len(addresses) + 1))]


def proxy_config(folder: DataFolder, addresses: Sequence[str], ports: InnerPorts) -> dict[str, Any]:
    """Traefik's static configuration: `addresses` for people, asks nobody for updates, logs no requests."""
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "WARN"},
        "api": {},
        "entryPoints": {
            **{name: _for_people(address) for name, address in zip(entry_points(addresses), addresses, strict=True)},
            "auth_api": {
                "address": f"127.0.0.1:{ports.proxy_api}",
                "transport": {"lifeCycle": {"graceTimeOut": "500ms"}},
                "http": {"aliasHeadersStrategy": "delete"},
            },
        },
        "providers": {
            "providersThrottleDuration": "0s",
            "file": {"filename": str(folder.routes), "watch": True},
        },
    }


def _for_people(address: str) -> dict[str, Any]:
    return {
        "address": address,
        # open notebooks hold WebSockets for ever: don't wait for them at the end
        "transport": {"lifeCycle": {"graceTimeOut": "500ms"}},
        "http": {
            # file names of learners are in Jupyter's paths, with all that a file name may have
            "encodedCharacters": {name: True for name in _ENCODED},
            "aliasHeadersStrategy": "delete",
        },
    }


def rendered(config: dict[str, Any]) -> str:
    """The configuration as TOML."""
    return str(toml.dumps(config))


def kept_routes(text: str, points: Sequence[str] = ("http",)) -> str:
    """The routes file for the next run: what the hub wrote, at the entry points `points`, without Traefik's own API and
    what is empty.

    The hub adds the API's route again with the password of this run; it would let an old one stand. Traefik refuses
    empty tables. A file that can't be read is left behind: the hub adds the routes of running seats again.
    """
    try:
        routes = toml.loads(text)
        routes.get("http", {}).get("routers", {}).pop("route_api", None)
        routes.get("http", {}).get("middlewares", {}).pop("auth_api", None)
        for router in routes.get("http", {}).get("routers", {}).values():
            router["entryPoints"] = list(points)
    except (toml.TomlDecodeError, AttributeError, IndexError, TypeError):
        return ""
    return str(toml.dumps(_without_empty(routes)))


def _without_empty(table: dict[str, Any]) -> dict[str, Any]:
    pruned = {key: _without_empty(value) if isinstance(value, dict) else value for key, value in table.items()}
    return {key: value for key, value in pruned.items() if value != {}}
