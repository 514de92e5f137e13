"""Passwords hashed and compared with bcrypt, outside the event loop.

Guarantees:

- Hashing goes on in threads of its own (bcrypt lets go of Python's lock), one fewer than there are cores, so that pages
  are answered meanwhile; more work waits its turn.
- Every comparison is one whole bcrypt run, whether or not there is a hash to compare with and however long the password
  is, so that the time tells nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from concurrent.futures import ThreadPoolExecutor

import bcrypt

__all__ = ["PASSWORD_MAX_BYTES", "Passwords", "fits", "hashed", "threads_for"]

PASSWORD_MAX_BYTES = 72  # bcrypt's own limit


def hashed(password: str) -> bytes:
    """A new hash. `password` has at most `PASSWORD_MAX_BYTES` bytes."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt())


def fits(password: str, kept: bytes | None) -> bool:
    """Whether `kept` is a hash of `password`; takes as long when there is none."""
    given = password.encode("utf-8", "surrogatepass")
    cut = given[:PASSWORD_MAX_BYTES]
    try:
        made = bcrypt.hashpw(cut, bcrypt.gensalt() if kept is None else kept)
    except ValueError:  # what was kept is damaged, and nobody's hash
        made, kept = bcrypt.hashpw(cut, bcrypt.gensalt()), None
    return hmac.compare_digest(made, kept or b"") and len(given) <= PASSWORD_MAX_BYTES


def threads_for(cores: int) -> int:
    """How many threads may hash at once: one core is left to the event loop."""
    return max(1, cores - 1)


class Passwords:
    """`hashed` and `fits` for an event loop."""

    def __init__(self) -> None:
        cores = len(os.sched_getaffinity(0))
        self._threads = ThreadPoolExecutor(threads_for(cores), thread_name_prefix="passwords")

    async def hashed(self, password: str) -> bytes:
        """A new hash."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, hashed, password)

    async def fits(self, password: str, kept: bytes | None) -> bool:
        """Whether `kept` is a hash of `password`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, fits, password, kept)
