"""The four stories in real Chromium, each from an empty profile: what a person does, and sees."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import app, check_page, run_cell, screenshot, sign_in, sign_up, wait_lab, window
from tests.people import PASSWORD, Person
from tests.running import Platform, soon, until

PLOT = "import matplotlib.pyplot as plt; plt.plot([1, 3, 2]); plt.show(); print(6 * 7)"


@pytest.fixture(scope="module")
def shown(platform: Platform) -> dict[str, dict[str, Any]]:
    """Workshops that only are looked at, one of each kind."""
    workshops = {
        "later": platform.workshop(session="later", opens_at=soon(7200)),
        "cancelled": platform.workshop(session="gone", opens_at=soon(7200)),
        "opened": platform.opened(session="look", template="rnaseq-intro", teacher="The course team"),
        "full": platform.opened(session="full", seats=1),
        "coded": platform.opened(session="code", join_policy="code"),
        "roster": platform.opened(session="roster", join_policy="roster"),
    }
    platform.api("POST", f"/workshops/{workshops['cancelled']['id']}/cancel", json={})
    with Person.new(platform, "first-in") as first:
        first.join(workshops["full"]["id"])
    return workshops


@pytest.mark.parametrize(("dark", "phone"), [(False, False), (True, False), (False, True), (True, True)])
def test_every_page_is_accessible_and_fits(
    platform: Platform, shown: dict[str, dict[str, Any]], chromium: Browser, dark: bool, phone: bool
) -> None:
    """axe-core finds nothing and nothing scrolls sideways, in light and dark, at desktop and phone width."""
    look = f"{'dark' if dark else 'light'}-{'phone' if phone else 'desktop'}"
    tag = look.replace("-", "")
    opened, later, cancelled, full, coded, roster = (
        shown[name] for name in ("opened", "later", "cancelled", "full", "coded", "roster")
    )
    ended = platform.opened(session=f"over{tag}")
    with window(chromium, dark=dark, phone=phone) as page:
        for name, url in [
            ("public-open", opened["url"]), ("public-not-open-yet", later["url"]),
            ("public-cancelled", cancelled["url"]),
            ("public-unknown", platform.origin("nobody-knows-this")), ("nothing-here", f"{opened['url']}else"),
            ("sign-up", app(platform, "/hub/signup")), ("sign-in", app(platform, "/hub/login")),
        ]:  # fmt: skip
            page.goto(url)
            check_page(page, f"{name}-{look}")
        page.goto(app(platform, "/hub/signup"))
        sign_up(page, "admin", PASSWORD)
        page.wait_for_selector("#problem")
        check_page(page, f"sign-up-refused-{look}")
        page.goto(app(platform, "/hub/signup"))
        sign_up(page, f"look-{tag}", PASSWORD)
        page.wait_for_url("**/hub/workshops/")
        check_page(page, f"my-workshops-none-{look}")
        page.goto(app(platform, f"/services/workshops/join/{opened['id']}"))
        check_page(page, f"join-{look}")
        page.get_by_role("button", name=re.compile("join", re.I)).click()
        page.wait_for_url(f"**/hub/workshops/{opened['id']}")
        check_page(page, f"seat-not-started-{look}")
        if dark is phone:  # all of them in two looks: a start takes a while
            _look_at_a_start(page, platform, opened["id"], f"look-{tag}", look)
        page.goto(app(platform, f"/services/workshops/join/{coded['id']}"))
        check_page(page, f"join-with-code-{look}")
        page.fill("input[name=code]", "WRONGONE")
        page.get_by_role("button", name=re.compile("join", re.I)).click()
        page.wait_for_load_state()
        check_page(page, f"join-wrong-code-{look}")
        page.goto(app(platform, f"/services/workshops/join/{ended['id']}"))
        page.get_by_role("button", name=re.compile("join", re.I)).click()
        platform.api("POST", f"/workshops/{ended['id']}/end", json={})
        platform.wait_state(ended["id"], "expired")
        page.goto(ended["url"])
        check_page(page, f"public-over-{look}")
        page.goto(app(platform, f"/hub/workshops/{ended['id']}"))
        check_page(page, f"seat-over-{look}")
        for name, workshop in [("full", full), ("not-enrolled", roster), ("expired", ended)]:
            page.goto(app(platform, f"/services/workshops/join/{workshop['id']}"))
            check_page(page, f"join-{name}-{look}")
        page.goto(app(platform, "/hub/workshops/"))
        check_page(page, f"my-workshops-{look}")
        page.goto(app(platform, "/hub/change-password"))
        check_page(page, f"change-password-{look}")
        page.goto(app(platform, "/hub/nothing-of-that-name"))
        check_page(page, f"not-found-{look}")
    with window(chromium, dark=dark, phone=phone) as page:
        page.goto(app(platform, "/hub/login"))
        sign_in(page, "admin", "not-the-password")
        page.get_by_role("alert").wait_for()
        check_page(page, f"sign-in-refused-{look}")
        sign_in(page, "admin", platform.admin_password)
        page.wait_for_url("**/hub/workshops/")
        page.goto(app(platform, "/services/workshops/"))
        check_page(page, f"workshops-i-run-{look}")
        page.goto(app(platform, f"/services/workshops/{opened['id']}"))
        check_page(page, f"run-a-workshop-{look}")


def _look_at_a_start(page: Page, platform: Platform, workshop_id: str, name: str, look: str) -> None:
    """The launch page of a start that fails, of one under way, and of a seat that runs; then it is stopped."""
    prepared = platform.data_dir / "workshops" / workshop_id / "prepared.json"
    kept = prepared.read_bytes()
    prepared.unlink()
    page.click("#start")
    page.wait_for_selector("#failure")
    check_page(page, f"seat-failed-{look}")
    prepared.write_bytes(kept)
    page.get_by_role("button", name="Try again").click()
    server = until(lambda: platform.servers_of(name), within_s=20, every_s=0.02, message="it starts")[0]
    server.suspend()
    expect(page.locator("#progress-text")).to_have_text(re.compile(r"\(\d+ s so far\)"), timeout=10_000)
    check_page(page, f"seat-starting-{look}")
    page.reload()  # the steps are shown again, from the hub
    expect(page.locator("#progress-text")).to_have_text(re.compile(r"answer \(\d+ s so far\)"), timeout=10_000)
    server.resume()
    page.wait_for_url("**/lab/**", timeout=60_000)
    page.goto(app(platform, f"/hub/workshops/{workshop_id}"))
    check_page(page, f"seat-running-{look}")
    page.click("#stop")
    page.wait_for_selector("#start", timeout=30_000)


def test_a_learner_from_link_to_plot(platform: Platform, chromium: Browser) -> None:
    """Story 3: link, sign-up, join, button, true progress, JupyterLab, a cell, a plot; stop; start; files are there."""
    workshop = platform.opened(session="story")
    with window(chromium) as page:
        page.goto(workshop["join_url"])
        page.get_by_role("link", name="Go to my notebook").click()
        page.click("#to_signup")
        sign_up(page, "stella", PASSWORD)
        page.get_by_role("button", name=re.compile("join", re.I)).click()
        page.click("#start")
        expect(page.locator("#progress-text")).to_have_text(re.compile("folder|notebook server"), timeout=10_000)
        screenshot(page, "seat-starting")
        wait_lab(page)
        assert f"--stella.localhost:{platform.port}/user/stella/" in page.url
        assert run_cell(page, PLOT).strip().endswith("42")
        image = page.locator(".jp-RenderedImage img").first
        image.wait_for(timeout=60_000)
        assert image.evaluate("img => img.naturalWidth") > 100
        screenshot(page, "jupyterlab-plot")
        assert run_cell(page, "open('kept.txt', 'w').write('mine')").strip() == "4"
        page.keyboard.press("Control+s")
        page.goto(app(platform, f"/hub/workshops/{workshop['id']}"))
        page.click("#stop")
        page.wait_for_selector("#start", timeout=30_000)
        page.click("#start")
        wait_lab(page)
        assert "mine" in run_cell(page, "open('kept.txt').read()")


def test_an_expired_sign_in_leads_back_and_keeps_unsaved_cells(platform: Platform, chromium: Browser) -> None:
    """The session ends in an open notebook: a way to sign in again that leaves the page and its cells as they are."""
    workshop = platform.opened(session="expired")
    with Person.new(platform, "unsaved") as person:
        person.join(workshop["id"])
        person.start(workshop["id"])
    with window(chromium) as page:
        page.goto(app(platform, "/hub/login"))
        sign_in(page, "unsaved", PASSWORD)
        page.wait_for_url("**/hub/workshops/")
        page.goto(app(platform, f"/hub/workshops/{workshop['id']}"))
        page.click("#open")
        wait_lab(page)
        run_cell(page, "# not saved yet\n'unsaved'")
        # the kernel's websocket is cut with the sign-in, and JupyterLab takes the kernel for dead: a person says Ok
        page.add_locator_handler(page.locator(".jp-Dialog"), lambda: page.click(".jp-Dialog .jp-mod-accept"))
        other = page.context.new_page()
        other.goto(app(platform, "/hub/logout"))
        other.close()
        again = page.locator("#orchestra-sign-in")
        again.wait_for(timeout=60_000)
        screenshot(page, "signed-out-in-notebook")
        with page.context.expect_page() as opened:
            again.click()
        window_two = opened.value
        window_two.wait_for_selector("#username_input")
        sign_in(window_two, "unsaved", PASSWORD)
        again.wait_for(state="hidden", timeout=60_000)
        assert "# not saved yet" in page.locator(".jp-Notebook .jp-Cell >> nth=0").inner_text()
        page.keyboard.press("Control+s")
        saved = Path(platform.data_dir / "workshops" / workshop["id"] / "seats")
        page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')", timeout=30_000)
        assert any("# not saved yet" in found.read_text() for found in saved.rglob("home/*.ipynb"))


def test_the_end_seen_from_the_notebook_and_the_files_afterwards(
    platform: Platform, chromium: Browser, tmp_path: Path
) -> None:
    """Story 4: the warning with the time left, an extension, the end, the files as an archive."""
    workshop = platform.workshop(session="ending", expires_at=soon(55), hours=None)
    platform.wait_state(workshop["id"], "open", "closing")
    with Person.new(platform, "endre") as person:
        person.join(workshop["id"])
        person.start(workshop["id"])
    with window(chromium) as page:
        page.goto(app(platform, "/hub/login"))
        sign_in(page, "endre", PASSWORD)
        page.wait_for_url("**/hub/workshops/")
        page.goto(app(platform, f"/hub/workshops/{workshop['id']}"))
        page.click("#open")
        wait_lab(page)
        bar = page.get_by_role("status").filter(has_text=re.compile("ends", re.I)).first
        bar.wait_for(timeout=30_000)
        screenshot(page, "warning-in-notebook")
        assert run_cell(page, "open('result.txt', 'w').write('done')").strip() == "4"
        platform.wait_state(workshop["id"], "expired", within_s=120)
        page.goto(app(platform, f"/hub/workshops/{workshop['id']}"))
        with page.expect_download() as download:
            page.click("#export")
        archive = tmp_path / "files.tar.gz"
        download.value.save_as(archive)
        with tarfile.open(archive) as packed:
            assert any(name.endswith("result.txt") for name in packed.getnames())
