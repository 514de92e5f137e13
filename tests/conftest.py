"""What every test shares, and the plain words at the end about what a run did not exercise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.report import cells_of, table
from tests.running import Platform

pytest_plugins = ["tests.postgresql"]
pytest.register_assert_rewrite("tests.faults.ground", "tests.faults.operations")

CHROMIUM = "/usr/bin/chromium"


def _required(name: str) -> bool:
    return os.environ.get(f"ORCHESTRA_REQUIRE_{name}") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests are left out where there is no browser, unless one is required."""
    if shutil.which(CHROMIUM) is not None or _required("BROWSER"):
        return
    reason = "no Chromium (/usr/bin/chromium); ORCHESTRA_REQUIRE_BROWSER=1 makes this a failure"
    for item in items:
        if "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The kill table, if any of it was run; then in plain words what was left out and why."""
    reports = [each for kind in ("passed", "failed", "error") for each in terminalreporter.stats.get(kind, [])]
    if cells := cells_of(reports):
        terminalreporter.section("kill table")
        for line in table(cells):
            terminalreporter.write_line(line)
    skipped = terminalreporter.stats.get("skipped", [])
    reasons: dict[str, int] = {}
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] = reasons.get(reason.removeprefix("Skipped: "), 0) + 1
    terminalreporter.section("not exercised in this run")
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} tests: {reason}")
    if not reasons:
        terminalreporter.write_line("Of what these tests can show, nothing.")
    terminalreporter.write_line("Kubernetes: no test of it exists yet; everything here ran as on one machine.")


@pytest.fixture(scope="session")
def shared_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A real platform, started by `orchestra-hub up`, for all tests of a run that don't break it."""
    with Platform.start(tmp_path_factory.mktemp("platform")) as running:
        yield running


@pytest.fixture(scope="module")
def platform(shared_platform: Platform) -> Iterator[Platform]:
    """The shared platform with nobody on it: a module's people leave with it, so that every name is free again."""
    yield shared_platform
    shared_platform.send_everybody_away()


@pytest.fixture
def own_platform(tmp_path: Path) -> Iterator[Platform]:
    """A real platform of this test's own, to be killed, restarted and broken."""
    with Platform.start(tmp_path / "data") as running:
        yield running
