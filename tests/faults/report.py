"""The kill table as text, from the reports of its cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from tests.faults.points import POINTS, PROCESSES

__all__ = ["NOT_RUN", "PROPERTY", "cells_of", "table"]

PROPERTY = "kill_cell"
NOT_RUN = "."


def cells_of(reports: Iterable[pytest.TestReport]) -> dict[tuple[str, str], str]:
    """What came of each cell that was run: seconds until all was as it should be, or `FAILED`."""
    found: dict[tuple[str, str], str] = {}
    for report in reports:
        cell = dict(report.user_properties).get(PROPERTY)
        if cell is None:
            continue
        point, process, seconds = str(cell).split("|")
        if report.failed or found.get((point, process)) == "FAILED":
            found[point, process] = "FAILED"
        elif report.when == "call":
            found[point, process] = f"{seconds} s" if seconds else "FAILED"
    return found


def table(cells: Mapping[tuple[str, str], str]) -> list[str]:
    """Lines: a row for each point, a column for each process, and what a cell says."""
    width = max(len(point.name) for point in POINTS)
    lines = [f"{'killed:':<{width}} " + " ".join(f"{process:>10}" for process in PROCESSES)]
    for point in POINTS:
        row = [cells.get((point.name, process), NOT_RUN) for process in PROCESSES]
        lines.append(f"{point.name:<{width}} " + " ".join(f"{cell:>10}" for cell in row) + f"  {point.says}")
    failed = sum(cell == "FAILED" for cell in cells.values())
    lines.append(
        f"{len(cells)} of {len(POINTS) * len(PROCESSES)} cells were run, {failed} failed; a cell has the seconds from "
        f"the kill until everything was as it should be ({NOT_RUN}: not run)."
    )
    if len(cells) < len(POINTS) * len(PROCESSES):
        lines.append("ORCHESTRA_KILL_TABLE=all runs every cell (docs/explanation/faults.md).")
    return lines
