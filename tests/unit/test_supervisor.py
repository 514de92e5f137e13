"""The supervisor, with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from orchestra_services.up.children import Child
from orchestra_services.up.logs import last_words, rotate
from orchestra_services.up.supervisor import Supervisor, crash_line, end_leftovers, pause_s
from orchestra_spawner.processes import created_ticks
from tests.running import until

SLEEPER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
)
WITH_GRANDCHILD = ("/bin/sh", "-c", "sleep 600 & echo $!; wait")


def child(tmp_path: Path, name: str, command: tuple[str, ...]) -> Child:
    return Child(name, command, tmp_path / f"{name}.log", dict(os.environ))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def said(log: Path) -> str:
    """What a child wrote, once it wrote something."""

    def text() -> str:
        return log.read_text() if log.exists() else ""

    return await asyncio.to_thread(lambda: until(text, within_s=20))


@asynccontextmanager
async def supervisor(tmp_path: Path, **options: object) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    lines: list[str] = []
    clock: Callable[[], float] = options.pop("clock", lambda: 0.0)  # type: ignore[assignment]  # tests pass a clock
    made = Supervisor(
        record=tmp_path / "processes.json",
        report=lines.append,
        clock=clock,
        **options,  # type: ignore[arg-type]  # same
    )
    try:
        yield made, lines
    finally:
        await made.stop(timeout_s=0)


def test_pauses_grow_to_half_a_minute() -> None:
    assert [pause_s(crashes) for crashes in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert pause_s(10_000) == 30


async def test_a_child_that_crashes_is_started_again_with_growing_pauses(tmp_path: Path) -> None:
    pauses: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            enough.set()
            await asyncio.Event().wait()

    async with supervisor(tmp_path, sleep=sleep) as (made, lines):
        await made.start(child(tmp_path, "broken", (sys.executable, "-c", "print('x'); raise SystemExit(3)")))
        await asyncio.wait_for(enough.wait(), 30)
    assert pauses == [1, 2, 4, 8]
    assert len(lines) == 4
    assert lines[0].startswith("broken ended (exit code 3); again in 1 s.")
    assert (tmp_path / "broken.log").read_text() == "x\n" * 4


async def test_a_minute_of_health_makes_the_next_pause_short(tmp_path: Path) -> None:
    times = iter([0.0, 1.0, 1.0, 2.0, 2.0, 62.0, 62.0])
    pauses: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            enough.set()
            await asyncio.Event().wait()

    async with supervisor(tmp_path, sleep=sleep, clock=lambda: next(times)) as (made, _):
        await made.start(child(tmp_path, "broken", ("/bin/false",)))
        await asyncio.wait_for(enough.wait(), 30)
    assert pauses == [1, 2, 1]


async def test_a_killed_child_is_started_again_and_the_line_says_how_it_died(tmp_path: Path) -> None:
    again = asyncio.Event()

    async def sleep(seconds: float) -> None:
        again.set()

    async with supervisor(tmp_path, sleep=sleep) as (made, lines):
        await made.start(child(tmp_path, "sleeper", SLEEPER))
        first = made.pid("sleeper")
        assert first is not None
        await said(tmp_path / "sleeper.log")
        os.kill(first, signal.SIGKILL)
        await asyncio.wait_for(again.wait(), 20)
        second = await asyncio.to_thread(until, lambda: made.pid("sleeper"), within_s=20)
        assert second != first
    assert "SIGKILL" in lines[0]


async def test_a_program_that_is_not_there_is_said_in_the_log(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async with supervisor(tmp_path, sleep=sleep) as (made, lines):
        await made.start(child(tmp_path, "none", ("/no/such/program",)))
        await asyncio.wait_for(waiting.wait(), 20)
    assert "exit code 127" in lines[0]
    assert "/no/such/program can't be started: No such file or directory" in (tmp_path / "none.log").read_text()


async def test_stop_ends_all_the_stubborn_and_their_children_too(tmp_path: Path) -> None:
    async with supervisor(tmp_path) as (made, lines):
        for name, command in (("sleeper", SLEEPER), ("stubborn", STUBBORN), ("family", WITH_GRANDCHILD)):
            await made.start(child(tmp_path, name, command))
        await said(tmp_path / "sleeper.log")
        await said(tmp_path / "stubborn.log")
        grandchild = int(await said(tmp_path / "family.log"))
        pids = [entry["pid"] for entry in json.loads((tmp_path / "processes.json").read_text())]
        assert len(pids) == 3
        await made.stop(timeout_s=0.2)
        assert not [pid for pid in [*pids, grandchild] if alive(pid)]
        assert json.loads((tmp_path / "processes.json").read_text()) == []
    assert lines == []


async def test_a_stop_that_is_cut_short_can_be_finished(tmp_path: Path) -> None:
    async with supervisor(tmp_path) as (made, _):
        await made.start(child(tmp_path, "stubborn", STUBBORN))
        await said(tmp_path / "stubborn.log")
        pid = made.pid("stubborn")
        assert pid is not None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(made.stop(timeout_s=600), 0.1)
        assert alive(pid)
        made.kill()
        await made.stop(timeout_s=0)
        assert not alive(pid)


async def test_one_child_is_stopped_and_the_others_go_on(tmp_path: Path) -> None:
    async with supervisor(tmp_path) as (made, _):
        await made.start(child(tmp_path, "one", SLEEPER))
        await made.start(child(tmp_path, "two", SLEEPER))
        await made.stop(["one", "unknown"], timeout_s=5)
        assert made.pid("one") is None
        assert made.pid("two") is not None


async def test_a_released_child_may_end_by_itself(tmp_path: Path) -> None:
    async with supervisor(tmp_path) as (made, lines):
        await made.start(child(tmp_path, "one", SLEEPER))
        await made.release("one")
        pid = made.pid("one")
        assert pid is not None
        assert not await made.wait("one", 0)
        os.kill(pid, signal.SIGTERM)
        assert await made.wait("one", 20)
    assert lines == []


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, pathlib, sys, time\n"
        "from orchestra_services.up.children import Child\n"
        "from orchestra_services.up.supervisor import Supervisor\n"
        "async def main(folder):\n"
        "    made = Supervisor(record=folder / 'processes.json', report=print, clock=time.monotonic)\n"
        f"    await made.start(Child('sleeper', {SLEEPER!r}, folder / 'sleeper.log', dict(os.environ)))\n"
        "    print('started', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main(pathlib.Path(sys.argv[1])))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "started\n"
        (entry,) = json.loads((tmp_path / "processes.json").read_text())
        assert alive(entry["pid"])
        killed.kill()
    until(lambda: not alive(entry["pid"]), within_s=20)


def test_what_a_killed_one_left_is_ended_and_nothing_else(tmp_path: Path) -> None:
    record = tmp_path / "processes.json"
    with (
        subprocess.Popen(STUBBORN, start_new_session=True, stdout=subprocess.PIPE) as ours,
        subprocess.Popen(SLEEPER, start_new_session=True, stdout=subprocess.PIPE) as other,
    ):
        for process in (ours, other):
            assert process.stdout is not None
            process.stdout.readline()
        created = created_ticks(ours.pid)
        record.write_text(
            json.dumps(
                [
                    {"name": "hub", "pid": ours.pid, "created": created},
                    {"name": "proxy", "pid": other.pid, "created": created - 1000},  # the id was given to another
                    {"name": "gone", "pid": 2**22 + 1, "created": created},
                    {"name": "damaged"},
                ]
            )
        )
        try:
            assert end_leftovers(record, timeout_s=0.2) == ["hub"]
            assert not alive(ours.pid)
            assert other.poll() is None
        finally:
            ours.kill()
            other.kill()


@pytest.mark.parametrize("text", ["", "{", "null"])
def test_a_damaged_record_ends_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "processes.json").write_text(text)
    assert end_leftovers(tmp_path / "processes.json", timeout_s=0) == []
    assert end_leftovers(tmp_path / "none.json", timeout_s=0) == []


def test_a_large_log_is_put_aside_once(tmp_path: Path) -> None:
    log = tmp_path / "hub.log"
    rotate(log)
    log.write_text("small")
    rotate(log, max_bytes=5)
    assert log.read_text() == "small"
    rotate(log, max_bytes=4)
    assert not log.exists()
    assert (tmp_path / "hub.log.1").read_text() == "small"


def test_the_last_words_are_of_this_run_and_without_colours(tmp_path: Path) -> None:
    log = tmp_path / "hub.log"
    assert last_words(log) == ""
    log.write_text("from the run before\n")
    since = log.stat().st_size
    assert last_words(log, since) == ""
    log.write_text(f"from the run before\n\x1b[31mfirst\x1b[0m\n\x1b[1mlast\x1b[0m {'x' * 1000}\n \n")
    assert last_words(log, since).startswith("last xxx")
    assert len(last_words(log, since)) == 300


def test_only_a_crash_loop_shows_the_last_words(tmp_path: Path) -> None:
    hub = child(tmp_path, "hub", SLEEPER)
    assert crash_line(hub, 1, 2, "no such module") == f"hub ended (exit code 1); again in 2 s. Its log: {hub.log}"
    third = crash_line(hub, 1, 3, "no such module")
    assert third.startswith("hub ended 3 times in a row (exit code 1); again in 4 s. Its last words: no such module ")
    assert "last words" not in crash_line(hub, -9, 3, "")


async def test_a_crash_loop_is_told_with_what_the_child_said(tmp_path: Path) -> None:
    third = asyncio.Event()
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            third.set()
            await asyncio.Event().wait()

    async with supervisor(tmp_path, sleep=sleep) as (made, lines):
        await made.start(child(tmp_path, "bad", ("/bin/sh", "-c", "echo the reason; exit 3")))
        await asyncio.wait_for(third.wait(), 20)
        assert made.last_words("bad") == "the reason"
    assert pauses == [1, 2, 4]
    assert ["the reason" in line for line in lines] == [False, False, True]
