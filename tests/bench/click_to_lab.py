"""Click to JupyterLab usable: a seat of ours beside vanilla JupyterHub with its own local spawner, in one run.

Both start a server for a signed-in person who has used it before, and the clock runs from the click until the first
notebook's kernel is idle in real Chromium. Rounds alternate, so that the machine's mood is shared.

Run: `.venv/bin/python -m tests.bench.click_to_lab [ROUNDS]`
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

from orchestra_hub.templates import builtin_templates_root, load_template
from tests.browser.pages import app, launch, sign_in, wait_lab, window
from tests.people import PASSWORD, Person
from tests.running import Platform, free_port, until

TEMPLATE = "python-data-science"
TOKEN = "bench-bench-bench"

VANILLA = """
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite:///{folder}/vanilla.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/secret"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "{password}"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{home}"
c.Spawner.cmd = ["{python}", "-m", "jupyterhub.singleuser"]
c.Spawner.default_url = "/lab/tree/{landing}"
c.Spawner.args = ["--allow-root"] if {root} else []
c.JupyterHub.services = [dict(name="bench", api_token="{token}")]
c.JupyterHub.load_roles = [dict(name="bench", scopes=["read:users", "servers"], services=["bench"])]
c.JupyterHub.proxy_class = "traefik_file"
c.TraefikFileProviderProxy.traefik_api_url = "http://127.0.0.1:{api_port}"
c.TraefikFileProviderProxy.traefik_api_username = "bench"
c.TraefikFileProviderProxy.traefik_api_password = "bench"
c.TraefikFileProviderProxy.static_config_file = "{folder}/traefik.toml"
c.TraefikFileProviderProxy.dynamic_config_file = "{folder}/rules.toml"
"""


@contextmanager
def vanilla(folder: Path, landing: str, home: str = "{folder}/home") -> Iterator[str]:
    """JupyterHub by itself with the same proxy, content and packages; gives its URL. `home` is where servers start,
    as the spawner's own template, with `{folder}` in it."""
    shutil.copytree(builtin_templates_root() / TEMPLATE / "content", folder / "home")
    port = free_port()
    config = folder / "config.py"
    config.write_text(
        VANILLA.format(
            port=port, hub_port=free_port(), api_port=free_port(), folder=folder, password=PASSWORD, token=TOKEN,
            python=sys.executable, landing=landing, root=os.getuid() == 0,
            home=home.format(folder=folder),
        )
    )  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(config)], cwd=folder, stdout=log, stderr=log,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        )  # fmt: skip

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/hub/login").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        until(answers, within_s=60, message="vanilla JupyterHub answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _ours(page: Page, platform: Platform, workshop_id: str) -> float:
    page.goto(app(platform, f"/hub/workshops/{workshop_id}"))
    began = time.monotonic()
    page.click("#start")
    wait_lab(page)
    took = time.monotonic() - began
    page.goto(app(platform, f"/hub/workshops/{workshop_id}"))
    page.click("#stop")
    page.wait_for_selector("#start", timeout=30_000)
    return took


def _theirs(page: Page, url: str) -> float:
    page.goto(f"{url}/hub/home")
    page.wait_for_function("() => window._jupyterhub_page_loaded || document.readyState === 'complete'")
    began = time.monotonic()
    page.click("#start")
    wait_lab(page)
    took = time.monotonic() - began
    page.goto(f"{url}/hub/home")
    headers = {"Authorization": f"token {TOKEN}"}
    user = f"{url}/hub/api/users/bench"
    httpx.delete(f"{user}/server", headers=headers, timeout=30).raise_for_status()
    until(lambda: not httpx.get(user, headers=headers).json()["servers"], within_s=60, message="vanilla server stopped")
    return took


def main() -> None:
    """Alternating rounds; the first of each isn't counted."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as name, Platform.start(Path(name) / "data") as platform:
        workshop = platform.opened(session="bench")
        landing = load_template(builtin_templates_root() / TEMPLATE).landing
        other = Path(name) / "vanilla"
        other.mkdir()
        with vanilla(other, landing) as url, sync_playwright() as playwright:
            with Person.new(platform, "bench") as person:
                person.join(workshop["id"])
            browser = launch(playwright)
            with window(browser) as mine, window(browser) as plain:
                mine.goto(app(platform, "/hub/login"))
                sign_in(mine, "bench", PASSWORD)
                plain.goto(f"{url}/hub/login?next=/hub/home")
                sign_in(plain, "bench", PASSWORD)
                for number in range(rounds + 1):
                    pair = (_ours(mine, platform, workshop["id"]), _theirs(plain, url))
                    if number:
                        ours.append(pair[0])
                        theirs.append(pair[1])
            browser.close()
    middle, plain_middle = statistics.median(ours), statistics.median(theirs)
    sys.stdout.write(
        f"click to JupyterLab usable, median of {rounds}: ours {middle:.2f} s, vanilla {plain_middle:.2f} s\n"
    )
    sys.stdout.write(f"ratio {middle / plain_middle:.2f}\n")


if __name__ == "__main__":
    main()
