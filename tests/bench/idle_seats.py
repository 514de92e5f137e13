"""What idle seats cost the platform, beside vanilla JupyterHub with its own local spawner and as many servers.

The seats are light ones (`light_seats.py` says what they do and don't): the figures are the platform's processes alone,
user and system time over `--seconds`, as a share of one core. Vanilla has no culler, service or reconciler.

Run: `.venv/bin/python -m tests.bench.idle_seats [--seats 500] [--seconds 120] [--only ours|vanilla]`
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from orchestra_hub.ids import server_name
from tests.bench.click_to_lab import TOKEN, VANILLA
from tests.bench.light_seats import LAUNCHER
from tests.people import PASSWORD
from tests.running import Platform, free_port, until

SETTLE_S = 30.0
AT_ONCE = 16
CONFIG = """
import os
from orchestra_services.up.hub_config import apply
c = get_config()
apply(c, os.environ)
c.OrchestraLocalSpawner.cmd = {command}
c.OrchestraLocalSpawner.seat_user_ids = ""  # light seats meet the process they live in at a socket
"""


def say(line: str) -> None:
    """A line of the bench's answer, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def light_host(folder: Path) -> Iterator[list[str]]:
    """The process all light servers live in; gives a spawner's `cmd`."""
    launcher, path = folder / "launcher.py", folder / "light.socket"
    launcher.write_text(LAUNCHER)
    with (folder / "light.log").open("w") as log:
        host = subprocess.Popen([sys.executable, "-m", "tests.bench.light_seats", str(path)], stdout=log, stderr=log)
    until(path.exists, within_s=20)
    try:
        yield [sys.executable, "-I", "-S", str(launcher), str(path)]
    finally:
        host.kill()
        host.wait()


def start_all(names: list[str], start: Callable[[str], httpx.Response], ready: Callable[[], int]) -> None:
    """Start them gently and wait until all are ready."""
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for answer in pool.map(start, names):
            assert answer.status_code in (201, 202), answer.text
    until(lambda: ready() >= len(names), within_s=120, every_s=2, message="all ready")
    say(f"  {len(names)} servers started within {time.monotonic() - began:.0f} s")


def measure(processes: Mapping[str, psutil.Process], seconds: float) -> None:
    """Print each process's share of a core, and the sum."""
    time.sleep(SETTLE_S)
    families = {name: [process] for name, process in processes.items()}
    before = {name: sum(_cpu_s(p) for p in family) for name, family in families.items()}
    time.sleep(seconds)
    total = 0.0
    for name, family in families.items():
        share = 100 * (sum(_cpu_s(p) for p in family) - before[name]) / seconds
        total += share
        mib = sum(p.memory_info().rss for p in family) / 2**20
        say(f"  {name:<12} {share:5.2f} % of a core, {mib:4.0f} MiB")
    say(f"  {'together':<12} {total:5.2f} % of a core over {seconds:.0f} s")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def ours(folder: Path, seats: int, seconds: float) -> None:
    """`orchestra-hub up` with light seats."""
    names = [f"learner-{number:03}" for number in range(seats)]
    with light_host(folder) as command:
        config = folder / "hub_config.py"
        config.write_text(CONFIG.format(command=command))
        with Platform.start(folder / "data", "--config", str(config)) as platform:
            workshop = platform.opened(session="idle", seats=seats)["id"]
            for start in range(0, seats, 100):
                made = platform.hub_api("POST", "/users", json={"usernames": names[start : start + 100]})
                assert made.status_code == 201, made.text
            for name in names:
                put = platform.api("POST", f"/workshops/{workshop}/enrolments", json={"user": name})
                assert put.status_code in (200, 201), put.text
            server = server_name(workshop)

            def ready() -> int:
                listed = platform.hub_api("GET", f"/orchestra/workshops/{workshop}/seats").json()
                return sum(seat["ready"] for seat in listed)

            start_all(names, lambda name: platform.hub_api("POST", f"/users/{name}/servers/{server}"), ready)
            found = {name: psutil.Process(pid) for name, pid in platform.children().items()}
            measure({"up": psutil.Process(platform.process.pid)} | found, seconds)


def vanilla(folder: Path, seats: int, seconds: float) -> None:
    """JupyterHub by itself."""
    names = [f"learner-{number:03}" for number in range(seats)]
    (folder / "home").mkdir()
    port = free_port()
    with light_host(folder) as command:
        text = VANILLA.format(
            port=port, hub_port=free_port(), api_port=free_port(), folder=folder, password=PASSWORD, token=TOKEN,
            python=sys.executable, landing="", root=False, home=folder / "home",
        )  # fmt: skip
        text += f"c.Spawner.cmd = {command}\nc.Spawner.default_url = '/'\nc.JupyterHub.api_page_max_limit = 1000\n"
        text = text.replace('scopes=["read:users", "servers"]', 'scopes=["admin:users", "servers"]')
        (folder / "config.py").write_text(text)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(folder / "config.py")],
                cwd=folder, stdout=log, stderr=log, env={**os.environ, "PATH": path},
            )  # fmt: skip
        try:
            api = f"http://127.0.0.1:{port}/hub/api"
            client = httpx.Client(headers={"Authorization": f"token {TOKEN}"}, timeout=60)

            def answers() -> bool:
                try:
                    return client.get(f"{api}/").status_code == 200
                except httpx.HTTPError:
                    return False

            until(answers, within_s=60)
            for start in range(0, seats, 100):
                client.post(f"{api}/users", json={"usernames": names[start : start + 100]}).raise_for_status()
            listed = f"{api}/users?state=ready&limit=1000"
            start_all(
                names, lambda name: client.post(f"{api}/users/{name}/server"), lambda: len(client.get(listed).json())
            )
            hub = psutil.Process(process.pid)
            proxy = next(child for child in hub.children() if "traefik" in child.name())
            measure({"hub": hub, "proxy": proxy}, seconds)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            for left in psutil.process_iter(["environ"]):
                if str(folder) in ((left.info["environ"] or {}).get("HOME") or ""):
                    left.kill()


def main() -> None:
    """Both worlds, one after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seats", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--only", choices=["ours", "vanilla"])
    asked = parser.parse_args()
    for world in ("ours", "vanilla"):
        if asked.only not in (None, world):
            continue
        say(f"{asked.seats} idle servers, {'orchestra-hub up' if world == 'ours' else 'vanilla JupyterHub'}:")
        with tempfile.TemporaryDirectory() as name:
            if world == "ours":
                ours(Path(name), asked.seats, asked.seconds)
            else:
                vanilla(Path(name), asked.seats, asked.seconds)


if __name__ == "__main__":
    main()
