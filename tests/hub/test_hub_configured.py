"""Hubs with a configuration of their own (`up --config`): one origin for a workshop, an authenticator with groups, and
notebook servers that don't start."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from orchestra_hub.ids import seat_label
from tests.people import Person
from tests.running import Platform, until

APPLY = """
import os
from orchestra_services.up.hub_config import apply
c = get_config()
apply(c, os.environ)
"""

ONE_ORIGIN = f"{APPLY}\nc.OrchestraHub.seat_origin = 'workshop'\n"

GROUPS_AND_BROKEN_PROGRAMS = """
import json
from pathlib import Path
from orchestra_hub.hub.authenticator import OrchestraNativeAuthenticator

class WithGroups(OrchestraNativeAuthenticator):
    async def authenticate(self, handler, data):
        name = await super().authenticate(handler, data)
        claims = Path({folder!r}, "claims.json")
        groups = json.loads(claims.read_text()) if claims.is_file() else {{}}
        return name and {{"name": name, "groups": groups.get(name, [])}}

def choose_program(spawner):
    absent = spawner.user.name == "absent" and not Path({folder!r}, "mended").exists()
    spawner.cmd = ["/nowhere/notebook-program" if absent else {script!r}]

c.JupyterHub.authenticator_class = WithGroups
c.Authenticator.manage_groups = True
c.Spawner.pre_spawn_hook = choose_program
c.JupyterHub.concurrent_spawn_limit = 3
c.OrchestraLocalSpawner.seat_user_ids = ""  # programs here are steered by files that seats kept apart wouldn't see
c.OrchestraLocalSpawner.allow_root = os.geteuid() == 0
"""

SCRIPT = """#!/bin/sh
[ -e {folder}/mended ] || case "$JUPYTERHUB_USER" in
  exits) echo "SomeError: about to fail" >&2; exit 3;;
  lacks) exec no-such-program-here;;
  killed) setsid sleep 1000 & kill -9 $$;;
  memory) ulimit -v 300000; exec {python} -c 'bytearray(1 << 30)';;
  silent) exec sleep 1000;;
  mute) exec {python} -c '
import os, socket, time
from urllib.parse import urlsplit
listening = socket.create_server(("127.0.0.1", urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"]).port))
time.sleep(1000)';;
  slow*) while [ ! -e {folder}/go ]; do sleep 0.1; done;;
esac
exec {python} -P -m jupyterhub.singleuser "$@"
"""

FAILURES = {
    "absent": "A program the notebook needs is missing",
    "exits": "stopped while it started (exit code 3)",
    "lacks": "A program the notebook needs is missing",
    "killed": "most likely because memory ran out",
    "memory": "not enough free memory",
}


@pytest.fixture(scope="module")
def one_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("one-origin")
    (folder / "config.py").write_text(ONE_ORIGIN)
    with Platform.start(folder / "data", "--config", str(folder / "config.py")) as platform:
        yield platform


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("broken")
    script = folder / "notebook"
    script.write_text(SCRIPT.format(folder=folder, python=sys.executable))
    script.chmod(0o755)
    (folder / "config.py").write_text(APPLY + GROUPS_AND_BROKEN_PROGRAMS.format(folder=str(folder), script=str(script)))
    with Platform.start(folder / "data", "--config", str(folder / "config.py")) as platform:
        yield platform


def _asked(person: Person, url: str) -> str:
    """The page after an admin said yes to opening another's server (JupyterHub asks, as it is not their own)."""
    page = person.get(url)
    if "/oauth2/authorize" not in str(page.url) or page.status_code != 200:
        return page.text
    scopes = re.findall(r'name="scopes"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="scopes"', page.text)
    chosen = {"scopes": html.unescape(next(iter(filter(None, scopes[0]))))} if scopes else {}
    answer = person.submit(page, str(page.url), **chosen)
    assert urlsplit(str(answer.url)).netloc == urlsplit(url).netloc, answer.text
    return answer.text


def test_on_one_origin_ones_own_seat_opens_and_anothers_is_refused(one_origin: Platform) -> None:
    """With `workshop`, whoever opened another's seat could be read by what that seat left on the shared origin."""
    workshop = one_origin.opened(session="shared")
    host = f"{workshop['id']}.localhost:{one_origin.port}"
    with Person.new(one_origin, "lena") as lena:
        lena.join(workshop["id"])
        url = lena.start(workshop["id"])
        assert urlsplit(url).netloc == host
        lena.open_seat(url)
        assert lena.run(url, "print(6 * 7)") == "42\n"
        assert lena.get(workshop["url"]).status_code == 200, "the public page is still there"
        with Person.new(one_origin, "admin", sign_up=False) as admin:
            admin.sign_in(one_origin.admin_password)
            refused = admin.get(url)
            assert refused.status_code == 403
            assert urlsplit(str(refused.url)).netloc == urlsplit(admin.app).netloc
            assert "share one web address" in refused.text
            assert "seat_origin" in refused.text
            assert admin.seat_request(url, "GET", "api/contents").status_code == 403
            form = admin.get("/hub/change-password")  # for its XSRF token
            posted = admin.submit(form, str(refused.url))
            assert (posted.status_code, "share one web address" in posted.text) == (403, True)
        lena.stop(workshop["id"])
        away = lena.get(f"{url}lab/tree/x.ipynb")
        assert f"/hub/workshops/{workshop['id']}" in str(away.url), "a stopped seat's address leads to its page"


def test_on_an_origin_each_an_admin_opens_a_learners_seat(broken: Platform) -> None:
    workshop = broken.opened(session="own")
    with Person.new(broken, "olga") as olga, Person.new(broken, "admin", sign_up=False) as admin:
        olga.join(workshop["id"])
        url = olga.start(workshop["id"])
        assert urlsplit(url).netloc == f"{seat_label(workshop['id'], 'olga')}.localhost:{broken.port}"
        admin.sign_in(broken.admin_password)
        assert "jupyter" in _asked(admin, url).lower()
        assert admin.seat_request(url, "GET", "api/contents").status_code == 200


def test_an_authenticators_groups_neither_give_nor_take_a_place(broken: Platform) -> None:
    """`manage_groups` on a running hub: JupyterHub by itself drops every group a sign-in didn't name."""
    mine, other = broken.opened(session="mine"), broken.opened(session="other")
    claims = broken.data_dir.parent / "claims.json"

    def groups() -> set[str]:
        return set(broken.hub_api("GET", "/users/gert").json()["groups"])

    with Person.new(broken, "gert") as gert:
        gert.join(mine["id"])
        claims.write_text(json.dumps({"gert": ["staff", other["id"]]}))
        gert.sign_out()
        gert.sign_in()
        assert groups() == {mine["id"], "staff"}
        assert "/services/workshops/join/" in str(gert.page(other["id"]).url), "a claim is no place"
        claims.write_text(json.dumps({"gert": []}))
        gert.sign_out()
        gert.sign_in()
        assert groups() == {mine["id"]}
        assert 'id="start"' in gert.page(mine["id"]).text


@pytest.mark.parametrize("name", FAILURES)
def test_a_program_that_ends_is_told_in_a_sentence_and_can_be_tried_again(broken: Platform, name: str) -> None:
    workshop = broken.opened(session=f"f-{name}")
    (broken.data_dir.parent / "mended").unlink(missing_ok=True)
    with Person.new(broken, name) as person:
        person.join(workshop["id"])
        person.press_start(workshop["id"])
        page = _failure_page(person, workshop["id"], within_s=20)
        assert FAILURES[name] in page
        assert "Try again" in page
        assert not _processes(broken, name), "a start that failed left a process"
        (broken.data_dir.parent / "mended").touch()
        assert person.start(workshop["id"])


def test_a_program_that_never_answers_is_given_up_within_a_minute(broken: Platform) -> None:
    """One that never listens, and one that listens and says nothing."""
    workshop = broken.opened(session="never")
    (broken.data_dir.parent / "mended").unlink(missing_ok=True)
    with Person.new(broken, "silent") as silent, Person.new(broken, "mute") as mute:
        for person in (silent, mute):
            person.join(workshop["id"])
            person.press_start(workshop["id"])
        for person in (mute, silent):
            page = _failure_page(person, workshop["id"], within_s=60)
            assert "did not answer" in page
            assert "Try again" in page
            assert not _processes(broken, person.name)


def test_while_a_seat_starts(broken: Platform) -> None:
    """Pressed twice, in a second tab, reloaded, asked to stop: one start, whose progress has steps and seconds."""
    workshop = broken.opened(session="slow")
    folder = broken.data_dir.parent
    (folder / "go").unlink(missing_ok=True)
    with Person.new(broken, "slow-one") as person:
        person.join(workshop["id"])
        empty = person.page(workshop["id"])
        for _ in range(2):  # both tabs had the page with the button
            person.submit(empty, f"/hub/workshops/{workshop['id']}/start")
        page = person.page(workshop["id"]).text
        assert 'data-state="starting"' in page
        events = html.unescape(re.search(r'data-events="([^"]+)"', page)[1])  # type: ignore[index]
        for _ in range(2):  # the second as after a reload: it has the steps from the beginning
            said = []
            with person.client.stream("GET", f"{person.app}{events}") as stream:
                for line in stream.iter_lines():
                    if line.startswith("data: "):
                        said.append(json.loads(line.removeprefix("data: ")))
                    if len(said) > 4:
                        break
            words = [step["message"] for step in said]
            assert words[1:3] == ["Preparing your folder", "Starting the notebook server"], words
            assert re.search(r"answer \(\d+ s so far\)", words[-1]), words
            shares = [step["progress"] for step in said]
            assert shares == sorted(shares), "progress went back"
        assert len(_servers(broken, "slow-one")) == 1
        assert person.submit(empty, f"/hub/workshops/{workshop['id']}/stop").status_code == 200
        assert 'data-state="starting"' in person.page(workshop["id"]).text, "a start goes on to its end"
        (folder / "go").touch()
        until(lambda: 'id="open"' in person.page(workshop["id"]).text, within_s=40, message="ready")
        assert len(_servers(broken, "slow-one")) == 1
        person.stop(workshop["id"])
        assert not _processes(broken, "slow-one")


def test_more_starts_than_at_once_wait_and_go_on_by_themselves(broken: Platform) -> None:
    workshop = broken.opened(session="many")
    folder = broken.data_dir.parent
    (folder / "go").unlink(missing_ok=True)
    (folder / "mended").unlink(missing_ok=True)
    people = []
    try:
        for number in range(4):
            held = Person.new(broken, f"slow-{number}")
            people.append((held, held.__enter__()))
        for _, person in people:
            person.join(workshop["id"])
        pages = [person.press_start(workshop["id"]).text for _, person in people]
        assert [("You are next in line" in page) for page in pages] == [False] * 3 + [True]
        (folder / "go").touch()
        last = people[-1][1]
        until(lambda: 'id="open"' in last.page(workshop["id"]).text, within_s=40, message="it starts")
    finally:
        for held, _ in people:
            held.__exit__(None, None, None)


def _failure_page(person: Person, workshop_id: str, *, within_s: float) -> str:
    found: str = until(
        lambda: 'id="failure"' in (text := person.page(workshop_id).text) and html.unescape(text),
        within_s=within_s, every_s=0.3, message=f"{person.name}: the failure is shown",
    )  # fmt: skip
    return found


def _processes(platform: Platform, name: str) -> list[list[str]]:
    """Command lines of everything a person's seats have running."""
    return [process.info["cmdline"] or [] for process in platform.everything_of(name)]


def _servers(platform: Platform, name: str) -> set[str]:
    """The marks of a person's seats that are running."""
    return {process.info["environ"]["JUPYTERHUB_SERVICE_URL"] for process in platform.everything_of(name)}
