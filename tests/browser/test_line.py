"""Waiting in the line, in a real browser: what the page says, and that it leads on by itself whatever happens."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import app, check_page, sign_in, wait_lab, window
from tests.narrow import held_start, one_at_a_time
from tests.people import PASSWORD, Person
from tests.running import Platform

IN_LINE = re.compile(r"You are next in line; your notebook's turn comes in about \d+ s")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that starts one seat at a time."""
    with one_at_a_time(tmp_path_factory.mktemp("narrow")) as running:
        yield running


def _signed_in(page: Page, platform: Platform, workshop_id: str) -> None:
    page.goto(app(platform, f"/hub/workshops/{workshop_id}"))
    sign_in(page, "waits", PASSWORD)
    page.wait_for_url(f"**/hub/workshops/{workshop_id}")


def test_the_page_of_somebody_in_line(narrow: Platform, chromium: Browser) -> None:
    """The place in every look; leaving; then the hub is killed under the open page, which leads to the notebook."""
    workshop = narrow.opened(session="line")["id"]
    with Person.new(narrow, "first") as first, Person.new(narrow, "waits") as waits:
        first.join(workshop)
        waits.join(workshop)
        with held_start(narrow, first, workshop):
            waits.press_start(workshop)
            for dark, phone in [(False, False), (True, False), (False, True), (True, True)]:
                with window(chromium, dark=dark, phone=phone) as page:
                    _signed_in(page, narrow, workshop)
                    expect(page.locator("#progress-text")).to_have_text(IN_LINE)
                    check_page(page, f"seat-in-line-{'dark' if dark else 'light'}-{'phone' if phone else 'desktop'}")
            assert 'id="start"' in waits.press_stop(workshop).text
        with Person.new(narrow, "second") as second, window(chromium) as page:
            second.join(workshop)
            with held_start(narrow, second, workshop):
                _signed_in(page, narrow, workshop)
                page.click("#start")
                expect(page.locator("#progress-text")).to_have_text(IN_LINE)
                page.click("#leave")
                page.click("#start")
                expect(page.locator("#progress-text")).to_have_text(IN_LINE)
                os.kill(narrow.children()["hub"], signal.SIGKILL)
            wait_lab(page)
