"""A seat's folder: filled once, its packages its own. Real environments, real pip, no network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from orchestra_hub.errors import InvalidInput, ProvisionFailed
from orchestra_spawner.environments import Environments
from orchestra_spawner.folders import SeatFolders, SeatLayout, environment_hash
from orchestra_spawner.overlay import site_folders

WORKSHOP = "counting-may-abcdef"
KEY = "ada-0123456789"
OFFLINE = {"PATH": os.defpath, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def make_wheel(folder: Path, name: str, version: str, *, module: str | None = None) -> Path:
    """A wheel with one module that says its version, and a program of its name."""
    module = module or name.replace("-", "_")
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    files = {
        f"{module}.py": f'WHERE = "{version}"\n\ndef main():\n    print(WHERE)\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {module}:main\n",
    }
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}")
    record = "\n".join([*lines, f"{info}/RECORD,,", ""])
    wheel = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return wheel


def run(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], env=OFFLINE, capture_output=True, text=True, timeout=60)


@pytest.fixture
def folders(tmp_path: Path) -> SeatFolders:
    """A workshop that is prepared."""
    made = SeatFolders(tmp_path)
    made.content(WORKSHOP).mkdir(parents=True)
    (made.content(WORKSHOP) / "start.ipynb").write_text("{}")
    (made.content(WORKSHOP) / "data").mkdir()
    made.prepared(WORKSHOP).write_text("{}")
    return made


@pytest.fixture
def layout(folders: SeatFolders) -> SeatLayout:
    return folders.lay_out_seat(WORKSHOP, KEY)


def platform_listing() -> dict[str, int]:
    """Every package's folder of the platform, with its time of change."""
    entries = [entry for folder in site_folders(Path(sys.prefix)) for entry in os.scandir(folder)]
    return {entry.path: entry.stat().st_mtime_ns for entry in entries if entry.name.endswith(".dist-info")}


def test_the_content_is_copied_once_and_the_learners_work_is_kept(folders: SeatFolders, layout: SeatLayout) -> None:
    (layout.home / "start.ipynb").write_text("my work")
    (layout.home / "data").rmdir()
    (folders.content(WORKSHOP) / "new.ipynb").write_text("{}")
    assert folders.lay_out_seat(WORKSHOP, KEY) == layout
    assert (layout.home / "start.ipynb").read_text() == "my work"
    assert [path.name for path in layout.home.iterdir()] == ["start.ipynb"]


def test_a_copy_that_was_broken_off_is_made_anew(folders: SeatFolders) -> None:
    seat = folders.seat(WORKSHOP, KEY)
    (seat / ".home-broken").mkdir(parents=True)
    layout = folders.lay_out_seat(WORKSHOP, KEY)
    assert sorted(path.name for path in layout.home.iterdir()) == ["data", "start.ipynb"]
    assert not list(seat.glob(".home-*"))


def test_everything_is_its_owners_alone(folders: SeatFolders, layout: SeatLayout) -> None:
    for folder in (folders.seat(WORKSHOP, KEY), layout.home, layout.venv, layout.jupyter_dir):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_an_ordinary_server_has_an_empty_home(folders: SeatFolders) -> None:
    layout = folders.lay_out_ordinary(KEY)
    assert list(layout.home.iterdir()) == []
    assert layout.home.is_relative_to(folders.root / "users" / KEY)


def test_a_workshop_in_the_making_says_so(folders: SeatFolders) -> None:
    folders.prepared(WORKSHOP).unlink()
    with pytest.raises(ProvisionFailed, match="still being prepared"):
        folders.lay_out_seat(WORKSHOP, KEY)
    assert not folders.seat(WORKSHOP, KEY).exists()


@pytest.mark.parametrize("key", ["", "..", "a/b", "../up", "-x", "x" * 100, "A"])
def test_a_key_never_leads_out(folders: SeatFolders, key: str) -> None:
    with pytest.raises(InvalidInput):
        folders.seat(WORKSHOP, key)


@pytest.mark.parametrize("workshop_id", ["..", "a/b", "app", ""])
def test_an_id_never_leads_out(folders: SeatFolders, workshop_id: str) -> None:
    with pytest.raises(InvalidInput):
        folders.workshop(workshop_id)


def test_the_platforms_packages_are_there(layout: SeatLayout) -> None:
    found = run(layout.venv / "bin" / "python", "-c", "import sys, ipykernel; print(sys.prefix, ipykernel.__file__)")
    prefix, file = found.stdout.split()
    assert prefix == str(layout.venv), found.stderr
    assert Path(file).is_relative_to(sys.prefix)


def test_pip_installs_into_the_seat_and_the_platform_stays_as_it_was(
    layout: SeatLayout, folders: SeatFolders, tmp_path: Path
) -> None:
    before = platform_listing()
    python = layout.venv / "bin" / "python"
    assert str(layout.venv) not in run(python, "-m", "pip", "--version").stdout  # the platform's pip
    installed = run(layout.venv / "bin" / "pip", "install", make_wheel(tmp_path, "tiny-thing", "1.5"))
    assert installed.returncode == 0, installed.stderr
    assert run(layout.venv / "bin" / "tiny-thing").stdout == "1.5\n"
    assert folders.lay_out_seat(WORKSHOP, KEY) == layout
    assert run(python, "-c", "import tiny_thing; print(tiny_thing.WHERE)").stdout == "1.5\n"
    other = folders.lay_out_seat(WORKSHOP, "bob-0123456789")
    assert "ModuleNotFoundError" in run(other.venv / "bin" / "python", "-c", "import tiny_thing").stderr
    assert platform_listing() == before


def test_another_version_of_a_platform_package_shadows_it_in_the_seat_only(layout: SeatLayout, tmp_path: Path) -> None:
    before = platform_listing()
    python = layout.venv / "bin" / "python"
    wheel = make_wheel(tmp_path, "httpx", "99.0")
    installed = run(python, "-m", "pip", "install", wheel)
    assert installed.returncode == 0, installed.stderr
    assert run(python, "-c", "import httpx; print(httpx.WHERE)").stdout == "99.0\n"
    assert platform_listing() == before
    run(python, "-m", "pip", "uninstall", "--yes", "httpx")
    refused = run(python, "-m", "pip", "uninstall", "--yes", "httpx")
    assert "outside environment" in refused.stdout + refused.stderr
    assert platform_listing() == before


def test_the_kernel_runs_the_seats_python(layout: SeatLayout) -> None:
    spec = json.loads((layout.jupyter_dir / "kernels" / "python3" / "kernel.json").read_text())
    assert spec["argv"][0] == str(layout.venv / "bin" / "python")
    assert spec["display_name"] == "Python 3 (ipykernel)"
    shown = run(layout.venv / "bin" / "python", "-m", "ipykernel_launcher", "--version")
    assert shown.returncode == 0, shown.stderr


def test_an_environment_that_was_broken_off_is_completed(folders: SeatFolders, layout: SeatLayout) -> None:
    (layout.venv / "orchestra.json").unlink()
    (layout.venv / "bin" / "python").unlink()
    (layout.venv / "bin" / "pip").unlink()
    folders.lay_out_seat(WORKSHOP, KEY)
    assert run(layout.venv / "bin" / "pip", "--version").returncode == 0


def test_an_environments_name_depends_on_its_requirements_not_on_their_order() -> None:
    assert environment_hash(["a", "b"]) == environment_hash(["b", "a", "a"]) != environment_hash(["a"])


async def test_a_templates_requirements_are_between_seat_and_platform(
    folders: SeatFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = platform_listing()
    make_wheel(tmp_path, "course-tool", "2.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "secret")
    environments = Environments(folders)
    await environments.ensure(["course-tool>=1"])
    layout = folders.lay_out_seat(WORKSHOP, KEY, ["course-tool>=1"])
    assert (
        run(layout.venv / "bin" / "python", "-c", "import course_tool, numpy; print(course_tool.WHERE)").stdout
        == "2.0\n"
    )
    assert run(layout.path[1] / "course-tool").stdout == "2.0\n"
    ready = folders.environment(["course-tool>=1"]) / "ready"
    made_at = ready.stat().st_mtime_ns
    await environments.ensure(["course-tool>=1"])
    assert ready.stat().st_mtime_ns == made_at
    assert platform_listing() == before


async def test_requirements_that_cannot_be_met_say_why(folders: SeatFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ProvisionFailed, match="No matching distribution found for not-there"):
        await Environments(folders).ensure(["not-there"])
    assert not (folders.environment(["not-there"]) / "ready").exists()


async def test_a_build_that_hangs_is_ended(folders: SeatFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ProvisionFailed, match="within 0 s"):
        await Environments(folders, pip_timeout_s=0).ensure(["not-there"])
