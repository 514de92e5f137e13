"""`orchestra-hub up` where it is hard: odd folders, seats that never end, everything killed, parts that crash."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from orchestra_hub.cli.exit_codes import ExitCode
from tests.people import Person
from tests.running import Platform, free_port, until

DOMAIN = "workshops.orchestra.test"
SLEEPER = "987654"
NEVER_ENDS = f"""
import signal, subprocess
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
subprocess.Popen(["sleep", "{SLEEPER}"], start_new_session=True)
open("busy", "w").close()
while True:
    pass
"""


def head_and_get(person: Person, url: str) -> tuple[httpx.Response, httpx.Response]:
    headers = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
    full = url if "://" in url else f"{person.app}{url}"
    answers = [
        person.client.request(method, full, headers=headers, follow_redirects=False) for method in ("HEAD", "GET")
    ]
    return answers[0], answers[1]


def test_a_folder_with_blanks_another_domain_and_a_roster(tmp_path: Path) -> None:
    """From `workshop create` to a seat, with what shells and URLs trip over; a newcomer comes by an invitation."""
    folder = tmp_path / "Daten für 'alle' & mich #1"
    with Platform.start(folder, "--domain", DOMAIN) as platform, Person.new(platform, "ada") as ada:
        out = platform.cli(
            "workshop", "create", "--template", "python-data-science", "--session", "t", "--opens", "now",
            "--hours", "2", "--join", "roster", "--seats", "5",
        ).stdout  # fmt: skip
        found = re.search(r"^  id +(\S+)$", out, re.MULTILINE)
        assert found, out
        workshop = found[1]
        assert f"http://{workshop}.{DOMAIN}:{platform.port}/" in out
        platform.wait_state(workshop, "open")
        assert ada.join(workshop).status_code == 403, "not on the roster yet"
        roster = platform.cli("workshop", "add-people", workshop, "ada", "Bo with no account").stdout.splitlines()
        assert roster[0] == "ada: enrolled as learner"
        link = roster[1].split()[-1]
        for address in (
            f"/hub/workshops/{workshop}",
            "/hub/workshops/",
            f"http://{workshop}.{DOMAIN}:{platform.port}/",
        ):
            head, get = head_and_get(ada, address)
            assert (head.status_code, head.content, get.status_code) == (200, b"", 200), address
        url = ada.start(workshop)
        ada.open_seat(url)
        assert ada.run(url, "import os; print(os.getcwd())").startswith(str(folder))
        with Person.new(platform, "bo", sign_up=False) as bo:
            page = bo.get(link)
            assert "/hub/login" in str(page.url), "led to sign-in first"
            bo.sign_up()
            page = bo.get(link)
            token = link.partition("invitation=")[2]
            joined = bo.submit(page, f"/services/workshops/join/{workshop}", invitation=token)
            assert str(joined.url).endswith(f"/hub/workshops/{workshop}")
            with Person.new(platform, "eve") as eve:
                page = eve.get(link)
                refused = eve.submit(page, f"/services/workshops/join/{workshop}", invitation=token)
                assert refused.status_code == 403, "it works once"
        people = platform.cli("workshop", "people", workshop).stdout
        assert re.search(r"^ada +learner +enrolled", people, re.MULTILINE)
        assert re.search(r"^bo +learner +enrolled", people, re.MULTILINE)
        assert "eve" not in people


def sleepers() -> list[psutil.Process]:
    return [found for found in psutil.process_iter(["cmdline"]) if found.info["cmdline"] == ["sleep", SLEEPER]]


def test_ctrl_c_with_a_busy_and_a_hung_seat_leaves_no_process(tmp_path: Path) -> None:
    with Platform.start(tmp_path / "data") as platform, ExitStack() as people:
        workshop = platform.opened()["id"]
        urls = {}
        for name in ("ada", "bob", "eve"):
            person = people.enter_context(Person.new(platform, name))
            person.join(workshop)
            urls[name] = person.start(workshop)
            person.open_seat(urls[name])
            if name == "bob":
                bob = person
        threading.Thread(target=lambda: _quietly(bob, urls["bob"]), daemon=True).start()
        until(lambda: list(platform.data_dir.glob("workshops/*/seats/bob-*/home/busy")), within_s=30)
        assert len(sleepers()) == 1, "in a session of its own"
        platform.servers_of("eve")[0].suspend()
        assert platform.interrupt(within_s=15) < 10
        assert platform.process.returncode == ExitCode.OK
        assert platform.everything() == []
        assert sleepers() == []


def _quietly(person: Person, url: str) -> None:
    with suppress(Exception):  # the connection breaks when the seat ends
        person.run(url, NEVER_ENDS)


def test_a_second_ctrl_c_kills_at_once(tmp_path: Path) -> None:
    with Platform.start(tmp_path / "data") as platform:
        psutil.Process(platform.children()["hub"]).suspend()  # so that the first takes its time
        platform.process.send_signal(signal.SIGINT)
        until(lambda: "Stopping ..." in platform.text, within_s=5)
        assert platform.interrupt() < 3
        assert platform.process.returncode == ExitCode.INTERRUPTED
        assert platform.everything() == []


def test_everything_killed_at_once_needs_no_repair(tmp_path: Path) -> None:
    with Platform.start(tmp_path / "data") as platform, Person.new(platform, "ada") as ada:
        workshop = platform.opened()["id"]
        ada.join(workshop)
        url = ada.start(workshop)
        ada.open_seat(url)
        ada.run(url, "open('mine.txt', 'w').write('kept')")
        everything = platform.everything()
        for process in everything:
            process.kill()
        platform.process.wait()
        psutil.wait_procs(everything, timeout=10)
        following = platform.again()
        try:
            url = ada.start(workshop)
            ada.open_seat(url)
            assert ada.run(url, "print(open('mine.txt').read())") == "kept\n"
        finally:
            following.stop()


IMPATIENT = (
    "import sys\n"
    "from orchestra_services.up import run\n"
    "run.READY_WITHIN_S = 25.0\n"
    "from orchestra_services.main import main\n"
    "main()\n"
)


@pytest.fixture
def broken_config(tmp_path: Path) -> Path:
    path = tmp_path / "broken_config.py"
    path.write_text("raise SystemExit('the reason why')\n")
    return path


def test_a_hub_that_crashes_at_its_start_says_why(tmp_path: Path, broken_config: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IMPATIENT, "up", "--data-dir", str(tmp_path / "data"), "--port", str(free_port()),
         "--config", str(broken_config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == ExitCode.NOT_READY
    assert "Traceback" not in ended.stderr
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("Seats ")]  # what isn't to be had here
    assert [line.partition(" ended")[0] for line in lines[:-1]] == ["hub"] * (len(lines) - 1)
    loud = next(line for line in lines if "3 times in a row" in line)
    assert "Its last words: " in loud and "the reason why" in loud
    assert lines[-1].startswith("hub did not answer within 25 s") and "the reason why" in lines[-1]


def test_a_hub_that_ends_while_it_stops_a_hung_seat_leaves_nothing_of_it(tmp_path: Path) -> None:
    """JupyterHub forgets the server as it ends: no later hub would end what is left."""
    with Platform.start(tmp_path / "data") as platform, Person.new(platform, "ada") as ada:
        workshop = platform.opened()["id"]
        ada.join(workshop)
        ada.open_seat(ada.start(workshop))
        (server,) = platform.servers_of("ada")
        server.suspend()
        log = platform.data_dir / "logs" / "hub.log"
        began = len(log.read_text())
        threading.Thread(target=lambda: _quietly_stop(platform, workshop), daemon=True).start()
        until(lambda: "Removing user ada from proxy" in log.read_text()[began:], within_s=10, message="it is stopped")
        os.kill(platform.children()["hub"], signal.SIGTERM)
        until(lambda: not platform.everything_of("ada"), within_s=20, message="nothing of the seat runs")
        until(lambda: _answers(platform), within_s=40, message="the hub is back")
        assert not list((platform.data_dir / "run" / "seats").glob("ada-*.json")), "on record still"


def _quietly_stop(platform: Platform, workshop_id: str) -> None:
    with suppress(Exception):  # the connection breaks when the hub ends
        platform.api("POST", f"/workshops/{workshop_id}/seats/ada/stop")


def _answers(platform: Platform) -> bool:
    with suppress(httpx.HTTPError):
        return platform.hub_api("GET", "/").status_code == 200
    return False
