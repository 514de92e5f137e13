"""Workshops that somebody damaged by hand, each in another way, beside healthy ones that go on."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestra_hub.ids import server_name
from tests.people import Person
from tests.running import Platform, until

SWEEP_S = 2


@pytest.fixture(scope="module")
def damaged_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of these tests' own, whose reconciler sweeps often."""
    with (
        Platform.start(tmp_path_factory.mktemp("damaged") / "data") as running,
        running.own_reconciler(f"--ReconcilerApp.sweep_interval_s={SWEEP_S}"),
    ):
        yield running


def by_hand(platform: Platform, statement: str, *values: Any) -> None:
    """What somebody does who knows SQL and no better."""
    with closing(sqlite3.connect(platform.data_dir / "orchestra.sqlite", timeout=20)) as database, database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute(statement, values)


def trouble(platform: Platform, workshop_id: str) -> str:
    """What the row says that is wrong, read past everything of ours."""
    with closing(sqlite3.connect(platform.data_dir / "orchestra.sqlite", timeout=20)) as database:
        return str(database.execute("SELECT trouble FROM workshops WHERE id = ?", (workshop_id,)).fetchone()[0] or "")


@contextmanager
def admin(platform: Platform) -> Iterator[Person]:
    with Person.new(platform, "admin", sign_up=False) as person:
        assert person.sign_in(platform.admin_password).status_code == 200
        yield person


ROWS = {
    "template": ('UPDATE workshops SET template = \'{"name": "python\' WHERE id = ?', "template, from the Hub group"),
    "field": ("UPDATE workshops SET template = json_remove(template, '$.resources') WHERE id = ?", "template, from"),
    "state": ("UPDATE workshops SET state = 'half-open' WHERE id = ?", "state, from the Hub group"),
    "seats": ("UPDATE workshops SET seats = 0 WHERE id = ?", "seats, from the Hub group"),
    "date": ("UPDATE workshops SET expires_at = 'next tuesday' WHERE id = ?", "expires_at, from the Hub group"),
}


def test_damaged_rows_are_told_and_mended_and_keep_no_other_back(damaged_platform: Platform) -> None:
    platform = damaged_platform
    healthy = platform.opened(session="healthy")["id"]
    broken = {name: platform.opened(session=f"row-{name}")["id"] for name in ROWS}
    ends = {name: platform.api("GET", f"/workshops/{broken[name]}").json()["expires_at"] for name in ROWS}
    for name, (statement, _) in ROWS.items():
        by_hand(platform, statement, broken[name])

    # the others go on: lists, pages, joining, starting, new ones
    listed = platform.api("GET", "/workshops").json()
    assert healthy in [item["id"] for item in listed["items"]]
    assert set(listed["damaged"]) == set(broken.values())
    with Person.new(platform, "well") as well:
        well.join(healthy)
        url = well.start(healthy)
        well.open_seat(url)
        platform.opened(session="another")
        for workshop_id in broken.values():  # the hub knows it by its group alone
            assert well.page(workshop_id).status_code in (200, 409)
        refused = platform.api("GET", f"/workshops/{broken['state']}", token=_token(platform, "well"))
        assert refused.status_code == 409 and "workshop-damaged" in refused.json()["type"]
        assert "Tell your instructor" in refused.json()["detail"] and "half-open" not in refused.text
        forbidden = platform.api("POST", f"/workshops/{broken['state']}/mend", json={}, token=_token(platform, "well"))
        assert forbidden.status_code == 403
        well.stop(healthy)

    # it is said what is wrong and what to do
    for name, workshop_id in broken.items():
        answer = platform.api("GET", f"/workshops/{workshop_id}")
        assert answer.status_code == 409 and f"workshop mend {workshop_id}" in answer.json()["detail"], answer.text
        assert {"field": "resources", "date": "expires_at"}.get(name, name) in answer.json()["detail"]
        until(lambda w=workshop_id: "mend" in trouble(platform, w), within_s=20, message="noted by the reconciler")
    with admin(platform) as person:
        page = person.get("/services/workshops/")
        assert page.status_code == 200 and all(workshop_id in page.text for workshop_id in broken.values())
        page = person.get(f"/services/workshops/{broken['seats']}")
        assert page.status_code == 409 and "workshop mend" in page.text and "seats" in page.text

    # a command mends it
    for name, (_, what) in ROWS.items():
        done = platform.cli("workshop", "mend", broken[name])
        assert what in done.stdout, done.stdout
        mended = platform.wait_state(broken[name], "open")
        assert mended["seats"] > 1 and mended["trouble"] is None and mended["expires_at"] == ends[name]
        kinds = [event["kind"] for event in platform.api("GET", f"/workshops/{broken[name]}/events").json()["items"]]
        assert "damaged" in kinds and "mended" in kinds
    assert platform.api("GET", "/workshops").json()["damaged"] == {}
    assert "nothing" in platform.cli("workshop", "mend", healthy).stdout
    log = (platform.data_dir / "logs" / "workshops.log").read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:2000]


def test_one_that_cannot_be_mended_is_ended(damaged_platform: Platform) -> None:
    platform = damaged_platform
    workshop_id = platform.opened(session="hopeless")["id"]
    with Person.new(platform, "loser") as loser:
        loser.join(workshop_id)
        loser.start(workshop_id)
        (home,) = (platform.data_dir / "workshops" / workshop_id / "seats").glob("*/home")
        (home / "mine.txt").write_text("kept")
        by_hand(
            platform, "UPDATE workshops SET template = 'gone', state = 'x', deadline = '?' WHERE id = ?", workshop_id
        )
        group = platform.hub_api("PUT", f"/groups/{workshop_id}/properties", json={})
        assert group.status_code == 200, group.text
        refused = platform.cli("workshop", "mend", workshop_id, check=False)
        assert refused.returncode == 5 and "--damaged" in refused.stderr, refused.stderr
        platform.cli("workshop", "end", workshop_id, "--damaged")
        ended = platform.wait_state(workshop_id, "expired")
        assert ended["ended_early"]
        until(
            lambda: not platform.hub_api("GET", "/users/loser").json()["servers"].get(server_name(workshop_id)),
            within_s=20, message="its seats stop",
        )  # fmt: skip
        files = loser.get(f"/services/workshops/{workshop_id}/export")
        assert files.status_code == 200 and len(files.content) > 100, "its files can be fetched"
        again = platform.cli("workshop", "end", workshop_id, "--damaged", check=False)
        assert again.returncode == 5 and "isn't damaged" in again.stderr


def test_folder_content_and_group_are_made_again(damaged_platform: Platform) -> None:
    """What can be had again the reconciler puts right by itself, within a sweep and a bit."""
    platform = damaged_platform
    ways = ("prepared", "content", "folder", "file", "group", "members", "properties", "removed", "others")
    healthy = platform.opened(session="sound")["id"]
    broken = {way: platform.opened(session=f"by-{way}")["id"] for way in ways}
    folders = platform.data_dir / "workshops"
    facts = platform.hub_api("GET", f"/groups/{healthy}").json()["properties"]
    with Person.new(platform, "mona") as mona, Person.new(platform, "otto") as otto:
        for workshop_id in (healthy, *broken.values()):
            mona.join(workshop_id)
        (folders / broken["prepared"] / "prepared.json").unlink()
        shutil.rmtree(folders / broken["content"] / "content")
        shutil.rmtree(folders / broken["folder"])
        shutil.rmtree(folders / broken["file"])
        (folders / broken["file"]).write_text("a file")
        _hub(platform, "DELETE", f"/groups/{broken['group']}")
        _hub(platform, "DELETE", f"/groups/{broken['members']}/users", {"users": ["mona"]})
        _hub(platform, "POST", f"/groups/{broken['members']}/users", {"users": ["otto"]})
        _hub(platform, "PUT", f"/groups/{broken['properties']}/properties", {"orchestra": {"id": 17}})
        _hub(platform, "PUT", f"/groups/{broken['removed']}/properties", {})
        _hub(platform, "PUT", f"/groups/{broken['others']}/properties", facts)
        for way in ("properties", "removed", "others"):  # the hub believes nothing of it, and says so
            page = otto.page(broken[way])
            assert page.status_code in (503, 200) and "Traceback" not in page.text
            assert "sound" not in page.url.path
        assert mona.page(healthy).status_code == 200

        def whole(workshop_id: str) -> bool:
            group = platform.hub_api("GET", f"/groups/{workshop_id}").json()
            told = group.get("properties", {}).get("orchestra", {})
            return group.get("users") == ["mona"] and told.get("id") == workshop_id

        for way in ("group", "members", "properties", "removed", "others"):
            until(lambda w=way: whole(broken[w]), within_s=30, message=f"{way}: {platform.logs(8)}")
        for way in ("prepared", "content", "folder", "file"):
            until(lambda w=way: _laid_out(folders / broken[w]), within_s=30, message=f"{way}: {platform.logs(8)}")
        assert (folders / broken["file"] / "found-in-the-folders-place").read_text() == "a file"
        mona.start(broken["folder"])
        mona.stop(broken["folder"])
    assert "Traceback" not in (platform.data_dir / "logs" / "reconciler-own.log").read_text()


def test_content_that_was_changed_or_lost_is_mended_by_command(damaged_platform: Platform) -> None:
    platform = damaged_platform
    workshop_id = platform.opened(session="content")["id"]
    content = platform.data_dir / "workshops" / workshop_id / "content"
    victim = next(path for path in content.rglob("*.ipynb"))
    before = victim.read_bytes()
    victim.write_text("overwritten")
    by_hand(platform, "UPDATE contents SET data = substr(data, 1, 100)")
    done = platform.cli("workshop", "mend", workshop_id)
    assert "the content, from the templates' folder" in done.stdout and "the folder" in done.stdout, done.stdout
    until(lambda: victim.is_file() and victim.read_bytes() == before, within_s=30, message="made again")
    until(lambda: _laid_out(content.parent), within_s=10, message="prepared")
    by_hand(platform, "DELETE FROM contents")
    assert platform.opened(session="content")["prepared"], "new workshops bring their content along"


def _laid_out(folder: Path) -> bool:
    return (folder / "prepared.json").is_file() and (folder / "content").is_dir()


def _hub(platform: Platform, method: str, path: str, body: dict[str, Any] | None = None) -> None:
    answer = platform.hub_api(method, path, json=body)
    assert answer.is_success, answer.text


def _token(platform: Platform, name: str) -> str:
    made: str = platform.hub_api("POST", f"/users/{name}/tokens", json={"note": "own"}).json()["token"]
    return made
