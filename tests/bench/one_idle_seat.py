"""What one real idle seat costs the machine by itself: JupyterLab's server, page closed and page open.

Run: `.venv/bin/python -m tests.bench.one_idle_seat [SECONDS]`
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

from tests.browser.pages import app, launch, sign_in, wait_lab, window
from tests.people import PASSWORD, Person
from tests.running import Platform

SETTLE_S = 15.0


def share(process: psutil.Process, seconds: float) -> float:
    """Percent of a core it takes over `seconds`, its children too."""

    def cpu_s() -> float:
        family = [process, *process.children(recursive=True)]
        return sum(one.cpu_times().user + one.cpu_times().system for one in family)

    time.sleep(SETTLE_S)
    before = cpu_s()
    time.sleep(seconds)
    return 100 * (cpu_s() - before) / seconds


def main() -> None:
    """One seat, twice looked at."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with (
        tempfile.TemporaryDirectory() as name,
        Platform.start(Path(name) / "data") as platform,
        Person.new(platform, "ada") as ada,
        sync_playwright() as playwright,
    ):
        workshop = platform.opened(session="bench")["id"]
        ada.join(workshop)
        ada.start(workshop)
        (seat,) = platform.servers_of("ada")
        hub = psutil.Process(platform.children()["hub"])
        closed, hub_closed = share(seat, seconds), share(hub, seconds)
        sys.stdout.write(f"page closed: {closed:.2f} % of a core, {seat.memory_info().rss / 2**20:.0f} MiB; ")
        sys.stdout.write(f"the hub meanwhile {hub_closed:.2f} %\n")
        with launch(playwright) as browser, window(browser) as page:
            page.goto(app(platform, "/hub/login"))
            sign_in(page, "ada", PASSWORD)
            page.goto(app(platform, f"/hub/workshops/{workshop}"))
            page.click("#open")
            wait_lab(page)
            opened, hub_opened = share(seat, seconds), share(hub, seconds)
        sys.stdout.write(f"page open, its notebook's kernel idle: {opened:.2f} % of a core; ")
        sys.stdout.write(f"the hub meanwhile {hub_opened:.2f} %\n")


if __name__ == "__main__":
    main()
