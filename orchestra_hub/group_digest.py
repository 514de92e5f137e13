"""The digest of a workshop's Hub group: made by the hub of what is there, by the reconciler of what must be. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

__all__ = ["group_digest"]


def group_digest(properties: str, members: Iterable[str]) -> str:
    """The digest of a group whose properties are the JSON text `properties`, as Python's `json` writes it."""
    text = "\n".join([properties, *sorted(members)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
