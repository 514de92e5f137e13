"""Makes a process of the platform stand still at a named point, so that a test can kill one there.

Python imports this by its name when its folder is on PYTHONPATH. Without `FAULTS_DIR` in the environment (seats don't
get it) it does nothing. `points.json` in that folder has the points; their functions are wrapped once their module is
imported. A wrapped function does what it always does unless `{point}.armed` lies there: whoever renames that file first
stands still until `go.{token}` appears, then goes on.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_LONGEST_S = 90.0
_POLL_S = 0.01


class _Point:
    """One point in this process."""

    def __init__(self, folder: Path, name: str, when: str, nth: int) -> None:
        self.when = when
        self._folder = folder
        self._name = name
        self._nth = nth
        self._seen: dict[str, int] = {}

    def reached(self, arguments: object) -> str | None:
        """The token of whoever waits for this call; None when nobody does."""
        armed = self._folder / f"{self._name}.armed"
        try:
            order = json.loads(armed.read_text())
        except (FileNotFoundError, ValueError):
            return None
        if any(needle not in repr(arguments) for needle in order["needles"]):
            return None
        token = str(order["token"])
        self._seen[token] = self._seen.get(token, 0) + 1
        if self._seen[token] != self._nth:
            return None
        try:
            os.rename(armed, self._folder / f"taken.{token}")
        except FileNotFoundError:  # another process was first
            return None
        held = self._folder / f"held.{token}"
        held.with_suffix(".new").write_text(str(os.getpid()))
        held.with_suffix(".new").rename(held)
        return token

    def goes_on(self, token: str, deadline_s: float) -> bool:
        """Whether the wait is over."""
        return (self._folder / f"go.{token}").exists() or time.monotonic() > deadline_s

    def hold(self, arguments: object) -> None:
        """Stand still if this is the call."""
        token = self.reached(arguments)
        deadline_s = time.monotonic() + _LONGEST_S
        while token is not None and not self.goes_on(token, deadline_s):
            time.sleep(_POLL_S)

    async def hold_task(self, arguments: object) -> None:
        """The same for a coroutine: the others of its loop go on."""
        token = self.reached(arguments)
        deadline_s = time.monotonic() + _LONGEST_S
        while token is not None and not self.goes_on(token, deadline_s):
            await asyncio.sleep(_POLL_S)


def _wrapped(function: Callable[..., Any], point: _Point) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def task(*args: Any, **kwargs: Any) -> Any:
            if point.when == "before":
                await point.hold_task((args, kwargs))
                return await function(*args, **kwargs)
            result = await function(*args, **kwargs)
            await point.hold_task((args, kwargs))
            return result

        return task

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if point.when == "before":
            point.hold((args, kwargs))
            return function(*args, **kwargs)
        result = function(*args, **kwargs)
        point.hold((args, kwargs))
        return result

    return call


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the points as they always are found, and wraps what they define."""

    def __init__(self, folder: Path, points: list[dict[str, Any]]) -> None:
        self._folder = folder
        self._points = points

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's own spec, with a loader that wraps afterwards."""
        if all(point["module"] != fullname for point in self._points):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            self._wrap(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # this one spec's loader
        return spec

    def _wrap(self, module: ModuleType) -> None:
        for point in self._points:
            if point["module"] != module.__name__:
                continue
            *owners, last = point["function"].split(".")
            owner: Any = module
            try:
                for name in owners:
                    owner = getattr(owner, name)
                function = getattr(owner, last)
            except AttributeError:
                (self._folder / f"missing.{point['name']}").touch()
                continue
            setattr(owner, last, _wrapped(function, _Point(self._folder, point["name"], point["when"], point["nth"])))


def _install() -> None:
    folder = os.environ.get("FAULTS_DIR")
    if folder:
        points = json.loads((Path(folder) / "points.json").read_text())
        sys.meta_path.insert(0, _Finder(Path(folder), points))


_install()
