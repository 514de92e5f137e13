"""What is left after a purge, looked for in the whole data folder; and workshops that never got ready."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestra_hub.content import pack
from orchestra_hub.ids import server_name
from orchestra_hub.store import Store
from orchestra_hub.templates import snapshot
from orchestra_hub.workshop import NewWorkshop
from tests.people import Person
from tests.running import Platform, until

ROOT = Path(__file__).parents[2]
MARK = "only-ever-in-this-file-7f3a"


def test_a_purge_killed_in_the_middle_leaves_nothing_in_the_whole_data_folder(own_platform: Platform) -> None:
    platform = own_platform
    who = "wilhelmina"
    workshop = platform.opened(session="purge", retention_h=0)
    workshop_id, name = workshop["id"], server_name(workshop["id"])
    with Person.new(platform, who) as person:
        person.join(workshop_id)
        url = person.start(workshop_id)
        person.open_seat(url)
        (home,) = (platform.data_dir / "workshops" / workshop_id / "seats").glob("*/home")
        (home / "mine.txt").write_text(MARK)
        for folder in range(60):
            (home / f"many-{folder}").mkdir()
            for number in range(100):
                (home / f"many-{folder}" / f"{number}.txt").write_text(MARK)
        assert MARK in _files_with(platform.data_dir, MARK)[0].read_text(errors="replace")
        reconciler = platform.children()["reconciler"]
        assert platform.api("POST", f"/workshops/{workshop_id}/end", json={}).status_code == 200
        until(
            lambda: not home.exists() or (home.parents[2] / ".purge.json").exists(),
            within_s=30, every_s=0.001, message="the purge has begun",
        )  # fmt: skip
        os.kill(reconciler, signal.SIGKILL)
        purged = platform.wait_state(workshop_id, "purged", within_s=90)
    removed = purged["purge_record"]["removed"]
    assert (removed["servers"], removed["group"], removed["seats"]) == (1, 1, 1) and removed["files"] > 6000, removed
    assert purged["statistics"]["seats_used"] == 1 and purged["statistics"]["learners"] == 1
    assert all(check["found"] == 0 for check in purged["purge_record"]["checked"])
    events = platform.api("GET", f"/workshops/{workshop_id}/events").json()["items"]
    assert {"created", "enrolled", "purged"} <= {event["kind"] for event in events} and who not in json.dumps(events)
    assert not _files_with(platform.data_dir, MARK)
    logs, hub = platform.data_dir / "logs", platform.data_dir / "jupyterhub.sqlite"
    kept = (*logs.iterdir(), hub, hub.with_name(f"{hub.name}-wal"))  # named in docs/how-to/end-of-data.md
    for needle in (who, name):
        assert [file for file in _files_with(platform.data_dir, needle) if file not in kept] == []
    assert not list((platform.data_dir / "run" / "seats").iterdir())
    with _rows(hub) as rows:
        assert [row for row in rows if name in row or workshop_id in row] == [], "client, tokens, server, group"
        assert [row for row in rows if who in row], "the account is the platform's"
    with _rows(platform.data_dir / "orchestra.sqlite") as rows:
        assert [row for row in rows if who in row] == []


def _files_with(folder: Path, needle: str) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and needle.encode() in file.read_bytes()]


@contextmanager
def _rows(file: Path) -> Iterator[list[str]]:
    """Every row of a database that is in use, as text."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        yield [f"{table} {row!r}" for table in tables for row in connection.execute(f'select * from "{table}"')]
    finally:
        connection.close()


def test_one_that_never_gets_ready_says_why_expires_and_delays_no_other(platform: Platform) -> None:
    stuck_id = _stuck_workshop(platform, expires_in_s=20)
    began = datetime.now(UTC)
    other = platform.opened(session="other")
    assert datetime.now(UTC) - began < timedelta(seconds=10) and other["prepared"]
    stuck = until(
        lambda: found if (found := platform.api("GET", f"/workshops/{stuck_id}").json())["trouble"] else None,
        within_s=20, message="the reason is known",
    )  # fmt: skip
    assert stuck is not None and stuck["state"] == "preparing"
    assert "packages could not be installed" in stuck["trouble"] and "nowhere" in stuck["trouble"]
    assert "packages could not be installed" in platform.cli("workshop", "show", stuck_id).stdout.replace("\n", " ")
    with Person.new(platform, "admin", sign_up=False) as admin:
        assert admin.sign_in(platform.admin_password).status_code == 200
        page = admin.get(f"/services/workshops/{stuck_id}")
        assert 'id="trouble"' in page.text and "packages could not be installed" in page.text
    platform.wait_state(stuck_id, "expired", within_s=30)
    purged = platform.wait_state(stuck_id, "purged", within_s=30)
    assert purged["trouble"] is None and purged["purge_record"]["removed"]["seats"] == 0


def _stuck_workshop(platform: Platform, expires_in_s: float) -> str:
    """Straight into the store: no template that comes with the platform asks for what can't be had."""
    folder = ROOT / "config" / "templates" / "python-data-science"
    template = snapshot(folder)
    package = "orchestra-nowhere @ file:///nowhere/orchestra_nowhere-1-py3-none-any.whl"
    wrong = template.environment.model_copy(update={"requirements": [package]})
    now = datetime.now(UTC)
    new = NewWorkshop(
        template=template.model_copy(update={"environment": wrong}), session="stuck", opens_at=now,
        expires_at=now + timedelta(seconds=expires_in_s), retention_s=2,
    )  # fmt: skip
    store = Store.open(f"sqlite:///{platform.data_dir}/orchestra.sqlite")
    try:
        content = pack(folder / template.content)
        return store.create_workshop(new, content, "system").id
    finally:
        store.close()
