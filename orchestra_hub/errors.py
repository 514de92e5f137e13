"""Every error Orchestra Hub raises on purpose, in one tree.

```
OrchestraError
├── InvalidInput        what was sent can't be accepted as it is; sending it again won't help
├── NotFound            there is no such thing, or the asker may not know of it
├── NotAllowed          the asker may not do this
├── Conflict            it doesn't fit what stands now
│   ├── StaleVersion    somebody changed it meanwhile: read again, then repeat
│   ├── WorkshopFull    no place left
│   ├── WrongState      the workshop's state doesn't allow it
│   ├── WorkshopDamaged part of what is kept of the workshop can't be read: mend or end it
│   └── LeaseLost       another process leads now: stop, write nothing more
├── NewerData           the data was written by a newer version of Orchestra Hub
└── Temporary           a later try can succeed
    ├── StoreUnavailable    the database can't be reached or is locked
    ├── HubUnavailable      the hub's API doesn't answer
    ├── TooManyAttempts     a password or code was wrong too often
    └── ProvisionFailed     a workshop's resources couldn't be made, read or removed
```

The type says whether a retry can help; the message says what was refused and what to do. Messages go to people as
they are: no secret, token or password may be in one.
"""

from __future__ import annotations

__all__ = [
    "Conflict",
    "HubUnavailable",
    "InvalidInput",
    "LeaseLost",
    "NewerData",
    "NotAllowed",
    "NotFound",
    "OrchestraError",
    "ProvisionFailed",
    "StaleVersion",
    "StoreUnavailable",
    "Temporary",
    "TooManyAttempts",
    "WorkshopDamaged",
    "WorkshopFull",
    "WrongState",
]


class OrchestraError(Exception):
    """Base of all errors raised on purpose; `str()` of it is a sentence for a person."""


class InvalidInput(OrchestraError):
    """Refused as it stands. `field` is a JSON pointer (RFC 6901) to the part at fault, if one is known."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFound(OrchestraError):
    """No such thing, or nothing the asker may know of."""


class NotAllowed(OrchestraError):
    """The asker may not do this."""


class Conflict(OrchestraError):
    """It doesn't fit what stands now."""


class StaleVersion(Conflict):
    """The row was changed since it was read."""


class WorkshopFull(Conflict):
    """Every learner's place is taken."""


class WrongState(Conflict):
    """The workshop's state doesn't allow it."""


class WorkshopDamaged(Conflict):
    """Somebody damaged what is kept of the workshop; it has to be mended, or ended."""


class LeaseLost(Conflict):
    """The lease a write was fenced by has gone to another holder; nothing was written."""


class NewerData(OrchestraError):
    """The data was written by a newer version of Orchestra Hub than this one."""


class Temporary(OrchestraError):
    """A later try can succeed. `retry_after_s` is a suggestion in seconds."""

    def __init__(self, message: str, *, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreUnavailable(Temporary):
    """The database can't be reached, is read-only, full or locked."""


class HubUnavailable(Temporary):
    """The hub's API doesn't answer or answers with a server error."""


class TooManyAttempts(Temporary):
    """A password or code was wrong too often; `retry_after_s` says when the next attempt counts."""


class ProvisionFailed(Temporary):
    """A workshop's resources couldn't be made, read or removed; the message says why."""
