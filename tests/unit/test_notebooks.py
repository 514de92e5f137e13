"""The built-in templates' notebooks: they run whole, teach what they say, and are clean as committed."""

from __future__ import annotations

import gzip
import json
import runpy
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from orchestra_hub.template_lint import lint
from orchestra_hub.templates import builtin_templates_root, list_templates

ROOT = builtin_templates_root()
TEMPLATES = sorted(list_templates(ROOT).templates)
NOTEBOOKS = sorted(path.relative_to(ROOT) for path in ROOT.glob("*/content/**/*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if path.parent.name == "content"]

NOT_YET, RIGHT = "○ ", "✓ "

# Least share of the planted genes that has to be found, and the largest share of false ones among those called.
LEAST_RECALL, LARGEST_FDR = 0.90, 0.05
CALLED_BELOW = 0.01  # adjusted p-value; fixed in the lesson before the list is looked at


@pytest.fixture
def seat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the content, with a kernel that keeps to itself and uses one thread."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    return tmp_path / "content"


def run(notebook: Path, seat: Path) -> nbformat.NotebookNode:
    """The notebook after all its cells ran in a fresh copy of its template's content."""
    content = ROOT / notebook.parts[0] / "content"
    shutil.copytree(content, seat)
    file = seat / notebook.relative_to(Path(notebook.parts[0]) / "content")
    executed = nbformat.read(file, as_version=4)
    client = NotebookClient(
        executed, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(file.parent)}}
    )
    client.execute()
    return executed


def printed(notebook: nbformat.NotebookNode, stream: str) -> str:
    """What the cells wrote to `stdout` or `stderr`."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == stream)


def checks_in(notebook: nbformat.NotebookNode) -> int:
    """How many exercises check themselves."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return sum(line.count("= check(") for source in code for line in source.splitlines())


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.as_posix())
def test_notebook_runs_whole(notebook: Path, seat: Path) -> None:
    executed = run(notebook, seat)
    said = printed(executed, "stdout")
    exercises = checks_in(executed)
    solved = notebook.parent.name == "solutions"
    assert exercises >= 1
    assert said.count(RIGHT) == (exercises if solved else 0), said
    assert said.count(NOT_YET) == (0 if solved else exercises), said
    assert printed(executed, "stderr") == ""


def test_count_model_recovers_the_planted_genes(seat: Path) -> None:
    run(Path("rnaseq-intro/content/02-test-every-gene.ipynb"), seat)
    results = pd.read_csv(seat / "results" / "differential-expression.csv", index_col="gene")
    planted = set(pd.read_csv(seat / "data" / "truth.csv", comment="#", index_col="gene").index)
    called = set(results.index[results["padj"] < CALLED_BELOW])
    recall = len(called & planted) / len(planted)
    false_share = len(called - planted) / len(called)
    assert recall >= LEAST_RECALL
    assert false_share <= LARGEST_FDR


def test_truth_is_opened_in_the_last_rnaseq_lesson_only() -> None:
    lessons = [path for path in LESSONS if path.parts[0] == "rnaseq-intro"]
    opened = [path.name for path in lessons if "truth.csv" in (ROOT / path).read_text(encoding="utf-8")]
    assert opened == ["03-volcano-plot.ipynb"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.as_posix())
def test_notebook_is_committed_clean(notebook: Path) -> None:
    saved = json.loads((ROOT / notebook).read_text(encoding="utf-8"))
    assert (saved["nbformat"], saved["nbformat_minor"]) == (4, 5)
    assert saved["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in saved["cells"] if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
    ids = [cell["id"] for cell in saved["cells"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("notebook", LESSONS, ids=lambda path: path.as_posix())
def test_lesson_has_solutions_and_says_that_data_is_synthetic(notebook: Path) -> None:
    assert (ROOT / notebook.parent / "solutions" / notebook.name).is_file()
    assert "synthetic" in (ROOT / notebook).read_text(encoding="utf-8")


@pytest.mark.parametrize("template", TEMPLATES)
def test_data_is_what_its_program_makes(template: str, tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / template / "make_data.py"))["write"](tmp_path)
    committed = ROOT / template / "content" / "data"
    assert sorted(file.name for file in committed.iterdir()) == sorted(file.name for file in tmp_path.iterdir())
    for file in committed.iterdir():
        assert plain(file) == plain(tmp_path / file.name), f"{file} is out of date: run make_data.py"
        assert b"ynthetic" in plain(file) or b"SYNTHETIC" in plain(file)


def plain(file: Path) -> bytes:
    """The bytes of a file, unpacked if packed: two versions of zlib pack differently."""
    data = file.read_bytes()
    if file.suffix != ".gz":
        return data
    assert data[4:8] == b"\0\0\0\0", f"{file} has a time in its header"
    return gzip.decompress(data)


@pytest.mark.parametrize("template", TEMPLATES)
def test_template_is_small_and_without_findings(template: str) -> None:
    files = [file for file in (ROOT / template).rglob("*") if file.is_file() and file.suffix != ".pyc"]
    assert sum(file.stat().st_size for file in files) < 2_000_000
    assert lint(ROOT / template) == []
    assert len([path for path in LESSONS if path.parts[0] == template]) >= 3


def test_all_built_in_templates_are_seen() -> None:
    assert list_templates(ROOT).errors == {}
    assert TEMPLATES == ["python-data-science", "rnaseq-intro", "shell-fastq-qc"]
