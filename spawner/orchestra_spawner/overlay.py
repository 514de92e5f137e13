"""A Python environment on top of others: what is installed in it stays in it, what is below can be imported.

It is an ordinary `venv` whose `.pth` file adds the site folders of the environments below, after its own. `pip` runs
from below with this environment's Python: it installs here, and refuses to uninstall what lies outside.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import stat
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["is_current", "make_kernels", "make_overlay", "mend_command", "site_folders"]

_PTH = "_orchestra_below.pth"
_MARKER = "orchestra.json"
_PIP = '#!/bin/sh\nexec "$(dirname "$0")/python" -m pip "$@"\n'
_KERNEL = "python3"
_LONGEST_BYTES = 1_000_000


def site_folders(prefix: Path) -> list[Path]:
    """The folders of installed packages below `prefix`, of this Python's version."""
    return [Path(folder) for folder in site.getsitepackages([str(prefix)]) if Path(folder).is_dir()]


def make_overlay(folder: Path, below: Sequence[Path]) -> None:
    """An environment in `folder` over the prefixes `below`, first come first; packages already in it stay.

    Made anew when Python or what is below changed. Killed in the middle, the next call completes it.
    """
    if is_current(folder, below):
        return
    for link in folder.glob("bin/python*"):
        if link.is_symlink():
            link.unlink()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    lines = [f"import site; site.addsitedir({str(path)!r})" for prefix in below for path in site_folders(prefix)]
    (_purelib(folder) / _PTH).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for name in ("pip", "pip3"):
        script = folder / "bin" / name
        if not script.exists():
            script.write_text(_PIP, encoding="utf-8")
            script.chmod(0o755)
    (folder / _MARKER).write_text(json.dumps(_wanted(below)), encoding="utf-8")


def is_current(folder: Path, below: Sequence[Path]) -> bool:
    """Whether `make_overlay` has nothing to do. Only looks, also where a learner may have put anything."""
    return _read(folder / _MARKER) == _wanted(below) and (folder / "bin" / "python").exists()


def mend_command(folder: Path, below: Sequence[Path]) -> list[str]:
    """The command line of `make_overlay`, for whoever the folder belongs to."""
    return [sys.executable, "-P", "-m", "orchestra_spawner.overlay", str(folder), *map(str, below)]


def _wanted(below: Sequence[Path]) -> dict[str, Any]:
    return {"python": sys.version, "base": sys.base_prefix, "below": [str(prefix) for prefix in below]}


def _purelib(folder: Path) -> Path:
    variables = {"base": str(folder), "platbase": str(folder)}
    return Path(sysconfig.get_path("purelib", scheme="venv", vars=variables))


def make_kernels(folder: Path, environment: Path, below: Sequence[Path]) -> None:
    """Kernel specifications in `folder` that run the Python of `environment`.

    `python3` always; others (`python -m some_kernel`) as the environments below have them.
    """
    logos = [path for prefix in below for place in site_folders(prefix) for path in place.glob("ipykernel/resources/*")]
    argv = [str(environment / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {
        "argv": argv,
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "metadata": {"debugger": True},
    }
    _write_kernel(folder / _KERNEL, spec, [logo for logo in logos if logo.name.startswith("logo-")])
    for kernel, found in _kernels_below(below):
        if kernel.name != _KERNEL and not (folder / kernel.name).exists():
            found["argv"] = [argv[0], *found["argv"][1:]]
            _write_kernel(folder / kernel.name, found, list(kernel.glob("logo-*")))


def _kernels_below(below: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Kernels of the environments below that are Python programs."""
    for prefix in below:
        for kernel in sorted(prefix.glob("share/jupyter/kernels/*")):
            spec = _read(kernel / "kernel.json")
            argv = spec.get("argv") if spec else None
            if spec and argv and Path(str(argv[0])).name.startswith("python"):
                yield kernel, spec


def _write_kernel(folder: Path, spec: dict[str, Any], logos: Sequence[Path]) -> None:
    if _read(folder / "kernel.json") == spec:
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for logo in logos:
        shutil.copyfile(logo, folder / logo.name)
    (folder / "kernel.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")


def _read(file: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None when there is none, by whatever cause, also a link, a pipe or a huge file."""
    try:
        number = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(number, "rb") as stream:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                return None
            found = json.loads(stream.read(_LONGEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


if __name__ == "__main__":
    make_overlay(Path(sys.argv[1]), [Path(prefix) for prefix in sys.argv[2:]])
