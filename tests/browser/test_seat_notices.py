"""The notices in JupyterLab as a learner sees them: real Chromium, real JupyterLab, light and dark.

`ORCHESTRA_SCREENSHOTS` names a folder for the pictures; without it they go where pytest keeps temporary files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

from tests.seat_server import HubWire, SeatServer, running_seat, until

LONG_MS = 60_000
expect.set_options(timeout=20_000)

Seen = tuple[SeatServer, Page]


@pytest.fixture(scope="module", params=["Light", "Dark"])
def seat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeatServer]:
    hub = HubWire()
    folder = tmp_path_factory.mktemp("seat")
    with closing(hub), running_seat(hub, folder, theme=f"JupyterLab {request.param}") as server:
        cells = [
            _cell("markdown", "# Python for data science\n\nRead the table, then plot it."),
            _cell("code", "1 + 1"),
        ]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        content = {"type": "notebook", "content": notebook}
        server.http.put("api/contents/intro.ipynb", json=content).raise_for_status()
        yield server


def _cell(kind: str, source: str) -> dict[str, Any]:
    code: dict[str, Any] = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "id": kind, "metadata": {}, "source": source, **code}


@pytest.fixture
def seen(seat: SeatServer, chromium: Browser) -> Iterator[Seen]:
    """A calm seat, open in a new page; the page's errors fail the test."""
    seat.hub.ends_in(3 * 3600)
    seat.hub.idle_timeout_s = None
    until("a calm seat", lambda: (seat.notices()["seconds_left"] or 0) > 3600)
    context = chromium.new_context(locale="de-DE", timezone_id="Asia/Tokyo", viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.set_default_timeout(20_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if _is_our_error(said) else None)
    page.goto(seat.page.replace("/lab?", "/lab/tree/intro.ipynb?"))
    expect(page.locator(".jp-Notebook .jp-Cell").first).to_be_visible(timeout=LONG_MS)
    expect(_bar(page)).to_have_count(1)
    yield seat, page
    context.close()
    assert errors == []


def _is_our_error(said: ConsoleMessage) -> bool:
    return said.type == "error" and ("orchestra" in said.text or "Content Security Policy" in said.text)


def _bar(page: Page) -> Locator:
    return page.locator("#orchestra-seat-notices")


def _notice(page: Page, kind: str) -> Locator:
    return page.locator(f'[data-notice="{kind}"]')


def _picture(page: Page, seat: SeatServer, name: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("ORCHESTRA_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    theme = page.locator("body").get_attribute("data-jp-theme-light")
    page.screenshot(path=folder / f"seat-{name}-{'light' if theme == 'true' else 'dark'}.png")


def test_the_end_is_announced_in_the_readers_time_counts_down_and_goes_when_extended(
    seen: Seen, tmp_path: Path
) -> None:
    seat, page = seen
    expect(_notice(page, "end")).to_be_hidden()
    assert _bar(page).bounding_box() is None or _bar(page).bounding_box()["height"] == 0  # type: ignore[index]

    seat.hub.ends_in(14 * 60 + 2)
    end = _notice(page, "end")
    local = (seat.hub.expires_at + timedelta(hours=9)).strftime("%H:%M")
    expect(end).to_contain_text(f"This workshop ends in 14 min (at {local}). Save your work")
    link = end.get_by_role("link", name="the workshop's page")
    expect(link).to_have_attribute("href", seat.notices()["page_url"])
    expect(page.get_by_role("status").filter(has_text="This workshop ends in")).to_have_count(1)
    _picture(page, seat, "notice-end", tmp_path)
    expect(end).to_contain_text("ends in 13 min")

    bar, top, notebook = (
        page.locator(place).bounding_box() for place in ("#orchestra-seat-notices", "#jp-top-panel", ".jp-Notebook")
    )
    assert bar and top and notebook
    assert bar["y"] == 0 and top["y"] >= bar["height"] - 1, "the bar has space of its own"
    assert notebook["y"] > top["y"] and notebook["y"] + notebook["height"] <= 720

    seat.hub.ends_in(7200)
    expect(end).to_be_hidden()
    expect(page.locator("#jp-top-panel")).to_have_js_property("offsetTop", 0)


def test_the_bar_is_above_the_notebook_at_phone_width_and_wraps(seen: Seen, tmp_path: Path) -> None:
    seat, page = seen
    seat.hub.ends_in(600)
    seat.hub.idle_timeout_s = 7200
    expect(_notice(page, "end")).to_be_visible()
    wide = _bar(page).bounding_box()
    page.set_viewport_size({"width": 390, "height": 780})
    page.wait_for_function(
        "() => { const b = document.querySelector('#orchestra-seat-notices'); return b.offsetHeight > 40 "
        "&& b.scrollHeight <= b.offsetHeight && b.scrollWidth <= b.offsetWidth; }"
    )
    # as high as its text, and no wider than the page
    narrow = _bar(page).bounding_box()
    assert wide and narrow and narrow["height"] > wide["height"]
    _picture(page, seat, "notice-end-narrow", tmp_path)


def test_dismissed_until_the_last_two_minutes_then_urgent(seen: Seen, tmp_path: Path) -> None:
    seat, page = seen
    end = _notice(page, "end")
    seat.hub.ends_in(123)
    end.get_by_role("button", name="Dismiss").click()
    expect(end).to_be_hidden()
    expect(end).to_be_visible()
    expect(end).to_contain_text(re.compile(r"ends in 1 min 5\d s"))
    expect(end.get_by_role("button", name="Dismiss")).to_be_hidden()
    expect(end).not_to_have_class(re.compile("urgent"))
    seat.hub.ends_in(45)
    expect(end).to_have_class(re.compile("orchestra-mod-urgent"))
    _picture(page, seat, "notice-end-urgent", tmp_path)
    seat.hub.ends_in(2)
    expect(end).to_contain_text("This workshop has ended")
    assert page.get_by_role("dialog").count() == 0


def test_idle_is_announced_and_kept(seen: Seen, tmp_path: Path) -> None:
    seat, page = seen
    idle = _notice(page, "idle")
    before = until("idle", lambda: (datetime.now(UTC) - seat.last_activity()).total_seconds() > 3)
    assert before
    seat.hub.idle_timeout_s = 4  # warned from 2 s of idleness on
    expect(idle).to_contain_text(re.compile(r"This notebook (stops in \d+ s|is about to stop) because nothing"))
    seat.hub.idle_timeout_s = 240
    expect(idle).to_be_hidden()
    seat.hub.idle_timeout_s = 8
    keep = idle.get_by_role("button", name="Keep it running")
    expect(keep).to_be_visible()
    _picture(page, seat, "notice-idle", tmp_path)
    reports = len(seat.hub.activity)
    pressed = datetime.now(UTC)
    keep.focus()
    page.keyboard.press("Enter")
    expect(idle).to_be_hidden()
    assert len(seat.hub.activity) > reports
    assert seat.last_activity() >= pressed


def test_while_the_hub_and_the_seat_are_away_the_page_counts_on(seen: Seen) -> None:
    seat, page = seen
    seat.hub.ends_in(100)
    expect(_notice(page, "end")).to_contain_text("ends in 1 min")
    page.route("**/orchestra/notices", lambda route: route.abort())
    first = _notice(page, "end").text_content()
    expect(_notice(page, "end")).not_to_have_text(first or "")


def test_axe_finds_nothing_in_the_bar(seen: Seen) -> None:
    seat, page = seen
    seat.hub.ends_in(300)
    seat.hub.idle_timeout_s = 1
    expect(_notice(page, "end")).to_be_visible()
    expect(_notice(page, "idle")).to_be_visible()
    found = Axe().run(page, context="#orchestra-seat-notices")
    assert found.violations_count == 0, found.generate_report()


def test_opening_a_page_is_activity(seen: Seen) -> None:
    seat, page = seen
    until("the page's own start is over", lambda: (datetime.now(UTC) - seat.last_activity()).total_seconds() > 2)
    opened = datetime.now(UTC)
    page.reload()
    until("activity", lambda: seat.last_activity() > opened)


def test_the_hub_menu_opens_the_workshops_page(seen: Seen) -> None:
    seat, page = seen
    page.get_by_role("menuitem", name="File", exact=True).click()
    with page.context.expect_page() as opened:
        page.get_by_role("menuitem", name="Hub Control Panel").click()
    assert opened.value.url == f"{seat.notices()['page_url']}/home"
