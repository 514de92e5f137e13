"""Templates: reading, refusing, digest, snapshot, schema."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML

import orchestra_hub.templates
from orchestra_hub.errors import InvalidInput
from orchestra_hub.templates import (
    Environment,
    Resources,
    Template,
    TemplateError,
    TemplateSnapshot,
    builtin_templates_root,
    content_digest,
    content_files,
    link_problem,
    list_templates,
    load_template,
    quantity_bytes,
    snapshot,
    template_json_schema,
)

REPOSITORY = Path(orchestra_hub.templates.__file__).resolve().parent.parent
SCHEMA = REPOSITORY / "docs" / "reference" / "template.schema.json"
REFERENCE = REPOSITORY / "docs" / "reference" / "templates.md"

FIELDS: dict[str, Any] = {
    "schema_version": 1,
    "name": "small",
    "title": "A small one",
    "summary": "Nothing much.",
    "landing": "start.ipynb",
    "image": "orchestra-hub/seat:0.1.0",
    "resources": {"cpu": 1, "memory": "1Gi", "storage": "500M"},
    "default_duration_h": 2,
    "max_duration_h": 8,
}


def write_template(root: Path, **changes: Any) -> Path:
    """A folder with a template that loads, unless `changes` say otherwise."""
    fields = FIELDS | changes
    folder = root / "small"
    (folder / "content").mkdir(parents=True)
    (folder / "content" / "start.ipynb").write_text("{}", encoding="utf-8")
    with (folder / "template.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump(fields, stream)
    return folder


def template_of(**changes: Any) -> Template:
    return Template.model_validate(FIELDS | changes)


def test_template_is_read_with_its_defaults(tmp_path: Path) -> None:
    template = load_template(write_template(tmp_path))
    assert template.resources.memory_bytes == 2**30
    assert template.resources.storage_bytes == 500_000_000
    assert template.environment == Environment()
    assert (template.content, template.description, template.learner_export) == ("content", "", True)
    assert (template.default_seats, template.idle_timeout_min, template.retention_d) == (20, 60, 14)


def test_template_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        template_of().title = "Another"  # type: ignore[misc]  # refusing this is what is tested


@pytest.mark.parametrize("name", ["a", "a1", "rnaseq-intro", "9-to-5", "a" * 40])
def test_name_is_taken(name: str) -> None:
    assert template_of(name=name).name == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "a--b", "A", "a_b", "a.b", "é", "a\n", "a" * 41])
def test_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        template_of(name=name)


@pytest.mark.parametrize(
    "image",
    [
        "seat",
        "seat:1",
        "orchestra-hub/seat:0.1.0",
        "images.example.org:5000/team/seat__x.y:Latest_1",
        "images.example.org/seat@sha256:" + "0" * 64,
        "images.example.org/seat:1@sha256:" + "0" * 64,
    ],
)
def test_image_is_taken(image: str) -> None:
    assert template_of(image=image).image == image


@pytest.mark.parametrize(
    "image",
    ["", "Seat", "seat:", "/seat", "team//seat", "seat:a b", "seat@sha256:12", "https://images.example.org/seat"],
)
def test_image_is_refused(image: str) -> None:
    with pytest.raises(ValidationError):
        template_of(image=image)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"schema_version": 2}, "1"),
        ({"title": "x" * 101}, "at most 100"),
        ({"summary": "two\nlines"}, "pattern"),
        ({"content": "../elsewhere"}, "pattern"),
        ({"landing": "../start.ipynb"}, "not a plain path"),
        ({"landing": "/etc/hostname"}, "not a plain path"),
        ({"landing": "a\\b"}, "not a plain path"),
        ({"landing": "a//b"}, "not a plain path"),
        ({"default_duration_h": 9}, "less than default_duration_h"),
        ({"default_duration_h": 0}, "greater than 0"),
        ({"max_duration_h": 9000}, "8784"),
        ({"default_seats": 0}, "greater than or equal to 1"),
        ({"default_seats": "20"}, "valid integer"),
        ({"idle_timeout_min": 0}, "greater than or equal to 1"),
        ({"retention_d": -1}, "greater than or equal to 0"),
        ({"learner_export": "yes"}, "valid boolean"),
        ({"surprise": 1}, "Extra inputs"),
        ({"environment": {"requirements": ["--index-url=x"]}}, "PEP 508"),
        ({"environment": {"variables": {"1A": ""}}}, "can't name"),
        ({"environment": {"variables": {"A": "\0"}}}, "NUL"),
    ],
)
def test_field_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        template_of(**changes)


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "JUPYTERHUB_API_TOKEN", "JUPYTER_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHON_GIL"]
)
def test_platforms_variable_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} belongs to the platform"):
        Environment(variables={name: "x"})


def test_own_variable_is_taken() -> None:
    assert Environment(variables={"PATHOGEN_DB": "x", "_a1": ""}).variables["_a1"] == ""


@pytest.mark.parametrize(
    ("quantity", "size_bytes"),
    [("0", 0), ("1", 1), ("1k", 1000), ("2Ki", 2048), ("1.5Gi", 1610612736), ("0.5M", 500_000), ("1Ti", 2**40)],
)
def test_quantity_in_bytes(quantity: str, size_bytes: int) -> None:
    assert quantity_bytes(quantity) == size_bytes


@pytest.mark.parametrize(
    "quantity", ["", "Gi", "1 Gi", "1GB", "1gi", "-1Gi", "1e3", "100m", ".5Gi", "1.Gi", "1K", "\u0661Gi"]
)
def test_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(TemplateError, match="not a size"):
        quantity_bytes(quantity)


@given(st.integers(min_value=0, max_value=10**6), st.sampled_from(["Ki", "Mi", "Gi", "Ti"]))
def test_quantity_grows_by_1024_per_unit(number: int, unit: str) -> None:
    power = ["Ki", "Mi", "Gi", "Ti"].index(unit) + 1
    assert quantity_bytes(f"{number}{unit}") == number * 1024**power


@pytest.mark.parametrize(
    "changes", [{"memory": "127Mi"}, {"memory": "5Ti"}, {"storage": "15Mi"}, {"storage": "65Ti"}, {"memory": "2"}]
)
def test_size_out_of_bounds_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="out of bounds"):
        Resources(**{"cpu": 1.0, "memory": "1Gi", "storage": "1Gi"} | changes)


@pytest.mark.parametrize(("cpu"), [0, -1, 129, float("nan"), float("inf")])
def test_cpu_out_of_bounds_is_refused(cpu: float) -> None:
    with pytest.raises(ValidationError):
        Resources(cpu=cpu, memory="1Gi", storage="1Gi")


def test_folder_of_another_name_is_refused(tmp_path: Path) -> None:
    folder = write_template(tmp_path, name="other")
    with pytest.raises(TemplateError, match="'other' but the folder is 'small'") as refused:
        load_template(folder)
    assert refused.value.field == "/name"


def test_missing_content_and_landing_are_refused(tmp_path: Path) -> None:
    folder = write_template(tmp_path)
    (folder / "content" / "start.ipynb").unlink()
    with pytest.raises(TemplateError, match=r"has no file start\.ipynb"):
        load_template(folder)
    (folder / "content").rmdir()
    with pytest.raises(TemplateError, match="there is no folder"):
        load_template(folder)


def test_error_names_file_field_and_fix(tmp_path: Path) -> None:
    folder = write_template(tmp_path, resources={"cpu": 1, "memory": "1Mi", "storage": "1Gi"}, default_seats=0)
    with pytest.raises(TemplateError) as refused:
        load_template(folder)
    assert isinstance(refused.value, InvalidInput)
    assert refused.value.field == "/resources/memory"
    for part in ("template.yaml", "resources.memory", "give a size from 128Mi", "1 more", "template lint"):
        assert part in str(refused.value)


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2\n", "\ta: 1", "- 1\n", "", "a: !!python/object:os.system x\n"])
def test_text_that_is_no_template_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_template(tmp_path)
    (folder / "template.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TemplateError):
        load_template(folder)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    folder = write_template(tmp_path)
    (folder / "template.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(TemplateError, match="can't be read"):
        load_template(folder)


def test_folder_without_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="is not a template"):
        load_template(tmp_path)


def test_broken_template_does_not_hide_the_others(tmp_path: Path) -> None:
    write_template(tmp_path)
    for other in ("broken", "_private", ".hidden"):
        (tmp_path / other).mkdir()
    (tmp_path / "a-file").touch()
    templates, errors = list_templates(tmp_path)
    assert list(templates) == ["small"]
    assert list(errors) == ["broken"]


def test_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="can't be read"):
        list_templates(tmp_path / "nowhere")


def test_digest_changes_with_content_and_with_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("one", encoding="utf-8")
    before = content_digest(tmp_path)

    (tmp_path / "empty").mkdir()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").touch()
    (tmp_path / "sub" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "sub" / ".ipynb_checkpoints" / "x").touch()
    os.utime(tmp_path / "sub" / "file", (0, 0))
    (tmp_path / "sub" / "file").chmod(0o755)
    assert content_digest(tmp_path) == before

    (tmp_path / "sub" / "file").write_text("two", encoding="utf-8")
    changed = content_digest(tmp_path)
    (tmp_path / "sub" / "file").rename(tmp_path / "sub" / "name")
    assert len({before, changed, content_digest(tmp_path)}) == 3


@given(st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=4)), min_size=2, max_size=2, unique=True))
def test_digest_tells_apart_what_differs(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes]]
) -> None:
    digests = set()
    for name, data in files:
        folder = tmp_path_factory.mktemp("content")
        (folder / name).write_bytes(data)
        digests.add(content_digest(folder))
    assert len(digests) == 2


def test_links_inside_are_kept_and_others_refused(tmp_path: Path) -> None:
    content = tmp_path / "content"
    (content / "sub").mkdir(parents=True)
    (content / "file").write_text("x", encoding="utf-8")
    (tmp_path / "outside").touch()
    plain = content_digest(content)
    (content / "sub" / "link").symlink_to("../file")
    assert link_problem(content, content / "sub" / "link") is None
    assert [str(path) for path in content_files(content)] == ["file", "sub/link"]
    assert content_digest(content) != plain

    for target, problem in [
        ("../../outside", "leaves the content folder"),
        (str(content / "file"), "absolute path"),
        ("nowhere", "doesn't exist"),
        ("link", "doesn't exist"),
    ]:
        (content / "sub" / "link").unlink()
        (content / "sub" / "link").symlink_to(target)
        with pytest.raises(TemplateError, match=problem):
            content_digest(content)


def test_pipe_in_content_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TemplateError, match="neither a file nor a link"):
        content_digest(tmp_path)


def test_content_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="can't be read"):
        content_digest(tmp_path / "nowhere")


def test_snapshot_survives_json(tmp_path: Path) -> None:
    folder = write_template(tmp_path, environment={"requirements": ["numpy>=2"], "variables": {"A": "b"}})
    taken = snapshot(folder)
    assert taken.content_digest == content_digest(folder / "content")
    assert TemplateSnapshot.model_validate_json(taken.model_dump_json()) == taken
    assert TemplateSnapshot.model_validate(json.loads(json.dumps(taken.model_dump(mode="json")))) == taken


def test_built_in_templates_are_found_as_a_package_or_in_the_checkout(tmp_path: Path) -> None:
    assert list_templates(builtin_templates_root()).errors == {}
    package = tmp_path / "orchestra_templates"
    shutil.copytree(builtin_templates_root(), package, ignore=shutil.ignore_patterns("content", "__pycache__"))
    answer = subprocess.run(
        [sys.executable, "-c", "import orchestra_hub.templates as t; print(t.builtin_templates_root())"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(answer.stdout.strip()) == package


def test_package_of_templates_is_code_free() -> None:
    root = builtin_templates_root()
    assert (root / "__init__.py").read_text(encoding="utf-8").count("\n") == 1


def test_published_schema_is_up_to_date() -> None:
    published = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert published == template_json_schema(), f"write it anew: orchestra-hub template schema > {SCHEMA}"


@pytest.mark.parametrize("model", [Template, Resources, Environment, TemplateSnapshot])
def test_every_field_is_documented(model: type[Template]) -> None:
    reference = REFERENCE.read_text(encoding="utf-8")
    for name, field in model.model_fields.items():
        assert field.description, name
        assert f"`{name}`" in reference, f"{name} is missing in {REFERENCE}"
