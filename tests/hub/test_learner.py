"""A learner's story without a browser: join, start, work, stop, start again, a second workshop, log-out."""

from __future__ import annotations

import html
import re
from urllib.parse import urlsplit

import httpx
import psutil

from orchestra_hub.ids import seat_label, server_name
from tests.people import Person
from tests.running import Platform, soon, until

INSTALL_A_WHEEL = """
import subprocess, sys, zipfile
with zipfile.ZipFile('own_thing-1-py3-none-any.whl', 'w') as wheel:
    wheel.writestr('own_thing.py', 'x = 1')
    info = 'own_thing-1.dist-info/'
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: own-thing\\nVersion: 1\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + 'RECORD', '')
pip = [sys.executable, '-m', 'pip', 'install', '--no-index', wheel.filename]
done = subprocess.run(pip, capture_output=True, text=True)
print(done.returncode, done.stderr)
import importlib
importlib.invalidate_caches()
import own_thing
print(own_thing.__file__)
"""


def test_from_join_to_files_that_stay(platform: Platform) -> None:
    workshop = platform.opened(session="learner")
    with Person.new(platform, "lena") as lena:
        lena.join(workshop["id"])
        url = lena.start(workshop["id"])
        parts = urlsplit(url)
        assert parts.netloc == f"{seat_label(workshop['id'], 'lena')}.localhost:{platform.port}"
        assert parts.path == f"/user/lena/{server_name(workshop['id'])}/"
        opened = lena.open_seat(url)
        assert "/lab" in str(opened.url)
        files = {entry["name"] for entry in lena.seat_request(url, "GET", "api/contents").json()["content"]}
        assert any(name.endswith(".ipynb") for name in files), files
        assert lena.run(url, "print(6 * 7)") == "42\n"
        written = lena.seat_request(
            url, "PUT", "api/contents/mine.txt", json={"type": "file", "format": "text", "content": "kept"}
        )
        assert written.status_code == 201, written.text
        lena.stop(workshop["id"])
        url = lena.start(workshop["id"])
        lena.open_seat(url)
        kept = lena.seat_request(url, "GET", "api/contents/mine.txt").json()
        assert kept["content"] == "kept"


def test_pip_in_a_seat_stays_in_the_seat(platform: Platform) -> None:
    workshop = platform.opened(session="pip")
    with Person.new(platform, "pippa") as pippa:
        pippa.join(workshop["id"])
        url = pippa.start(workshop["id"])
        pippa.open_seat(url)
        found = pippa.run(url, "import sys, numpy, jupyterhub; print(sys.prefix); print(numpy.__file__)")
        prefix, numpy_at = found.split()
        assert str(platform.data_dir) in prefix
        assert not numpy_at.startswith(prefix), "packages of the platform are used, not copied"
        said = pippa.run(url, INSTALL_A_WHEEL)
        assert said.startswith("0 "), said
        assert said.strip().splitlines()[-1].startswith(prefix), said


def test_a_second_workshop_is_another_seat_host_and_folder(platform: Platform) -> None:
    one, two = platform.opened(session="one"), platform.opened(session="two")
    with Person.new(platform, "tomo") as tomo:
        for workshop in (one, two):
            tomo.join(workshop["id"])
        first, second = tomo.start(one["id"]), tomo.start(two["id"])
        assert urlsplit(first).netloc != urlsplit(second).netloc
        tomo.open_seat(first)
        answer = tomo.seat_request(second, "GET", "api/contents")
        assert answer.status_code == 403, "a sign-in to one seat was good for another"
        tomo.open_seat(second)
        tomo.seat_request(
            first, "PUT", "api/contents/only-here.txt", json={"type": "file", "format": "text", "content": "1"}
        )
        assert tomo.seat_request(second, "GET", "api/contents/only-here.txt").status_code == 404
        stolen = {
            cookie.name: cookie.value or ""
            for cookie in tomo.client.cookies.jar
            if urlsplit(first).hostname == cookie.domain
        }
        assert stolen
        with platform.http(cookies=stolen) as other:
            refused = other.get(f"{second}api/contents")
        assert refused.status_code in (302, 403), refused.status_code
        left = tomo.platform.api("DELETE", f"/workshops/{one['id']}/enrolments/tomo")
        assert left.status_code in (200, 204), left.text
        until(lambda: not _ready(platform, "tomo", one["id"]), within_s=30, message="the seat of the one left stops")
        assert _ready(platform, "tomo", two["id"]), "leaving one workshop touched the other"


def _ready(platform: Platform, name: str, workshop_id: str) -> bool:
    servers = platform.hub_api("GET", f"/users/{name}?include_stopped_servers=1").json()["servers"]
    return bool(servers.get(server_name(workshop_id), {}).get("ready"))


def test_log_out_ends_the_sessions_of_all_seats(platform: Platform) -> None:
    workshop = platform.opened(session="logout")
    with Person.new(platform, "logan") as logan:
        logan.join(workshop["id"])
        url = logan.start(workshop["id"])
        logan.open_seat(url)
        assert logan.seat_request(url, "GET", "api/contents").status_code == 200
        logan.sign_out()
        until(
            lambda: logan.seat_request(url, "GET", "api/contents").status_code == 403,
            within_s=30, message="the seat's session ends with the log-out",
        )  # fmt: skip
        page = logan.get(url)
        assert "/hub/login" in str(page.url)
        back = logan.submit(page, str(page.url), username="logan", password=logan.password)
        assert urlsplit(str(back.url)).netloc == urlsplit(url).netloc, "sign-in doesn't lead back to the notebook"


def test_the_hub_menu_leads_to_the_workshops_page(platform: Platform) -> None:
    workshop = platform.opened(session="menu")
    with Person.new(platform, "mena") as mena:
        mena.join(workshop["id"])
        url = mena.start(workshop["id"])
        page = mena.open_seat(url).text
        assert f'"hubPrefix": "/hub/workshops/{workshop["id"]}/"' in page, "JupyterLab's page config"
        for where in ("home", "spawn/mena/x"):
            assert str(mena.get(f"/hub/workshops/{workshop['id']}/{where}").url).endswith(
                f"/hub/workshops/{workshop['id']}"
            )


def test_not_open_yet_says_why_and_an_instructor_may_start_before(platform: Platform) -> None:
    workshop = platform.workshop(session="soon", opens_at=soon(60), hours=2, lead_time_min=30)
    with Person.new(platform, "early") as early:
        early.join(workshop["id"])
        page = early.page(workshop["id"])
        assert 'id="start"' not in page.text
        assert 'id="refusal"' in page.text
        refused = early.platform.hub_api("POST", f"/users/early/servers/{server_name(workshop['id'])}", json={})
        assert refused.status_code == 403, refused.text


def test_a_seat_that_cannot_start_says_so_and_can_be_tried_again(platform: Platform) -> None:
    workshop = platform.opened(session="broken")
    with Person.new(platform, "brook") as brook:
        brook.join(workshop["id"])
        content = platform.data_dir / "workshops" / workshop["id"] / "prepared.json"
        kept = content.read_bytes()
        content.unlink()
        brook.press_start(workshop["id"])
        page = until(
            lambda: 'id="failure"' in (text := brook.page(workshop["id"]).text) and text,
            within_s=60, message="the failure is shown",
        )  # fmt: skip
        assert "Try again" in page
        content.write_bytes(kept)
        assert brook.start(workshop["id"])


LEAVE_PROCESSES = """
import subprocess
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
subprocess.Popen(['setsid', 'sleep', '1000'], **quiet)
subprocess.Popen("trap '' TERM HUP; (trap '' TERM HUP; sleep 1001; sleep 1002) & sleep 1003", shell=True, **quiet)
"""
BARE_PROCESS = """
import subprocess
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
subprocess.Popen(['env', '-i', '/usr/bin/sleep', '1004'], **quiet)
"""


def _processes(platform: Platform, name: str) -> list[psutil.Process]:
    """What a person's seats have running, also what left its session."""
    found = []
    for process in psutil.process_iter(["environ", "status", "cmdline"]):
        mine = (process.info["environ"] or {}).get("JUPYTERHUB_USER") == name
        if mine and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def _bare_processes() -> list[psutil.Process]:
    """Found by its command: a seat doesn't know the ids its processes have outside."""
    return [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["/usr/bin/sleep", "1004"]]


def _busy_seat(person: Person, workshop_id: str) -> str:
    """A running seat with a kernel, a terminal, and processes that left their sessions and ignore a polite end."""
    person.join(workshop_id)
    url = person.start(workshop_id)
    person.open_seat(url)
    person.run(url, LEAVE_PROCESSES)
    assert person.seat_request(url, "POST", "api/terminals", json={}).status_code == 200
    until(lambda: len(_processes(person.platform, person.name)) > 6, within_s=20, message="all of it runs")
    return url


def test_stopping_ends_everything_a_seat_started(platform: Platform) -> None:
    workshop = platform.opened(session="ends")
    with Person.new(platform, "enda") as enda:
        url = _busy_seat(enda, workshop["id"])
        enda.run(url, BARE_PROCESS)
        (bare,) = until(_bare_processes, within_s=10, message="it runs")
        enda.stop(workshop["id"])
        assert _processes(platform, "enda") == []
        assert not bare.is_running() or bare.status() == psutil.STATUS_ZOMBIE, "what emptied its environment lives on"


def test_a_server_that_dies_is_noticed_and_leaves_nothing(platform: Platform) -> None:
    """Killed by the system, as when memory runs out: the page offers a start again, its processes are gone."""
    workshop = platform.opened(session="dies")
    with Person.new(platform, "dina") as dina:
        url = _busy_seat(dina, workshop["id"])
        (server,) = platform.servers_of("dina")
        server.kill()
        until(lambda: 'id="start"' in dina.page(workshop["id"]).text, within_s=20, message="the page has noticed")
        until(lambda: not _processes(platform, "dina"), within_s=10, message="nothing of it runs")
        again = dina.start(workshop["id"])
        assert again == url
        dina.stop(workshop["id"])


def test_a_server_that_dies_unseen_is_noticed_by_the_hub(platform: Platform) -> None:
    workshop = platform.opened(session="unseen")
    with Person.new(platform, "una") as una:
        _busy_seat(una, workshop["id"])
        (server,) = platform.servers_of("una")
        server.kill()
        until(lambda: not _ready(platform, "una", workshop["id"]), within_s=30, message="the hub has noticed")
        until(lambda: not _processes(platform, "una"), within_s=10, message="nothing of it runs")


def test_jupyterlabs_log_out_signs_out_of_everything(platform: Platform) -> None:
    """JupyterLab's Log Out opens `{hubHost}{baseUrl}logout`: the seat's path, on the hub's host."""
    workshop = platform.opened(session="menu-out")
    with Person.new(platform, "lorna") as lorna:
        lorna.join(workshop["id"])
        url = lorna.start(workshop["id"])
        lorna.open_seat(url)
        page = lorna.get(f"{lorna.app}{urlsplit(url).path}logout")
        assert "/hub/login" in str(page.url), page.url
        assert "/hub/login" in str(lorna.get("/hub/workshops/").url)
        until(
            lambda: lorna.seat_request(url, "GET", "api/contents").status_code == 403,
            within_s=30, message="the seat's session ends with it",
        )  # fmt: skip


def test_a_link_to_a_file_leads_there_through_sign_in_and_start(platform: Platform) -> None:
    """A bookmark of one's own, and JupyterLab's "Copy Shareable Link" opened by somebody else; the seat is stopped."""
    workshop = platform.opened(session="deep")
    path = "lab/tree/my%20notes%3F%C3%A9.txt"
    with Person.new(platform, "dee") as dee, Person.new(platform, "pal") as pal:
        for person in (dee, pal):
            person.join(workshop["id"])
        url = dee.start(workshop["id"])
        dee.open_seat(url)
        dee.stop(workshop["id"])
        dee.sign_out()
        asked = dee.get(f"{url}{path}?factory=Editor")
        assert "/hub/login" in str(asked.url)
        action = _found(r'<form action="([^"]+)"', asked.text)
        launch = dee.submit(asked, action, username="dee", password=dee.password)
        assert f"/hub/workshops/{workshop['id']}" in str(launch.url)
        _starts_at(dee, launch, f"{url}{path}?factory=Editor")
        shared = pal.get(f"/hub/workshops/{workshop['id']}/user-redirect/{path}?factory=Editor")
        _starts_at(pal, shared, f"{url.replace('--dee.', '--pal.').replace('/dee/', '/pal/')}{path}?factory=Editor")
        for person in (dee, pal):
            person.stop(workshop["id"])


def _found(pattern: str, page: str) -> str:
    found = re.search(pattern, page)
    assert found, page
    return html.unescape(found[1])


def _starts_at(person: Person, launch: httpx.Response, wanted: str) -> None:
    """Press the launch page's button; "open" then leads to `wanted`."""
    action = _found(r'action="([^"]+/start)"', launch.text)
    begun = person.submit(launch, action, next=_found(r'name="next" value="([^"]+)"', launch.text))
    until(lambda: 'id="open"' in person.get(str(begun.url)).text, within_s=60, message="the seat is ready")
    assert _found(r'id="open"[^>]*href="([^"]+)"', person.get(str(begun.url)).text) == wanted
    opened = person.get(wanted)
    assert opened.status_code == 200
    assert str(opened.url).startswith(wanted.partition("?")[0]), opened.url


def test_the_seat_of_somebody_who_was_removed_is_stopped_and_the_page_says_so(platform: Platform) -> None:
    workshop = platform.opened(session="removed", join_policy="roster")
    with Person.new(platform, "remo") as remo:
        added = platform.api("POST", f"/workshops/{workshop['id']}/enrolments", json={"user": "remo"})
        assert added.status_code in (200, 201), added.text
        remo.get(f"/services/workshops/join/{workshop['id']}")
        url = remo.start(workshop["id"])
        remo.open_seat(url)
        running = remo.page(workshop["id"])
        assert platform.api("DELETE", f"/workshops/{workshop['id']}/enrolments/remo").status_code in (200, 204)
        until(lambda: not _processes(platform, "remo"), within_s=30, message="the seat stops")
        page = remo.page(workshop["id"])
        assert (page.status_code, "not enrolled" in page.text) == (403, True), page.text
        away = remo.get(f"{url}lab")
        assert (away.status_code, "not enrolled" in away.text) == (403, True), (away.url, away.text)
        refused = remo.submit(running, f"/hub/workshops/{workshop['id']}/start")
        assert (refused.status_code, "not enrolled" in refused.text) == (403, True), refused.text
        assert not _processes(platform, "remo")
