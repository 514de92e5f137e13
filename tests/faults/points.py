"""Where processes are killed: the rows and columns of the kill table.

A point names a function of the product and whether its caller stands still before or after the call. Nothing in the
product knows of it; `hooks/sitecustomize.py` wraps the function in the processes under test. A point whose function is
gone fails its cells and says so.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["OPERATIONS", "POINTS", "PROCESSES", "Cell", "Point", "as_json", "cells_to_run"]

PROCESSES = ("hub", "proxy", "workshops", "reconciler", "up")
"""The columns. `up` comes last: its next start begins with no child that crashed lately."""

OPERATIONS = ("create", "prepare", "join", "start", "extend", "expire", "export", "purge")


@dataclass(frozen=True)
class Point:
    """One instant. `holder` is the process that stands still there; `nth`: at which call, counted once it is armed."""

    name: str
    operation: str
    holder: str
    module: str
    function: str
    when: str
    says: str
    quick: tuple[str, ...] = ()
    nth: int = 1


@dataclass(frozen=True)
class Cell:
    """A point and the process that is killed there."""

    point: Point
    process: str

    @property
    def id(self) -> str:
        """Its name among the tests."""
        return f"{self.point.name}-{self.process}"


POINTS = (
    Point(
        "create-uncommitted", "create", "workshops", "orchestra_hub.store.workshops", "note", "after",
        "everything is written, nothing committed",
    ),
    Point(
        "create-committed", "create", "workshops", "orchestra_services.workshops.context", "Context.tell_hub",
        "before", "committed, the hub not told", quick=("workshops",),
    ),
    Point(
        "prepare-unpacking", "prepare", "reconciler", "orchestra_hub.content", "_write", "after",
        "a part of the content is unpacked", quick=("up",), nth=3,
    ),
    Point(
        "join-committed", "join", "workshops", "orchestra_services.workshops.people", "known_to_hub", "before",
        "the place is committed, the hub's group not told",
    ),
    Point(
        "join-told", "join", "workshops", "orchestra_services.workshops.people", "_add", "after",
        "the group is told, that isn't noted yet", quick=("proxy",),
    ),
    Point(
        "start-filling", "start", "hub", "orchestra_spawner.folders", "shutil.copytree", "after",
        "the home is filled, not yet at its place",
    ),
    Point(
        "start-laid-out", "start", "hub", "orchestra_spawner.folders", "SeatFolders.lay_out_seat", "after",
        "the folder is laid out, no process yet",
    ),
    Point(
        "start-launched", "start", "hub", "orchestra_spawner.local", "write_record", "before",
        "the process runs, its id isn't on record", quick=("hub",), nth=2,
    ),
    Point(
        "start-recorded", "start", "hub", "orchestra_spawner.local", "OrchestraLocalSpawner.start", "after",
        "recorded and answering, the hub has not heard of it", quick=("hub",),
    ),
    Point(
        "start-unrouted", "start", "hub", "orchestra_hub.hub.proxy", "OrchestraTraefikProxy.add_user", "before",
        "the hub knows it, its route isn't there",
    ),
    Point(
        "extend-committed", "extend", "workshops", "orchestra_services.workshops.context", "Context.tell_hub",
        "before", "committed, the hub not told", quick=("workshops",),
    ),
    Point(
        "expire-written", "expire", "reconciler", "orchestra_hub.store.reconciling", "Reconciling.move", "after",
        "the state is written, seats run on", quick=("reconciler",),
    ),
    Point(
        "expire-stopping", "expire", "hub", "orchestra_spawner.local", "OrchestraLocalSpawner.stop", "before",
        "the hub is about to end the seat",
    ),
    Point(
        "expire-stopped", "expire", "hub", "orchestra_spawner.local", "OrchestraLocalSpawner.stop", "after",
        "the seat has ended, the hub has not written it",
    ),
    Point(
        "export-streaming", "export", "workshops", "orchestra_spawner.children", "Child.read", "after",
        "in the middle of the archive", quick=("workshops",), nth=60,
    ),
    Point(
        "purge-forgotten", "purge", "reconciler", "orchestra_services.reconciler.steps", "Actor._stop", "after",
        "the hub has forgotten the seats, all else is there",
    ),
    Point(
        "purge-group-deleted", "purge", "reconciler", "orchestra_hub.hub_api", "HubAPI.delete_group", "after",
        "the group is deleted, the files are there", quick=("up",),
    ),
    Point(
        "purge-counted", "purge", "reconciler", "orchestra_spawner.removal", "_write", "after",
        "the files are counted, none is removed", nth=2,
    ),
    Point(
        "purge-removing", "purge", "reconciler", "orchestra_spawner.removal", "_empty", "after",
        "a part of the files is removed",
    ),
    Point(
        "purge-unrecorded", "purge", "reconciler", "orchestra_hub.store.reconciling", "Reconciling.record_purge",
        "before", "all is removed, that isn't recorded",
    ),
    Point(
        "purge-recorded", "purge", "reconciler", "orchestra_hub.store.reconciling", "Reconciling.forget", "before",
        "recorded, the database's log still has names",
    ),
)  # fmt: skip
"""The rows. `quick` are the columns that every run of the tests has."""


def as_json() -> list[dict[str, Any]]:
    """What the processes under test have to know of the points."""
    return [{name: asdict(point)[name] for name in ("name", "module", "function", "when", "nth")} for point in POINTS]


def cells_to_run() -> list[Cell]:
    """All with ORCHESTRA_KILL_TABLE=all, otherwise the quick ones; rows in order, columns in order."""
    everything = os.environ.get("ORCHESTRA_KILL_TABLE") == "all"
    return [Cell(point, process) for point in POINTS for process in PROCESSES if everything or process in point.quick]
