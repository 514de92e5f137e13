"""The template linter: each kind of finding, with its place, problem and fix."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_hub.template_lint import MAX_OUTPUT_BYTES, Finding, lint
from orchestra_hub.templates import TemplateError, load_template

GOOD = """\
schema_version: 1
name: small
title: A small one
summary: Nothing much.
landing: start.ipynb
image: orchestra-hub/seat:0.1.0
resources:
  cpu: 1
  memory: 1Gi
  storage: 1Gi
environment:
  requirements: [numpy]
  variables: {COURSE: "1"}
default_duration_h: 2
max_duration_h: 8
"""

NOTEBOOK: dict[str, Any] = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A template without findings."""
    folder = tmp_path / "small"
    (folder / "content").mkdir(parents=True)
    (folder / "template.yaml").write_text(GOOD, encoding="utf-8")
    (folder / "content" / "start.ipynb").write_text(json.dumps(NOTEBOOK), encoding="utf-8")
    return folder


def lint_text(folder: Path, text: str) -> list[Finding]:
    (folder / "template.yaml").write_text(text, encoding="utf-8")
    return lint(folder)


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, [str(finding) for finding in findings]
    return findings[0]


def test_good_template_has_no_findings(folder: Path) -> None:
    assert lint(folder) == lint(folder / "template.yaml") == lint(folder.parent) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "field", "problem", "fix"),
    [
        ("title:", "titel:", 3, 1, "titel", "not a field", "write title"),
        ("title: A small one", "zzz: 1\ntitle: A small one", 3, 1, "zzz", "not a field", "known here are"),
        ("  memory:", "  memori:", 9, 3, "resources.memori", "not a field", "write memory"),
        ("title: A small one\n", "", 1, 1, "title", "title is missing", "add `title:"),
        ("  storage: 1Gi\n", "", 7, 1, "resources.storage", "is missing", 'add `storage: "1Gi"`'),
        ("resources:\n  cpu: 1\n  memory: 1Gi\n  storage: 1Gi\n", "", 1, 1, "resources", "is missing", "cpu: 1"),
        ("title: A small one", "title: 3", 3, 1, "title", "wrong type", "quotes"),
        ("cpu: 1", 'cpu: "1"', 8, 3, "resources.cpu", "wrong type", "a number"),
        (
            "resources:\n  cpu: 1\n  memory: 1Gi\n  storage: 1Gi",
            "resources: 3",
            7,
            1,
            "resources",
            "wrong type",
            "mapping",
        ),
        ("[numpy]", "numpy", 12, 3, "environment.requirements", "wrong type", "a list"),
        ("[numpy]", "[numpy, 3]", 12, 25, "environment.requirements.1", "wrong type", "quotes"),
        ('{COURSE: "1"}', "{COURSE: 1}", 13, 15, "environment.variables.COURSE", "wrong type", "quotes"),
        ('{COURSE: "1"}', "[]", 13, 3, "environment.variables", "wrong type", "mapping"),
        ("max_duration_h: 8", "max_duration_h: 8\ndefault_seats: 1.5", 16, 1, "default_seats", "wrong type", "whole"),
        (
            "max_duration_h: 8",
            "max_duration_h: 8\nlearner_export: 1",
            16,
            1,
            "learner_export",
            "wrong type",
            "true or false",
        ),
        ("max_duration_h: 8", "max_duration_h: 9000", 15, 1, "max_duration_h", "out of bounds", "or equal to 8784"),
        (
            "max_duration_h: 8",
            "max_duration_h: 1",
            15,
            1,
            "max_duration_h",
            "less than default",
            "raise max_duration_h",
        ),
        ("cpu: 1", "cpu: 0", 8, 3, "resources.cpu", "out of bounds", "greater than 0"),
        ("memory: 1Gi", "memory: 1Mi", 9, 3, "resources.memory", "out of bounds", "from 128Mi"),
        ("memory: 1Gi", "memory: 1GB", 9, 3, "resources.memory", "right form", '"2Gi"'),
        ("schema_version: 1", "schema_version: 2", 1, 1, "schema_version", "is 2", "write `schema_version: 1`"),
        ("A small one", "x" * 101, 3, 1, "title", "longer than 100", "shorten"),
        ("A small one", '""', 3, 1, "title", "empty", "write something"),
        ("[numpy]", "['-r x']", 12, 3, "environment.requirements", "PEP 508", "package name"),
        ("COURSE", "HOME", 13, 3, "environment.variables", "belongs to the platform", "another name"),
        ("name: small", "name: other", 2, 1, "name", "the folder is 'small'", "the same name"),
        ("landing: start", "landing: begin", 5, 1, "landing", "no file 'begin.ipynb'", "create it"),
        ("landing:", "content: stuff\nlanding:", 5, 1, "content", "no folder 'stuff'", "create it"),
        ("title: A small one", "title: A\ntitle: B", 4, 1, "title", "given twice, first in line 3", "keep one"),
        ("  cpu: 1", "  cpu: 1\n  cpu: 2", 9, 3, "resources.cpu", "given twice", "keep one"),
        ("  cpu: 1", "\tcpu: 1", 8, 1, "", "not valid YAML", "no tabs"),
        ("  memory: 1Gi", "   memory: 1Gi", 9, 10, "", "not valid YAML", "align this line"),
        ("A small one", "A: small one", 3, 9, "", "not valid YAML", "in quotes"),
        ("[numpy]", "[numpy", 13, 12, "", "not valid YAML", "brackets"),
        ("[numpy]", "&a [*a]", 12, 21, "", "aliases are not taken", "the value itself"),
        ("[numpy]", "[" * 20 + "]" * 20, 12, 25, "", "nested too deeply", ""),
        ("A small one", "!!binary x", 3, 8, "", "not valid YAML", ""),
    ],
)
def test_finding(folder: Path, old: str, new: str, line: int, column: int, field: str, problem: str, fix: str) -> None:
    assert old in GOOD
    finding = only(lint_text(folder, GOOD.replace(old, new, 1)))
    assert (finding.line, finding.column, finding.field, finding.severity) == (line, column, field, "error")
    assert problem in finding.problem
    assert fix in finding.fix
    assert str(finding) == (f"{folder / 'template.yaml'}:{line}:{column}: {finding.problem}. Fix: {finding.fix}.")
    with pytest.raises(TemplateError):
        load_template(folder)


def test_all_problems_are_told_at_once(folder: Path) -> None:
    text = GOOD.replace("title:", "titel:").replace("cpu: 1", "cpu: 0").replace("name: small", "name: other")
    fields = [finding.field for finding in lint_text(folder, text)]
    assert fields == ["name", "titel", "resources.cpu"]


@pytest.mark.parametrize("image", ["seat", "seat:latest", "images.example.org:5000/seat"])
def test_image_that_can_change_is_a_warning(folder: Path, image: str) -> None:
    finding = only(lint_text(folder, GOOD.replace("orchestra-hub/seat:0.1.0", image)))
    assert (finding.line, finding.field, finding.severity) == (6, "image", "warning")
    load_template(folder)


@pytest.mark.parametrize("text", ["", "- 1\n", "just words\n"])
def test_file_that_is_no_mapping(folder: Path, text: str) -> None:
    assert "not a mapping" in only(lint_text(folder, text)).problem


def test_file_that_is_no_text(folder: Path) -> None:
    (folder / "template.yaml").write_bytes(b"\xff\xfe\xff")
    assert "not UTF-8" in only(lint(folder)).problem


def test_no_template(tmp_path: Path) -> None:
    assert "no template.yaml" in only(lint(tmp_path)).problem
    assert "no template.yaml" in only(lint(tmp_path / "nowhere")).problem


def test_template_file_that_is_a_folder(folder: Path) -> None:
    (folder / "template.yaml").unlink()
    (folder / "template.yaml").mkdir()
    assert only(lint(folder)).line == 1


def test_landing_without_content_is_told_once(folder: Path) -> None:
    finding = only(lint_text(folder, GOOD.replace("landing:", "content: nowhere\nlanding:")))
    assert finding.field == "content"


def test_content_that_leaves_the_template(folder: Path) -> None:
    fields = {finding.field for finding in lint_text(folder, GOOD.replace("landing:", "content: ../x\nlanding:"))}
    assert fields == {"content"}


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ('{"cells": [],\n oops}', (2, 2), "not a notebook"),
        ("[]", (1, 1), "doesn't say nbformat 4"),
        ('{"nbformat": 3, "nbformat_minor": 0, "worksheets": []}', (1, 1), "doesn't say nbformat 4"),
        ('{"nbformat": 4}', (1, 1), "no nbformat_minor"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', (1, 1), "'cells' is a required property"),
        (json.dumps(NOTEBOOK | {"cells": [{"cell_type": "raw"}]}), (1, 1), "at cells/0"),
    ],
)
def test_broken_notebook(folder: Path, text: str, place: tuple[int, int], problem: str) -> None:
    notebook = folder / "content" / "start.ipynb"
    notebook.write_text(text, encoding="utf-8")
    finding = only(lint(folder))
    assert finding.file == notebook
    assert (finding.line, finding.column) == place
    assert problem in finding.problem


def test_notebook_that_is_no_text(folder: Path) -> None:
    (folder / "content" / "start.ipynb").write_bytes(b"\xff")
    assert "can't be read" in only(lint(folder)).problem


def test_large_outputs_are_a_warning(folder: Path) -> None:
    output = {"output_type": "stream", "name": "stdout", "text": "x" * MAX_OUTPUT_BYTES}
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": 1, "source": "", "outputs": [output]}
    (folder / "content" / "start.ipynb").write_text(json.dumps(NOTEBOOK | {"cells": [cell]}), encoding="utf-8")
    finding = only(lint(folder))
    assert "1.0 MiB of saved outputs" in finding.problem
    assert finding.severity == "warning"
    load_template(folder)


def test_link_that_leaves_the_content(folder: Path) -> None:
    (folder / "content" / "sub").mkdir()
    (folder / "content" / "sub" / "out").symlink_to("../../template.yaml")
    (folder / "content" / "sub" / "in").symlink_to("../start.ipynb")
    finding = only(lint(folder))
    assert finding.file.name == "out"
    assert "leaves the content folder" in finding.problem


def test_content_that_is_a_link(folder: Path) -> None:
    (folder / "content").rename(folder / "real")
    (folder / "content").symlink_to("real")
    assert "not a folder beside" in only(lint(folder)).problem


def test_pipe_in_the_content(folder: Path) -> None:
    os.mkfifo(folder / "content" / "pipe")
    assert "neither file nor link" in only(lint(folder)).problem


def test_folder_of_templates_tells_of_each(folder: Path) -> None:
    for name in ("one", "two"):
        (folder.parent / name).mkdir()
        (folder.parent / name / "template.yaml").write_text("- 1\n", encoding="utf-8")
    assert [finding.file.parent.name for finding in lint(folder.parent)] == ["one", "two"]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.text("abc:-[]{}&*!|>'\"#%@ \n\t1", max_size=40))
def test_any_text_gets_an_answer(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "template.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    assert lint(folder) != []


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 14), st.sampled_from(["", "x", "3", "[]", "{}", "null", "&a [*a]", "{1: 2}", "2031-01-01", "'"]))
def test_any_value_gets_an_answer_that_agrees_with_loading(
    tmp_path_factory: pytest.TempPathFactory, line: int, value: str
) -> None:
    folder = tmp_path_factory.mktemp("any") / "small"
    (folder / "content").mkdir(parents=True)
    (folder / "content" / "start.ipynb").write_text(json.dumps(NOTEBOOK), encoding="utf-8")
    lines = GOOD.splitlines()
    lines[line] = f"{lines[line].partition(':')[0]}: {value}"
    errors = [finding for finding in lint_text(folder, "\n".join(lines)) if finding.severity == "error"]
    if errors:
        with pytest.raises(TemplateError):
            load_template(folder)
    else:
        load_template(folder)
