"""JupyterHub's own pages beside the workshops, in real Chromium: servers of one's own, tokens, the admin's list; and
the menu of a notebook that leads back to them."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import app, screenshot, sign_in, wait_lab, window
from tests.people import PASSWORD, Person
from tests.running import Platform


def _signed_in(page: Page, platform: Platform, name: str, password: str = PASSWORD) -> None:
    page.goto(app(platform, "/hub/login"))
    sign_in(page, name, password)
    page.wait_for_url("**/hub/workshops/")


def _looks_at_home(page: Page, name: str) -> None:
    """The product's name in the bar, the way back to the workshops, nothing wider than the window."""
    expect(page.get_by_role("link", name="Orchestra Hub")).to_be_visible()
    expect(page.get_by_role("link", name="Workshops", exact=True)).to_be_visible()
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{name} scrolls sideways by {wide} px"
    screenshot(page, name)


def test_a_server_of_ones_own_beside_a_workshops_notebook(platform: Platform, chromium: Browser) -> None:
    """Start, open and stop the default server from the home page; a workshop's notebook there leads to its workshop."""
    workshop = platform.opened(session="beside")
    with Person.new(platform, "homer") as homer:
        homer.join(workshop["id"])
        homer.start(workshop["id"])
        homer.stop(workshop["id"])
    with window(chromium) as page:
        _signed_in(page, platform, "homer")
        page.get_by_role("link", name="Other servers of mine").click()
        expect(page.locator("#seats-elsewhere")).to_be_visible()
        expect(page.locator(".home-server-row", has_text=workshop["title"])).to_be_visible()
        _looks_at_home(page, "jupyterhub-home")
        page.locator("[id^=start-python-data-science]").click()
        page.wait_for_url(f"**/hub/workshops/{workshop['id']}")
        page.wait_for_selector("#start")
        page.goto(app(platform, "/hub/home"))
        page.get_by_role("button", name="Start My Server").click()
        page.wait_for_url(re.compile(r"//user--homer\.localhost.*/lab"), timeout=60_000)
        page.goto(app(platform, "/hub/home"))
        page.get_by_role("button", name="Stop My Server").click()
        expect(page.get_by_role("button", name="Start My Server")).to_be_visible(timeout=30_000)
        page.fill(".new-server-name", "mine")
        page.get_by_role("button", name="Add New Server").click()
        page.click("#start-mine")
        page.wait_for_url(re.compile(r"//user--homer\.localhost.*/user/homer/mine/lab"), timeout=60_000)
        page.goto(app(platform, "/hub/home"))
        page.click("#stop-mine")
        expect(page.locator("#delete-mine")).to_be_visible(timeout=30_000)
        page.reload()
        page.on("dialog", lambda dialog: dialog.accept())  # whether one is sure
        page.click("#delete-mine")
        expect(page.locator("#delete-mine")).to_have_count(0)


def test_tokens_and_the_admins_list(platform: Platform, chromium: Browser) -> None:
    with Person.new(platform, "listed"):
        pass
    with window(chromium) as page:
        _signed_in(page, platform, "admin", platform.admin_password)
        page.goto(app(platform, "/hub/token"))
        _looks_at_home(page, "jupyterhub-token")
        page.get_by_role("button", name="Request new API token").click()
        token = page.locator("#token-result")
        expect(token).to_have_text(re.compile(r"\w{20,}"))
        assert platform.hub_api("GET", "/user", token=token.inner_text().strip()).json()["name"] == "admin"
        page.goto(app(platform, "/hub/admin"))
        page.get_by_placeholder("Search").fill("listed")
        expect(page.get_by_text("listed", exact=True).first).to_be_visible(timeout=20_000)
        _looks_at_home(page, "jupyterhub-admin")
        page.goto(app(platform, "/hub/authorize"))
        expect(page.locator("tr", has_text="listed")).to_be_visible()
        for button in ("Unauthorize", "Authorize"):
            page.locator("tr", has_text="listed").get_by_role("button", name=button, exact=True).click()
            page.wait_for_load_state()
        expect(page.locator("tr", has_text="listed")).to_contain_text("Yes")


def test_the_menu_of_a_notebook_leads_to_the_workshop_and_out(platform: Platform, chromium: Browser) -> None:
    """JupyterLab's File menu on the real hub: Hub Control Panel is the workshop's page, Log Out signs out."""
    workshop = platform.opened(session="menus")
    with Person.new(platform, "menno") as menno:
        menno.join(workshop["id"])
        menno.start(workshop["id"])
    with window(chromium) as page:
        _signed_in(page, platform, "menno")
        page.goto(app(platform, f"/hub/workshops/{workshop['id']}"))
        page.click("#open")
        wait_lab(page)
        _menu(page, "Hub Control Panel")
        with page.context.expect_page() as opened:
            page.get_by_role("menuitem", name="Hub Control Panel").click()
        opened.value.wait_for_url(f"**/hub/workshops/{workshop['id']}")
        opened.value.close()
        _menu(page, "Log Out")
        page.get_by_role("menuitem", name="Log Out").click()
        page.wait_for_url("**/hub/login**", timeout=20_000)
        page.goto(app(platform, "/hub/workshops/"))
        page.wait_for_selector("#login_submit")


def _menu(page: Page, item: str) -> None:
    """Open the File menu, so that `item` is there."""
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name=item).wait_for()
