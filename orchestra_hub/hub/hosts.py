"""Which host serves what, from one public URL. Pure.

`http://localhost:8000` as public URL means the hub is at `http://app.localhost:8000`, the API at
`http://api.localhost:8000`, and a workshop at `http://{id}.localhost:8000`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from orchestra_hub.errors import InvalidInput
from orchestra_hub.ids import is_workshop_id, seat_label

__all__ = ["HostKind", "Hosts", "SeatOrigin"]


class SeatOrigin(StrEnum):
    """Where a seat is served: on an origin of its own, or on its workshop's."""

    LEARNER = "learner"
    WORKSHOP = "workshop"


class HostKind(StrEnum):
    """What a request's host stands for."""

    HUB = "hub"
    WORKSHOP = "workshop"
    SEAT = "seat"
    BARE = "bare"
    OTHER = "other"


@dataclass(frozen=True)
class Hosts:
    """All hosts below one domain. `port` is None where the scheme's own is used."""

    scheme: str
    domain: str
    port: int | None = None

    @classmethod
    def from_public_url(cls, public_url: str) -> Hosts:
        """Hosts below `scheme://domain[:port]`; raises `InvalidInput` for anything else."""
        parts = urlsplit(public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise InvalidInput(f"{public_url!r} is not a public URL; it looks like 'http://localhost:8000'.")
        return cls(parts.scheme, parts.hostname, parts.port)

    def host(self, label: str) -> str:
        """`label.domain`, without a port."""
        return f"{label}.{self.domain}"

    def origin(self, label: str) -> str:
        """`scheme://label.domain[:port]`, without a slash at its end."""
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{self.host(label)}{port}"

    @property
    def app(self) -> str:
        """The hub's origin."""
        return self.origin("app")

    @property
    def api(self) -> str:
        """The REST API's origin."""
        return self.origin("api")

    def workshop(self, workshop_id: str) -> str:
        """A workshop's origin."""
        return self.origin(workshop_id)

    def seat_host_label(self, workshop_id: str, user_name: str, origin: SeatOrigin) -> str:
        """The first label of the host that serves a seat."""
        return seat_label(workshop_id, user_name) if origin is SeatOrigin.LEARNER else workshop_id

    def kind(self, host: str) -> tuple[HostKind, str]:
        """What `host` (with or without port) stands for, and its first label below the domain."""
        name = host.rsplit(":", 1)[0].lower().rstrip(".") if not host.endswith("]") else host
        if name == self.domain:
            return HostKind.BARE, ""
        label, dot, rest = name.partition(".")
        if not dot or rest != self.domain:
            return HostKind.OTHER, ""
        if label == "app":
            return HostKind.HUB, label
        if "--" in label:
            return HostKind.SEAT, label
        return (HostKind.WORKSHOP if is_workshop_id(label) else HostKind.OTHER), label
