"""Join codes, invitation tokens, pseudonyms: made, hashed and compared in one place.

Comparisons take the same time whether they fit or not (`hmac.compare_digest`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from orchestra_hub.ids import UNAMBIGUOUS_ALPHABET

__all__ = [
    "JOIN_CODE_LENGTH",
    "invitation_id_of",
    "new_invitation_token",
    "new_join_code",
    "new_pseudonym_key",
    "pseudonym",
    "same_code",
    "token_fits",
    "token_hash",
]

JOIN_CODE_LENGTH = 8  # of 30 signs: 6.6e11 codes; at 1000 tries a second half of them take ten years


def new_join_code() -> str:
    """Eight signs that can't be mistaken for one another, read aloud or typed."""
    return "".join(secrets.choice(UNAMBIGUOUS_ALPHABET) for _ in range(JOIN_CODE_LENGTH))


def same_code(given: str, right: str) -> bool:
    """Whether `given` is the code, upper or lower case, with or without blanks around it."""
    return hmac.compare_digest(given.strip().lower().encode(), right.lower().encode())


def new_invitation_token(invitation_id: int) -> str:
    """A token with 192 random bits that names its invitation, so that looking it up tells nothing of the secret."""
    return f"{invitation_id}-{secrets.token_urlsafe(24)}"


def invitation_id_of(token: str) -> int | None:
    """The invitation a token names; None when it hasn't the form of one."""
    head, _, tail = token.strip().partition("-")
    return int(head) if tail and head.isascii() and head.isdigit() and len(head) < 19 else None


def token_hash(token: str) -> str:
    """SHA-256 of a token. No salt, no stretching: the token itself is random enough."""
    return hashlib.sha256(token.strip().encode()).hexdigest()


def token_fits(token: str, kept_hash: str) -> bool:
    """Whether `token` is the one whose hash was kept."""
    return hmac.compare_digest(token_hash(token).encode(), kept_hash.encode())


def new_pseudonym_key() -> bytes:
    """A key for the pseudonyms of one workshop."""
    return secrets.token_bytes(32)


def pseudonym(key: bytes, account_key: str) -> str:
    """How events of one workshop call an account: the same each time, and no way back without `key`."""
    return f"p-{hmac.digest(key, account_key.encode(), hashlib.sha256).hex()[:20]}"
