"""A whole platform on PostgreSQL, whose connections are cut, whose server is restarted, and which becomes slow."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from tests.faults.tcp_proxy import TcpProxy, tcp_proxy
from tests.people import Person
from tests.postgresql import Server, running_server, skip_without_postgresql
from tests.running import Platform, free_port, until

PASSWORD = "never-to-be-seen-4f1c"
IN_TIME_S = 16.0  # `request_timeout_s`, and what the hub may take to be told
BODY = {"template": "python-data-science", "opens_at": "now", "hours": 2, "join_policy": "open"}


@dataclass
class OnPostgresql:
    platform: Platform
    server: Server
    proxy: TcpProxy


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnPostgresql]:
    skip_without_postgresql()
    with running_server(free_port()) as server, tcp_proxy(server.port or 0) as proxy:
        with psycopg.connect(server.local_url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE platform")
        url = f"postgresql://orchestra:{PASSWORD}@127.0.0.1:{proxy.port}/platform"
        folder = tmp_path_factory.mktemp("postgresql") / "data"
        with Platform.start(folder, env={"ORCHESTRA_DATABASE_URL": url}) as platform:
            yield OnPostgresql(platform, server, proxy)


def creates(platform: Platform, session: str) -> httpx.Response:
    return platform.api("POST", "/workshops", json={**BODY, "session": session})


def sessions(platform: Platform) -> list[str]:
    return [item["id"] for item in platform.api("GET", "/workshops").json()["items"]]


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503, (answer.status_code, answer.text[:500])
    assert int(answer.headers["Retry-After"]) >= 1 and "database" in answer.text, answer.text[:500]
    assert "Traceback" not in answer.text and PASSWORD not in answer.text


def goes_on(platform: Platform, session: str) -> str:
    """New workshops are made, and opened by the reconciler, by themselves."""
    made: Any = until(
        lambda: answer.json() if (answer := creates(platform, session)).status_code == 201 else None,
        within_s=30, every_s=0.5, message="workshops can be made again",
    )  # fmt: skip
    workshop_id: str = platform.wait_state(made["id"], "open", within_s=60)["id"]
    return workshop_id


def test_the_password_is_nowhere_to_be_seen_and_the_folder_has_no_store(there: OnPostgresql) -> None:
    platform = there.platform
    goes_on(platform, "first")
    assert not (platform.data_dir / "orchestra.sqlite").exists()
    kept = platform.data_dir / "secrets" / "database_url"
    assert PASSWORD in kept.read_text() and kept.stat().st_mode & 0o077 == 0
    assert PASSWORD not in platform.text
    for file in (*(platform.data_dir / "logs").iterdir(), *(platform.data_dir / "run").glob("*.*")):
        assert PASSWORD not in file.read_text(errors="replace"), file
    for process in platform.everything():
        assert PASSWORD not in " ".join(process.info["cmdline"] or [])
    assert PASSWORD not in str(psutil.Process(platform.children()["hub"]).environ().values()), "the hub needs it not"
    given = platform.cli("up", "--database-url", f"postgresql://me:{PASSWORD}@host/name", check=False)
    assert given.returncode == 2 and "ORCHESTRA_DATABASE_URL" in given.stderr and PASSWORD not in given.stderr


def test_a_connection_cut_in_the_middle_of_a_transaction(there: OnPostgresql) -> None:
    platform, proxy = there.platform, there.proxy
    before = sessions(platform)
    for words in (b"INSERT INTO pseudonym_keys", b"INSERT INTO workshops", b"INSERT INTO contents"):
        cuts = proxy.cuts
        proxy.cut_at(words)
        refused(creates(platform, "cut"))
        assert proxy.cuts == cuts + 1
        assert sessions(platform) == before, f"half of it is there: {words!r}"
    proxy.cut()  # all at once, in use or not
    goes_on(platform, "after-cut")
    assert len(sessions(platform)) == len(before) + 1


def test_a_server_that_is_restarted_as_after_a_power_cut(there: OnPostgresql) -> None:
    platform, server = there.platform, there.server
    workshop_id = goes_on(platform, "restart")
    with Person.new(platform, "rita") as rita:
        rita.join(workshop_id)
        end = platform.api("GET", f"/workshops/{workshop_id}").json()["expires_at"]
        server.stop(signal.SIGQUIT)
        try:
            for answer in (
                platform.api("POST", f"/workshops/{workshop_id}/extend", json={"hours": 1}),
                platform.api("GET", f"/workshops/{workshop_id}"),
                creates(platform, "while-away"),
            ):
                refused(answer)
                assert answer.elapsed.total_seconds() < IN_TIME_S
            page = rita.get(f"/services/workshops/join/{workshop_id}")
            assert page.status_code == 503 and page.headers["Retry-After"] and "<html" in page.text
            url = rita.start(workshop_id)  # the hub needs no store
            rita.open_seat(url)
        finally:
            server.start()
        goes_on(platform, "after-restart")
        assert platform.api("GET", f"/workshops/{workshop_id}").json()["expires_at"] == end
        assert not [known for known in sessions(platform) if "while-away" in known]
        rita.stop(workshop_id)


def test_a_second_for_each_query(there: OnPostgresql) -> None:
    platform, proxy = there.platform, there.proxy
    workshop_id = goes_on(platform, "slow")
    shown = platform.api("GET", f"/workshops/{workshop_id}").json()
    with Person.new(platform, "sloan") as sloan:
        sloan.join(workshop_id)
        proxy.delay_s = 1.0
        try:
            began = time.monotonic()
            url = sloan.start(workshop_id, within_s=30)
            sloan.open_seat(url)
            assert time.monotonic() - began < 30, "seats go on starting"
            seen = platform.api("GET", f"/workshops/{workshop_id}")
            assert seen.elapsed.total_seconds() < IN_TIME_S
            if seen.status_code != 200:
                refused(seen)
            extended = platform.api("POST", f"/workshops/{workshop_id}/extend", json={"hours": 1})
            made = creates(platform, "slowly")
            for answer in (extended, made):
                assert answer.elapsed.total_seconds() < IN_TIME_S
                if not answer.is_success:
                    refused(answer)
        finally:
            proxy.delay_s = 0.0
        now = platform.api("GET", f"/workshops/{workshop_id}").json()
        assert (now["expires_at"] != shown["expires_at"]) is extended.is_success, "what was refused isn't done"
        assert bool([known for known in sessions(platform) if "slowly" in known]) is made.is_success
        sloan.stop(workshop_id)
    goes_on(platform, "after-slow")
    for name in ("workshops", "reconciler"):
        log = (platform.data_dir / "logs" / f"{name}.log").read_text()
        assert "Traceback" not in log, log[log.index("Traceback") :][:3000]
