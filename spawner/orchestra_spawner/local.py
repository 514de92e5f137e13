"""`orchestra-local`: seats as processes of this machine, each with a folder of its own.

A seat outlives the hub: it runs in a session of its own, and its process is known by id and time of creation, in the
hub's database and in a file that is written before the hub hears of it, so that a hub killed in between doesn't start a
second one. Before the launch that file names the server's mark alone: a hub killed before it knew the process's id ends
the process all the same when it is there again. Every server, also an ordinary one of no workshop, gets its own folder
below the data folder and needs no user of the system: with root's rights it runs as a user id of its own with a view of
its own (`apart`), and as a whole uses no more than its limits where the system has control groups (`cgroups`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from subprocess import DEVNULL, Popen, TimeoutExpired
from typing import Any

import psutil
from jupyterhub.spawner import Spawner
from jupyterhub.traitlets import ByteSpecification
from jupyterhub.utils import maybe_future, random_port
from traitlets import Bool, Dict, Float, Integer, List, Unicode, default

from orchestra_hub.errors import OrchestraError
from orchestra_hub.hub.groups import account_of
from orchestra_hub.hub.seat import Obstacle, Progress, Seat, SeatFailed, SeatMixin
from orchestra_spawner.apart import SeatsApart, end_user, first_process, program_folders
from orchestra_spawner.cgroups import Limits, SeatGroups
from orchestra_spawner.confinement import in_groups, within_limits
from orchestra_spawner.endings import ending, forget_ending, note_ending
from orchestra_spawner.failures import NO_MEMORY, failure_at_start, too_much_memory
from orchestra_spawner.folders import SeatFolders, SeatLayout
from orchestra_spawner.identities import UserIds, running_user_ids
from orchestra_spawner.loopback_rules import Rules, RulesFailed
from orchestra_spawner.processes import (
    MARKER,
    SeatProcess,
    end_marked,
    kill_marked,
    recorded,
    records_folder,
    write_record,
)
from orchestra_spawner.room import obstacle
from orchestra_spawner.seat import launch_arguments

__all__ = ["OrchestraLocalSpawner"]

_LOOPBACK = "127.0.0.1"
_ANSWER_S = 5.0


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
    seat_user_ids = Unicode(
        config=True,
        help="`FIRST-LAST`: the user ids seats run under, each its own, with a view of the machine of its own. Needs "
        "root and the programs bwrap, setpriv and prlimit. Empty: all run as the hub's user.",
    )
    port_rules = Dict(
        config=True,
        help="`table`, `open_ports`, `closed_ports` of the packet filter that keeps seats from ports of this machine. "
        "Empty: they may connect to all.",
    )
    cgroup_folders = Dict(
        Unicode(),
        config=True,
        help="The folder for seats' control groups by controller (`memory`, `cpu`, `pids`). Empty: no limits by them.",
    )
    limits_on = Bool(
        True,
        config=True,
        help="Whether seats are held to their limits of memory, processor, processes and disk. Off, one seat can take "
        "the whole machine.",
    )
    storage_limit = ByteSpecification(
        "2G",
        config=True,
        help="Disk space of an ordinary server; a seat's is its template's. No single file may be longer.",
    )
    process_limit = Integer(
        512,
        config=True,
        help="Processes and threads a seat may have at one time. Libraries for arrays start a thread for each core of "
        "the machine in each kernel; more than a few thousand would let one seat slow the machine down.",
    )
    start_memory = ByteSpecification(
        "300M",
        config=True,
        help="Memory the machine must have free for a seat to start; a start waits until it has.",
    )
    disk_reserve = ByteSpecification(
        "500M",
        config=True,
        help="Space the data folder's disk must have free for a seat to start; it is refused otherwise, as databases "
        "need the rest.",
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
    _stop_asked = False

    @default("mem_limit")
    def _mem_limit_default(self) -> str:
        return "2G"

    @default("cpu_limit")
    def _cpu_limit_default(self) -> float:
        return 1.0

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
        return SeatFolders(Path(self.data_dir).resolve())

    @property
    def apart(self) -> SeatsApart | None:
        """How seats are kept apart; None when they aren't."""
        if not self.seat_user_ids:
            return None
        found = self.port_rules
        rules = None
        ids = UserIds.parse(self.seat_user_ids)
        if found:
            rules = Rules(found["table"], ids, tuple(found["open_ports"]), tuple(found["closed_ports"]))
        return SeatsApart(self.folders, ids, rules, program_folders())

    @property
    def groups(self) -> SeatGroups:
        """This server's control groups."""
        return SeatGroups(self.cgroup_folders, self.record.stem)

    @property
    def limits(self) -> Limits:
        """What this server may use: a seat what its template says, an ordinary one what the settings say."""
        if not self.limits_on:
            return Limits()
        seat = self.seat
        if seat is None:
            return Limits(self.mem_limit, self.cpu_limit, self.process_limit, self.storage_limit)
        resources = seat.facts.template.resources
        return Limits(resources.memory_bytes, resources.cpu, self.process_limit, resources.storage_bytes)

    def start_obstacle(self) -> Obstacle | None:
        """Too little memory or disk on this machine for a start."""
        return obstacle(Path(self.data_dir), memory_bytes=self.start_memory, disk_bytes=self.disk_reserve)

    def ended_because(self) -> str | None:
        """Why it ended when nobody had stopped it."""
        return ending(self.record)

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
            found = asdict(self.process)
            state |= {name: found[name] for name in ("pid", "created", "first", "first_created")}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """The reverse of `get_state`."""
        super().load_state(state)
        if "pid" in state and "created" in state:
            first = state.get("first")
            self.process = SeatProcess(state["pid"], state["created"], self.mark, first, state.get("first_created", 0))

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
        self._stop_asked = False
        forget_ending(self.record)
        refusal = self.start_obstacle()
        if refusal is not None and not refusal.wait:
            raise SeatFailed(refusal.sentence, reason="disk")
        leftover = recorded(self.record)
        if leftover is not None:
            self.log.warning("user=%s server=%s what is left of an earlier server is ended", self.user.name, self.name)
            await end_marked([leftover], grace_s=self.grace_s)
        progress.step(5, "Preparing your folder")
        self.process = None
        self.groups.remove()
        key = account_of(self.user.orm_user).key  # read here: the hub's session is for the event loop's thread alone
        layout = await asyncio.to_thread(self._lay_out, self.seat, key)
        self.port = random_port()
        self.ip = _LOOPBACK
        progress.step(25, "Starting the notebook server")
        await self._launch(layout, self._environment(layout))
        progress.step(45, "Waiting for the notebook server to answer")
        await self._wait_until_it_answers(layout, deadline_s, progress)
        if self.limits_on:  # not before: nothing of the learner's runs yet, and the server starts twice as fast
            with suppress(OSError):  # it ended: seen by the next look
                self.groups.hold_to_cpu(self.limits)
        return f"http://{_LOOPBACK}:{self.port}"

    def _lay_out(self, seat: Seat | None, key: str) -> SeatLayout:
        apart = None if self.apart is None else self.apart.to_lay_out
        try:
            if seat is None:
                return self.folders.lay_out_ordinary(key, apart=apart)
            layout = self.folders.lay_out_seat(
                seat.facts.id, seat.account.key, seat.facts.template.environment.requirements, apart=apart
            )
            if layout.uid is not None and layout.uid in running_user_ids():
                end_user(layout.uid)  # of a start whose hub was killed before it wrote the record
        except OrchestraError as error:
            raise SeatFailed(str(error), reason="folder") from error
        except OSError as error:
            raise SeatFailed(
                f"Your folder could not be made: {error.strerror}. Try again; if it stays so, tell your instructor.",
                reason="folder", detail=str(error),
            ) from error  # fmt: skip
        return layout

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
            if layout.uid is None:
                env |= template.environment.variables
            env["JUPYTERHUB_DEFAULT_URL"] = f"/lab/tree/{template.landing}"
            env["ORCHESTRA_WORKSHOP_ID"] = seat.facts.id
        return env

    async def _launch(self, layout: SeatLayout, env: dict[str, str]) -> None:
        command = [*self.cmd, *self.get_args(), f"--HubOAuth.cache_max_age={self.sign_in_cache_s}"]
        if self.seat is not None:
            command += launch_arguments()
        if self.allow_root and layout.uid is None:
            command.append("--allow-root")
        layout.log.parent.mkdir(parents=True, exist_ok=True)
        write_record(self.record, SeatProcess.launching(self.mark))
        info, told = os.pipe()
        try:
            seat, limits, groups = self.seat, self.limits, self.groups  # as above
            variables = {} if seat is None else seat.facts.template.environment.variables
            command = await asyncio.to_thread(self._confined, layout, command, told, limits, groups, variables)
            with layout.log.open("wb") as log:
                self._popen = Popen(
                    command, env=env, cwd=layout.home, stdin=DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    umask=0o077, pass_fds=() if layout.uid is None else (told,),
                )  # fmt: skip
            os.close(told)
            told = -1
            if layout.uid is None:
                self._remember(SeatProcess.of(self._popen.pid, self.mark), layout)
            else:
                await self._find_server(layout, await asyncio.to_thread(first_process, info))
        except RulesFailed as error:
            raise SeatFailed(
                "Your notebook could not be kept apart from others, so it was not started. Tell your instructor.",
                reason="rules", detail=str(error),
            ) from error  # fmt: skip
        except OSError as error:
            if error.errno in (errno.ENOMEM, errno.EAGAIN):
                raise SeatFailed(f"{NO_MEMORY} Your files are safe.", reason="memory", detail=str(error)) from error
            raise SeatFailed(
                f"The notebook server's program could not be started ({Path(command[0]).name}: {error.strerror}). "
                "Tell your instructor; the operator has to install it.",
                reason="program", detail=f"{command[0]}: {error}",
            ) from error  # fmt: skip
        finally:
            os.close(info)
            if told >= 0:
                os.close(told)

    def _confined(
        self,
        layout: SeatLayout,
        command: list[str],
        told: int,
        limits: Limits,
        groups: SeatGroups,
        variables: dict[str, str],
    ) -> list[str]:
        """`command` within the seat's limits and apart from others, as far as both are to be had."""
        apart = self.apart
        if apart is not None and layout.uid is not None:
            apart.let_to_ports(layout.uid)
            shared = (limits.memory_bytes or 2 << 30) // 2
            command = apart.command(layout, command, memory_files_bytes=shared, info=told, variables=variables)
        if self.limits_on and shutil.which("prlimit"):
            counted = layout.uid is not None and "pids" not in self.cgroup_folders
            command = within_limits(
                command, file_bytes=limits.storage_bytes, processes=limits.processes if counted else None
            )
        if not (self.limits_on and self.cgroup_folders):
            return command
        return in_groups(command, groups.make(replace(limits, cpu=None)))

    async def _find_server(self, layout: SeatLayout, first: int | None) -> None:
        """Remember the first process of the seat's namespace at once, the server's own once it is there."""
        deadline_s = time.monotonic() + self.start_timeout / 2
        while first is not None and time.monotonic() < deadline_s:
            with suppress(psutil.NoSuchProcess):  # it ended: seen by the look that follows
                found = SeatProcess.apart(first, self.mark)
                if found.has_server or self.process is None:
                    self._remember(found, layout)
                if found.has_server:
                    return
            if await self.poll() is not None:
                return
            await asyncio.sleep(0.01)

    def _remember(self, process: SeatProcess, layout: SeatLayout) -> None:
        limits, by_group = self.limits, "memory" in self.cgroup_folders
        self.process = replace(
            process,
            folder=str(layout.folder),
            memory_bytes=None if by_group else limits.memory_bytes,
            storage_bytes=limits.storage_bytes,
        )
        write_record(self.record, self.process)

    async def _wait_until_it_answers(self, layout: SeatLayout, deadline_s: float, progress: Progress) -> None:
        while time.monotonic() < deadline_s:
            status = await self.poll()
            if status is not None:
                raise failure_at_start(status, layout.log)
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
        if left is None:
            return
        if not self._stop_asked and ending(self.record) is None and self.groups.killed_for_memory():
            note_ending(self.record, too_much_memory(self.limits.memory_bytes))
        await self._end(left, grace_s=0)

    async def stop(self, now: bool = False) -> None:
        """Stop the server and everything it started."""
        self._stop_asked = True
        if self.process is None:
            return
        await self._end(self.process, grace_s=0 if now else self.grace_s)

    async def _end(self, seat: SeatProcess, *, grace_s: float) -> None:
        """Cancelled, as by a hub that is told to end, it doesn't wait: JupyterHub forgets the server in any case, and
        no later hub would look for it."""
        try:
            await end_marked([seat], grace_s=grace_s)
        except asyncio.CancelledError:
            kill_marked(seat)
            self.record.unlink(missing_ok=True)
            raise
        await self._clear_away()

    async def _clear_away(self) -> None:
        if self._popen is not None:
            with suppress(TimeoutExpired):
                await asyncio.to_thread(self._popen.wait, 2)
        self.record.unlink(missing_ok=True)
        self.groups.remove()

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
