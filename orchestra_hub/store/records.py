"""What the store answers besides workshops and enrolments: leases and events. Frozen, without behaviour."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

__all__ = ["Event", "Lease"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lease(_Record):
    """The right to lead, until `expires_at`. `fence` is greater than that of every lease given before."""

    name: str
    holder: str
    fence: int
    expires_at: AwareDatetime


class Event(_Record):
    """One thing that happened to a workshop. Nobody's name is in it.

    `actor` is `system`, a pseudonym, or `operator:` and a pseudonym; `subject` is the pseudonym of the person it
    happened to. A pseudonym holds within one workshop and can't be led back once the workshop is purged.
    """

    id: int  # grows; the order in which changes were made to one workshop
    workshop_id: str
    at: AwareDatetime
    kind: str
    actor: str
    subject: str | None = None
    detail: dict[str, Any] = Field(default_factory=dict)
