"""A seat's extension in a real single-user server, with a real kernel and terminal; the hub is at the wire."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import websocket

from tests.seat_server import PREFIX, WORKSHOP_ID, HubWire, SeatServer, running_seat, until

IDLE_FOR_S = 1.5  # ten looks of the extension at its interval in tests


@pytest.fixture(scope="module")
def seat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeatServer]:
    hub = HubWire()
    with closing(hub), running_seat(hub, tmp_path_factory.mktemp("seat")) as server:
        yield server


@pytest.fixture(autouse=True)
def _calm_hub(request: pytest.FixtureRequest) -> None:
    if "seat" in request.fixturenames:
        hub = request.getfixturevalue("seat").hub
        hub.ends_in(3 * 3600)
        hub.idle_timeout_s = 3600
        hub.clock_ahead = timedelta(0)
        hub.is_seat = True


def _page_config(seat: SeatServer) -> dict[str, Any]:
    text = seat.http.get("lab").raise_for_status().text
    start = text.index("{", text.index('id="jupyter-config-data"'))
    config: dict[str, Any] = json.JSONDecoder().raw_decode(text[start:])[0]
    return config


def _told_the_end_within(seat: SeatServer, seconds: float) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        told = seat.notices()
        return told if told["seconds_left"] is not None and told["seconds_left"] <= seconds else None

    return until(f"an end within {seconds:g} s", look)


def _idle_for(seat: SeatServer, seconds: float) -> bool:
    return (datetime.now(UTC) - seat.last_activity()).total_seconds() > seconds


def _active_since(seat: SeatServer, moment: datetime) -> bool:
    return seat.last_activity() > moment


class TestNotices:
    def test_the_page_is_told_the_end_and_the_idle_stop(self, seat: SeatServer) -> None:
        seat.hub.ends_in(600)
        told = _told_the_end_within(seat, 600)
        assert told["ends_at"] == seat.hub.expires_at.isoformat()
        assert 590 < told["seconds_left"] <= 600
        assert told["warn_from_s"] == 900
        assert told["title"] == "Python for data science"
        assert told["page_url"].endswith(f"/hub/workshops/{WORKSHOP_ID}")
        assert told["idle"]["warn_from_s"] == 300
        assert 0 < told["idle"]["seconds_left"] <= 3600
        assert told["messages"] == []

    def test_an_extension_arrives(self, seat: SeatServer) -> None:
        seat.hub.ends_in(300)
        _told_the_end_within(seat, 300)
        seat.hub.ends_in(7200)
        until("the later end", lambda: seat.notices()["seconds_left"] > 7100)

    def test_seconds_left_are_the_hubs_however_wrong_the_seats_clock_is(self, seat: SeatServer) -> None:
        seat.hub.clock_ahead = timedelta(hours=5)
        seat.hub.ends_in(600)
        told = _told_the_end_within(seat, 600)
        assert 590 < told["seconds_left"] <= 600
        assert told["idle"]["seconds_left"] > 3500, "the seat's activity is reckoned on the hub's clock too"

    def test_without_an_idle_limit_nothing_is_said_of_it(self, seat: SeatServer) -> None:
        seat.hub.idle_timeout_s = None
        until("no idle limit", lambda: seat.notices()["idle"] is None)

    def test_a_server_that_is_no_workshops_is_told_nothing(self, seat: SeatServer) -> None:
        seat.hub.is_seat = False
        until("no workshop", lambda: seat.notices()["title"] is None)
        assert seat.notices()["seconds_left"] is None

    def test_while_the_hub_is_away_the_last_answer_stays_and_counts_on(self, seat: SeatServer) -> None:
        seat.hub.ends_in(500)
        before = _told_the_end_within(seat, 500)
        with seat.hub.away():
            until("the seat noticed", lambda: "The hub is away" in seat.log.read_text())
            told = _told_the_end_within(seat, before["seconds_left"] - 1)
            assert told["ends_at"] == before["ends_at"]
            assert seat.http.post("orchestra/keep").json()["reported"] is False
        seat.hub.ends_in(5000)
        until("the hub is heard again", lambda: seat.notices()["seconds_left"] > 4000)
        assert seat.hub.server_token not in seat.log.read_text()

    def test_only_who_may_use_the_server_is_answered(self, seat: SeatServer) -> None:
        assert httpx.get(f"{seat.url}orchestra/notices").status_code == 403
        assert httpx.post(f"{seat.url}orchestra/keep").status_code == 403

    def test_keep_by_cookie_needs_the_xsrf_token(self, seat: SeatServer) -> None:
        with httpx.Client(base_url=seat.url, follow_redirects=True) as browser:
            browser.get(seat.page).raise_for_status()
            assert browser.get("orchestra/notices", headers={"Referer": seat.page}).status_code == 200
            assert browser.post("orchestra/keep").status_code == 403
            xsrf = browser.cookies.get("_xsrf", path=PREFIX)
            assert xsrf
            assert browser.post("orchestra/keep", headers={"X-XSRFToken": xsrf}).status_code == 200


class TestActivity:
    def test_an_open_page_is_no_activity(self, seat: SeatServer) -> None:
        """JupyterLab 4.6 sends these every 10 s by itself."""

        def polled() -> bool:
            for path in ("api/kernels", "api/sessions", "api/terminals", "api/contents?content=1", "orchestra/notices"):
                seat.http.get(path).raise_for_status()
            layout = {"data": {}, "metadata": {"id": "default"}}
            seat.http.put("lab/api/workspaces/default", json=layout).raise_for_status()
            return _idle_for(seat, IDLE_FOR_S)

        until("idle in spite of the page's own questions", polled)

    def test_saving_a_file_is_activity(self, seat: SeatServer) -> None:
        before = datetime.now(UTC)
        note = {"type": "file", "format": "text", "content": "x"}
        seat.http.put("api/contents/note.txt", json=note).raise_for_status()
        assert _active_since(seat, before)

    def test_keep_is_activity_and_the_hub_hears_of_it_at_once(self, seat: SeatServer) -> None:
        until("idle", lambda: _idle_for(seat, 0.5))
        reports = len(seat.hub.activity)
        before = datetime.now(UTC)
        answer = seat.http.post("orchestra/keep").raise_for_status().json()
        assert answer["reported"] is True
        assert answer["idle"]["seconds_left"] > 3598
        (report,) = seat.hub.activity[reports:]
        assert set(report) == {"servers", "last_activity"}
        assert datetime.fromisoformat(report["servers"]["ws"]["last_activity"]) >= before - timedelta(seconds=0.5)

    def test_a_silent_cell_is_activity_until_it_ends(self, seat: SeatServer) -> None:
        kernel_id = seat.http.post("api/kernels", json={"name": "python3"}).raise_for_status().json()["id"]
        with closing(_socket(seat, f"api/kernels/{kernel_id}/channels")) as channels:
            _execute(channels, "import time; time.sleep(4)")
            until("the cell runs", lambda: _kernel_state(seat, kernel_id) == "busy")
            started = datetime.now(UTC)
            until("silent and active", lambda: _active_since(seat, started + timedelta(seconds=2)))
            until("the cell ended", lambda: _kernel_state(seat, kernel_id) == "idle")
            until("idle again", lambda: _idle_for(seat, IDLE_FOR_S))
        seat.http.delete(f"api/kernels/{kernel_id}").raise_for_status()

    def test_a_kernel_that_died_while_busy_keeps_nothing_alive(self, seat: SeatServer) -> None:
        kernel_id = seat.http.post("api/kernels", json={"name": "python3"}).raise_for_status().json()["id"]
        with closing(_socket(seat, f"api/kernels/{kernel_id}/channels")) as channels:
            _execute(channels, "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
            pid = int(_first_output(channels))
            started = datetime.now(UTC)
            until("active", lambda: _active_since(seat, started + timedelta(seconds=0.5)))
            os.kill(pid, signal.SIGKILL)
            until("idle after the kernel's restart", lambda: _idle_for(seat, IDLE_FOR_S))
        seat.http.delete(f"api/kernels/{kernel_id}").raise_for_status()

    def test_a_command_in_a_terminal_is_activity_and_an_idle_shell_is_not(self, seat: SeatServer) -> None:
        name = seat.http.post("api/terminals").raise_for_status().json()["name"]
        with closing(_socket(seat, f"terminals/websocket/{name}")) as terminal:
            until("an idle shell", lambda: _idle_for(seat, IDLE_FOR_S))
            terminal.send(json.dumps(["stdin", "sleep 30\r"]))
            started = datetime.now(UTC)
            until("silent and active", lambda: _active_since(seat, started + timedelta(seconds=2)))
            terminal.send(json.dumps(["stdin", "\x03"]))
            until("an idle shell again", lambda: _idle_for(seat, IDLE_FOR_S))
        seat.http.delete(f"api/terminals/{name}").raise_for_status()

    def test_the_hub_is_told_in_time_not_to_stop_a_busy_seat(self, seat: SeatServer) -> None:
        """The hub knows of old activity only and would stop the seat: it hears at once that a command runs."""
        name = seat.http.post("api/terminals").raise_for_status().json()["name"]
        with closing(_socket(seat, f"terminals/websocket/{name}")) as terminal:
            terminal.send(json.dumps(["stdin", "sleep 30\r"]))
            seat.hub.last_activity = datetime.now(UTC) - timedelta(seconds=3500)
            seat.hub.ends_in(2 * 3600)  # the seat gets another answer, with what the hub knows
            reports = len(seat.hub.activity)
            until("a report", lambda: len(seat.hub.activity) > reports)
            terminal.send(json.dumps(["stdin", "\x03"]))
        seat.http.delete(f"api/terminals/{name}").raise_for_status()


class TestSignIns:
    """The hub at the wire says who is let in; `tests/hub/test_signed_out.py` has the real one."""

    def test_a_websocket_is_closed_soon_after_the_hub_told_that_its_sign_in_ended(self, seat: SeatServer) -> None:
        kernel_id = seat.http.post("api/kernels", json={"name": "python3"}).raise_for_status().json()["id"]
        channels = _socket(seat, f"api/kernels/{kernel_id}/channels")
        with closing(channels), seat.hub.without(seat.hub.user_token):
            assert _close_code(channels) == 4403
            assert seat.http.get("api/status").status_code == 403
        _let_in_again(seat)
        seat.http.delete(f"api/kernels/{kernel_id}").raise_for_status()

    def test_a_websocket_and_a_sign_in_stay_while_the_hub_is_away(self, seat: SeatServer) -> None:
        with closing(_socket(seat, "api/events/subscribe")) as events:
            asked = seat.hub.identified
            with seat.hub.away():
                away = seat.log.read_text().count("The hub is away")
                until("the seat noticed", lambda: seat.log.read_text().count("The hub is away") > away or None)
                assert seat.http.get("api/status").status_code == 200
            until("the hub is asked again once it is back", lambda: seat.hub.identified > asked)
            _answers_ping(events)

    def test_a_websocket_closes_when_its_sign_in_ended_while_nobody_could_tell(self, seat: SeatServer) -> None:
        events = _socket(seat, "api/events/subscribe")
        with closing(events):
            with seat.hub.away():
                seat.hub.signed_out.add(seat.hub.user_token)
                seat.hub.sign_ins += "x"
            assert _close_code(events) == 4403
        seat.hub.signed_out.clear()
        seat.hub.sign_ins += "x"
        _let_in_again(seat)

    def test_an_idle_seat_says_nothing_to_the_hub_and_asks_nothing(self, seat: SeatServer) -> None:
        """Longer than twice the interval of JupyterHub's own report, which would come in each."""
        seen: list[tuple[float, tuple[int, int, int]]] = []

        def quiet() -> bool:
            said = (seat.hub.asked, seat.hub.identified, len(seat.hub.activity))
            if not seen or seen[-1][1] != said:
                seen.append((time.monotonic(), said))
            return time.monotonic() - seen[-1][0] > 2.5

        until("quiet for 2.5 s", quiet, deadline_s=20)
        assert seat.hub.last_activity_is(seat.last_activity())


class TestJupyterLab:
    def test_the_hub_menu_leads_to_the_workshops_pages(self, seat: SeatServer) -> None:
        config = _page_config(seat)
        assert config["hubPrefix"] == f"/hub/workshops/{WORKSHOP_ID}/"
        assert config["hubHost"] == seat.hub.url
        assert config["hubServerName"] == "ws"
        assert config["shareUrl"] == f"/hub/workshops/{WORKSHOP_ID}/user-redirect"
        assert config["token"] == "", "a token in the page would outlive the sign-in it came from"
        assert "@jupyterlab/apputils-extension:announcements" in config["disabledExtensions"]

    def test_jupyterlabs_hub_extension_uses_the_prefix_as_we_think(self) -> None:
        """The seam: a new JupyterLab that builds these addresses otherwise fails here."""
        jupyterlab = importlib.util.find_spec("jupyterlab")
        assert jupyterlab is not None and jupyterlab.origin is not None
        static = Path(jupyterlab.origin).parent / "static"
        (core,) = static.glob("jlab_core.*.js")
        code = core.read_text()
        start = code.index('e.controlPanel="hub:control-panel"')
        hub_extension = code[start : start + 3500]
        assert re.search(r'\w=\w\.urls\.hubPrefix\|\|""', hub_extension)
        assert re.search(r'URLExt\.join\(\w,"home"\)', hub_extension)
        assert re.search(r'URLExt\.join\(\w,"spawn"\)', hub_extension)
        assert code.count("urls.hubPrefix") == 2, "the Hub menu and the dialog of a lost connection, nothing else"

    def test_the_front_end_is_offered_and_served_beside_the_others(self, seat: SeatServer) -> None:
        extensions = {extension["name"]: extension for extension in _page_config(seat)["federated_extensions"]}
        assert "jupyterlab_pygments" in extensions
        load = extensions["orchestra-seat"]["load"]
        for file in (load, "static/notices.css"):
            assert seat.http.get(f"lab/extensions/orchestra-seat/{file}").status_code == 200


def test_without_a_workshop_the_extension_does_nothing(tmp_path: Path) -> None:
    hub = HubWire()
    with closing(hub), running_seat(hub, tmp_path, workshop_id=None) as server:
        config = _page_config(server)
        assert config["hubPrefix"] == "/hub/"
        assert "orchestra-seat" not in {extension["name"] for extension in config["federated_extensions"]}
        assert server.http.get("orchestra/notices").status_code == 404
        assert hub.asked == 0


def test_asking_for_the_launch_arguments_imports_nothing_heavy() -> None:
    code = (
        "import sys, orchestra_spawner.seat as seat; seat.launch_arguments(); "
        "print([n for n in sys.modules if n.split('.')[0] in {'jupyter_server', 'sqlalchemy', 'tornado', 'pydantic'}])"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True).strip() == "[]"


def _socket(seat: SeatServer, path: str) -> websocket.WebSocket:
    header = {"Authorization": f"token {seat.hub.user_token}"}
    url = f"{seat.url}{path}".replace("http", "ws", 1)
    return websocket.create_connection(url, header=header, timeout=60)


def _close_code(opened: websocket.WebSocket) -> int:
    deadline = time.monotonic() + 30
    while True:
        assert time.monotonic() < deadline, "still open"
        opcode, data = opened.recv_data(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            opened.shutdown()  # websocket-client answered it; its `close` does nothing after that
            return int.from_bytes(data[:2])


def _let_in_again(seat: SeatServer) -> None:
    until("let in again", lambda: seat.http.get("api/status").status_code == 200)


def _answers_ping(opened: websocket.WebSocket) -> None:
    opened.ping()
    assert opened.recv_data_frame(control_frame=True)[0] == websocket.ABNF.OPCODE_PONG


def _execute(channels: websocket.WebSocket, code: str) -> None:
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": uuid.uuid4().hex}
    message = {"header": header | {"version": "5.3"}, "parent_header": {}, "metadata": {}, "content": content}
    channels.send(json.dumps(message | {"channel": "shell", "buffers": []}))


def _first_output(channels: websocket.WebSocket) -> str:
    while True:
        message = json.loads(channels.recv())
        if message["header"]["msg_type"] == "stream":
            text: str = message["content"]["text"]
            return text


def _kernel_state(seat: SeatServer, kernel_id: str) -> str:
    state: str = seat.http.get(f"api/kernels/{kernel_id}").raise_for_status().json()["execution_state"]
    return state
