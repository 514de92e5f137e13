"""A class at once: sixty press the button within 10 s, and thirty sign up, join and start within a minute.

Real JupyterLab servers on both sides: ours, and vanilla JupyterHub 6.1 with its own local spawner and the same proxy,
one after the other in one run. A person's time runs from the click (or from the sign-up form being sent) until
JupyterLab's page has come from their own server, through every redirect of the sign-in. Who is answered 429 tries again
after `Retry-After`, and is counted as refused. Vanilla JupyterHub has no sign-up of its own: its people sign in with
the dummy authenticator, which hashes nothing.

Run: `.venv/bin/python -m tests.bench.class_at_once [starts|sign-ups] [PEOPLE]`
"""

from __future__ import annotations

import asyncio
import html
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from orchestra_hub.localhost import AsyncLoopbackTransport
from orchestra_hub.templates import builtin_templates_root, load_template
from tests.bench.click_to_lab import vanilla
from tests.people import PASSWORD
from tests.running import Platform

TEMPLATE = "python-data-science"
GIVE_UP_S = 300.0
PROBE_S = 0.2


@dataclass
class Outcome:
    """What one side's people met with."""

    to_lab_s: list[float] = field(default_factory=list)
    refused: int = 0
    failed: list[str] = field(default_factory=list)
    pages_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def told(self, who: str, people: int) -> str:
        """One line."""
        times = sorted(self.to_lab_s)
        middle = statistics.median(times) if times else float("nan")
        late = times[max(0, round(0.95 * len(times)) - 1)] if times else float("nan")
        pages = sorted(self.pages_s) or [float("nan")]
        return (
            f"{who}: {len(times)} of {people} in JupyterLab, refused {self.refused} times, failed {len(self.failed)}; "
            f"p50 {middle:.1f} s, p95 {late:.1f} s, last {times[-1] if times else float('nan'):.1f} s; "
            f"sign-in page meanwhile: median {1000 * statistics.median(pages):.0f} ms, longest {pages[-1]:.2f} s; "
            f"hub CPU {self.cpu_s:.1f} s"
        )


def _xsrf(page: httpx.Response) -> str:
    found = re.search(r'name="_xsrf" value="([^"]*)"', page.text)
    assert found, (str(page.url), page.status_code, page.text[:300])
    return html.unescape(found[1])


HEADERS = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}


@dataclass
class Browser:
    """One person's browser."""

    name: str
    client: httpx.AsyncClient
    origin: str

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path if "://" in path else f"{self.origin}{path}", headers=HEADERS)

    async def send(self, page: httpx.Response, path: str, **fields: str) -> httpx.Response:
        headers = {**HEADERS, "Referer": str(page.url)}
        return await self.client.post(f"{self.origin}{path}", data={"_xsrf": _xsrf(page), **fields}, headers=headers)

    async def lab(self, url: str) -> bool:
        """Whether JupyterLab's page comes, through the sign-in."""
        answer = await self.get(url)
        return answer.status_code == 200 and "jupyter-config-data" in answer.text


async def our_sign_up(browser: Browser, workshop_id: str) -> None:
    """Sign up and join."""
    fields = {"username": browser.name, "signup_password": PASSWORD, "signup_password_confirmation": PASSWORD}
    answer = await browser.send(await browser.get("/hub/signup"), "/hub/signup", **fields)
    assert answer.status_code == 200, answer.text[:500]
    join = f"/services/workshops/join/{workshop_id}"
    answer = await browser.send(await browser.get(join), join)
    assert answer.status_code == 200, answer.text[:500]


async def our_start(browser: Browser, workshop_id: str, outcome: Outcome) -> None:
    """Press the button, stay on the page, and be in JupyterLab."""
    page = f"/hub/workshops/{workshop_id}"
    shown = await browser.send(await browser.get(page), f"{page}/start")
    while True:
        if 'id="failure"' in shown.text:
            found = re.search(r'id="failure">([^<]*)', shown.text)
            raise RuntimeError(found[1] if found else "failed")
        if found := re.search(r'id="open"[^>]*href="([^"]+)"', shown.text):
            if await browser.lab(html.unescape(found[1])):
                return
        elif found := re.search(r'data-events="([^"]+)"', shown.text):
            await _follow(browser, html.unescape(found[1]))
        shown = await browser.get(page)


async def _follow(browser: Browser, path: str) -> None:
    """Read the progress events to their end, as the page does."""
    url = f"{browser.origin}{path}"
    with suppress(httpx.HTTPError):
        async with browser.client.stream("GET", url, headers={"Accept": "text/event-stream"}, timeout=60) as events:
            async for line in events.aiter_lines():
                if line.startswith("data:") and {"ready", "failed"} & json.loads(line[5:]).keys():
                    return


async def their_sign_in(browser: Browser) -> None:
    """Sign in with the dummy authenticator."""
    answer = await browser.send(
        await browser.get("/hub/login?next=/hub/home"), "/hub/login?next=/hub/home",
        username=browser.name, password=PASSWORD,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text[:500]


async def their_start(browser: Browser, outcome: Outcome) -> None:
    """Vanilla's start page, the pending page, and JupyterLab; 429 is tried again when the hub says so."""
    while True:
        answer = await browser.get("/hub/spawn")
        if answer.status_code == 429:
            outcome.refused += 1
            await asyncio.sleep(float(answer.headers.get("Retry-After", 10)))
            continue
        if answer.status_code >= 500:
            raise RuntimeError(f"{answer.status_code} {re.sub('<[^>]+>', ' ', answer.text)[-300:].split()}")
        break
    user = f"/user/{browser.name}/"
    while not await browser.lab(f"{user}lab"):
        shown = await browser.get(f"/hub/spawn-pending/{browser.name}")
        if "spawn failed" in shown.text.lower() or shown.status_code >= 500:
            raise RuntimeError("the spawn failed")
        await asyncio.sleep(0.5)


async def _probe(url: str, transport: httpx.AsyncBaseTransport | None, outcome: Outcome) -> None:
    """How long a page takes for somebody else meanwhile."""
    async with httpx.AsyncClient(transport=transport, timeout=60) as client:
        while True:
            began = time.monotonic()
            with suppress(httpx.HTTPError):
                await client.get(url)
                outcome.pages_s.append(time.monotonic() - began)
            await asyncio.sleep(PROBE_S)


async def _crowd(
    people: list[Browser], within_s: float, act: Callable[[Browser], Awaitable[None]], outcome: Outcome
) -> None:
    async def one(number: int, browser: Browser) -> None:
        await asyncio.sleep(within_s * number / len(people))
        began = time.monotonic()
        try:
            async with asyncio.timeout(GIVE_UP_S):
                await act(browser)
        except Exception as error:  # what a person meets with is what is counted
            outcome.failed.append(f"{browser.name}: {type(error).__name__} {error}")
        else:
            outcome.to_lab_s.append(time.monotonic() - began)

    await asyncio.gather(*(one(number, browser) for number, browser in enumerate(people)))


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def ours(platform: Platform, people: int, *, sign_ups: bool) -> Outcome:
    """Our side. Places are taken before the clock runs, unless signing up is what is measured."""
    workshop_id = platform.opened(session="class", seats=people, template=TEMPLATE)["id"]
    outcome, origin = Outcome(), platform.origin("app")
    crowd = [
        Browser(f"p{n}", httpx.AsyncClient(
            transport=AsyncLoopbackTransport(platform.domain), timeout=60, follow_redirects=True), origin)
        for n in range(people)
    ]  # fmt: skip
    if not sign_ups:
        for browser in crowd:
            await our_sign_up(browser, workshop_id)

    async def act(browser: Browser) -> None:
        if sign_ups:
            await our_sign_up(browser, workshop_id)
        await our_start(browser, workshop_id, outcome)

    before = _cpu_s(platform.children()["hub"])
    probing = asyncio.create_task(_probe(f"{origin}/hub/login", AsyncLoopbackTransport(platform.domain), outcome))
    await _crowd(crowd, 60.0 if sign_ups else 10.0, act, outcome)
    probing.cancel()
    outcome.cpu_s = _cpu_s(platform.children()["hub"]) - before
    for browser in crowd:
        await browser.client.aclose()
    return outcome


async def theirs(url: str, hub_pid: int, people: int, *, sign_ups: bool) -> Outcome:
    """Vanilla's side."""
    outcome = Outcome()
    crowd = [Browser(f"p{n}", httpx.AsyncClient(timeout=60, follow_redirects=True), url) for n in range(people)]
    if not sign_ups:
        for browser in crowd:
            await their_sign_in(browser)

    async def act(browser: Browser) -> None:
        if sign_ups:
            await their_sign_in(browser)
        await their_start(browser, outcome)

    before = _cpu_s(hub_pid)
    probing = asyncio.create_task(_probe(f"{url}/hub/login", None, outcome))
    await _crowd(crowd, 60.0 if sign_ups else 10.0, act, outcome)
    probing.cancel()
    outcome.cpu_s = _cpu_s(hub_pid) - before
    for browser in crowd:
        await browser.client.aclose()
    return outcome


def _vanilla_pid() -> int:
    for process in psutil.Process().children():
        if "jupyterhub" in " ".join(process.cmdline()):
            return process.pid
    raise RuntimeError("vanilla JupyterHub doesn't run")


def main() -> None:
    """Both sides, one after the other."""
    sign_ups = "sign-ups" in sys.argv
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    people = numbers[0] if numbers else 30 if sign_ups else 60
    say = sys.stdout.write
    with tempfile.TemporaryDirectory() as name:
        with Platform.start(Path(name) / "data") as platform:
            mine = asyncio.run(ours(platform, people, sign_ups=sign_ups))
        say(mine.told("ours", people) + "\n")
        other = Path(name) / "vanilla"
        other.mkdir()
        landing = load_template(builtin_templates_root() / TEMPLATE).landing
        with vanilla(other, landing, home="{folder}/homes/{{username}}") as url:
            plain = asyncio.run(theirs(url, _vanilla_pid(), people, sign_ups=sign_ups))
            for process in psutil.Process(_vanilla_pid()).children(recursive=True):
                process.terminate()
        say(plain.told("vanilla", people) + "\n")
        for failure in [*mine.failed, *plain.failed][:10]:
            say(f"  {failure}\n")


if __name__ == "__main__":
    main()
