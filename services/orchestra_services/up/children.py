"""Which processes `up` runs, each as a value: command, environment, log. Pure.

Every child gets the environment of `up` without what an outer JupyterHub, Jupyter or Orchestra Hub left in it: `up`
may be run in a notebook's terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from orchestra_services.up.hub_config import SERVICE_PREFIX, UP_FILE_VARIABLE
from orchestra_services.up.secrets import Tokens
from orchestra_services.up.settings import DataFolder, InnerPorts, UpSettings

__all__ = ["Child", "children", "inherited"]

_FOREIGN = ("JUPYTERHUB_", "JUPYTER_", "JPY_", "ORCHESTRA_")


@dataclass(frozen=True)
class Child:
    """A process to keep running. `after_hub`: started only once the hub answers."""

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(repr=False)  # has tokens
    after_hub: bool = False


def inherited(environment: Mapping[str, str], python: str, working_directory: Path) -> dict[str, str]:
    """What children get of `up`'s own environment, with the programs beside `python` first on PATH."""
    kept = {name: value for name, value in environment.items() if not name.startswith(_FOREIGN)}
    kept["PATH"] = os.pathsep.join([str(Path(python).parent), kept.get("PATH", os.defpath)])
    if kept.get("PYTHONPATH"):
        parts = (str(working_directory / part) for part in kept["PYTHONPATH"].split(os.pathsep))
        kept["PYTHONPATH"] = os.pathsep.join(parts)
    kept["PYTHONUNBUFFERED"] = "1"
    return kept


def children(
    settings: UpSettings,
    folder: DataFolder,
    ports: InnerPorts,
    tokens: Tokens,
    *,
    traefik: str,
    base: Mapping[str, str],
    store_url: str | None = None,
    python: str = sys.executable,
) -> list[Child]:
    """The children in the order of their start; `base` is what `inherited` gave. `store_url` is another database than
    the data folder's; the hub isn't told of any, it reads none but its own."""
    own = {
        **base,
        "ORCHESTRA_DATA_DIR": str(folder.root),
        "ORCHESTRA_DATABASE_URL": store_url or folder.store_url,
        "ORCHESTRA_PUBLIC_URL": settings.public_url,
    }
    module = (python, "-P", "-m")
    packaged = files("orchestra_services.up")
    hub_config = settings.hub_config_file or packaged / "jupyterhub_config.py"

    def service(name: str, command: tuple[str, ...], token: str, **more: str) -> Child:
        environment = {**own, **_service_environment(name, ports, token), **more}
        return Child(name, command, folder.logs / f"{name}.log", environment, after_hub=name != "workshops")

    return [
        Child("proxy", (traefik, "--configfile", str(folder.proxy_config)), folder.logs / "proxy.log", base),
        Child(
            "hub",
            (*module, "orchestra_hub.hub", "--config", str(hub_config)),
            folder.logs / "hub.log",
            {**_without_store(own), UP_FILE_VARIABLE: str(folder.up_file)},
        ),
        service(
            "workshops",
            (*module, "orchestra_services.workshops"),
            tokens.workshops,
            JUPYTERHUB_SERVICE_PREFIX=SERVICE_PREFIX,
            JUPYTERHUB_SERVICE_URL=f"http://127.0.0.1:{ports.service}",
            JUPYTERHUB_HOST=settings.origin("app"),
            JUPYTERHUB_CLIENT_ID="service-workshops",
            JUPYTERHUB_OAUTH_CALLBACK_URL=f"{settings.origin('app')}{SERVICE_PREFIX}oauth_callback",
            JUPYTERHUB_OAUTH_ACCESS_SCOPES=json.dumps(["access:services", "access:services!service=workshops"]),
        ),
        Child(
            "warden", (*module, "orchestra_spawner.warden", str(folder.warden_file)), folder.logs / "warden.log", base
        ),
        service("reconciler", (*module, "orchestra_services.reconciler"), tokens.reconciler),
        service("culler", (*module, "orchestra_services.culler"), tokens.culler),
    ]


def _without_store(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != "ORCHESTRA_DATABASE_URL"}


def _service_environment(name: str, ports: InnerPorts, token: str) -> dict[str, str]:
    return {
        "JUPYTERHUB_SERVICE_NAME": name,
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{ports.hub}/hub/api",
        "JUPYTERHUB_API_TOKEN": token,
        "JUPYTERHUB_BASE_URL": "/",
    }
