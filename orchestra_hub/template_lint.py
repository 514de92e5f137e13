"""Every problem of a template at once, each with its place and its fix.

What this module guarantees: `lint` reads and never writes, never runs what it reads, and answers
for any input rather than raising. A template without findings of severity `error` loads; what
else it finds is a `warning`: it works, but somebody will regret it.

Places come from composing the YAML into nodes, which know their line and column; values come from
pydantic's errors over the same nodes, joined by path.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nbformat.validator import iter_validate
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from orchestra_hub.templates import (
    TEMPLATE_FILE,
    Environment,
    Resources,
    Template,
    check_plain_yaml,
    content_files,
    link_problem,
)

__all__ = ["MAX_OUTPUT_BYTES", "Finding", "lint"]

MAX_OUTPUT_BYTES = 2**20
"""Saved outputs of one notebook above this size are reported: 1 MiB, as JSON."""

_Path = tuple[str | int, ...]
_Place = tuple[int, int]

_TYPE_WORDS = {
    "string_type": "text: put it in quotes",
    "int_type": "a whole number, without quotes",
    "float_type": "a number, without quotes",
    "bool_type": "true or false, without quotes",
    "list_type": "a list: one '- item' a line",
    "dict_type": "a mapping: one 'key: value' a line",
    "model_type": "a mapping: one 'key: value' a line, indented under the field",
    "int_from_float": "a whole number",
}


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One problem: where it is, what it is, what mends it. `line` and `column` count from 1."""

    file: Path
    line: int
    column: int
    field: str
    """The field's path with dots, such as `resources.memory`; empty if it isn't about a field."""
    problem: str
    fix: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.problem}. Fix: {self.fix}."


def lint(path: Path) -> list[Finding]:
    """The problems of the template at `path`, in order of place.

    `path` is a `template.yaml`, a template's folder, or a folder of templates, all of which are
    looked at.
    """
    if path.is_file():
        return _lint_file(path)
    if (path / TEMPLATE_FILE).is_file() or not path.is_dir():
        return _lint_file(path / TEMPLATE_FILE)
    files = sorted(path.glob(f"[!_.]*/{TEMPLATE_FILE}"))
    if not files:
        return _lint_file(path / TEMPLATE_FILE)
    return [finding for file in files for finding in _lint_file(file)]


def _lint_file(file: Path) -> list[Finding]:
    """The problems of one template, given its file."""
    try:
        text = file.read_text(encoding="utf-8")
        check_plain_yaml(text)
        root = YAML(typ="safe", pure=True).compose(text)
    except FileNotFoundError:
        fix = f"create {TEMPLATE_FILE}, or name the folder that has it"
        return [Finding(file, 1, 1, "", f"there is no {TEMPLATE_FILE} here", fix)]
    except UnicodeDecodeError as error:
        return [Finding(file, 1, 1, "", f"not UTF-8 text ({error})", "save the file as UTF-8")]
    except OSError as error:
        return [Finding(file, 1, 1, "", f"can't be read ({error.strerror})", "let it be read")]
    except YAMLError as error:
        return [_syntax_finding(file, error)]
    if not isinstance(root, MappingNode):
        fix = "start with `schema_version: 1`, then one 'field: value' a line"
        return [Finding(file, 1, 1, "", "the file is not a mapping of fields", fix)]
    findings = list(_duplicates(file, root))
    places = dict(_places(root, ()))
    if not findings:  # a mapping with a key twice has no one value to check
        findings += _field_findings(file, places)
    findings += _folder_findings(file, root, places)
    return sorted(set(findings))


def _syntax_finding(file: Path, error: YAMLError) -> Finding:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    problem = (error.problem if isinstance(error, MarkedYAMLError) else None) or str(error)
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    if "\\t" in problem or (mark is not None and _has_tab_indent(file, line)):
        fix = "indent with spaces: YAML takes no tabs there"
    elif "aliases" in problem:
        fix = "write the value itself"
    elif "mapping values are not allowed" in problem:
        fix = "put text that holds ': ' in quotes, or align this line with its neighbours"
    else:
        fix = "check the indentation, quotes and brackets of this line and the one above it"
    return Finding(file, line, column, "", f"not valid YAML ({problem})", fix)


def _has_tab_indent(file: Path, line: int) -> bool:
    text = file.read_text(encoding="utf-8").splitlines()[line - 1 : line]
    return any("\t" in row[: len(row) - len(row.lstrip())] for row in text)


def _place(node: Node) -> _Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _places(node: Node, path: _Path) -> Iterator[tuple[_Path, _Place]]:
    """Where each field stands: the key of a mapping's entry, the item of a list's."""
    yield path, (1, 1) if not path else _place(node)
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _places(value, (*path, key.value))
            yield (*path, key.value), _place(key)
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield from _places(item, (*path, index))


def _duplicates(file: Path, node: Node, path: str = "") -> Iterator[Finding]:
    """A finding for each key that its mapping has already."""
    if isinstance(node, SequenceNode):
        for item in node.value:
            yield from _duplicates(file, item, path)
    if not isinstance(node, MappingNode):
        return
    first: dict[Any, int] = {}
    for key, value in node.value:
        field = f"{path}.{key.value}".lstrip(".")
        if key.value in first:
            problem = f"{field} is given twice, first in line {first[key.value]}"
            yield Finding(file, *_place(key), field, problem, "keep one of the two")
        first.setdefault(key.value, _place(key)[0])
        yield from _duplicates(file, value, field)


def _field_findings(file: Path, places: Mapping[_Path, _Place]) -> Iterator[Finding]:
    """A finding for each of pydantic's errors."""
    try:
        values = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except YAMLError as error:  # composed, but a tag or a value can't be built
        yield _syntax_finding(file, error)
        return
    try:
        template = Template.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        renamed = {(*problem["loc"][:-1], _nearest(problem["loc"])) for problem in problems if _is_unknown(problem)}
        for problem in problems:
            if problem["type"] != "missing" or problem["loc"] not in renamed:
                yield _finding_of(file, problem, places)
        return
    tag = template.image.rpartition("/")[2]
    if "@" not in tag and (":" not in tag or tag.endswith(":latest")):
        yield Finding(
            file,
            *places[("image",)],
            "image",
            f"image {template.image} can change under a running workshop",
            "give a version, such as :1.2.0, or a digest",
            "warning",
        )


def _finding_of(file: Path, details: ErrorDetails, places: Mapping[_Path, _Place]) -> Finding:
    """Pydantic's error in words for a person, with the place of the nearest node there is."""
    path = tuple(part for part in details["loc"] if part != "[key]")
    known = path
    while known not in places:
        known = known[:-1]
    field = ".".join(str(part) for part in path)
    problem, fix = _words(field, path, details)
    return Finding(file, *places[known], field, problem, fix)


def _words(field: str, path: _Path, details: ErrorDetails) -> tuple[str, str]:
    """Problem and fix for an error; `path` never empty but for a file that isn't a mapping."""
    kind, limits = details["type"], details.get("ctx", {})
    given = _shortened(details["input"])
    match kind:
        case "template":
            return str(limits["problem"]), str(limits["fix"])
        case "missing":
            return f"{field} is missing", f"add `{path[-1]}: {_example(path)}`"
        case "extra_forbidden":
            near = _nearest(path)
            fix = f"write {near}" if near else f"take it out; known here are {', '.join(_known_fields(path))}"
            return f"{field} is not a field of a template", fix
        case "literal_error":
            return f"{field} is {given}", f"write `{path[-1]}: {_example(path)}`"
        case "string_pattern_mismatch":
            return (
                f"{field} {given} is not of the right form",
                f"write one such as {_example(path)}",
            )
        case "string_too_long" | "too_long":
            return f"{field} is longer than {limits['max_length']}", "shorten it"
        case "string_too_short":
            return f"{field} is empty", f"write something, such as {_example(path)}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            word = kind.replace("_", " ").replace("than equal", "than or equal to")
            limit = next(iter(limits.values()))
            return f"{field} is {given}, out of bounds", f"give a number {word} {limit}"
        case _ if kind in _TYPE_WORDS:
            return f"{field} is {given}, of the wrong type", f"write {_TYPE_WORDS[kind]}"
        case _:
            return f"{field}: {details['msg']}", f"write something like {_example(path)}"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _model_at(path: _Path) -> type[BaseModel]:
    """The model that holds the field at `path`."""
    nested: dict[str | int, type[BaseModel]] = {"resources": Resources, "environment": Environment}
    return nested.get(path[0], Template) if len(path) > 1 else Template


def _known_fields(path: _Path) -> list[str]:
    return list(_model_at(path).model_fields)


def _is_unknown(details: ErrorDetails) -> bool:
    return details["type"] == "extra_forbidden"


def _nearest(path: _Path) -> str | None:
    """The known field whose name is like the unknown one's, if there is one."""
    return next(iter(difflib.get_close_matches(str(path[-1]), _known_fields(path), n=1)), None)


def _example(path: _Path) -> str:
    """What a right value of the field looks like, as YAML on one line."""
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    field = _model_at(path).model_fields.get(name)
    if field is None or not field.examples:
        return '{cpu: 1, memory: "2Gi", storage: "1Gi"}' if name == "resources" else "its value"
    return json.dumps(field.examples[0])


def _text_at(root: MappingNode, field: str) -> str | None:
    """The text of a top-level field; its default if it isn't given; None if it isn't text."""
    for key, value in root.value:
        if key.value == field:
            return value.value if isinstance(value.value, str) and value.value else None
    default = Template.model_fields[field].default
    return default if isinstance(default, str) else None


def _folder_findings(file: Path, root: MappingNode, places: Mapping[_Path, _Place]) -> Iterator[Finding]:
    """Where the file and the folder it is in don't agree, and what is wrong in the content."""
    folder = file.resolve().parent
    name, content_name = _text_at(root, "name"), _text_at(root, "content")
    if name is not None and name != folder.name:
        problem = f"name is {name!r} but the folder is {folder.name!r}"
        yield Finding(file, *places[("name",)], "name", problem, "give both the same name")
    if content_name is None:
        return
    content = file.parent / content_name
    place = places.get(("content",), (1, 1))
    if content_name in (".", "..") or "/" in content_name or content.is_symlink():
        problem = f"content {content_name!r} is not a folder beside {TEMPLATE_FILE}"
        yield Finding(file, *place, "content", problem, "name a folder in the template's own")
        return
    if not content.is_dir():
        problem = f"there is no folder {content_name!r} beside {TEMPLATE_FILE}"
        yield Finding(file, *place, "content", problem, "create it with the notebooks in it")
        return
    landing = _text_at(root, "landing")
    if landing is not None and not (content / landing).is_file():
        place = places.get(("landing",), (1, 1))
        problem = f"{content_name} has no file {landing!r}"
        yield Finding(file, *place, "landing", problem, "create it, or name a file that is there")
    yield from _content_findings(content)


def _content_findings(content: Path) -> Iterator[Finding]:
    for path in content_files(content):
        entry = content / path
        if entry.is_symlink():
            problem = link_problem(content, entry)
            if problem is not None:
                yield Finding(entry, 1, 1, "", problem, "copy the file in instead of linking to it")
        elif not entry.is_file():
            yield Finding(entry, 1, 1, "", f"{entry.name} is neither file nor link", "remove it")
        elif entry.suffix == ".ipynb":
            yield from _notebook_findings(entry)


def _notebook_findings(file: Path) -> Iterator[Finding]:
    """What keeps a notebook from opening, and outputs that make it slow to open."""
    try:
        notebook = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        problem, fix = f"not a notebook ({error.msg})", "save it again from JupyterLab"
        yield Finding(file, error.lineno, error.colno, "", problem, fix)
        return
    except (OSError, UnicodeDecodeError) as error:
        yield Finding(file, 1, 1, "", f"can't be read ({error})", "save it again from JupyterLab")
        return
    at_odds = _format_problem(notebook)
    if at_odds is not None:
        fix = "open it in JupyterLab, which mends what it can, and save it"
        yield Finding(file, 1, 1, "", f"not a valid notebook ({at_odds})", fix)
        return
    outputs = [cell.get("outputs", []) for cell in notebook["cells"]]
    size = sum(len(json.dumps(saved)) for saved in outputs if saved)
    if size > MAX_OUTPUT_BYTES:
        problem = f"{size / 2**20:.1f} MiB of saved outputs, more than 1 MiB"
        fix = "clear all outputs and save: learners run the cells themselves"
        yield Finding(file, 1, 1, "", problem, fix, "warning")


def _format_problem(notebook: Any) -> str | None:
    """The first thing at odds with the notebook format, version 4, or None."""
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4:
        return "it doesn't say nbformat 4"
    if not isinstance(notebook.get("nbformat_minor"), int):
        return "it has no nbformat_minor"
    for error in iter_validate(notebook):  # type: ignore[no-untyped-call]  # nbformat has no types
        where = "/".join(str(part) for part in error.absolute_path)
        return f"at {where or 'the top'}: {_shortened(error.message)}"
    return None
