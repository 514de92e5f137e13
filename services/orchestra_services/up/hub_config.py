"""What the hub is told, as values, and the few lines that hand them over. Pure but for `apply`.

`up` writes the values to `run/up.json` and names that file in the hub's environment (`ORCHESTRA_UP_FILE`); the hub's
configuration file calls `apply`. An operator's own configuration file does the same and goes on from there
(`config/jupyterhub_config.py` is an example).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestra_hub.errors import InvalidInput
from orchestra_services.up.apart import SeatsApart
from orchestra_services.up.secrets import Tokens
from orchestra_services.up.settings import DataFolder, InnerPorts, UpSettings
from orchestra_services.up.traefik import API_USER, entry_points

__all__ = ["SERVICE_PREFIX", "UP_FILE_VARIABLE", "apply", "hub_config", "load_roles", "starts_at_once"]

UP_FILE_VARIABLE = "ORCHESTRA_UP_FILE"
SERVICE_PREFIX = "/services/workshops/"


def load_roles() -> list[dict[str, Any]]:
    """The least each part needs of the Hub API; `docs/reference/scopes.md` has the reason for every scope."""
    return [
        {"name": "user", "scopes": ["self", "access:services!service=workshops"]},
        {
            "name": "orchestra-workshops",
            "description": "Joins people to workshops and starts and stops their seats at once.",
            "scopes": ["admin:groups", "read:users", "read:servers", "start:servers", "delete:servers"],
            "services": ["workshops"],
        },
        {
            "name": "orchestra-reconciler",
            "description": "Makes and removes workshops' groups, stops and removes their seats.",
            "scopes": ["admin:groups", "read:users", "read:servers", "delete:servers"],
            "services": ["reconciler"],
        },
        {
            "name": "orchestra-culler",
            "description": "Stops idle seats.",
            "scopes": ["list:users", "read:servers", "delete:servers", "list:groups", "read:groups"],
            "services": ["culler"],
        },
        {
            "name": "orchestra-supervisor",
            "description": "Ends the hub and its seats when `orchestra-hub up` is asked to stop.",
            "scopes": ["shutdown"],
            "services": ["supervisor"],
        },
    ]


def starts_at_once(cores: int) -> int:
    """How many seats start at the same time, the others wait in line: the start of a server keeps about half a core
    busy for its time, so that two for each core use all of them, and more only make everybody's start longer."""
    return max(4, 2 * cores)


def hub_config(
    settings: UpSettings,
    folder: DataFolder,
    ports: InnerPorts,
    tokens: Tokens,
    *,
    root: bool,
    cores: int,
    apart: SeatsApart = SeatsApart(),  # noqa: B008  a frozen value
) -> dict[str, dict[str, Any]]:
    """Traitlets configuration by class. `root` says that this is the superuser's `up`: Jupyter wants to be told.
    `cores` are those of this machine."""
    service_url = f"http://127.0.0.1:{ports.service}"
    # seats reach the hub as people do, so that no inner port need be open to them
    spawner: dict[str, Any] = {
        "data_dir": str(folder.root),
        "hub_connect_url": f"http://127.0.0.1:{settings.port}",
        "cgroup_folders": apart.groups,
    }
    if apart.ids is not None:
        spawner["seat_user_ids"] = str(apart.ids)
    elif root:
        spawner["allow_root"] = True
    if apart.rules is not None:
        rules = apart.rules
        spawner["port_rules"] = {
            "table": rules.table,
            "open_ports": list(rules.open_ports),
            "closed_ports": list(rules.closed_ports),
        }
    return {
        "OrchestraHub": {"public_base_url": settings.public_url},
        "JupyterHub": {
            "bind_url": f"http://127.0.0.1:{settings.port}",
            "hub_bind_url": f"http://127.0.0.1:{ports.hub}",
            "db_url": folder.hub_database_url,
            "upgrade_db": True,
            "cookie_secret_file": str(folder.secrets / "cookie_secret"),
            "proxy_class": "orchestra_hub.hub.proxy.OrchestraTraefikProxy",
            "spawner_class": "orchestra_spawner.local.OrchestraLocalSpawner",
            "authenticator_class": "orchestra_hub.hub.authenticator.OrchestraNativeAuthenticator",
            "concurrent_spawn_limit": starts_at_once(cores),
            "cleanup_servers": False,
            "cleanup_proxy": False,
            "services": _services(settings, service_url, tokens),
            "load_roles": load_roles(),
        },
        "Proxy": {"should_start": False, "extra_routes": {f"api.{settings.domain}/": service_url}},
        "OrchestraTraefikProxy": {
            "traefik_api_url": f"http://127.0.0.1:{ports.proxy_api}",
            "traefik_api_username": API_USER,
            "traefik_api_password": tokens.proxy_api,
            "static_config_file": str(folder.proxy_config),
            "dynamic_config_file": str(folder.routes),
            "traefik_providers_throttle_duration": "0s",
            "entry_points": entry_points(settings.entry_addresses),
        },
        "OrchestraLocalSpawner": spawner,
        "OrchestraNativeAuthenticator": {
            "open_signup": settings.sign_up,
            "enable_signup": settings.sign_up,
            "check_common_password": True,
            "minimum_password_length": 8,
        },
    }


def _services(settings: UpSettings, service_url: str, tokens: Tokens) -> list[dict[str, Any]]:
    return [
        {
            "name": "workshops",
            "url": service_url,
            "api_token": tokens.workshops,
            "oauth_redirect_uri": f"{settings.origin('app')}{SERVICE_PREFIX}oauth_callback",
            "oauth_no_confirm": True,
            "display": False,
        },
        {"name": "reconciler", "api_token": tokens.reconciler, "display": False},
        {"name": "culler", "api_token": tokens.culler, "display": False},
        {"name": "supervisor", "api_token": tokens.supervisor, "display": False},
    ]


def apply(config: Any, environment: Mapping[str, str]) -> None:
    """Put the values that `up` wrote into a traitlets config (`get_config()` in a configuration file).

    Raises `InvalidInput` when the hub wasn't started by `up`.
    """
    path = environment.get(UP_FILE_VARIABLE)
    if not path:
        raise InvalidInput(f"{UP_FILE_VARIABLE} names no file; this configuration is for `orchestra-hub up`.")
    values: dict[str, dict[str, Any]] = json.loads(Path(path).read_text())
    for section, traits in values.items():
        config[section].update(traits)
