"""Where a command finds the API and the databases: a data folder of this machine, or a URL and a token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra_hub.client import OrchestraClient
from orchestra_hub.errors import InvalidInput, NotFound

__all__ = ["DEFAULT_DATA_DIR", "Connection"]

DEFAULT_DATA_DIR = Path("~/.local/share/orchestra-hub")


@dataclass(frozen=True)
class Connection:
    """What the options before a command say. `url` and `token` win over the data folder."""

    data_dir: Path
    url: str | None = None
    token: str | None = None

    def client(self) -> OrchestraClient:
        """A client of the API, closed by the caller. Raises `NotFound` when the folder was never used by `up`."""
        if self.url is not None:
            if not self.token:
                raise InvalidInput("--url needs a token too; give one with --token or ORCHESTRA_TOKEN.")
            return OrchestraClient(self.url, self.token)
        remembered = self._read("orchestra.json")
        token = self.token or self._read("secrets/tokens.json").get("command_line")
        if not token:
            raise NotFound(f"{self.folder} has no token for the command line yet; start `orchestra-hub up` once.")
        try:
            domain, port = str(remembered["domain"]), int(remembered["port"])
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidInput(f"{self.folder / 'orchestra.json'} is damaged; `orchestra-hub up` says how.") from error
        where = domain if port == 80 else f"{domain}:{port}"
        return OrchestraClient(f"http://api.{where}", token, local_domain=domain)

    @property
    def folder(self) -> Path:
        """The data folder, `~` resolved."""
        return self.data_dir.expanduser().absolute()

    def hub_database_url(self) -> str:
        """The hub's database of the data folder. Raises `NotFound` when there is none."""
        if self.url is not None:
            raise InvalidInput("Accounts are changed in a data folder's database on its machine; leave --url out.")
        path = self.folder / "jupyterhub.sqlite"
        if not path.exists():
            raise NotFound(f"{self.folder} has no hub's database; start `orchestra-hub up`, or name its --data-dir.")
        return f"sqlite:///{path}"

    def _read(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise NotFound(
                f"No Orchestra Hub has run on {self.folder}; start `orchestra-hub up`, or give --data-dir or --url."
            ) from error
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} can't be read; it belongs to whoever runs `orchestra-hub up`.") from error
        return found if isinstance(found, dict) else {}
