"""Child processes that end with whoever waits for them, get none of our secrets and can't fill our memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from orchestra_hub.errors import ProvisionFailed

__all__ = ["Child", "child", "last_line"]

_KEPT_ERRORS_BYTES = 16 * 1024
_END_TIMEOUT_S = 5.0
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PASSED_ON_PREFIXES = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class Child:
    """A running child. `errors` is the end of what it wrote to its standard error, complete after `wait`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._errors = b""
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            self._errors = (self._errors + chunk)[-_KEPT_ERRORS_BYTES:]

    @property
    def errors(self) -> str:
        """What it complained about so far."""
        return self._errors.decode("utf-8", "replace").strip()

    async def read(self, most: int) -> bytes:
        """The next bytes of its output, `b""` at its end; the child waits while nobody reads."""
        assert self._process.stdout is not None
        return await self._process.stdout.read(most)

    async def wait(self) -> int:
        """Its exit code, once it ended; negative for a signal."""
        code = await self._process.wait()
        await self._draining
        return code

    async def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):  # a grandchild that left the process group may hold the pipes
            async with asyncio.timeout(_END_TIMEOUT_S):
                while await self.read(65536):  # a full pipe keeps `wait` from returning (cpython issue 119710)
                    pass
                await self.wait()
        self._draining.cancel()


@contextlib.asynccontextmanager
async def child(
    command: Sequence[str], refused: str, *, folder: Path | None = None, uid: int | None = None
) -> AsyncIterator[Child]:
    """Run `command`; it and all it started is killed when the block is left. Raises `ProvisionFailed` (`refused`).

    With `uid` it runs as that user, in no group but its own. It need not be able to get to `folder` by itself.
    """
    user: dict[str, Any] = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a process group of its own, to be killed whole
            env=_environment(),
            cwd=folder,
            **user,
        )
    except OSError as error:
        raise ProvisionFailed(f"{refused}: {command[0]}: {error.strerror}.") from error
    running = Child(process)
    try:
        yield running
    finally:
        await running._end()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
    kept |= {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON_PREFIXES)}
    return {**kept, "LC_ALL": kept.get("LC_ALL", "C.UTF-8")}


def last_line(text: str) -> str:
    """The last line that says something, an `ERROR:` line if there is one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["no reason given"])[-1][:300]
