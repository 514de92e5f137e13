"""What Traefik is told at its start. Pure.

The names fit what `jupyterhub_traefik_proxy` expects of a proxy it doesn't start itself: an entry point `http` for
people, `auth_api` for the hub, the API switched on, and the file provider on the routes the hub writes.
"""

from __future__ import annotations

from typing import Any

import toml

from orchestra_services.up.settings import DataFolder, InnerPorts

__all__ = ["API_USER", "kept_routes", "proxy_config", "rendered"]

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


def proxy_config(folder: DataFolder, port: int, ports: InnerPorts) -> dict[str, Any]:
    """Traefik's static configuration: listens on 127.0.0.1 alone, asks nobody for updates, logs no requests."""
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "WARN"},
        "api": {},
        "entryPoints": {
            "http": {
                "address": f"127.0.0.1:{port}",
                # open notebooks hold WebSockets for ever: don't wait for them at the end
                "transport": {"lifeCycle": {"graceTimeOut": "500ms"}},
                "http": {
                    # file names of learners are in Jupyter's paths, with all that a file name may have
                    "encodedCharacters": {name: True for name in _ENCODED},
                    "aliasHeadersStrategy": "delete",
                },
            },
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


def rendered(config: dict[str, Any]) -> str:
    """The configuration as TOML."""
    return str(toml.dumps(config))


def kept_routes(text: str) -> str:
    """The routes file for the next run: what the hub wrote, without Traefik's own API and what is empty.

    The hub adds the API's route again with the password of this run; it would let an old one stand. Traefik refuses
    empty tables. A file that can't be read is left behind: the hub adds the routes of running seats again.
    """
    try:
        routes = toml.loads(text)
        routes.get("http", {}).get("routers", {}).pop("route_api", None)
        routes.get("http", {}).get("middlewares", {}).pop("auth_api", None)
    except (toml.TomlDecodeError, AttributeError, IndexError):
        return ""
    return str(toml.dumps(_without_empty(routes)))


def _without_empty(table: dict[str, Any]) -> dict[str, Any]:
    pruned = {key: _without_empty(value) if isinstance(value, dict) else value for key, value in table.items()}
    return {key: value for key, value in pruned.items() if value != {}}
