"""The hooks that make a process stand still: nothing without being asked, and nobody twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.ground import HOOKS
from tests.faults.points import POINTS, PROCESSES, cells_to_run
from tests.faults.report import cells_of, table
from tests.running import until

PROGRAM = "import orchestra_hub.ids as ids; ids.server_name('a-b-123456'); print('done')"


def _run(folder: Path | None) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name != "FAULTS_DIR"}
    path = f"{HOOKS}{os.pathsep}{kept.get('PYTHONPATH', '')}"
    more = {} if folder is None else {"FAULTS_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM], env={**kept, "PYTHONPATH": path, **more},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _points(folder: Path, function: str) -> None:
    point = {"name": "here", "module": "orchestra_hub.ids", "function": function, "when": "before", "nth": 1}
    (folder / "points.json").write_text(json.dumps([point]))


def _arm(folder: Path, *needles: str) -> None:
    (folder / "here.armed").write_text(json.dumps({"token": "t", "needles": needles}))


def test_one_process_stands_still_and_goes_on(tmp_path: Path) -> None:
    _points(tmp_path, "server_name")
    _arm(tmp_path, "a-b-123456")
    first = _run(tmp_path)
    until((tmp_path / "held.t").exists, within_s=20)
    assert int((tmp_path / "held.t").read_text()) == first.pid
    second = _run(tmp_path)
    assert second.communicate(timeout=20)[0] == "done\n" and first.poll() is None
    (tmp_path / "go.t").touch()
    assert first.communicate(timeout=20) == ("done\n", "")


def test_nobody_stands_still_unasked(tmp_path: Path) -> None:
    _points(tmp_path, "server_name")
    for folder in (None, tmp_path):
        assert _run(folder).communicate(timeout=20) == ("done\n", "")
    _arm(tmp_path, "another workshop")
    assert _run(tmp_path).communicate(timeout=20) == ("done\n", "")
    assert (tmp_path / "here.armed").exists()


def test_a_function_that_is_gone_is_told(tmp_path: Path) -> None:
    _points(tmp_path, "no_such_function")
    assert _run(tmp_path).communicate(timeout=20) == ("done\n", "")
    assert (tmp_path / "missing.here").exists()


def test_every_operation_and_column_has_cells_in_every_run() -> None:
    cells = cells_to_run()
    assert {cell.process for cell in cells} == set(PROCESSES)
    assert {cell.point.operation for cell in cells} == {point.operation for point in POINTS}
    lines = table({})
    assert len(lines) == len(POINTS) + 3 and cells_of([]) == {}
