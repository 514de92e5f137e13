"""What makes, looks at, exports and removes a workshop's resources, in whichever of the two worlds runs.

Only the reconciler and the workshops service call it; seats' servers are the spawner's and the hub's. Every method can
be called again after it was interrupted, and raises `ProvisionFailed` (a later try can help) or `NotFound`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestra_hub.promises import Capacity
from orchestra_hub.workshop import WorkshopFacts

__all__ = ["EXPORT_CHUNK_BYTES", "Inspection", "Provisioner", "PurgeReport"]

EXPORT_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Inspection:
    """What is there of a workshop. `seats` are account keys, sorted; `bytes` is what its `files` take in all."""

    exists: bool
    prepared: bool
    seats: tuple[str, ...]
    files: int
    bytes: int


@dataclass(frozen=True)
class PurgeReport:
    """What a purge removed, earlier interrupted tries of the same purge included."""

    seats: int
    files: int
    bytes: int


class Provisioner(Protocol):
    """A workshop's resources, except running servers."""

    async def prepare(self, facts: WorkshopFacts, content: bytes) -> None:
        """Make everything a seat needs; `content` is what `orchestra_hub.content.pack` gave. Repeatable."""

    async def standing(self, workshop_ids: Sequence[str]) -> dict[str, bool]:
        """Whether what seats need is still there, by id, of workshops that were prepared; a quick look."""
        ...

    async def sound(self, facts: WorkshopFacts) -> bool:
        """The same of one workshop, thoroughly: whether it is what was made for it."""
        ...

    async def distrust(self, workshop_id: str) -> None:
        """Forget that a workshop was prepared, so that `prepare` looks at all of it. Seats' files are not touched."""

    async def inspect(self, workshop_id: str) -> Inspection:
        """What is there now; a workshop nobody prepared has `exists` False."""
        ...

    def export(self, workshop_id: str, account_key: str) -> AsyncGenerator[bytes, None]:
        """One account's files as a `tar.gz`, in chunks of at most `EXPORT_CHUNK_BYTES`.

        Raises `NotFound` before the first chunk when there are no files, and `ProvisionFailed` at any point: what was
        received until then is no complete archive. Close it (`aclose`) when it isn't read to its end.
        """
        ...

    async def capacity(self) -> Capacity | None:
        """What there is for all seats together; None where that isn't known (a cluster that grows)."""
        ...

    async def purge(self, workshop_id: str) -> PurgeReport:
        """Remove everything, then look again; nothing there is no error. Raises `ProvisionFailed` if anything stays."""
        ...
