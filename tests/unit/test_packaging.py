"""The package's metadata says what is in the folders."""

from __future__ import annotations

import configparser
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def folders(metadata: configparser.ConfigParser) -> dict[str, Path]:
    pairs = (line.split("=") for line in lines(metadata["options"]["package_dir"]))
    return {name.strip(): ROOT / folder.strip() for name, folder in pairs}


def test_every_package_is_listed(metadata: configparser.ConfigParser) -> None:
    found = set()
    for name, folder in folders(metadata).items():
        for init in folder.rglob("__init__.py"):
            parts = init.parent.relative_to(folder).parts
            if not any("-" in part for part in parts):
                found.add(".".join((name, *parts)))
    assert sorted(found) == lines(metadata["options"]["packages"])


def test_every_file_that_is_no_module_is_package_data(metadata: configparser.ConfigParser) -> None:
    left_out = []
    for name, folder in folders(metadata).items():
        patterns = lines(metadata["options.package_data"][name])
        included = {
            path for pattern in patterns for path in folder.glob(f"{pattern}/*" if pattern == "**" else pattern)
        }
        included |= {path for found in included if found.is_dir() for path in found.rglob("*")}
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc") and path not in included:
                left_out.append(str(path.relative_to(ROOT)))
    assert left_out == []


def test_entry_points_lead_somewhere(metadata: configparser.ConfigParser) -> None:
    entries = [
        line.split("=")[1].strip() for group in metadata["options.entry_points"].values() for line in lines(group)
    ]
    assert len(entries) == 3
    for entry in entries:
        module, _, name = entry.partition(":")
        assert hasattr(import_module(module), name), entry


def test_every_requirement_has_a_range(metadata: configparser.ConfigParser) -> None:
    wanted = lines(metadata["options"]["install_requires"])
    for extra in metadata["options.extras_require"].values():
        wanted += lines(extra)
    assert wanted
    unbounded = [line for line in wanted if not re.search(r">=[\d.]+", line)]
    assert unbounded == []


def test_the_licence_is_the_one_that_is_named(metadata: configparser.ConfigParser) -> None:
    assert metadata["metadata"]["license"] == "BSD-3-Clause"
    assert "Redistribution and use in source and binary forms" in (ROOT / "LICENSE").read_text()
