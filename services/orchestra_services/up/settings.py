"""What `orchestra-hub up` was asked for, what the data folder remembers of it, and where its files are. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from orchestra_hub.errors import InvalidInput

__all__ = [
    "FORMAT",
    "LOOPBACK",
    "MOST_BLOCKS",
    "DataFolder",
    "InnerPorts",
    "Remembered",
    "UpSettings",
    "check_domain",
    "check_listen",
    "check_port",
    "covers_loopback",
    "is_loopback",
]

FORMAT = 1
"""Version of the data folder's layout; a folder with a higher one was written by a newer release."""

LOOPBACK = "127.0.0.1"
MOST_BLOCKS = 3_700
"""How many ranges of user ids there are (`orchestra_spawner.identities`)."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LONGEST_DOMAIN = 180  # leaves room for a seat's label of 63 and JupyterHub's columns of 255


class _Remembered(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class InnerPorts(_Remembered):
    """Ports on 127.0.0.1 that only our own processes use. Kept between runs, so that routes stay."""

    hub: int = Field(ge=1, le=65535)
    service: int = Field(ge=1, le=65535)
    proxy_api: int = Field(ge=1, le=65535)


class Remembered(_Remembered):
    """`orchestra.json`: what the next `up` on this folder must know. `user_id_block` is the range of seats' ids."""

    format: int
    domain: str
    port: int
    inner_ports: InnerPorts
    user_id_block: int | None = Field(default=None, ge=0, lt=MOST_BLOCKS)


@dataclass(frozen=True)
class UpSettings:
    """One run of `up`. `hub_config_file` replaces the hub configuration that comes with the package."""

    data_dir: Path
    port: int = 8000
    domain: str = "localhost"
    demo: bool = False
    sign_up: bool = True
    hub_config_file: Path | None = None
    listen: str = LOOPBACK
    """Address of this machine that browsers connect to; 127.0.0.1 is always listened on besides."""

    @property
    def entry_addresses(self) -> tuple[str, ...]:
        """The addresses with port that the proxy takes people's requests at."""
        hosts = [self.listen]
        if not covers_loopback(self.listen):
            hosts.append(LOOPBACK)
        return tuple(f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}" for host in hosts)

    @property
    def public_url(self) -> str:
        """Scheme, domain and port, from which every host is made: `http://localhost:8000`."""
        return f"http://{self.domain}" + ("" if self.port == 80 else f":{self.port}")

    def origin(self, label: str) -> str:
        """`http://label.domain[:port]`."""
        return self.public_url.replace("://", f"://{label}.", 1)


@dataclass(frozen=True)
class DataFolder:
    """Paths below a data folder; making them is `preflight.make_folder`'s task."""

    root: Path

    @property
    def remembered(self) -> Path:
        """`Remembered` as JSON."""
        return self.root / "orchestra.json"

    @property
    def lock(self) -> Path:
        """Held (flock) while an `up` runs."""
        return self.root / "orchestra.lock"

    @property
    def store(self) -> Path:
        """Our own database."""
        return self.root / "orchestra.sqlite"

    @property
    def hub_database(self) -> Path:
        """The hub's database."""
        return self.root / "jupyterhub.sqlite"

    @property
    def store_url(self) -> str:
        """Our own database as SQLAlchemy URL."""
        return f"sqlite:///{self.store}"

    @property
    def hub_database_url(self) -> str:
        """The hub's database as SQLAlchemy URL."""
        return f"sqlite:///{self.hub_database}"

    @property
    def secrets(self) -> Path:
        """Readable by its owner alone."""
        return self.root / "secrets"

    @property
    def run(self) -> Path:
        """Made anew by every `up`; holds secrets too."""
        return self.root / "run"

    @property
    def up_file(self) -> Path:
        """The hub's configuration as values."""
        return self.run / "up.json"

    @property
    def warden_file(self) -> Path:
        """What the warden is told."""
        return self.run / "warden.json"

    @property
    def proxy_config(self) -> Path:
        """Traefik's static configuration."""
        return self.run / "traefik.toml"

    @property
    def routes(self) -> Path:
        """Traefik's routes, written by the hub; kept so that running seats stay reachable."""
        return self.run / "rules.toml"

    @property
    def processes(self) -> Path:
        """The children of the `up` that runs or ran."""
        return self.run / "processes.json"

    @property
    def logs(self) -> Path:
        """One file for each child."""
        return self.root / "logs"

    @property
    def backups(self) -> Path:
        """Databases as they were before a migration."""
        return self.root / "backups"

    def folders(self) -> tuple[Path, ...]:
        """Every folder `up` itself needs, parents first."""
        return (self.root, self.secrets, self.run, self.logs, self.backups)


def check_port(port: int) -> int:
    """`port` itself; raises `InvalidInput` for what is no TCP port."""
    if not 1 <= port <= 65535:
        raise InvalidInput(f"{port} is not a port; use 1 to 65535.")
    return port


def check_domain(domain: str) -> str:
    """`domain` in lower case; raises `InvalidInput` unless hosts below it can be named."""
    name = domain.lower().rstrip(".")
    if len(name) > _LONGEST_DOMAIN or not _DOMAIN.fullmatch(name) or name.rsplit(".", 1)[-1].isdigit():
        raise InvalidInput(
            f"{domain[:80]!r} is not a domain hosts can be named below; use one like 'localhost' or 'hub.example.org'."
        )
    return name


def check_listen(address: str) -> str:
    """`address` itself; raises `InvalidInput` unless it is an IP address."""
    try:
        return str(ipaddress.ip_address(LOOPBACK if address == "localhost" else address.strip("[]")))
    except ValueError as error:
        raise InvalidInput(
            f"{address[:80]!r} is no address to listen on; use an IP address of this machine, or 0.0.0.0 for all."
        ) from error


def is_loopback(address: str) -> bool:
    """Whether only this machine itself can connect to `address`."""
    return ipaddress.ip_address(address).is_loopback


def covers_loopback(address: str) -> bool:
    """Whether who listens on `address` can be reached at 127.0.0.1; `::` takes IPv4 too."""
    return address == LOOPBACK or ipaddress.ip_address(address).is_unspecified
