"""`orchestra-local`: seats as processes of this machine, each with a folder of its own.

A seat outlives the hub: it runs in a session of its own, and its process is known by id and time of creation, in the
hub's database and in a file that is written before the hub hears of it, so that a hub killed in between doesn't start a
second one. Before the launch that file names the server's mark alone: a hub killed before it knew the process's id ends
the process all the same when it is there again. Every server, also an ordinary one of no workshop, gets its own folder
below the data folder and needs no user of the system.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sys
import time
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future, random_port
from traitlets import Bool, Float, Integer, List, Unicode, default

from orchestra_hub.errors import OrchestraError
from orchestra_hub.hub.groups import account_of
from orchestra_hub.hub.seat import Progress, Seat, SeatFailed, SeatMixin
from orchestra_spawner.folders import SeatFolders, SeatLayout
from orchestra_spawner.processes import MARKER, SeatProcess, end_marked, recorded, records_folder, write_record
from orchestra_spawner.seat import launch_arguments

__all__ = ["OrchestraLocalSpawner"]

_LOOPBACK = "127.0.0.1"
_TAIL_BYTES = 4_000
_ANSWER_S = 5.0
_MEMORY_SIGNS = (
    "MemoryError",
    "Cannot allocate memory",
    "failed to map segment",  # the dynamic linker
    "without setting an exception",  # CPython, when there was no memory for the exception itself
    "error return without exception set",
)
_NO_MEMORY = "There is not enough free memory to start the notebook server now. Try again in a minute."


class OrchestraLocalSpawner(SeatMixin, Spawner):  # type: ignore[misc]  # jupyterhub has no types
    """Starts a single-user server as a process of this machine."""

    data_dir = Unicode(
        config=True,
        help="The data folder; seats are in `workshops/{id}/seats/`, ordinary servers in `users/`. Has no default.",
    )
    allow_root = Bool(
        False,
        config=True,
        help="Let servers run as root. They do when the hub does and nothing gives them a user of their own.",
    )
    grace_s = Float(
        4.0,
        config=True,
        help="Seconds a server has to stop by itself (it stops its kernels) before it and all it started is killed.",
    )
    sign_in_cache_s = Integer(
        10,
        config=True,
        help="Seconds an ordinary server believes a sign-in before it asks the hub again; a log-out is seen within "
        "them. In seats SeatExtension.sign_in_check_s takes its place. Not 0: JupyterHub takes 0 as for ever.",
    )
    activity_interval_s = Integer(
        60,
        config=True,
        help="Seconds between two reports of activity from a seat to the hub; idle limits are as exact.",
    )

    process: SeatProcess | None = None
    _popen: Popen[bytes] | None = None

    @default("start_timeout")
    def _start_timeout_default(self) -> int:
        return 45

    @default("http_timeout")
    def _http_timeout_default(self) -> int:
        return 14  # together with start_timeout under a minute: nobody waits longer to hear that it failed

    @default("poll_interval")
    def _poll_interval_default(self) -> int:
        return 10

    @default("cmd")
    def _cmd_default(self) -> list[str]:
        # -P: a file of the learner's called random.py must not be imported by the server
        return [sys.executable, "-P", "-m", "jupyterhub.singleuser"]

    env_keep = List(
        Unicode(),
        config=True,
        help="Names of the hub's environment that seats get too. Nothing secret belongs here: learners can read it.",
    )

    @default("env_keep")
    def _env_keep_default(self) -> list[str]:
        return ["PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"]

    @property
    def folders(self) -> SeatFolders:
        """The folders below `data_dir`."""
        return SeatFolders(Path(self.data_dir))

    @property
    def mark(self) -> str:
        """What all of this server's processes carry in their environment."""
        return f"{account_of(self.user.orm_user).key}/{self.name}"

    @property
    def record(self) -> Path:
        """The file that names this server's process."""
        return records_folder(Path(self.data_dir)) / f"{self.mark.replace('/', '--')}.json"

    def get_state(self) -> dict[str, Any]:
        """What the hub keeps in its database to find the process again."""
        state: dict[str, Any] = super().get_state()
        if self.process is not None:
            state |= {"pid": self.process.pid, "created": self.process.created}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """The reverse of `get_state`."""
        super().load_state(state)
        if "pid" in state and "created" in state:
            self.process = SeatProcess(state["pid"], state["created"], self.mark)

    def clear_state(self) -> None:
        """Forget the process."""
        super().clear_state()
        self.process = None
        self._popen = None

    async def start(self) -> str:
        """Lay out the folder, start the server, and give its URL once it answers. Raises `SeatFailed`."""
        progress = self.begin_progress()
        deadline_s = time.monotonic() + self.start_timeout - 2
        self.use_seat_origin()
        leftover = recorded(self.record)
        if leftover is not None:
            self.log.warning("user=%s server=%s what is left of an earlier server is ended", self.user.name, self.name)
            await end_marked([leftover], grace_s=self.grace_s)
        progress.step(5, "Preparing your folder")
        layout = await asyncio.to_thread(self._lay_out, self.seat)
        self.port = random_port()
        self.ip = _LOOPBACK
        progress.step(25, "Starting the notebook server")
        self._launch(layout, self._environment(layout))
        progress.step(45, "Waiting for the notebook server to answer")
        await self._wait_until_it_answers(layout, deadline_s, progress)
        return f"http://{_LOOPBACK}:{self.port}"

    def _lay_out(self, seat: Seat | None) -> SeatLayout:
        key = account_of(self.user.orm_user).key
        try:
            if seat is None:
                return self.folders.lay_out_ordinary(key)
            return self.folders.lay_out_seat(
                seat.facts.id, seat.account.key, seat.facts.template.environment.requirements
            )
        except OrchestraError as error:
            raise SeatFailed(str(error), reason="folder") from error
        except OSError as error:
            raise SeatFailed(
                f"Your folder could not be made: {error.strerror}. Try again; if it stays so, tell your instructor.",
                reason="folder", detail=str(error),
            ) from error  # fmt: skip

    def _environment(self, layout: SeatLayout) -> dict[str, str]:
        env = self.get_env()
        env |= {
            MARKER: self.mark,
            "HOME": str(layout.home),
            "USER": self.user.name,
            "LOGNAME": self.user.name,
            "SHELL": shutil.which("bash") or "/bin/sh",
            "VIRTUAL_ENV": str(layout.venv),
            "PATH": os.pathsep.join([*map(str, layout.path), env.get("PATH", os.defpath)]),
            "JUPYTER_PATH": str(layout.jupyter_dir),
            "JUPYTER_RUNTIME_DIR": str(layout.jupyter_dir / "runtime"),
            "JUPYTER_CONFIG_DIR": str(layout.jupyter_dir / "config"),
            "JUPYTERHUB_ROOT_DIR": str(layout.home),
            "JUPYTERHUB_ACTIVITY_INTERVAL": str(self.activity_interval_s),
            "JUPYTERHUB_DISABLE_USER_CONFIG": "1",
        }
        seat = self.seat
        if seat is not None:
            template = seat.facts.template
            env |= template.environment.variables
            env["JUPYTERHUB_DEFAULT_URL"] = f"/lab/tree/{template.landing}"
            env["ORCHESTRA_WORKSHOP_ID"] = seat.facts.id
        return env

    def _launch(self, layout: SeatLayout, env: dict[str, str]) -> None:
        command = [*self.cmd, *self.get_args(), f"--HubOAuth.cache_max_age={self.sign_in_cache_s}"]
        if self.seat is not None:
            command += launch_arguments()
        if self.allow_root:
            command.append("--allow-root")
        layout.log.parent.mkdir(parents=True, exist_ok=True)
        write_record(self.record, SeatProcess.launching(self.mark))
        try:
            with layout.log.open("wb") as log:
                self._popen = Popen(
                    command, env=env, cwd=layout.home, stdin=DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:
            if error.errno in (errno.ENOMEM, errno.EAGAIN):
                raise SeatFailed(f"{_NO_MEMORY} Your files are safe.", reason="memory", detail=str(error)) from error
            raise SeatFailed(
                f"The notebook server's program could not be started ({Path(command[0]).name}: {error.strerror}). "
                "Tell your instructor; the operator has to install it.",
                reason="program", detail=f"{command[0]}: {error}",
            ) from error  # fmt: skip
        self.process = SeatProcess.of(self._popen.pid, self.mark)
        write_record(self.record, self.process)

    async def _wait_until_it_answers(self, layout: SeatLayout, deadline_s: float, progress: Progress) -> None:
        while time.monotonic() < deadline_s:
            status = await self.poll()
            if status is not None:
                raise self._ended(status, layout)
            if await self._answers(deadline_s - time.monotonic()):
                progress.step(80, "The notebook server answers; opening its address")
                return
            await asyncio.sleep(0.05)
        raise SeatFailed(
            f"The notebook server did not answer within {self.start_timeout} s. The machine may be very busy: try "
            "again in a minute.",
            reason="timeout",
        )

    async def _answers(self, within_s: float) -> bool:
        """Whether the server answers a request. JupyterHub asks too, but waits for five minutes for a server that took
        the request and says nothing."""
        request = f"GET {self.server.base_url}api HTTP/1.0\r\nHost: {_LOOPBACK}:{self.port}\r\n\r\n"
        writer = None
        try:
            async with asyncio.timeout(min(_ANSWER_S, within_s)):
                reader, writer = await asyncio.open_connection(_LOOPBACK, self.port)
                writer.write(request.encode())
                return (await reader.readline()).startswith(b"HTTP/")
        except (OSError, TimeoutError):
            return False
        finally:
            if writer is not None:
                writer.close()

    def _ended(self, status: int, layout: SeatLayout) -> SeatFailed:
        lines = _last_lines(layout.log)
        last = lines[-1] if lines else ""
        if status in (-9, 137):
            sentence = "The system stopped the notebook server while it started, most likely because memory ran out."
        elif "No module named" in last or "not found" in last:
            sentence = (
                f"A program the notebook needs is missing ({last}). Tell your instructor: it has to be installed."
            )
        elif "No space left" in last:
            sentence = "The machine's disk is full, so the notebook server could not start. Tell your instructor."
        elif any(sign in line for line in lines for sign in _MEMORY_SIGNS):
            sentence = _NO_MEMORY
        else:
            sentence = f"The notebook server stopped while it started (exit code {status})."
        return SeatFailed(f"{sentence} Your files are safe.", reason="crash", detail=f"exit code {status}: {last}")

    async def poll(self) -> int | None:
        """None while the server runs, else its exit code (0 when it isn't known).

        What a server that ended has left is ended before the hub hears of it: a hub killed once it has written that the
        server is stopped would never look for it again.
        """
        status = self._status()
        if status is not None:
            await self._end_rest()
        return status

    def _status(self) -> int | None:
        if self._popen is not None:
            return self._popen.poll()
        if self.process is None:
            return 0
        return None if self.process.find() is not None else 0

    async def _end_rest(self) -> None:
        """End whatever of this server still runs, also one whose start the hub didn't live to see, and forget it."""
        left = self.process or recorded(self.record)
        if left is not None:
            await end_marked([left], grace_s=0)
            self.record.unlink(missing_ok=True)

    async def stop(self, now: bool = False) -> None:
        """Stop the server and everything it started."""
        if self.process is None:
            return
        await end_marked([self.process], grace_s=0 if now else self.grace_s)
        if self._popen is not None:
            self._popen.poll()
        self.record.unlink(missing_ok=True)

    async def run_post_stop_hook(self) -> None:
        """JupyterHub calls this after every end of a server, also of one that died, or whose start the hub didn't live
        to see; for those it doesn't call `stop`. Kernels, and whatever else it had started, end here."""
        await self._end_rest()
        if (seat := self.seat) is not None:
            await asyncio.to_thread(self.folders.remove_halves, seat.facts.id, seat.account.key)
        await maybe_future(super().run_post_stop_hook())

    async def rename(self, old_name: str, new_name: str) -> None:
        """Refused for a seat: its name is its workshop's."""
        workshops = self.user.workshops
        if workshops.id_of_server(old_name) or workshops.id_of_server(new_name):
            raise ValueError("A workshop's server can't be renamed.")


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.strip()[-200:] for line in text.splitlines() if line.strip()]
