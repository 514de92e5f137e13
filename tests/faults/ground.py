"""A platform whose processes are killed at named points, and what is looked at afterwards."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from orchestra_hub.ids import account_key, server_name
from orchestra_hub.workshop import HUB_PROPERTY, parse_time
from orchestra_spawner.folders import SeatFolders
from orchestra_spawner.processes import MARKER, SeatProcess, recorded, records_folder
from tests.faults.points import PROCESSES, Point, as_json
from tests.people import Person
from tests.running import Platform, until

__all__ = ["SETTLED_WITHIN_S", "Bystander", "Ground", "Learner", "hooks_environment", "settled"]

SETTLED_WITHIN_S = 60.0
HOOKS = Path(__file__).parent / "hooks"


def hooks_environment(folder: Path, python_path: str) -> dict[str, str]:
    """What `up` is started with so that its processes know the points; the folder is made."""
    folder.mkdir()
    (folder / "points.json").write_text(json.dumps(as_json()))
    return {"FAULTS_DIR": str(folder), "PYTHONPATH": f"{HOOKS}:{python_path}"}


def settled(*checks: Callable[[], None], since_s: float) -> float:
    """The seconds since `since_s` (monotonic) until all `checks` held; the last complaint when that takes too long."""
    while True:
        try:
            for check in checks:
                check()
            return time.monotonic() - since_s
        except (AssertionError, httpx.HTTPError, LookupError, ValueError, OSError):
            if time.monotonic() - since_s > SETTLED_WITHIN_S:
                raise
        time.sleep(0.2)


@dataclass(frozen=True)
class Learner:
    """An account made through the Hub API, which does everything by a token of its own."""

    name: str
    token: str
    key: str


@dataclass
class Ground:
    """The platform, started again whenever `up` was killed, and the folder in which points are armed."""

    platform: Platform
    faults: Path
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    # Killing

    def arm(self, point: Point, *needles: str) -> str:
        """Whoever comes to `point` with all `needles` in its arguments stands still; gives the token of this wait."""
        missing = self.faults / f"missing.{point.name}"
        assert not missing.exists(), f"{point.module} has no {point.function} any more: name another in points.py"
        token = f"{point.name}-{next(self._numbers)}"
        beside = self.faults / f"{point.name}.new"
        beside.write_text(json.dumps({"token": token, "needles": needles}))
        beside.rename(self.faults / f"{point.name}.armed")
        return token

    def wait_held(self, point: Point, token: str) -> None:
        """Until the point's holder stands still there."""
        held = self.faults / f"held.{token}"
        until(held.exists, within_s=40, every_s=0.02, message=f"{point.name} is reached; {self.platform.logs(15)}")
        assert int(held.read_text()) == self.platform.children()[point.holder], f"{point.name} is in {point.holder}"

    def release(self, token: str) -> None:
        """Let the holder go on if it lives."""
        (self.faults / f"go.{token}").touch()

    def kill(self, process: str) -> None:
        """SIGKILL, and wait until it is gone."""
        if process == "up":
            self.platform.process.kill()
            self.platform.process.wait()
            return
        victim = psutil.Process(self.platform.children()[process])
        victim.kill()
        victim.wait(timeout=10)

    def start_again(self) -> None:
        """`up` on the same folder."""
        self.platform = self.platform.again()

    # People and workshops

    def learner(self, name: str) -> Learner:
        """A new account."""
        made = self.platform.hub_api("POST", f"/users/{name}")
        assert made.status_code == 201, made.text
        token = self.platform.hub_api("POST", f"/users/{name}/tokens", json={"note": "own"}).json()["token"]
        return Learner(name, token, self.key_of(name))

    def key_of(self, name: str) -> str:
        """The account key of a user."""
        user = self.platform.hub_api("GET", f"/users/{name}").json()
        return account_key(name, parse_time(user["created"]))

    def join(self, learner: Learner, workshop_id: str) -> httpx.Response:
        """Join as the learner."""
        return self.platform.api("POST", f"/workshops/{workshop_id}/join", token=learner.token, json={})

    def workshop(self, workshop_id: str) -> dict[str, Any]:
        """The workshop as the API tells it."""
        answer = self.platform.api("GET", f"/workshops/{workshop_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def events(self, workshop_id: str, kind: str, **detail: str) -> int:
        """How many events of a kind, and with this detail, the workshop has."""
        items = self.platform.api("GET", f"/workshops/{workshop_id}/events").json()["items"]
        return sum(each["kind"] == kind and detail.items() <= each["detail"].items() for each in items)

    def members(self, workshop_id: str) -> set[str]:
        """Who is in the workshop's Hub group."""
        answer = self.platform.hub_api("GET", f"/groups/{workshop_id}")
        assert answer.status_code == 200, answer.text
        return set(answer.json()["users"])

    def facts(self, workshop_id: str) -> dict[str, Any]:
        """What the hub knows of the workshop."""
        group = self.platform.hub_api("GET", f"/groups/{workshop_id}").json()
        found: dict[str, Any] = group["properties"][HUB_PROPERTY]
        return found

    # Seats

    @property
    def folders(self) -> SeatFolders:
        """Where workshops and seats are."""
        return SeatFolders(self.platform.data_dir)

    def seat_state(self, name: str, workshop_id: str) -> dict[str, Any]:
        """The hub's model of a seat's server; empty when the hub knows none."""
        answer = self.platform.hub_api("GET", f"/users/{name}?include_stopped_servers=1")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["servers"].get(server_name(workshop_id), {})
        return found

    def seat_processes(self, key: str, workshop_id: str) -> list[psutil.Process]:
        """Every living process of a seat, its kernels too; each has what was read of it in `info`."""
        mark = f"{key}/{server_name(workshop_id)}"
        return [
            process
            for process in psutil.process_iter(["environ", "cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE and (process.info["environ"] or {}).get(MARKER) == mark
        ]

    def seat_servers(self, key: str, workshop_id: str) -> list[int]:
        """The process ids of a seat's notebook servers: one, or none."""
        found = [(process.pid, process.info["cmdline"] or [""]) for process in self.seat_processes(key, workshop_id)]
        return [pid for pid, words in found if "jupyterhub.singleuser" in words and "python" in Path(words[0]).name]

    def seat_record(self, key: str, workshop_id: str) -> SeatProcess | None:
        """The seat's process as it is on record."""
        return recorded(records_folder(self.platform.data_dir) / f"{key}--{server_name(workshop_id)}.json")

    def routes(self) -> str:
        """The proxy's routes as the hub wrote them."""
        return (self.platform.data_dir / "run" / "rules.toml").read_text()

    def assert_no_seat(self, name: str, key: str, workshop_id: str) -> None:
        """Nothing of a seat runs, is on record or has a route, and the hub says so too."""
        state = self.seat_state(name, workshop_id)
        assert not state.get("ready") and not state.get("pending"), f"the hub thinks it runs: {state}"
        left = [(process.pid, process.info["cmdline"]) for process in self.seat_processes(key, workshop_id)]
        assert not left, f"processes of a stopped seat: {left}"
        assert self.seat_record(key, workshop_id) is None, "the record of a stopped seat"
        assert f"/user/{name}/" not in self.routes(), "the route of a stopped seat"

    # All of it

    def assert_whole(self) -> None:
        """All five processes live; pages and API answer."""
        children = self.platform.children()
        dead = [name for name in PROCESSES if name != "up" and not _lives(children.get(name))]
        assert not dead, f"not running: {dead}"
        health = self.platform.api("GET", "/health")
        assert health.status_code == 200, health.text
        with self.platform.http() as client:
            page = client.get(f"{self.platform.origin('app')}/hub/login")
        assert page.status_code == 200, page.text

    def assert_nothing_left_over(self) -> None:
        """No half-made or half-removed folder, no record of a seat that doesn't run."""
        root = self.platform.data_dir
        halves = [
            *root.glob("workshops/*/.content-*"), *root.glob("workshops/*/seats/*/.home-*"),
            *root.glob("workshops/*/.purge*"), *root.glob("run/seats/*.new"),
        ]  # fmt: skip
        assert not halves, f"left over: {halves}"
        for path in records_folder(root).glob("*.json"):
            record = recorded(path)
            assert record is not None and record.find() is not None, f"nothing runs of {path.name}"


def _lives(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Bystander:
    """Somebody in another workshop whose seat runs all the while: nothing may ever happen to it."""

    ground: Ground
    person: Person
    workshop_id: str
    key: str
    servers: list[int]
    text: str = "mine, and nobody else's"

    @classmethod
    def of(cls, ground: Ground, person: Person) -> Bystander:
        """Joined, started, with a file."""
        workshop_id = ground.platform.opened(session="bystander")["id"]
        person.join(workshop_id)
        person.open_seat(person.start(workshop_id))
        key = ground.key_of(person.name)
        made = cls(ground, person, workshop_id, key, ground.seat_servers(key, workshop_id))
        made.file.write_text(made.text)
        assert len(made.servers) == 1
        return made

    @property
    def file(self) -> Path:
        """Their file."""
        return self.ground.folders.home(self.workshop_id, self.key) / "mine.txt"

    def assert_untouched(self) -> None:
        """The same process, known to the hub and routed; the place and the file."""
        assert self.ground.seat_servers(self.key, self.workshop_id) == self.servers, "another's seat was touched"
        assert self.ground.seat_state(self.person.name, self.workshop_id).get("ready"), "another's seat isn't known"
        assert self.ground.members(self.workshop_id) == {self.person.name}
        assert self.file.read_text() == self.text
        assert f"/user/{self.person.name}/" in self.ground.routes()
