"""A learner's story without a browser: join, start, work, stop, start again, a second workshop, log-out."""

from __future__ import annotations

from urllib.parse import urlsplit

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
