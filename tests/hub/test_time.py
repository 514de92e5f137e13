"""Time passes: the end while nobody watches it, an instructor's extension, archives, idle seats."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from websockets.sync.client import ClientConnection, connect

from orchestra_hub.ids import server_name
from tests.people import Person
from tests.running import Platform, soon, until

MARK = "only-ever-in-this-file-7f3a"


def _ready(platform: Platform, user: str, workshop_id: str) -> bool:
    servers = platform.hub_api("GET", f"/users/{user}").json()["servers"]
    return bool(servers.get(server_name(workshop_id), {}).get("ready"))


def _home(platform: Platform, workshop_id: str) -> Path:
    """The only seat's files."""
    (home,) = (platform.data_dir / "workshops" / workshop_id / "seats").glob("*/home")
    return home


def _own_token(platform: Platform, name: str) -> str:
    made: str = platform.hub_api("POST", f"/users/{name}/tokens", json={"note": "own"}).json()["token"]
    return made


@contextmanager
def _stopped(*pids: int) -> Iterator[None]:
    """Processes that stand still, as on a machine that is out of breath."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


# ── The end ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_end_holds_at_every_door_while_reconciler_and_service_stand_still(platform: Platform) -> None:
    workshop_id = platform.workshop(session="still", expires_at=soon(25), hours=None)["id"]
    workshop = platform.wait_state(workshop_id, "open", "closing")
    name = server_name(workshop_id)
    with Person.new(platform, "dora") as dora:
        dora.join(workshop_id)
        token = _own_token(platform, "dora")
        url = dora.start(workshop_id)
        dora.open_seat(url)
        dora.stop(workshop_id)
        before = dora.page(workshop_id)
        assert 'id="start"' in before.text
        children = platform.children()
        with _stopped(children["reconciler"], children["workshops"]):
            end = datetime.fromisoformat(workshop["expires_at"])
            until(lambda: datetime.now(UTC) >= end, within_s=30, every_s=0.01, message="the end")
            by_api = platform.hub_api("POST", f"/users/dora/servers/{name}", token=token, json={})
            by_form = dora.submit(before, f"/hub/workshops/{workshop_id}/start")
            by_spawn = dora.get(f"/hub/spawn/dora/{name}")
            by_seat = dora.get(url)
            page = dora.page(workshop_id)
            assert not _ready(platform, "dora", workshop_id)
        assert by_api.status_code == 403 and "time is over" in by_api.text
        for answer in (by_form, by_spawn, by_seat, page):
            assert "/user/dora/" not in urlsplit(str(answer.url)).path
            assert "time is over" in answer.text or "is over" in answer.text, answer.text
            assert 'id="start"' not in answer.text
    platform.wait_state(workshop_id, "expired")


def test_an_instructor_extends_by_page_and_api_after_the_warning_but_not_past_the_deadline(platform: Platform) -> None:
    workshop_id = platform.opened(session="teach", hours=1, warning_min=90)["id"]
    with Person.new(platform, "gina") as gina, Person.new(platform, "lars") as lars:
        placed = platform.api(
            "POST", f"/workshops/{workshop_id}/enrolments", json={"user": "gina", "role": "instructor"}
        )
        assert placed.status_code in (200, 201), placed.text
        lars.join(workshop_id)
        url = lars.start(workshop_id)
        lars.open_seat(url)

        def told() -> dict[str, Any]:
            answer: dict[str, Any] = lars.seat_request(url, "GET", "orchestra/notices").json()
            return answer

        warned = until(lambda: told() if told()["seconds_left"] else None, within_s=20, message="heard of the end")
        assert warned is not None and warned["seconds_left"] < warned["warn_from_s"] == 90 * 60
        page = gina.get(f"/services/workshops/{workshop_id}")
        done = gina.submit(page, f"/services/workshops/{workshop_id}/extend", amount="60", unit="minutes")
        assert done.status_code == 200 and "The new end is set" in done.text, done.text
        by_api = platform.api(
            "POST", f"/workshops/{workshop_id}/extend", json={"hours": 1}, token=_own_token(platform, "gina")
        )
        assert by_api.status_code == 200, by_api.text
        end = datetime.fromisoformat(warned["ends_at"]) + timedelta(hours=2)
        until(lambda: datetime.fromisoformat(told()["ends_at"]) == end, within_s=25, message="both in the notebook")
        assert told()["seconds_left"] > told()["warn_from_s"], "no warning any more"
        page = gina.get(f"/services/workshops/{workshop_id}")
        past = gina.submit(page, f"/services/workshops/{workshop_id}/extend", amount="9999", unit="hours")
        assert past.status_code == 422 and "deadline" in past.text
        token = _own_token(platform, "lars")
        refused = platform.api("POST", f"/workshops/{workshop_id}/extend", json={"hours": 1}, token=token)
        assert refused.status_code == 403, refused.text
    assert datetime.fromisoformat(platform.api("GET", f"/workshops/{workshop_id}").json()["expires_at"]) == end


# ── The archive ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_archive_follows_no_link_streams_and_ends_with_its_reader(platform: Platform) -> None:
    workshop_id = platform.opened(session="archive")["id"]
    service = psutil.Process(platform.children()["workshops"])
    address = f"/services/workshops/{workshop_id}/export"
    with Person.new(platform, "pack") as pack_, Person.new(platform, "none") as stranger:
        pack_.join(workshop_id)
        url = pack_.start(workshop_id)
        assert stranger.get(address).status_code == 404, "not enrolled"
        home = _home(platform, workshop_id)
        odd = "new\nline ü \u202e.txt"
        (home / odd).write_text(MARK)
        (home / "-rf").write_text("x")
        (home / "link").symlink_to("/etc/passwd")
        (home / "folder-link").symlink_to("/etc")
        os.mkfifo(home / "pipe")
        with (home / "big.bin").open("wb") as big:
            for _ in range(120):  # more than the sockets between tar and its reader hold (tcp_rmem: 32 MiB a hop)
                big.write(os.urandom(1 << 20))
            big.truncate(300 << 20)
        before, most = service.memory_info().rss, 0
        packed = io.BytesIO()
        with pack_.client.stream("GET", f"{pack_.app}{address}") as answer:
            assert answer.status_code == 200, "while the seat runs"
            for chunk in answer.iter_raw():
                packed.write(chunk)
                most = max(most, service.memory_info().rss)
        assert most - before < 32 << 20, "the service kept the archive in its memory"
        packed.seek(0)
        with tarfile.open(fileobj=packed) as archive:
            found = {member.name.partition("/")[2]: member for member in archive.getmembers()}
            kept = archive.extractfile(found[odd])
            assert kept is not None and kept.read().decode() == MARK
        assert found["link"].issym() and found["link"].linkname == "/etc/passwd"
        assert found["folder-link"].issym() and not [name for name in found if name.startswith("folder-link/")]
        assert found["big.bin"].size == 300 << 20 and "-rf" in found
        with pack_.client.stream("GET", f"{pack_.app}{address}") as answer:
            chunks = answer.iter_raw(1024)  # forgotten, it would close the connection
            next(chunks)
            until(lambda: bool(_packers(service)), within_s=5, message="tar runs while somebody reads")
        until(lambda: not _packers(service), within_s=10, message="tar ends with its reader")
        _broken_off(pack_, address, service)
        pack_.open_seat(url)
        assert platform.api("POST", f"/workshops/{workshop_id}/end", json={}).status_code == 200
        assert pack_.get(address).status_code == 200, "after the end"


def _packers(service: psutil.Process) -> list[psutil.Process]:
    return [child for child in service.children(recursive=True) if child.name() in ("tar", "gzip")]


def _broken_off(person: Person, address: str, service: psutil.Process) -> None:
    """A failure in the middle breaks the connection: nobody takes half an archive for a whole one."""
    with (
        pytest.raises(httpx.RemoteProtocolError, match="incomplete"),
        person.client.stream("GET", f"{person.app}{address}") as answer,
    ):
        for number, _ in enumerate(answer.iter_raw(1024)):
            if number == 0:
                for packer in _packers(service):
                    packer.kill()


# ── Idleness ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _socket(person: Person, url: str, path: str) -> ClientConnection:
    parts = urlsplit(url)
    prefix = "/" + "/".join(parts.path.strip("/").split("/")[:3]) + "/"
    cookie = person.client.build_request("GET", f"http://{parts.netloc}{prefix}").headers.get("Cookie", "")
    raw = socket.create_connection(("127.0.0.1", person.platform.port))
    return connect(
        f"ws://{parts.netloc}{prefix}{path}", sock=raw, additional_headers={"Cookie": cookie}, open_timeout=30
    )


def _run_silent_command(person: Person, url: str, seconds: int) -> None:
    made = person.seat_request(url, "POST", "api/terminals").json()
    with _socket(person, url, f"terminals/websocket/{made['name']}") as terminal:
        terminal.send(json.dumps(["stdin", f"sleep {seconds}; true\r"]))
        until(lambda: _named(seconds), within_s=20, message="the command runs")


def _named(seconds: int) -> bool:
    wanted = ["sleep", str(seconds)]
    return any(process.info["cmdline"] == wanted for process in psutil.process_iter(["cmdline"]))


def _run_silent_cell(person: Person, url: str, seconds: int) -> None:
    kernel = person.seat_request(url, "POST", "api/kernels", json={"name": "python3"}).json()["id"]
    code = f"import time; time.sleep({seconds})"
    header = {"msg_id": "1", "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
    message = {"header": header, "parent_header": {}, "metadata": {}, "channel": "shell", "content": content}
    with _socket(person, url, f"api/kernels/{kernel}/channels") as channels:
        channels.send(json.dumps(message))
        until(
            lambda: person.seat_request(url, "GET", f"api/kernels/{kernel}").json()["execution_state"] == "busy",
            within_s=30, message="the cell runs",
        )  # fmt: skip


def test_idle_seats_stop_after_their_own_workshops_limit_and_busy_ones_do_not(platform: Platform) -> None:
    short = platform.opened(session="idle", idle_timeout_min=1)["id"]
    longer = platform.opened(session="idler", idle_timeout_min=2)["id"]
    who = {"tab": short, "cell": short, "terminal": short, "keeper": short, "longer": longer}
    urls: dict[str, str] = {}
    people: dict[str, Person] = {}
    with _signed_up(platform, [f"idle-{name}" for name in who]) as made:
        for (name, workshop_id), person in zip(who.items(), made, strict=True):
            person.join(workshop_id)
            people[name], urls[name] = person, person.start(workshop_id)
            person.open_seat(urls[name])
        _run_silent_cell(people["cell"], urls["cell"], 300)
        _run_silent_command(people["terminal"], urls["terminal"], 311)

        def idle(name: str) -> dict[str, Any] | None:
            answer = people[name].seat_request(urls[name], "GET", "orchestra/notices")
            told = answer.json()["idle"] if answer.status_code == 200 else None
            return told if told and told["seconds_left"] <= told["warn_from_s"] else None

        def poll_as_an_open_tab() -> bool:
            for path in ("api/kernels", "api/sessions", "api/terminals", "api/contents?content=1"):
                people["tab"].seat_request(urls["tab"], "GET", path)
            if idle("keeper"):
                kept = people["keeper"].seat_request(urls["keeper"], "POST", "orchestra/keep").json()
                assert kept["reported"] and kept["idle"]["seconds_left"] > 55
            return not _ready(platform, "idle-tab", short)

        warning = until(lambda: idle("tab"), within_s=60, every_s=0.5, message="a warning")
        assert warning is not None and warning["warn_from_s"] == 30
        stops_at = datetime.fromisoformat(warning["stops_at"])
        until(poll_as_an_open_tab, within_s=70, every_s=1, message="an untouched tab keeps no seat")
        assert timedelta(0) <= datetime.now(UTC) - stops_at < timedelta(seconds=25), "as its page said"
        for name in ("cell", "terminal", "keeper"):
            assert _ready(platform, f"idle-{name}", short), name
        assert _ready(platform, "idle-longer", longer)
        for name in ("cell", "terminal", "keeper", "longer"):
            people[name].stop(who[name])


@contextmanager
def _signed_up(platform: Platform, names: list[str]) -> Iterator[list[Person]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Person.new(platform, name)) for name in names]
