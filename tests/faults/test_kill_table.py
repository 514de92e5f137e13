"""`kill -9` of every process at every named point of what people and the platform do: nothing lost, nothing left.

A cell: the operation is begun, its process stands still at the point, the process of the column is killed, what is left
goes on. Within 60 s everything has to be where it should be, without repair by hand. An ordinary run has some cells of
every row; ORCHESTRA_KILL_TABLE=all runs them all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.faults.ground import SETTLED_WITHIN_S, Bystander, Ground, hooks_environment, settled
from tests.faults.operations import Operation, operation
from tests.faults.points import Cell, cells_to_run
from tests.faults.report import PROPERTY
from tests.people import Person
from tests.running import Platform


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A platform whose processes know the points."""
    folder: Path = tmp_path_factory.mktemp("kill")
    env = hooks_environment(folder / "faults", os.environ.get("PYTHONPATH", ""))
    with Platform.start(folder / "data", env=env) as platform:
        ground = Ground(platform, folder / "faults")
        try:
            yield ground
        finally:
            ground.platform.stop()


@pytest.fixture(scope="module")
def bystander(ground: Ground) -> Iterator[Bystander]:
    """Somebody whose seat runs through all of it."""
    with Person.new(ground.platform, "bystander") as person:
        yield Bystander.of(ground, person)


@pytest.fixture(scope="module")
def operations(ground: Ground, request: pytest.FixtureRequest) -> Iterator[dict[str, Operation]]:
    """The operations of all cells of this run, with their workshops and people: they live through the others' kills."""
    made: dict[str, Operation] = {}
    for number, item in enumerate(each for each in request.session.items if each.path == request.path):
        cell = item.callspec.params["cell"]  # type: ignore[attr-defined]  # pytest's parametrised functions have it
        made[cell.id] = operation(ground, cell, f"k{number:03}")
        made[cell.id].set_up()
    yield made
    for each in made.values():
        each.close()


@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.id) for cell in cells_to_run()])
def test_killed_at(
    cell: Cell,
    ground: Ground,
    bystander: Bystander,
    operations: dict[str, Operation],
    record_property: Callable[[str, object], None],
) -> None:
    record_property(PROPERTY, f"{cell.point.name}|{cell.process}|")
    doing = operations[cell.id]
    settled(ground.assert_whole, since_s=time.monotonic())
    doing.begin_with()
    token = ground.arm(cell.point, *doing.needles())
    with ThreadPoolExecutor(1) as asker:
        asked = asker.submit(doing.act)
        try:
            ground.wait_held(cell.point, token)
            doing.at_point()
            ground.kill(cell.process)
        finally:
            ground.release(token)
        answer = _heard(asked)
    killed_s = time.monotonic()
    if cell.process == "up":
        ground.start_again()
    everything = (
        ground.assert_whole, lambda: doing.check(answer), ground.assert_nothing_left_over, bystander.assert_untouched,
    )  # fmt: skip
    took_s = settled(*everything, since_s=killed_s)
    doing.again(answer)
    settled(doing.check_end, ground.assert_nothing_left_over, bystander.assert_untouched, since_s=time.monotonic())
    record_property(PROPERTY, f"{cell.point.name}|{cell.process}|{took_s:.1f}")


def _heard(asked: Future[httpx.Response | None]) -> httpx.Response | None:
    """What the asker heard; None when the connection broke or nothing answered."""
    try:
        return asked.result(timeout=SETTLED_WITHIN_S)
    except httpx.HTTPError:
        return None
