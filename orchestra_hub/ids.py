"""Names that are made, checked and taken apart in one place: workshop ids, hosts, server names, account keys.

Guarantees:

- A workshop id is a DNS label (RFC 1123) of at most 63 characters with no double hyphen, never a reserved host.
- A seat's host label is a DNS label in every case and belongs to one workshop and one user; the first double
  hyphen parts the two, as an id has none.
- A server name is what JupyterHub 6 accepts: at most 30 characters, lower case letters, digits, single hyphens.
- An account key is different for two accounts of the same name made at different times, so that a name used again
  inherits nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime

from jupyterhub.slugs import safe_slug

from orchestra_hub.errors import InvalidInput

__all__ = [
    "RANDOM_LENGTH",
    "RESERVED_LABELS",
    "UNAMBIGUOUS_ALPHABET",
    "WORKSHOP_ID_MAX",
    "account_key",
    "check_workshop_id",
    "is_workshop_id",
    "new_workshop_id",
    "seat_label",
    "server_name",
    "workshop_label_of",
]

WORKSHOP_ID_MAX = 63
RANDOM_LENGTH = 6
COURSE_NAME_MAX = 40
UNAMBIGUOUS_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"  # no 0/o, 1/i/l, u: read aloud and typed by learners
_LABEL = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_WHOLE_ID_MAX = 31  # 31 + "--" + 30 = 63

RESERVED_LABELS = frozenset(
    [
        "admin",
        "api",
        "app",
        "auth",
        "blog",
        "cdn",
        "dev",
        "docs",
        "download",
        "ftp",
        "grafana",
        "help",
        "hub",
        "imap",
        "internal",
        "localhost",
        "login",
        "mail",
        "metrics",
        "mx",
        "ns",
        "ns1",
        "ns2",
        "pop",
        "prometheus",
        "proxy",
        "root",
        "seat",
        "service",
        "services",
        "signup",
        "smtp",
        "staging",
        "static",
        "status",
        "support",
        "system",
        "test",
        "traefik",
        "user",
        "users",
        "webmail",
        "workshop",
        "workshops",
        "www",
    ]
)


def _check_part(value: str, *, what: str, field: str, longest: int) -> None:
    if not _LABEL.fullmatch(value) or len(value) > longest:
        raise InvalidInput(
            f"{what} {value[:80]!r} was refused: use 1 to {longest} lower case letters and digits, parted by single "
            "hyphens.",
            field=field,
        )


def new_workshop_id(course: str, session: str) -> str:
    """A fresh id `{course}-{session}-{random}`; the random part is six characters from an unambiguous alphabet.

    Raises `InvalidInput` when a part isn't a run of labels or the whole would be longer than 63 characters.
    """
    _check_part(course, what="The course name", field="/course", longest=COURSE_NAME_MAX)
    longest = WORKSHOP_ID_MAX - RANDOM_LENGTH - 2 - len(course)
    _check_part(session, what="The session", field="/session", longest=longest)
    suffix = "".join(secrets.choice(UNAMBIGUOUS_ALPHABET) for _ in range(RANDOM_LENGTH))
    return check_workshop_id(f"{course}-{session}-{suffix}")


def is_workshop_id(value: str) -> bool:
    """Whether `value` has the form of a workshop id and isn't a reserved host."""
    return len(value) <= WORKSHOP_ID_MAX and value not in RESERVED_LABELS and _LABEL.fullmatch(value) is not None


def check_workshop_id(value: str) -> str:
    """`value` itself; raises `InvalidInput` when it hasn't the form of a workshop id."""
    if not is_workshop_id(value):
        raise InvalidInput(f"{value[:80]!r} is not a workshop id; it looks like 'rnaseq-intro-2026nov-k3x9qz'.")
    return value


def server_name(workshop_id: str) -> str:
    """The name of every seat's named server in a workshop (JupyterHub's own slug rule, `jupyterhub.slugs`)."""
    name: str = safe_slug(workshop_id)
    return name


def seat_label(workshop_id: str, user_name: str) -> str:
    """The first DNS label of a seat's host, `{workshop}--{user}`; long or unusual parts end in a hash."""
    workshop = workshop_id if len(workshop_id) <= _WHOLE_ID_MAX else safe_slug(workshop_id)
    return f"{workshop}--{safe_slug(user_name)}"


def workshop_label_of(label: str) -> str:
    """The workshop's part of a host label: the label itself, or what stands before `--` in a seat's."""
    return label.split("--", 1)[0]


def account_key(user_name: str, created: datetime) -> str:
    """A key for one account: its name as a slug and a hash of name and time of creation (UTC; naive means UTC)."""
    moment = created.replace(tzinfo=UTC) if created.tzinfo is None else created.astimezone(UTC)
    digest = hashlib.sha256(f"{user_name}\n{moment.isoformat(timespec='microseconds')}".encode()).hexdigest()[:10]
    return f"{safe_slug(user_name)}-{digest}"
