"""A real platform for tests: `orchestra-hub up` in a process of its own, and the ways into it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import psutil

from orchestra_hub.localhost import LoopbackTransport

T = TypeVar("T")

UP_S = 60
ORCHESTRA = [sys.executable, "-m", "orchestra_services.main"]


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: Callable[[], T], *, within_s: float, every_s: float = 0.1, message: str = "") -> T:
    """What `what()` gives once it is true; fails after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    last: Any = None
    while time.monotonic() < deadline:
        last = what()
        if last:
            return last
        time.sleep(every_s)
    raise AssertionError(f"{message or what} was not true within {within_s} s; last: {last!r}")


@dataclass
class Platform:
    """One running `up`."""

    data_dir: Path
    port: int
    process: subprocess.Popen[str]
    output: Path
    args: tuple[str, ...] = ()
    extra_env: dict[str, str] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def start(
        cls, data_dir: Path, *args: str, port: int | None = None, env: dict[str, str] | None = None
    ) -> Iterator[Platform]:
        """A platform that answers; ended, with its seats, when the block is left."""
        platform = cls.launch(data_dir, *args, port=port, env=env)
        try:
            platform.wait_ready()
            yield platform
        finally:
            platform.stop()

    @classmethod
    def launch(cls, data_dir: Path, *args: str, port: int | None = None, env: dict[str, str] | None = None) -> Platform:
        """`up` started and not waited for."""
        data_dir.mkdir(parents=True, exist_ok=True)
        chosen = port or free_port()
        output = data_dir.parent / f"{data_dir.name}.up.log"
        extra = env or {}
        with output.open("a") as stream:
            process = subprocess.Popen(
                [*ORCHESTRA, "up", "--data-dir", str(data_dir), "--port", str(chosen), *args],
                stdout=stream, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                env={**os.environ, "COLUMNS": "200", **extra},
            )  # fmt: skip
        return cls(data_dir, chosen, process, output, args, extra)

    def again(self) -> Platform:
        """The next `up` on the same folder and port, answering."""
        following = type(self).launch(self.data_dir, *self.args, port=self.port, env=self.extra_env)
        following.wait_ready()
        return following

    def wait_ready(self) -> None:
        """Until the sign-in page and the API answer through the proxy."""

        def answers() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"up ended with {self.process.returncode}:\n{self.text}")
            try:
                with self.http() as client:
                    health = client.get(f"{self.origin('api')}/v1/health")
                    page = client.get(f"{self.origin('app')}/hub/login")
                return health.status_code == 200 and page.status_code == 200
            except httpx.HTTPError:
                return False

        try:
            until(answers, within_s=UP_S, message="up answers")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.text}\n{self.logs()}") from error
        until(lambda: "admin" in self.text or "Ctrl" in self.text, within_s=20, message="up says how to sign in")

    @property
    def text(self) -> str:
        """What `up` has printed."""
        return self.output.read_text(errors="replace")

    def logs(self, lines: int = 40) -> str:
        """The ends of all logs."""
        found = []
        for log in sorted((self.data_dir / "logs").glob("*.log")):
            found.append(f"== {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:]))
        return "\n".join(found)

    @property
    def admin_password(self) -> str:
        """The password shown at the first `up`."""
        match = re.search(r"[Pp]assword[:\s]+(\S+)", self.text)
        assert match, self.text
        return match[1].strip(".,;")

    @property
    def domain(self) -> str:
        """What `--domain` says."""
        return self.args[self.args.index("--domain") + 1] if "--domain" in self.args else "localhost"

    def origin(self, label: str) -> str:
        """`http://label.domain:port`."""
        return f"http://{label}.{self.domain}:{self.port}"

    def http(self, address: str | None = None, **kwargs: Any) -> httpx.Client:
        """A client for which `*.localhost`, and every name below the platform's domain, is this machine; it comes from
        `address`, one of this machine's."""
        return httpx.Client(transport=LoopbackTransport(self.domain, address), timeout=30, **kwargs)

    def cli(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`orchestra-hub` on this platform's data folder."""
        done = subprocess.run(
            [*ORCHESTRA, *args], capture_output=True, text=True, timeout=60,
            env={**os.environ, "ORCHESTRA_DATA_DIR": str(self.data_dir), "COLUMNS": "200"},
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def api(self, method: str, path: str, *, token: str | None = None, **kwargs: Any) -> httpx.Response:
        """A call of the REST API, as the admin unless another token is given."""
        with self.http() as client:
            return client.request(
                method, f"{self.origin('api')}/v1{path}",
                headers={"Authorization": f"Bearer {token or self.tokens()['command_line']}"}, **kwargs,
            )  # fmt: skip

    def hub_api(self, method: str, path: str, *, token: str | None = None, **kwargs: Any) -> httpx.Response:
        """A call of the Hub API, as the admin unless another token is given."""
        with self.http() as client:
            return client.request(
                method, f"{self.origin('app')}/hub/api{path}",
                headers={"Authorization": f"Bearer {token or self.tokens()['command_line']}"}, **kwargs,
            )  # fmt: skip

    def tokens(self) -> dict[str, str]:
        """The tokens that `up` made."""
        found: dict[str, str] = json.loads((self.data_dir / "secrets" / "tokens.json").read_text())
        return found

    def workshop(self, **fields: Any) -> dict[str, Any]:
        """A new workshop, open as soon as it is prepared unless `opens_at` says otherwise."""
        body = {"template": "python-data-science", "session": "t", "opens_at": "now", "hours": 2, "join_policy": "open"}
        answer = self.api("POST", "/workshops", json={**body, **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def opened(self, **fields: Any) -> dict[str, Any]:
        """A new workshop that is open."""
        made = self.workshop(**fields)
        return self.wait_state(made["id"], "open", "closing")

    def wait_state(self, workshop_id: str, *states: str, within_s: float = 30) -> dict[str, Any]:
        """The workshop once it is in one of `states`."""

        def there() -> dict[str, Any] | None:
            found: dict[str, Any] = self.api("GET", f"/workshops/{workshop_id}").json()
            return found if found.get("state") in states else None

        return until(there, within_s=within_s, message=f"{workshop_id} is {states}: {self.logs(5)}") or {}

    def children(self) -> dict[str, int]:
        """Process ids of `up`'s children by name."""
        found: dict[str, int] = {}
        for entry in json.loads((self.data_dir / "run" / "processes.json").read_text()):
            found[entry["name"]] = entry["pid"]
        return found

    def everything(self) -> list[psutil.Process]:
        """All living processes that belong to this platform: by its data folder in arguments or environment."""
        mine, needle = [], str(self.data_dir)
        for process in psutil.process_iter(["cmdline", "environ", "status"]):
            words = [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
            if process.info["status"] != psutil.STATUS_ZOMBIE and any(needle in word for word in words):
                mine.append(process)
        return [process for process in mine if process.pid != os.getpid()]

    def everything_of(self, name: str) -> list[psutil.Process]:
        """Those of a person's seats. What was read of each is in its `info`: it may have ended since."""
        return [p for p in self.everything() if (p.info["environ"] or {}).get("JUPYTERHUB_USER") == name]

    def servers_of(self, name: str) -> list[psutil.Process]:
        """A person's notebook servers. What starts one, or holds its namespaces, has its command after its own."""
        command = [sys.executable, "-P", "-m", "jupyterhub.singleuser"]
        return [p for p in self.everything_of(name) if (p.info["cmdline"] or [])[:4] == command]

    def send_everybody_away(self) -> None:
        """Delete every account but the operator's, and with it its seats."""

        def others() -> list[str]:
            return [user["name"] for user in self.hub_api("GET", "/users").json() if user["name"] != "admin"]

        def gone(name: str) -> bool:
            return self.hub_api("DELETE", f"/users/{quote(name)}").status_code in (204, 404)

        while names := others():  # the hub lists them page by page
            for name in names:
                until(partial(gone, name), within_s=30, every_s=0.3, message=f"{name} is gone")

    @contextmanager
    def own_reconciler(self, *args: str) -> Iterator[Path]:
        """A reconciler with other settings that leads in the place of `up`'s own; gives its log."""
        environment = psutil.Process(self.children()["reconciler"]).environ()
        log = self.data_dir / "logs" / "reconciler-own.log"
        command = [sys.executable, "-m", "orchestra_services.reconciler", "--ReconcilerApp.lease_ttl_s=2", *args]
        with log.open("ab") as stream:
            process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        try:
            until(lambda: "another process leads" in log.read_text(), within_s=20, message="the other waits")
            os.kill(self.children()["reconciler"], signal.SIGTERM)
            until(lambda: "leading, fence" in log.read_text(), within_s=20, message="the other leads")
            yield log
        finally:
            process.terminate()
            process.wait(10)

    def interrupt(self, within_s: float = 10) -> float:
        """Ctrl-C; gives the seconds it took to end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=within_s)
        return time.monotonic() - began

    def stop(self) -> None:
        """End it all, politely if it lives."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for process in self.everything():
            with suppress(psutil.NoSuchProcess):
                process.kill()


def soon(seconds: float) -> str:
    """A time from now, on the wire."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
