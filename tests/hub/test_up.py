"""`orchestra-hub up`, whole: what is there afterwards, whatever ended it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orchestra_hub.cli.exit_codes import ExitCode
from tests.people import Person
from tests.running import Platform, until


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Platform]:
    """A platform that the test may break."""
    with Platform.start(tmp_path / "data") as platform:
        yield platform


def of_children(platform: Platform) -> set[int]:
    return set(platform.children().values())


def test_ctrl_c_ends_everything_and_up_again_has_it_all(own: Platform) -> None:
    with Person.new(own, "ada") as ada:
        workshop = own.opened()["id"]
        ada.join(workshop)
        url = ada.start(workshop)
        ada.open_seat(url)
        ada.run(url, "open('mine.txt', 'w').write('kept')")
        assert own.interrupt() < 10
        assert own.process.returncode == 0
        assert own.everything() == []
        following = own.again()
        try:
            assert "assword" not in following.text.split("Stopped.")[-1], "the admin is there already"
            assert following.api("GET", f"/workshops/{workshop}").json()["state"] == "open"
            url = ada.start(workshop)
            ada.open_seat(url)
            assert ada.run(url, "print(open('mine.txt').read())") == "kept\n"
        finally:
            following.stop()


def test_seats_go_on_when_up_is_killed_and_the_next_finds_them(own: Platform) -> None:
    with Person.new(own, "ada") as ada:
        workshop = own.opened()["id"]
        ada.join(workshop)
        url = ada.start(workshop)
        ada.open_seat(url)
        children = of_children(own)
        own.process.kill()
        own.process.wait()
        until(lambda: not children & {process.pid for process in own.everything()}, within_s=10)
        seats = {process.pid for process in own.everything()}
        assert seats
        moved = own.cli("up", "--port", str(own.port + 1), check=False)
        assert moved.returncode == ExitCode.SEATS_RUNNING
        assert f"--port {own.port}" in moved.stderr
        following = own.again()
        try:
            assert seats <= {process.pid for process in following.everything()}
            assert "1 seat(s) of the last run go on." in following.text
            assert ada.run(url, "print(6 * 7)") == "42\n"
            assert following.interrupt() < 10
            assert following.everything() == []
        finally:
            following.stop()


def test_a_killed_hub_comes_back_and_seats_do_not_notice(own: Platform) -> None:
    with Person.new(own, "ada") as ada:
        workshop = own.opened()["id"]
        ada.join(workshop)
        url = ada.start(workshop)
        ada.open_seat(url)
        before = own.children()
        os.kill(before["hub"], signal.SIGKILL)
        assert ada.run(url, "print(6 * 7)") == "42\n"
        until(lambda: own.children().get("hub") not in (None, before["hub"]), within_s=20)
        assert "hub ended (SIGKILL); again in 1 s." in own.text
        until(lambda: own.hub_api("GET", "/users/ada").status_code == 200, within_s=30)
        after = own.children()
        assert {name: pid for name, pid in after.items() if name != "hub"} == {
            name: pid for name, pid in before.items() if name != "hub"
        }
        assert ada.run(url, "print(6 * 7)") == "42\n"


def test_a_killed_proxy_comes_back_with_every_route(own: Platform) -> None:
    with Person.new(own, "ada") as ada:
        workshop = own.opened()["id"]
        ada.join(workshop)
        url = ada.start(workshop)
        ada.open_seat(url)
        os.kill(own.children()["proxy"], signal.SIGKILL)
        until(lambda: "proxy ended" in own.text, within_s=10)

        def answers() -> bool:
            try:
                return ada.run(url, "print(6 * 7)") == "42\n"
            except (AssertionError, OSError, httpx.HTTPError):
                return False

        until(answers, within_s=20)


def test_a_second_up_on_the_folder_is_refused_and_the_first_goes_on(own: Platform) -> None:
    refused = own.cli("up", check=False)
    assert refused.returncode == ExitCode.ALREADY_RUNNING
    assert len(refused.stderr.strip().splitlines()) == 1
    assert own.api("GET", "/me").json()["operator"] is True


def test_the_demo_is_there_and_a_new_one_after_it_ended(tmp_path: Path) -> None:
    with Platform.start(tmp_path / "data", "--demo") as platform:
        until(lambda: "Ctrl-C" in platform.text, within_s=20)
        (first,) = platform.api("GET", "/workshops").json()["items"]
        assert f"  demo      {first['join_url']}\n" in platform.text
        platform.interrupt()
        following = platform.again()
        try:
            until(lambda: following.text.count("Ctrl-C") == 2, within_s=20)
            assert following.text.count(first["join_url"]) == 2
            following.cli("workshop", "end", first["id"], "--yes")
            following.interrupt()
            last = following.again()
            try:
                until(lambda: last.text.count("Ctrl-C") == 3, within_s=20)
                states = {found["id"]: found["state"] for found in last.api("GET", "/workshops").json()["items"]}
                assert states.pop(first["id"]) == "expired"
                assert len(states) == 1
            finally:
                last.stop()
        finally:
            following.stop()


def test_a_password_is_reset_while_the_hub_runs(own: Platform) -> None:
    old = own.admin_password
    out = own.cli("user", "reset-password", "admin").stdout
    new = out.split("password")[-1].split()[0]
    with Person.new(own, "admin", sign_up=False) as admin:
        assert "/hub/login" in str(admin.sign_in(old).url)
        assert "/hub/login" not in str(admin.sign_in(new).url)


def test_nobody_becomes_admin_by_signing_up_under_its_name(own: Platform) -> None:
    with Person.new(own, "admin", sign_up=False) as impostor:
        impostor.sign_up()
        assert "/hub/login" in str(impostor.get("/hub/home").url)
