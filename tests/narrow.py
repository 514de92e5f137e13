"""A platform that starts one seat at a time, and a start that takes as long as a test wants: so that others wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.people import Person
from tests.running import Platform, until

_CONFIG = """
import os
from orchestra_services.up.hub_config import apply
apply(get_config(), os.environ)
c = get_config()
c.JupyterHub.concurrent_spawn_limit = 1
c.OrchestraHub.queue_leave_s = 8
"""


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[Platform]:
    """The platform, in `folder`; a place is kept for 8 s after its page was left."""
    config = folder / "narrow_config.py"
    config.write_text(_CONFIG)
    with Platform.start(folder / "data", "--config", str(config)) as running:
        yield running


@contextmanager
def held_start(platform: Platform, person: Person, workshop_id: str) -> Iterator[None]:
    """Somebody presses the button, and their server is stopped (SIGSTOP) before it answers, until the block ends."""
    person.press_start(workshop_id)
    records = platform.data_dir / "run" / "seats"

    def pid() -> int | None:
        for record in records.glob(f"{person.name}-*.json"):
            return int(json.loads(record.read_text())["pid"])
        return None

    first = psutil.Process(until(pid, within_s=30, every_s=0.02, message="started") or 0)
    held: list[psutil.Process] = []
    while new := [process for process in (first, *first.children(recursive=True)) if process not in held]:
        for process in new:  # what holds the seat's namespaces, and what it has begun by now
            process.suspend()
        held += new
    try:
        yield
    finally:
        for process in held:
            process.resume()
