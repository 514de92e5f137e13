"""The machine's clock set forward and back by an hour under a real platform.

libfaketime (Debian's package `faketime`) stands between the platform's processes and the clock; clocks that only go on
(monotonic) are left alone, as they are when somebody sets a machine's clock.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestra_hub.ids import server_name
from tests.people import Person
from tests.running import Platform

HOUR_S = 3600


class Clock:
    """The platform's: the machine's, and so many seconds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.ahead_s = 0
        self.set(0)

    def set(self, ahead_s: int) -> None:
        """Set it; all processes see it at once."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{ahead_s:+d}\n")
        beside.replace(self._file)
        self.ahead_s = ahead_s

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)


def library() -> str | None:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else None


@contextmanager
def platform_with_a_clock(folder: Path) -> Iterator[tuple[Platform, Clock]]:
    preload = library()
    if preload is None:
        reason = "libfaketime is not installed (Debian: faketime), so no clock is set"
        if os.environ.get("ORCHESTRA_REQUIRE_FAKETIME") == "1":
            pytest.fail(f"{reason}, and ORCHESTRA_REQUIRE_FAKETIME=1 requires it")
        pytest.skip(reason)
    clock = Clock(folder / "clock")
    environment = {
        "LD_PRELOAD": preload, "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
    }  # fmt: skip
    with Platform.start(folder / "data", env=environment) as platform:
        assert abs(_told_now(platform) - clock.now) < timedelta(seconds=20)
        yield platform, clock


def _told_now(platform: Platform) -> datetime:
    made = platform.workshop(session="what-time")
    return datetime.fromisoformat(made["server_time"])


def _shown(platform: Platform, workshop_id: str) -> dict[str, Any]:
    found: dict[str, Any] = platform.api("GET", f"/workshops/{workshop_id}").json()
    return found


def _ready(platform: Platform, name: str, workshop_id: str) -> bool:
    servers = platform.hub_api("GET", f"/users/{name}").json()["servers"]
    return bool(servers.get(server_name(workshop_id), {}).get("ready"))


def _homes(platform: Platform, workshop_id: str) -> list[Path]:
    return list((platform.data_dir / "workshops" / workshop_id / "seats").glob("*/home/mine.txt"))


def test_an_hour_forward_and_back(tmp_path: Path) -> None:
    with platform_with_a_clock(tmp_path) as (platform, clock):
        long = platform.opened(session="long", hours=6, idle_timeout_min=600)["id"]
        short = platform.opened(session="short", hours=0.5, retention_h=2)["id"]
        over = platform.opened(session="over", hours=6, retention_h=1.5)["id"]
        opens_at = (clock.now + timedelta(hours=2)).isoformat()
        later = platform.workshop(session="later", opens_at=opens_at, hours=2)["id"]
        dates = {each: _shown(platform, each) for each in (long, short, over, later)}
        with Person.new(platform, "tina") as tina, Person.new(platform, "timo") as timo:
            for workshop_id in (long, over):
                tina.join(workshop_id)
                tina.start(workshop_id)
                for home in (platform.data_dir / "workshops" / workshop_id / "seats").glob("*/home"):
                    (home / "mine.txt").write_text("mine")
            platform.api("POST", f"/workshops/{over}/end", json={})
            dates[over] = platform.wait_state(over, "expired")

            clock.set(HOUR_S)
            assert _told_now(platform) > datetime.now(UTC) + timedelta(minutes=55), "the clock is an hour ahead"
            platform.wait_state(short, "expired")  # its end has passed, as the clock says
            assert _shown(platform, long)["state"] == "open" and _ready(platform, "tina", long)
            assert _shown(platform, later)["state"] == "scheduled" and _shown(platform, over)["state"] == "expired"
            platform.opened(session="ahead")
            timo.join(long)

            # the leader dies with a lease dated an hour ahead, and the clock goes back
            os.kill(platform.children()["reconciler"], signal.SIGKILL)
            clock.set(0)
            timo.start(long)
            platform.wait_state(platform.workshop(session="back")["id"], "open", within_s=60)
            assert _shown(platform, long)["state"] == "open" and _ready(platform, "tina", long)
            assert _shown(platform, short)["state"] == "expired", "nothing comes back"

            clock.set(-HOUR_S)
            platform.wait_state(platform.workshop(session="behind")["id"], "open", within_s=30)
            assert _ready(platform, "tina", long) and _ready(platform, "timo", long)
            timo.stop(long)
            timo.start(long)  # it stays open, although its opening is an hour away now
            assert _shown(platform, over)["state"] == "expired" and _homes(platform, over)

            clock.set(0)
            platform.wait_state(platform.workshop(session="right")["id"], "open", within_s=30)
            for workshop_id, before in dates.items():
                now = _shown(platform, workshop_id)
                for date in ("opens_at", "expires_at", "purge_at", "deadline"):
                    assert now[date] == before[date], (now["id"], date)
                assert now["trouble"] is None and now["state"] != "purged"
                told = platform.api("GET", f"/workshops/{workshop_id}/events").json()["items"]
                done = [event["kind"] + event["detail"].get("to", "") for event in told]
                for once in ("created", "prepared", "movedpreparing", "movedopen", "movedexpired"):
                    assert done.count(once) <= 1, (workshop_id, done)
                assert "purged" not in done
            assert _homes(platform, long) and _homes(platform, over)
            assert tina.get(f"/services/workshops/{over}/export").status_code == 200
            tina.stop(long)
    assert "Traceback" not in platform.logs(4000), platform.logs(200)


def test_a_retry_dated_by_a_clock_that_was_ahead_is_not_waited_for(tmp_path: Path) -> None:
    """A workshop that is stuck is tried again at a date; written while the clock was ahead, it would be hours away."""
    from orchestra_hub.store.sweeping import Outline
    from orchestra_services.reconciler.sweep import is_due_wrongly

    now = datetime(2030, 1, 1, tzinfo=UTC)

    def due(**after: float) -> bool:
        outline = Outline("id", "preparing", 1, 1, 3, prepared=False, due_at=now + timedelta(**after))
        return is_due_wrongly(outline, now, 300)

    assert due(hours=1) and not due(seconds=299) and not due(seconds=-10)
