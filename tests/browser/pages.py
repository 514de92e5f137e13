"""A real browser for tests, and what every page of ours must be: accessible, no wider than the window, no errors."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, TimeoutError

from tests.running import Platform

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESKTOP = {"width": 1100, "height": 800}
PHONE = {"width": 360, "height": 740}
_KEEP_REFUSED = """
window.orchestraRefused = [];
document.addEventListener('securitypolicyviolation', refused => {
  if (window.orchestraRefused) {
    window.orchestraRefused.push(`${refused.effectiveDirective} ${refused.blockedURI} in ${refused.sourceFile}`);
  }
});
"""
_SCREENSHOTS = os.environ.get("ORCHESTRA_SCREENSHOTS")


def launch(playwright: Playwright) -> Browser:
    """Debian's Chromium with an empty profile."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


@contextmanager
def window(browser: Browser, *, dark: bool = False, phone: bool = False, zone: str = "Europe/Oslo") -> Iterator[Page]:
    """A page in a fresh profile; an error in one of its scripts fails the test."""
    context: BrowserContext = browser.new_context(
        viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]  # playwright wants its own dict type
        color_scheme="dark" if dark else "light", timezone_id=zone, locale="en-GB", accept_downloads=True,
    )  # fmt: skip
    context.add_init_script(_KEEP_REFUSED)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield page
        assert not errors, errors
    except Exception:
        page.screenshot(path=Path(tempfile.gettempdir()) / "orchestra-browser-failure.png")
        raise
    finally:
        context.close()


def sign_up(page: Page, name: str, password: str) -> None:
    """Fill and send the sign-up form that is open."""
    page.fill("#username_input", name)
    page.fill("#password_input", password)
    page.fill("#password_confirmation_input", password)
    page.click("#signup_submit")


def sign_in(page: Page, name: str, password: str) -> None:
    """Fill and send the sign-in form that is open."""
    page.fill("#username_input", name)
    page.fill("#password_input", password)
    page.click("#login_submit")


def check_page(page: Page, name: str) -> None:
    """axe finds nothing, nothing is wider than the window; keeps a screenshot when asked."""
    page.wait_for_load_state("load")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{name} scrolls sideways by {wide} px"
    refused = page.evaluate("window.orchestraRefused")
    assert not refused, f"{name}: its own Content-Security-Policy refuses {refused}"
    page.evaluate("window.orchestraRefused = null")  # what axe does from here on isn't the page's
    found = Axe().run(page)
    assert found.violations_count == 0, f"{name}: {found.generate_report()}"
    screenshot(page, name)


def screenshot(page: Page, name: str) -> None:
    """Keep a picture for the documentation when ORCHESTRA_SCREENSHOTS names a folder: of the four looks, two."""
    if _SCREENSHOTS and not name.endswith(("-dark-desktop", "-light-phone")):
        folder = Path(_SCREENSHOTS)
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png")


def wait_lab(page: Page) -> None:
    """JupyterLab with its first notebook, usable: the kernel is idle."""
    page.wait_for_url("**/lab**", timeout=90_000)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
    page.wait_for_selector(
        '.jp-Toolbar [data-status="idle"], .jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=90_000
    )


def run_cell(page: Page, code: str, *, within_ms: int = 60_000) -> str:
    """Put `code` in a new cell at the top of the open notebook and run it; gives the output's text."""
    page.click(".jp-Notebook .jp-Cell >> nth=0")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.keyboard.press("y")
    page.keyboard.press("Enter")
    page.keyboard.insert_text(code)
    output = page.locator(".jp-Notebook .jp-Cell >> nth=0 >> .jp-OutputArea-output")
    deadline = time.monotonic() + within_ms / 1000
    while True:  # a press while the kernel is still connecting is lost, as it is for people
        page.keyboard.press("Control+Enter")
        try:
            output.first.wait_for(timeout=5_000)
        except TimeoutError:
            if time.monotonic() > deadline:
                raise
            continue
        return output.all_inner_texts()[-1]


def app(platform: Platform, path: str) -> str:
    """A page on the hub's host."""
    return f"{platform.origin('app')}{path}"
