"""What is under way when a process is killed: how it is begun, what must hold afterwards, what its asker does then.

`set_up` is done for many cells in advance, `begin_with` just before. `act` runs in a thread of its own and answers what
its asker heard, None for no answer. `check` is asked until it holds, before anybody does anything more; then the asker
does `again` what a person or a script would, once; `check_end` must hold after that.
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil

from orchestra_hub.ids import server_name
from orchestra_hub.templates import content_files
from tests.faults.ground import Ground, Learner
from tests.faults.points import Cell
from tests.people import Person
from tests.running import until

__all__ = ["Operation", "operation"]

TEMPLATE_CONTENT = Path(__file__).parents[2] / "config" / "templates" / "python-data-science" / "content"
_BIG_BYTES = 8 << 20


class Operation:
    """One operation of one cell; `tag` is in the names of all it makes, and in no other's."""

    retention_h: float | None = None

    def __init__(self, ground: Ground, cell: Cell, tag: str) -> None:
        self.ground = ground
        self.cell = cell
        self.tag = tag
        self.id = ""

    @property
    def holder_killed(self) -> bool:
        """Whether the process that stood still at the point is the one that was killed."""
        return self.cell.process == self.cell.point.holder

    def set_up(self) -> None:
        """Before any cell is run."""

    def begin_with(self) -> None:
        """Just before the point is armed."""

    def needles(self) -> tuple[str, ...]:
        """What must be in the arguments at the point."""
        return ()

    def at_point(self) -> None:
        """While the holder stands still."""

    def act(self) -> httpx.Response | None:
        """The operation."""
        raise NotImplementedError

    def check(self, answer: httpx.Response | None) -> None:
        """What must hold without anybody's doing."""
        raise NotImplementedError

    def again(self, answer: httpx.Response | None) -> None:
        """What the asker does next."""

    def check_end(self) -> None:
        """What must hold after that."""

    def close(self) -> None:
        """Let go of what was opened."""

    def make_workshop(self) -> None:
        """The cell's own workshop, in preparation."""
        more = {} if self.retention_h is None else {"retention_h": self.retention_h}
        self.id = self.ground.platform.workshop(session=self.tag, **more)["id"]


def answered(answer: httpx.Response) -> httpx.Response | None:
    """None for what a proxy or a half-started service says instead of an answer."""
    return None if answer.status_code >= 500 else answer


class Create(Operation):
    """`POST /workshops`: also carries what happens to it in preparation."""

    def act(self) -> httpx.Response | None:
        body = {"template": "python-data-science", "session": self.tag, "opens_at": "now", "hours": 2}
        return answered(self.ground.platform.api("POST", "/workshops", json=body))

    def made(self) -> list[str]:
        """The ids of the workshops that came of it."""
        items = self.ground.platform.api("GET", "/workshops", params={"limit": 200}).json()["items"]
        return [each["id"] for each in items if f"-{self.tag}-" in each["id"]]

    def check(self, answer: httpx.Response | None) -> None:
        made = self.made()
        if answer is not None:
            assert answer.status_code == 201, answer.text
            assert made == [answer.json()["id"]]
        elif self.cell.point.name != "create-uncommitted":
            assert len(made) == 1, made
        else:
            assert len(made) <= (0 if self.holder_killed else 1), made
        for workshop_id in made:
            self._check_open(workshop_id)

    def _check_open(self, workshop_id: str) -> None:
        workshop = self.ground.workshop(workshop_id)
        assert workshop["state"] == "open", workshop
        assert workshop["trouble"] is None, workshop
        assert self.ground.facts(workshop_id)["state"] == "open"
        assert self.ground.members(workshop_id) == set()
        for kind in ("created", "prepared"):
            assert self.ground.events(workshop_id, kind) == 1, kind
        content = self.ground.folders.content(workshop_id)
        wanted = content_files(TEMPLATE_CONTENT)
        found = sorted(path.relative_to(content) for path in content.rglob("*") if path.is_file())
        assert found == sorted(Path(path) for path in wanted)
        for path in found:
            assert (content / path).read_bytes() == (TEMPLATE_CONTENT / path).read_bytes(), path

    def again(self, answer: httpx.Response | None) -> None:
        if not self.made():  # a script looks before it repeats what got no answer
            assert self.ground.platform.workshop(session=self.tag)["id"]

    def check_end(self) -> None:
        (workshop_id,) = self.made()
        self._check_open(workshop_id)


class _WithLearner(Operation):
    learner: Learner

    def set_up(self) -> None:
        self.learner = self.ground.learner(f"{self.tag}-learner")
        self.make_workshop()

    def begin_with(self) -> None:
        self.ground.platform.wait_state(self.id, "open")

    def needles(self) -> tuple[str, ...]:
        return (self.id,)

    @property
    def home(self) -> Path:
        return self.ground.folders.home(self.id, self.learner.key)

    def join(self) -> None:
        joined = self.ground.join(self.learner, self.id)
        assert joined.status_code == 200, joined.text

    def lay_out(self) -> None:
        """A seat's folder with a file in it, as it is after a seat was used."""
        self.ground.folders.lay_out_seat(self.id, self.learner.key)
        (self.home / "mine.txt").write_text(self.tag)

    def start_seat(self) -> None:
        """A running seat with a file in it."""
        path = f"/workshops/{self.id}/seats/{self.learner.name}/start"
        started = self.ground.platform.api("POST", path, token=self.learner.token)
        assert started.status_code in (200, 202), started.text
        until(
            lambda: self.ground.seat_state(self.learner.name, self.id).get("ready"),
            within_s=60, message="the seat is ready",
        )  # fmt: skip
        (self.home / "mine.txt").write_text(self.tag)

    def export(self, **kwargs: Any) -> bytes:
        """The learner's archive, whole; raises `httpx.HTTPError` when it broke off."""
        answer = self.ground.platform.api("GET", f"/workshops/{self.id}/export", token=self.learner.token, **kwargs)
        assert answer.status_code == 200, answer.text
        return answer.content

    def check_place(self) -> None:
        """The learner's place is there, once, and the hub knows it."""
        found = self.ground.platform.api("GET", f"/workshops/{self.id}/enrolments").json()["items"]
        assert [(each["user"], each["role"]) for each in found] == [(self.learner.name, "learner")], found
        assert self.ground.members(self.id) == {self.learner.name}
        assert self.ground.events(self.id, "enrolled") == 1


class Join(_WithLearner):
    """A learner takes a place."""

    def act(self) -> httpx.Response | None:
        return answered(self.ground.join(self.learner, self.id))

    def check(self, answer: httpx.Response | None) -> None:
        assert answer is None or answer.status_code == 200, answer
        self.check_place()  # it was committed at every point of this operation

    def again(self, answer: httpx.Response | None) -> None:
        if answer is None:
            self.join()

    def check_end(self) -> None:
        self.check_place()


class Start(Operation):
    """A learner presses the button."""

    def set_up(self) -> None:
        self.make_workshop()
        name = f"{self.tag}-learner"
        self._client = self.ground.platform.http(follow_redirects=True)
        self.person = Person(self.ground.platform, name, self._client)
        assert self.person.sign_up().status_code == 200
        self.key = self.ground.key_of(name)

    def begin_with(self) -> None:
        self.ground.platform.wait_state(self.id, "open")
        self.person.join(self.id)
        self.written = False

    def at_point(self) -> None:
        if self.home.exists():
            (self.home / "mine.txt").write_text(self.tag)
            self.written = True

    @property
    def home(self) -> Path:
        return self.ground.folders.home(self.id, self.key)

    def act(self) -> httpx.Response | None:
        try:
            return answered(self.person.press_start(self.id))
        except AssertionError:  # a page without a form: no page of ours
            return None

    def check(self, answer: httpx.Response | None) -> None:
        state = self.ground.seat_state(self.person.name, self.id)
        assert not state.get("pending"), state
        if state.get("ready"):
            servers = self.ground.seat_servers(self.key, self.id)
            record = self.ground.seat_record(self.key, self.id)
            assert record is not None and servers == [record.pid], (servers, record)
            assert f"/user/{self.person.name}/" in self.ground.routes()
        else:
            self.ground.assert_no_seat(self.person.name, self.key, self.id)
        assert self.ground.members(self.id) == {self.person.name}

    def again(self, answer: httpx.Response | None) -> None:
        """One press, whatever came of the first, and a kernel; then the seat is stopped."""
        url = self.person.start(self.id)
        self.person.open_seat(url)
        assert self.person.run(url, "print(6 * 7)") == "42\n"
        assert len(self.ground.seat_servers(self.key, self.id)) == 1, "a second seat"
        self.person.stop(self.id)

    def check_end(self) -> None:
        self.ground.assert_no_seat(self.person.name, self.key, self.id)
        for path in content_files(TEMPLATE_CONTENT):
            assert (self.home / path).read_bytes() == (TEMPLATE_CONTENT / path).read_bytes(), path
        assert not self.written or (self.home / "mine.txt").read_text() == self.tag

    def close(self) -> None:
        self._client.close()


class Extend(_WithLearner):
    """Another end, by date and with the version that was read."""

    def begin_with(self) -> None:
        super().begin_with()
        self.join()
        self.before = self.ground.workshop(self.id)
        self.end = datetime.fromisoformat(self.before["expires_at"]) + timedelta(hours=1)

    def needles(self) -> tuple[str, ...]:
        return (self.id,)

    def act(self) -> httpx.Response | None:
        body = {"expires_at": self.end.isoformat(), "version": self.before["version"]}
        return answered(self.ground.platform.api("POST", f"/workshops/{self.id}/extend", json=body))

    def check(self, answer: httpx.Response | None) -> None:
        assert answer is None or answer.status_code == 200, answer
        workshop = self.ground.workshop(self.id)
        assert datetime.fromisoformat(workshop["expires_at"]) == self.end
        moved = [datetime.fromisoformat(each["purge_at"]) for each in (self.before, workshop)]
        assert moved[1] - moved[0] == timedelta(hours=1)
        assert datetime.fromisoformat(self.ground.facts(self.id)["expires_at"]) == self.end
        assert workshop["state"] == "open" and self.ground.events(self.id, "extended") == 1
        self.check_place()

    def again(self, answer: httpx.Response | None) -> None:
        if answer is None:
            repeated = self.act()
            assert repeated is not None and repeated.status_code == 409, "it was done, and isn't done twice"

    def check_end(self) -> None:
        self.check(None)


class Expire(_WithLearner):
    """The end, with a seat that runs."""

    def begin_with(self) -> None:
        super().begin_with()
        self.join()
        self.start_seat()

    def needles(self) -> tuple[str, ...]:
        return (self.id, "State.EXPIRED: 'expired'") if self.cell.point.name == "expire-written" else ()

    def act(self) -> httpx.Response | None:
        return answered(self.ground.platform.api("POST", f"/workshops/{self.id}/end", json={}))

    def check(self, answer: httpx.Response | None) -> None:
        assert self.ground.workshop(self.id)["state"] == "expired"
        self.ground.assert_no_seat(self.learner.name, self.learner.key, self.id)
        assert (self.home / "mine.txt").read_text() == self.tag
        assert self.ground.events(self.id, "moved", to="expired") == 1
        assert self.ground.facts(self.id)["state"] == "expired"
        self.check_place()

    def again(self, answer: httpx.Response | None) -> None:
        started = self.ground.platform.hub_api("POST", f"/users/{self.learner.name}/servers/{server_name(self.id)}")
        assert started.status_code == 403, started.text
        assert _files_in(self.export(), self.id)["mine.txt"] == self.tag.encode()

    def check_end(self) -> None:
        self.check(None)


class Export(_WithLearner):
    """A learner's archive."""

    def begin_with(self) -> None:
        super().begin_with()
        self.join()
        self.lay_out()
        self.big = os.urandom(_BIG_BYTES)
        (self.home / "big.bin").write_bytes(self.big)

    def needles(self) -> tuple[str, ...]:
        return ()

    def act(self) -> httpx.Response | None:
        path = f"/workshops/{self.id}/export"
        return answered(self.ground.platform.api("GET", path, token=self.learner.token))

    def check(self, answer: httpx.Response | None) -> None:
        assert answer is None or not (self.holder_killed or self.cell.process == "proxy"), "a whole of a broken one"
        if answer is not None:
            self._check_archive(answer.content)
        packers = [
            process.pid
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and any(str(self.home.parent) in word for word in process.info["cmdline"] or [])
        ]
        assert not packers, f"still packing for nobody: {packers}"
        self.check_place()

    def _check_archive(self, packed: bytes) -> None:
        found = {name: hashlib.sha256(data).digest() for name, data in _files_in(packed, self.id).items()}
        wanted = {
            str(path.relative_to(self.home)): hashlib.sha256(path.read_bytes()).digest()
            for path in self.home.rglob("*")
            if path.is_file()
        }
        assert found == wanted

    def again(self, answer: httpx.Response | None) -> None:
        self._check_archive(self.export())


class Purge(_WithLearner):
    """The end of a workshop whose data isn't kept."""

    retention_h = 0

    def begin_with(self) -> None:
        super().begin_with()
        self.join()
        servers = self.cell.point.name == "purge-forgotten"
        if servers:
            self.start_seat()
            stopped = self.ground.platform.api(
                "POST", f"/workshops/{self.id}/seats/{self.learner.name}/stop", token=self.learner.token
            )
            assert stopped.status_code in (200, 202), stopped.text
            until(
                lambda: not self.ground.seat_processes(self.learner.key, self.id)
                and not self.ground.seat_state(self.learner.name, self.id).get("pending"),
                within_s=20, message="the seat is stopped",
            )  # fmt: skip
        else:
            self.lay_out()
        folder = self.ground.folders.workshop(self.id)
        sizes = [path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
        self.removed = {
            "servers": int(servers), "group": 1, "seats": 1, "files": len(sizes), "bytes": sum(sizes),
        }  # fmt: skip

    def needles(self) -> tuple[str, ...]:
        match self.cell.point.name:
            case "purge-recorded":
                return ()
            case "purge-forgotten":
                return (self.id, "'remove': True")
            case _:
                return (self.id,)

    def at_point(self) -> None:
        if self.cell.point.name in ("purge-forgotten", "purge-group-deleted"):
            assert (self.home / "mine.txt").read_text() == self.tag, "files go last"

    def act(self) -> httpx.Response | None:
        return answered(self.ground.platform.api("POST", f"/workshops/{self.id}/end", json={}))

    def check(self, answer: httpx.Response | None) -> None:
        workshop = self.ground.workshop(self.id)
        assert workshop["state"] == "purged", workshop
        record = workshop["purge_record"]
        assert all(each["found"] == 0 for each in record["checked"]), record
        assert record["removed"] == self.removed
        assert self.ground.events(self.id, "purged") == 1
        assert workshop["statistics"]["learners"] == 1 and workshop["statistics"]["seats_used"] == 1
        assert not os.path.lexists(self.ground.folders.workshop(self.id))
        assert self.ground.platform.hub_api("GET", f"/groups/{self.id}").status_code == 404
        assert self.ground.seat_state(self.learner.name, self.id) == {}
        self.ground.assert_no_seat(self.learner.name, self.learner.key, self.id)
        root = self.ground.platform.data_dir
        for file in root.glob("orchestra.sqlite*"):
            assert self.learner.name.encode() not in file.read_bytes(), f"a name is left in {file.name}"
        with _rows(root / "jupyterhub.sqlite") as rows:
            left = [row for row in rows if self.id in row or server_name(self.id) in row]
        assert left == [], "client, tokens, server, group"


def operation(ground: Ground, cell: Cell, tag: str) -> Operation:
    """The operation of a cell."""
    kinds: dict[str, type[Operation]] = {
        "create": Create, "prepare": Create, "join": Join, "start": Start, "extend": Extend, "expire": Expire,
        "export": Export, "purge": Purge,
    }  # fmt: skip
    return kinds[cell.point.operation](ground, cell, tag)


def _files_in(packed: bytes, workshop_id: str) -> dict[str, bytes]:
    """The plain files of an archive by their path; raises when it isn't whole."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        for member in archive:
            data = archive.extractfile(member) if member.isreg() else None
            if data is not None:
                found[member.name.removeprefix(f"{workshop_id}/")] = data.read()
    return found


@contextmanager
def _rows(file: Path) -> Iterator[list[str]]:
    """Every row of a database that is in use, as text."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        yield [f"{table} {row!r}" for table in tables for row in connection.execute(f'select * from "{table}"')]
    finally:
        connection.close()
