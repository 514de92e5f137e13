"""Seats kept apart, and small: what a hostile notebook can't get at, and what it can't take from the others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from orchestra_hub.cli.exit_codes import ExitCode
from orchestra_spawner.apart import program_folders
from orchestra_spawner.cgroups import SeatGroups
from orchestra_spawner.confinement import View, as_user
from tests.people import Person
from tests.running import ORCHESTRA, Platform, free_port, until
from tests.trespass import targets, trespass

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="seats are kept apart by root only; these tests need root")

LISTEN = """
import os, socket
open("private.txt", "w").write("mine")
listening = socket.socket(socket.AF_UNIX)
os.chdir(os.environ["HOME"])
listening.bind("s")
listening.listen()
import os; os.chmod("s", 0o777)
"""
OWN_SERVER = """
import http.client, os, socket, subprocess, sys, tempfile, threading, urllib.request
there = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=lambda: there.accept()[0].sendall(b"mine"), daemon=True).start()
print(socket.create_connection(there.getsockname(), 5).recv(4).decode())
print(urllib.request.urlopen(os.environ["JUPYTERHUB_API_URL"] + "/", timeout=5).status)
import multiprocessing.shared_memory
shared = multiprocessing.shared_memory.SharedMemory(create=True, size=1 << 20)
shared.close(); shared.unlink()
print(tempfile.gettempdir(), os.access(tempfile.gettempdir(), os.W_OK))
print(subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode)
print(len([name for name in os.listdir("/proc") if name.isdigit()]) < 20)
print(os.stat(".").st_uid == os.getuid(), oct(os.stat(".").st_mode & 0o777), oct(os.umask(0o077)))
"""
PLANT = """
import os, sys
for name in ("bwrap", "setpriv", "prlimit", "sh", "env"):
    path = os.path.join(os.path.dirname(sys.executable), name)
    with open(path, "w") as file:
        file.write(f"#!/bin/sh\\n/usr/bin/id > {os.environ['HOME']}/planted\\n")
    os.chmod(path, 0o755)
"""
FORK_BOMB = "import os\nwhile True:\n  try:\n    os.fork()\n  except OSError:\n    pass"
TEN_GIB = "x = bytearray(b'x') * (10 << 30)"
FILL_DISK = """
import os
for number in range(4):
    with open(f"big{number}", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 400 << 20)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose seats do what they can to harm it."""
    with Platform.start(tmp_path_factory.mktemp("apart") / "data") as platform:
        yield platform


@contextmanager
def two(platform: Platform, session: str, *names: str) -> Iterator[tuple[tuple[Person, str], tuple[Person, str], str]]:
    """Two people with running seats in one workshop."""
    workshop = platform.opened(session=session)["id"]
    with Person.new(platform, names[0]) as one, Person.new(platform, names[1]) as other:
        urls = []
        for person in (one, other):
            person.join(workshop)
            urls.append(person.start(workshop))
            person.open_seat(urls[-1])
        yield (one, urls[0]), (other, urls[1]), workshop


def test_a_seat_gets_at_nothing_that_isnt_its_own(own: Platform) -> None:
    with two(own, "apart", "ada", "bob") as ((ada, ada_url), (bob, bob_url), _):
        bob.run(bob_url, LISTEN)
        (home,) = own.data_dir.glob("workshops/*/seats/bob-*/home")
        wanted = targets(own, "bob", home / "s")
        found = json.loads(ada.run(ada_url, trespass(wanted), within_s=120))
        assert {name: what for name, what in found.items() if what == "got through"} == {}
        assert len(found) > 20
        tried = subprocess.run([sys.executable, "-c", trespass(wanted)], capture_output=True, text=True, timeout=60)
        through = json.loads(tried.stdout)
        assert {name for name, what in through.items() if what != "got through"} == set(), "so the trial is one"
        metadata = "import socket\ntry:\n  socket.create_connection(('169.254.169.254', 80), 5)\n"
        said = ada.run(ada_url, f"{metadata}except OSError as error:\n  print(type(error).__name__)")
        assert said == "ConnectionRefusedError\n"


def test_a_seat_has_all_that_is_its_own(own: Platform) -> None:
    workshop = own.opened(session="ownthings")["id"]
    with Person.new(own, "olga") as olga:
        olga.join(workshop)
        url = olga.start(workshop)
        olga.open_seat(url)
        lines = olga.run(url, OWN_SERVER).splitlines()
        assert lines == ["mine", "200", "/tmp True", "0", "True", "True 0o700 0o77"]
        assert olga.seat_request(url, "POST", "api/terminals", json={}).status_code == 200
        (seat,) = own.data_dir.glob("workshops/*/seats/olga-*")
        (uid,) = {(seat / name).stat().st_uid for name in ("home", "venv", "tmp")}
        running = [process for process in psutil.process_iter() if process.uids().real == uid]
        assert len(running) > 2
        olga.run(url, PLANT)
        olga.stop(workshop)
        until(lambda: not any(process.is_running() for process in running), within_s=10, message="all of it ends")
        olga.start(workshop)
        assert (seat / "home").stat().st_uid == uid, "the same id at the next start"
        assert not (seat / "home" / "planted").exists(), "a program of the learner's was run before they had no rights"


def _quietly(person: Person, url: str, code: str) -> None:
    with suppress(Exception):  # its kernel or its connection breaks
        person.run(url, code, within_s=20)


def _beside(person: Person, url: str, code: str) -> None:
    """Run `code` and don't wait: what it does to its kernel leaves no answer."""
    threading.Thread(target=_quietly, args=(person, url, code), daemon=True).start()


def _killed_for_memory(platform: Platform, name: str) -> int:
    told = json.loads((platform.data_dir / "run" / "up.json").read_text())["OrchestraLocalSpawner"]
    (record,) = (platform.data_dir / "run" / "seats").glob(f"{name}-*.json")
    return SeatGroups(told["cgroup_folders"], record.stem).killed_for_memory()


def _works(person: Person, url: str) -> bool:
    return person.run(url, "print(6 * 7)", within_s=60) == "42\n"


def test_ten_gib_and_a_fork_bomb_in_one_seat_leave_the_others_usable(own: Platform) -> None:
    with two(own, "greedy", "greta", "hugo") as ((greta, greta_url), (hugo, hugo_url), workshop):
        _beside(greta, greta_url, TEN_GIB)
        until(lambda: _killed_for_memory(own, "greta"), within_s=60, message="the kernel is killed")
        assert _works(hugo, hugo_url)
        assert _works(greta, greta_url), "the seat goes on"
        _beside(greta, greta_url, FORK_BOMB)
        (seat,) = own.data_dir.glob("workshops/*/seats/greta-*")
        uid = (seat / "home").stat().st_uid

        def bombs() -> list[psutil.Process]:
            return [process for process in psutil.process_iter(["uids"]) if process.info["uids"].real == uid]

        until(lambda: len(bombs()) > 200, within_s=60, message="it goes off")
        assert _works(hugo, hugo_url)
        assert hugo.get("/hub/workshops/").status_code == 200
        assert len(bombs()) <= 520
        with suppress(AssertionError):
            greta.stop(workshop)
        until(lambda: not bombs(), within_s=30, message="all of it ends")


def test_a_seat_above_its_disk_is_stopped_and_says_so(own: Platform) -> None:
    with two(own, "disk", "dora", "hans") as ((dora, dora_url), (hans, hans_url), workshop):
        _beside(dora, dora_url, FILL_DISK)
        page = until(
            lambda: "more than the 1 GiB" in (text := dora.page(workshop).text) and text,
            within_s=30, message="the page says why",
        )  # fmt: skip
        assert "remove what you don't need" in page.replace("&#39;", "'")
        assert _works(hans, hans_url)
        seats = own.api("GET", f"/workshops/{workshop}/seats").json()["items"]
        told = next(json.dumps(seat) for seat in seats if seat["user"] == "dora")
        assert "more than the 1 GiB" in told, "the instructor is told too"
        url = dora.start(workshop)
        dora.open_seat(url)
        assert dora.run(url, "import os\nfor n in range(3): os.remove(f'big{n}')\nprint('tidy')") == "tidy\n"
        assert 'id="failure"' not in dora.page(workshop).text


def test_a_full_disk_stops_new_starts_with_the_reason_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900M,mode=0700", "orchestra", str(folder)], check=True)
    try:
        with Platform.start(folder) as platform:
            workshop = platform.opened(session="full")["id"]
            with Person.new(platform, "ada") as ada, Person.new(platform, "bob") as bob:
                for person in (ada, bob):
                    person.join(workshop)
                url = ada.start(workshop)
                ada.open_seat(url)
                free = os.statvfs(folder)
                with (folder / "filler").open("wb") as filler:
                    os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize - (50 << 20))
                bob.press_start(workshop)
                until(lambda: "disk is nearly full" in bob.page(workshop).text, within_s=20, message="the reason")
                assert _works(ada, url)
                ada.run(url, "open('mine.txt', 'w').write('kept')")
                (folder / "filler").unlink()
                bob.open_seat(bob.start(workshop))
                assert ada.run(url, "print(open('mine.txt').read())") == "kept\n"
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _without_root(folder: Path, *arguments: str) -> list[str]:
    """`up` as somebody who isn't root; Python may lie where only root gets to."""
    uid = 54_321
    folder.mkdir()
    os.chown(folder, uid, uid)
    view = View(hidden=(), readable=program_folders(), writable=(folder,))
    command = [*ORCHESTRA, "up", "--data-dir", str(folder / "data"), *arguments]
    return as_user(view, uid, command, folder=folder)


def test_without_root_up_says_so_serves_this_machine_only_and_watches_memory(tmp_path: Path) -> None:
    port = free_port()
    refused = subprocess.run(
        _without_root(tmp_path / "one", "--port", str(port), "--listen", "0.0.0.0"),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert refused.returncode == ExitCode.SEATS_NOT_APART, refused.stderr
    assert "--seats-share-one-user" in refused.stderr
    output = tmp_path / "up.log"
    with output.open("w") as stream:
        process = subprocess.Popen(
            _without_root(tmp_path / "two", "--port", str(port)), stdout=stream, stderr=subprocess.STDOUT, text=True
        )
    platform = Platform(tmp_path / "two" / "data", port, process, output)
    try:
        platform.wait_ready()
        said = [line for line in platform.text.splitlines() if "kept apart" in line]
        assert len(said) == 1 and "as `up` doesn't run as root" in said[0]
        with two(platform, "shared", "ada", "bob") as ((ada, ada_url), (bob, bob_url), workshop):
            read = f"print(len(open({str(platform.data_dir / 'secrets' / 'tokens.json')!r}).read()) > 100)"
            assert ada.run(ada_url, read) == "True\n", "so it is true that they aren't"
            _beside(ada, ada_url, TEN_GIB)
            until(lambda: "more than the 1 GiB" in ada.page(workshop).text, within_s=60, message="stopped, and told")
            assert _works(bob, bob_url)
    finally:
        platform.stop()


def test_the_same_starts_work_at_another_address_while_seats_are_apart(tmp_path: Path) -> None:
    with Platform.start(tmp_path / "data", "--listen", "127.0.0.2") as platform:
        assert not re.search("not kept apart", platform.text)
        with platform.http() as client:
            page = client.get(
                f"http://127.0.0.2:{platform.port}/hub/login", headers={"Host": f"app.localhost:{platform.port}"}
            )
        assert page.status_code == 200
