"""Templates: what a kind of workshop needs, read from `<name>/template.yaml` and checked.

What this module guarantees:

- A `Template` that exists is valid: every field within its bounds, no field unknown. It can't be
  changed afterwards.
- `load_template` answers only if the folder agrees with the file: same name, content and landing
  there. `orchestra_hub.template_lint` says the same things with line numbers, all at once.
- A `TemplateSnapshot` is what a workshop keeps. It survives a round trip through JSON, and its
  `content_digest` changes when, and only when, what is copied to a seat changes.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.parser import ParserError

from orchestra_hub.errors import InvalidInput

__all__ = [
    "TEMPLATE_FILE",
    "Environment",
    "Resources",
    "Template",
    "TemplateError",
    "TemplateListing",
    "TemplateSnapshot",
    "builtin_templates_root",
    "check_plain_yaml",
    "content_digest",
    "content_files",
    "link_problem",
    "list_templates",
    "load_template",
    "quantity_bytes",
    "snapshot",
    "template_json_schema",
]

TEMPLATE_FILE = "template.yaml"
"""The name of the file that makes a folder a template."""

_QUANTITY = r"^([0-9]+(\.[0-9]+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?$"
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

# The grammar of the distribution project's reference package: [host[:port]/]path[:tag][@digest].
_PATH_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
_IMAGE = (
    rf"^({_HOST}(:[0-9]+)?/)?{_PATH_PART}(/{_PATH_PART})*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$"
)

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED_VARIABLES = ("PATH", "HOME")
_RESERVED_PREFIXES = ("JUPYTERHUB_", "JUPYTER_", "LD_", "PYTHON")

_MAX_DEPTH = 10  # of mappings and lists in template.yaml; a right one has 3

_LEFT_BEHIND = frozenset({".ipynb_checkpoints", "__pycache__", ".DS_Store"})


class TemplateError(InvalidInput):
    """A template, or the folder it is in, can't be used as it stands."""


def _refusal(problem: str, fix: str) -> PydanticCustomError:
    """A validation error of our own; the linter shows `fix` after `problem`."""
    return PydanticCustomError("template", "{problem}", {"problem": problem, "fix": fix})


def quantity_bytes(quantity: str) -> int:
    """The bytes in a Kubernetes quantity such as `2Gi` or `1.5G`, rounded down.

    Milli-units and exponents, which Kubernetes also takes, are refused: in a size they are slips.

    Raises:
        TemplateError: `quantity` isn't a number with one of those suffixes.
    """
    match = re.fullmatch(_QUANTITY, quantity)
    if match is None:
        raise TemplateError(f"{quantity!r} is not a size. Write a number and a unit, such as 2Gi.")
    return int(Decimal(match[1]) * _UNITS[match[3] or ""])


def _quantity_between(least: str, most: str) -> AfterValidator:
    def check(quantity: str) -> str:
        if not quantity_bytes(least) <= quantity_bytes(quantity) <= quantity_bytes(most):
            raise _refusal(f"{quantity} is out of bounds", f"give a size from {least} to {most}")
        return quantity

    return AfterValidator(check)


class _Model(BaseModel):
    # strict: in a file that people review, `"3"` for a number is a slip, not a wish.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Resources(_Model):
    """What one seat gets."""

    cpu: Annotated[float, Field(gt=0, le=128)] = Field(
        description="Processor cores one seat may use; fractions are allowed.", examples=[1, 0.5]
    )
    memory: Annotated[str, Field(pattern=_QUANTITY), _quantity_between("128Mi", "4Ti")] = Field(
        description="Memory one seat may use, as a Kubernetes quantity from 128Mi to 4Ti. "
        "A seat that uses more is stopped by the system.",
        examples=["2Gi"],
    )
    storage: Annotated[str, Field(pattern=_QUANTITY), _quantity_between("16Mi", "64Ti")] = Field(
        description="Size of the volume one seat keeps its files on, as a Kubernetes quantity "
        "from 16Mi to 64Ti. The content is copied onto it and must fit.",
        examples=["1Gi"],
    )

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return quantity_bytes(self.memory)

    @property
    def storage_bytes(self) -> int:
        """`storage` in bytes."""
        return quantity_bytes(self.storage)


class Environment(_Model):
    """What a seat's notebooks find installed and set."""

    requirements: list[str] = Field(
        default_factory=list,
        max_length=200,
        description="Python packages (PEP 508), installed with pip on top of the platform's seat "
        "environment. Empty: that environment is enough.",
        examples=[["biopython>=1.84"]],
    )
    variables: dict[str, str] = Field(
        default_factory=dict,
        max_length=100,
        description="Environment variables set in every seat. PATH, HOME and names that start "
        "with JUPYTERHUB_, JUPYTER_, LD_ or PYTHON belong to the platform and are refused. "
        "Everybody in a workshop can read them: no secrets.",
        examples=[{"COURSE_YEAR": "2031"}],
    )

    @field_validator("requirements")
    @classmethod
    def _requirements_are_pep_508(cls, requirements: list[str]) -> list[str]:
        for requirement in requirements:
            try:
                Requirement(requirement)
            except InvalidRequirement as error:
                raise _refusal(
                    f"{requirement!r} is not a PEP 508 requirement",
                    "write a package name with an optional version, such as biopython>=1.84; "
                    "pip's own options don't belong here",
                ) from error
        return requirements

    @field_validator("variables")
    @classmethod
    def _variables_are_ours_to_set(cls, variables: dict[str, str]) -> dict[str, str]:
        for name, value in variables.items():
            if not _VARIABLE_NAME.fullmatch(name):
                raise _refusal(
                    f"{name!r} can't name an environment variable",
                    "use letters, digits and underscores, and no digit first",
                )
            if name in _RESERVED_VARIABLES or name.startswith(_RESERVED_PREFIXES):
                raise _refusal(f"{name} belongs to the platform", "choose another name")
            if "\0" in value:
                raise _refusal(f"the value of {name} holds a NUL character", "take it out")
        return variables


class Template(_Model):
    """A reviewed description of a kind of workshop."""

    schema_version: Literal[1] = Field(description="Version of this file format; always 1.", examples=[1])
    name: str = Field(
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$",
        max_length=40,
        description="Identifies the template; equals the name of its folder. Small letters, "
        "digits and single hyphens, at most 40 characters.",
        examples=["rnaseq-intro"],
    )
    title: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^\S(.*\S)?$",
        description="What people see as the workshop's title, on one line of at most 100 characters.",
        examples=["RNA-seq from counts to a volcano plot"],
    )
    summary: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^\S(.*\S)?$",
        description="One line of at most 200 characters for lists of templates.",
        examples=["Find the genes a treatment changes."],
    )
    description: str = Field(
        default="",
        max_length=20_000,
        description="What the workshop teaches and for whom, in Markdown.",
        examples=["For biologists who have used Python once."],
    )
    content: str = Field(
        default="content",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="The folder beside template.yaml whose files are copied to each seat.",
        examples=["content"],
    )
    landing: str = Field(
        min_length=1,
        max_length=200,
        description="The file in the content folder that opens first, as a path with forward "
        "slashes relative to that folder.",
        examples=["01-start.ipynb"],
    )
    image: str = Field(
        pattern=_IMAGE,
        max_length=255,
        description="The container image of a seat, as an OCI reference. Used on Kubernetes only.",
        examples=["orchestra-hub/seat:0.1.0"],
    )
    resources: Resources = Field(description="What one seat gets: processor, memory, storage.")
    environment: Environment = Field(
        default_factory=Environment, description="Packages and variables a seat has in addition."
    )
    default_duration_h: float = Field(
        gt=0,
        le=8784,
        description="Hours a workshop lasts if its instructor doesn't say otherwise; not more than max_duration_h.",
        examples=[6],
    )
    max_duration_h: float = Field(
        gt=0,
        le=8784,
        description="Hours from the opening to the deadline, past which no workshop of this template can be extended.",
        examples=[48],
    )
    default_seats: int = Field(
        default=20,
        ge=1,
        le=10_000,
        description="Learners' places in a workshop if its instructor doesn't say otherwise.",
        examples=[20],
    )
    idle_timeout_min: int = Field(
        default=60,
        ge=1,
        le=10_080,
        description="Minutes a seat may stand unused before it is stopped. Its files are kept.",
        examples=[60],
    )
    retention_d: int = Field(
        default=14,
        ge=0,
        le=3650,
        description="Days the data is kept after the workshop expires, for export; then it is purged.",
        examples=[14],
    )
    learner_export: bool = Field(
        default=True,
        description="Whether learners, too, may export their own files after the workshop expires.",
        examples=[True],
    )

    @field_validator("landing")
    @classmethod
    def _landing_stays_inside(cls, landing: str) -> str:
        path = PurePosixPath(landing)
        if path.is_absolute() or ".." in path.parts or "\\" in landing or str(path) != landing:
            raise _refusal(
                f"landing {landing!r} is not a plain path inside the content folder",
                "write it relative to that folder, with forward slashes and no '..'",
            )
        return landing

    @field_validator("max_duration_h")
    @classmethod
    def _default_fits(cls, max_duration_h: float, info: ValidationInfo) -> float:
        default = info.data.get("default_duration_h")
        if default is not None and default > max_duration_h:
            raise _refusal(
                f"max_duration_h ({max_duration_h:g}) is less than default_duration_h ({default:g})",
                f"raise max_duration_h to {default:g} or more, or lower default_duration_h",
            )
        return max_duration_h


class TemplateSnapshot(Template):
    """A template as it was when a workshop was made from it: what the workshop keeps."""

    content_digest: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 over the content folder's files, as 64 hexadecimal digits.",
    )


class TemplateListing(NamedTuple):
    """The templates of one folder by name, and why others of its folders aren't among them."""

    templates: dict[str, Template]
    errors: dict[str, TemplateError]


def check_plain_yaml(text: str) -> None:
    """Refuse what no template needs and what can grow without end: aliases, and deep nesting.

    Raises:
        YAMLError: `text` has one of these, or isn't YAML; with the place, if there is one.
    """
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if isinstance(event, AliasEvent):
            raise ParserError(problem="aliases are not taken here", problem_mark=event.start_mark)
        if depth > _MAX_DEPTH:
            raise ParserError(problem="nested too deeply", problem_mark=event.start_mark)


def load_template(folder: Path) -> Template:
    """The template described in `folder`, found to agree with the folder.

    Raises:
        TemplateError: the file is absent, unreadable or invalid, or `folder` has another name or
            lacks the content. Only the first problem is told; the linter tells all.
    """
    file = folder / TEMPLATE_FILE
    try:
        text = file.read_text(encoding="utf-8")
        check_plain_yaml(text)
        fields = YAML(typ="safe", pure=True).load(text)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TemplateError(f"{folder} is not a template: it has no {TEMPLATE_FILE}.") from error
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise TemplateError(f"{file} can't be read as YAML: {error}") from error
    try:
        template = Template.model_validate(fields)
    except ValidationError as error:
        raise _translated(error, file) from error
    if template.name != folder.resolve().name:
        raise TemplateError(
            f"{file}: name is {template.name!r} but the folder is {folder.resolve().name!r}. Give both the same name.",
            field="/name",
        )
    content = folder / template.content
    if content.is_symlink() or not content.is_dir():
        raise TemplateError(f"{file}: there is no folder {content}. Create it.", field="/content")
    if not (content / template.landing).is_file():
        raise TemplateError(
            f"{file}: {content} has no file {template.landing}. Create it or name another.",
            field="/landing",
        )
    return template


def _translated(error: ValidationError, file: Path) -> TemplateError:
    """Our error for the first of pydantic's."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    pointer = "".join(f"/{part}" for part in first["loc"])
    more = "" if error.error_count() == 1 else f" (and {error.error_count() - 1} more)"
    fix = f". Fix: {first['ctx']['fix']}" if first["type"] == "template" else ""
    return TemplateError(
        f"{file}: {where}: {first['msg']}{fix}{more}. "
        f"Run `orchestra-hub template lint {file.parent}` for every problem and its fix.",
        field=pointer or None,
    )


def list_templates(root: Path) -> TemplateListing:
    """Every template in the folders of `root`, in order of name.

    A broken template is no reason to go without the others: it stands in `errors`, under its
    folder's name. Folders that start with `_` or `.` are passed over.

    Raises:
        TemplateError: `root` isn't a folder that can be read.
    """
    try:
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
    except OSError as error:
        raise TemplateError(f"The templates' folder {root} can't be read: {error}") from error
    listing = TemplateListing({}, {})
    for folder in folders:
        if folder.name.startswith(("_", ".")):
            continue
        try:
            listing.templates[folder.name] = load_template(folder)
        except TemplateError as error:
            listing.errors[folder.name] = error
    return listing


def link_problem(content_folder: Path, link: Path) -> str | None:
    """Why the symbolic link `link` can't be copied to a seat, or None if it can."""
    target = os.readlink(link)
    if os.path.isabs(target):
        return f"the link {link.name} points to the absolute path {target}"
    try:
        resolved = link.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
        return f"the link {link.name} points to {target}, which doesn't exist"
    if not resolved.is_relative_to(content_folder.resolve()):
        return f"the link {link.name} leaves the content folder for {target}"
    return None


def content_files(content_folder: Path) -> list[PurePosixPath]:
    """What is copied to a seat: every file and link, relative to `content_folder`, sorted.

    Left behind are what editors and Python leave: checkpoints and caches. Empty folders don't
    count; git doesn't keep them either. A link to a folder is one entry and isn't entered.
    """
    return sorted(_walk(content_folder, PurePosixPath()))


def _walk(folder: Path, prefix: PurePosixPath) -> Iterator[PurePosixPath]:
    for entry in os.scandir(folder):
        if entry.name in _LEFT_BEHIND:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, prefix / entry.name)
        else:
            yield prefix / entry.name


def content_digest(content_folder: Path) -> str:
    """SHA-256 (64 hexadecimal digits) over the names and bytes of `content_files`.

    Times and permissions don't count: they differ between a checkout and an installed package.

    Raises:
        TemplateError: a link leads out of the folder, an entry is neither a file nor a link, or
            something can't be read.
    """
    tree = hashlib.sha256()
    try:
        for path in content_files(content_folder):
            entry = content_folder / path
            if entry.is_symlink():
                problem = link_problem(content_folder, entry)
                if problem is not None:
                    raise TemplateError(f"{entry}: {problem}. Copy the file in instead.")
                kind, digest = "link", hashlib.sha256(os.fsencode(os.readlink(entry))).hexdigest()
            elif entry.is_file():
                with entry.open("rb") as stream:
                    kind, digest = "file", hashlib.file_digest(stream, "sha256").hexdigest()
            else:
                raise TemplateError(f"{entry} is neither a file nor a link. Remove it.")
            tree.update(b"%s %s %s\0" % (kind.encode(), digest.encode(), os.fsencode(path)))
    except OSError as error:
        raise TemplateError(f"The content {content_folder} can't be read: {error}") from error
    return tree.hexdigest()


def snapshot(folder: Path) -> TemplateSnapshot:
    """The template in `folder` together with the digest of its content, for a workshop to keep.

    Raises:
        TemplateError: as `load_template` and `content_digest` do.
    """
    template = load_template(folder)
    digest = content_digest(folder / template.content)
    return TemplateSnapshot(**template.model_dump(), content_digest=digest)


def builtin_templates_root() -> Path:
    """The folder of the templates that come with Orchestra Hub, installed or in a checkout.

    Raises:
        TemplateError: neither is there, or the package was installed as a zip file.
    """
    try:
        found = importlib.resources.files("orchestra_templates")
    except ModuleNotFoundError:
        found = Path(__file__).resolve().parent.parent / "config" / "templates"
    if not isinstance(found, Path) or not found.is_dir():
        raise TemplateError(f"The built-in templates are not on disk ({found}). Install Orchestra Hub unzipped.")
    return found


def template_json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `template.yaml`, for editors that complete and check it."""
    schema = Template.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
