"""One Chromium for the browser tests of a module.

Not of a whole run: while Playwright's synchronous interface is open, no asynchronous test can run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.pages import launch


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; every test opens profiles of its own in it."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()
