"""Seats kept apart: user ids, owners of files, views, control groups, rules. Decisions, and what they do for real."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode
from orchestra_hub.errors import InvalidInput, ProvisionFailed
from orchestra_services.up.apart import SeatsApart as Found
from orchestra_services.up.apart import check_listening, hold_user_ids, said
from orchestra_services.up.preflight import make_folder
from orchestra_services.up.settings import DataFolder, UpSettings, check_listen
from orchestra_spawner import loopback_rules
from orchestra_spawner.apart import SeatsApart, program_folders
from orchestra_spawner.cgroups import Limits, SeatGroups, own_groups, prepare, settings
from orchestra_spawner.confinement import View, as_user, in_groups, mount_arguments, within_limits
from orchestra_spawner.endings import ending, forget_ending, in_words, note_ending
from orchestra_spawner.folders import Apart, SeatFolders, SeatLayout
from orchestra_spawner.identities import Identities, UserIds, running_user_ids
from orchestra_spawner.local_provisioner import LocalProvisioner
from orchestra_spawner.loopback_rules import Rules, table_text
from orchestra_spawner.processes import SeatProcess, created_ticks, write_record
from orchestra_spawner.room import obstacle
from orchestra_spawner.warden import Warden, folder_bytes
from orchestra_spawner.watching import HEADROOM_BYTES, Process, family, is_due, measured

IDS = UserIds.block(3_699)
WORKSHOP = "counting-may-abcdef"
KEY = "ada-0123456789"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files to other user ids needs root")


@pytest.mark.parametrize("text", ["", "5", "9-5", "0-3", "a-b", "1-2147483648", "-1-5", "1-"])
def test_what_is_no_range_of_user_ids_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        UserIds.parse(text)


def test_ranges_of_different_numbers_have_no_id_in_common() -> None:
    one, two = UserIds.block(0), UserIds.block(1)
    assert one.last + 1 == two.first
    assert UserIds.parse(str(one)) == one
    assert (one.last in one, one.last in two) == (True, False)


@pytest.fixture
def folders(tmp_path: Path) -> SeatFolders:
    made = SeatFolders(tmp_path / "data")
    made.content(WORKSHOP).mkdir(parents=True)
    (made.content(WORKSHOP) / "start.ipynb").write_text("{}")
    made.prepared(WORKSHOP).write_text("{}")
    made.root.chmod(0o700)
    return made


def identities(folders: SeatFolders) -> Identities:
    return Identities(IDS, folders.root / "run" / "identities.lock", folders.every_seat)


@needs_root
def test_every_seat_has_an_id_of_its_own_also_when_many_start_at_once(folders: SeatFolders) -> None:
    seats = [folders.seat(WORKSHOP, f"s{number}-0123456789") for number in range(40)]
    for seat in seats:
        seat.mkdir(parents=True)
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda seat: identities(folders).assign(seat), seats))
    assert len(set(given)) == 40
    assert [identities(folders).assign(seat) for seat in seats] == given, "the same at the next start"
    seats[3].rmdir()
    (folders.root / "users" / "new-0123456789").mkdir(parents=True)
    assert identities(folders).assign(folders.root / "users" / "new-0123456789") == given[3], "free again"


@needs_root
def test_no_free_id_is_told(folders: SeatFolders) -> None:
    seat = folders.seat(WORKSHOP, KEY)
    seat.mkdir(parents=True)
    few = UserIds(IDS.first, IDS.first + 1)
    with pytest.raises(ProvisionFailed, match="purge"):
        Identities(few, folders.root / "lock", lambda: [], running=lambda: {IDS.first, IDS.first + 1}).assign(seat)


def lay_out(folders: SeatFolders, ran: list[list[str]] | None = None) -> SeatLayout:
    def run(layout: SeatLayout, command: list[str]) -> None:
        assert ran is not None, "nothing to mend here"
        ran.append(command)

    return folders.lay_out_seat(WORKSHOP, KEY, apart=Apart(identities(folders), run))


@needs_root
def test_a_seats_folders_are_its_own_and_the_rest_ours(folders: SeatFolders) -> None:
    layout = lay_out(folders)
    owners = {
        str(path.relative_to(layout.folder)): (found.st_uid == layout.uid, oct(stat.S_IMODE(found.st_mode)))
        for path in (layout.home, layout.temporary, layout.venv, layout.jupyter_dir, layout.jupyter_dir / "runtime")
        for found in [path.lstat()]
    }
    assert owners == {
        "home": (True, "0o700"), "tmp": (True, "0o700"), "venv": (True, "0o700"),
        "jupyter": (False, "0o750"), "jupyter/runtime": (True, "0o700"),
    }  # fmt: skip
    top = layout.folder.stat()
    assert (top.st_uid, top.st_gid, stat.S_IMODE(top.st_mode)) == (0, layout.uid, 0o710)
    assert {path.lstat().st_uid for path in layout.home.rglob("*")} == {layout.uid}
    assert lay_out(folders) == layout


@needs_root
def test_links_a_learner_planted_are_never_followed(folders: SeatFolders, tmp_path: Path) -> None:
    """In their own folders they may put anything; what is ours they can't get at."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "file").write_text("kept")
    layout = lay_out(folders)
    marker = layout.venv / "orchestra.json"
    for path in (marker, layout.venv / "bin" / "python"):
        path.unlink()
        path.symlink_to(outside / "file")
    (layout.home / "link").symlink_to(outside)
    ran: list[list[str]] = []
    lay_out(folders, ran)
    assert len(ran) == 1, "mended by the learner's own user, not by us"
    marker.unlink()
    os.mkfifo(marker)
    lay_out(folders, ran)  # doesn't wait for the pipe
    assert len(ran) == 2
    assert (outside / "file").read_text() == "kept"
    assert (outside.stat().st_uid, (outside / "file").stat().st_uid) == (0, 0)


@needs_root
def test_a_seat_from_before_is_taken_over_without_following_its_links(folders: SeatFolders, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "secret").write_text("kept")
    before = folders.lay_out_seat(WORKSHOP, KEY)
    (before.home / "mine.txt").write_text("kept")
    (before.home / "link").symlink_to(outside)
    os.link(outside / "secret", before.home / "second name")
    for name in ("runtime", "config"):
        (before.jupyter_dir / name).symlink_to(outside)
    before.log.symlink_to(outside / "secret")
    after = lay_out(folders)
    assert (after.home / "mine.txt").stat().st_uid == after.uid
    assert (after.home / "link").lstat().st_uid == after.uid
    assert {outside.stat().st_uid, (outside / "secret").stat().st_uid} == {0}
    assert (outside / "secret").read_text() == "kept"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700
    assert (after.jupyter_dir / "runtime").is_dir() and not (after.jupyter_dir / "runtime").is_symlink()
    assert not after.log.is_symlink()


@needs_root
async def test_an_environment_is_mended_and_files_are_exported_as_the_seats_own_user(folders: SeatFolders) -> None:
    apart = SeatsApart(folders, IDS, None, program_folders())
    layout = folders.lay_out_seat(WORKSHOP, KEY, apart=apart.to_lay_out)
    (layout.venv / "orchestra.json").unlink()
    again = folders.lay_out_seat(WORKSHOP, KEY, apart=apart.to_lay_out)
    assert (again.venv / "orchestra.json").stat().st_uid == layout.uid
    (layout.home / "secret").symlink_to("/etc/shadow")
    archive = b"".join([chunk async for chunk in LocalProvisioner(folders.root).export(WORKSHOP, KEY)])
    listing = subprocess.run(["tar", "tvzf", "-"], input=archive, capture_output=True, check=True).stdout.decode()
    assert f"{WORKSHOP}/start.ipynb" in listing
    assert "secret -> /etc/shadow" in listing
    assert str(layout.uid) not in listing


def closed(path: Path) -> Path | None:
    return next((folder for folder in (Path("/root"), Path("/data")) if path.is_relative_to(folder)), None)


def test_what_is_closed_is_hidden_and_what_is_needed_below_it_shown() -> None:
    seat = Path("/data/hub/seats/ada")
    view = View((Path("/data/hub"),), (Path("/root/python/3.11"), Path("/usr")), (seat,), seat / "tmp")
    words = " ".join(mount_arguments(view, closed))
    assert words.index("--tmpfs /root") < words.index("--dir /root/python") < words.index("--ro-bind /root/python/3.11")
    assert words.index("--tmpfs /data") < words.index("--tmpfs /data/hub") < words.index(f"--bind {seat} {seat}")
    assert "--ro-bind /usr" not in words, "it is there anyway"
    assert f"--bind {seat}/tmp /tmp" in words and f"--bind {seat}/tmp /var/tmp" in words


def test_temporary_folders_are_in_memory_where_the_data_folder_lies_in_them() -> None:
    """Its mount points would have to be made, as root, in a folder that a learner writes in."""
    seat = Path("/tmp/hub/seats/ada")
    words = " ".join(mount_arguments(View((Path("/tmp/hub"),), (), (seat,), seat / "tmp"), lambda path: None))
    assert "--bind /tmp/hub/seats/ada/tmp" not in words
    assert "--tmpfs /tmp --" in words


def test_limits_of_each_process_and_groups_come_before_the_command() -> None:
    assert within_limits(["x"], file_bytes=5, processes=7)[1:] == ["--core=0", "--fsize=5", "--nproc=7", "x"]
    assert in_groups(["x"], []) == ["x"]


def test_what_runs_as_root_is_named_by_its_path_and_gets_no_variables_of_others() -> None:
    """The seat's PATH begins with a folder that the learner writes in; a template may set any variable."""
    view = View((), (), (Path("/seat"),))
    words = as_user(view, 5, ["/python"], folder=Path("/seat"), variables={"LD_PRELOAD": "x"}, closed=lambda path: None)
    programs = [words[0], words[words.index("--") + 1], within_limits(["x"], file_bytes=None, processes=None)[0]]
    assert all(Path(program).is_absolute() for program in programs), programs
    assert words.index("--reuid") < words.index("LD_PRELOAD=x") < words.index("/python")


def test_a_process_that_cannot_join_its_groups_does_not_start(tmp_path: Path) -> None:
    done = subprocess.run(in_groups(["echo", "started"], [tmp_path / "no" / "cgroup.procs"]), capture_output=True)
    assert done.returncode != 0 and done.stdout == b""


V1 = """\
30 1 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 1 0:27 /docker/x /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 1 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
V1_OWN = "9:name=systemd:/\n4:memory:/up\n2:cpu,cpuacct:/docker/x/up\n0::/up\n"
V2 = "30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_own_groups_of_both_versions() -> None:
    assert own_groups(V1, V1_OWN) == {
        "memory": (1, Path("/sys/fs/cgroup/memory/up")),
        "cpu": (1, Path("/sys/fs/cgroup/cpu,cpuacct/up")),
        "pids": (2, Path("/sys/fs/cgroup/unified/up")),
    }
    service = Path("/sys/fs/cgroup/system.slice/orchestra-hub.service")
    own = "0::/system.slice/orchestra-hub.service\n"
    assert own_groups(V2, own) == {name: (2, service) for name in ("memory", "cpu", "pids")}


def test_limits_in_both_versions() -> None:
    limits = Limits(memory_bytes=1 << 30, cpu=0.5, processes=100)
    assert settings("memory", 2, limits)[0] == ("memory.max", str(1 << 30))
    assert settings("cpu", 2, limits) == [("cpu.max", "50000 100000")]
    assert settings("cpu", 1, limits)[-1] == ("cpu.cfs_quota_us", "50000")
    assert settings("pids", 1, limits) == [("pids.max", "100")]
    assert [settings(name, 2, Limits()) for name in ("memory", "cpu", "pids")] == [[], [], []]


def test_v2_leaves_processes_of_others_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory")
    (tmp_path / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    prepare({"memory": (2, tmp_path)}, "orchestra-1")
    assert not (tmp_path / "platform").exists()


def test_v2_moves_what_runs_beside_the_seats_and_switches_controllers_on(tmp_path: Path) -> None:
    """As files: what the kernel does with them is the kernel's."""
    mine = str(os.getpid())
    for name, text in (
        ("cgroup.controllers", "cpu memory pids"),
        ("cgroup.procs", mine),
        ("cgroup.subtree_control", ""),
    ):
        (tmp_path / name).write_text(text)
    made = prepare({name: (2, tmp_path) for name in ("memory", "cpu", "pids")}, "orchestra-1")
    assert set(made.values()) == {str(tmp_path / "orchestra-1")}
    assert (tmp_path / "platform" / "cgroup.procs").read_text() == mine


@pytest.fixture
def group() -> Iterator[dict[str, str]]:
    """Real groups, where this machine lets us."""
    found = own_groups(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    made = prepare({name: entry for name, entry in found.items() if entry[0] == 1}, f"test-{os.getpid()}")
    if not {"memory", "pids"} <= set(made):
        pytest.skip("no control groups (v1) that may be written here")
    yield made
    for folder in made.values():
        os.rmdir(folder)


def test_a_group_holds_memory_and_processes(group: dict[str, str]) -> None:
    groups = SeatGroups(group, "seat")
    joined = groups.make(Limits(memory_bytes=64 << 20, processes=5))
    greedy = [sys.executable, "-c", "x = bytearray(b'x') * (1 << 30)"]
    assert subprocess.run(in_groups(greedy, joined), capture_output=True).returncode in (-9, 137)
    assert groups.killed_for_memory() >= 1
    many = "import os, time\nfor n in range(9):\n  if os.fork() == 0:\n    time.sleep(30)"
    done = subprocess.run(in_groups([sys.executable, "-c", many], joined), capture_output=True, text=True)
    assert "BlockingIOError" in done.stderr
    for pid in {int(pid) for file in joined for pid in file.read_text().split()}:
        os.kill(pid, 9)
    deadline = time.monotonic() + 10
    while any(folder.exists() for folder in groups.folders().values()) and time.monotonic() < deadline:
        groups.remove()
    assert not any(folder.exists() for folder in groups.folders().values())


def test_rules_are_of_one_table_and_range_only() -> None:
    text = table_text(Rules("orchestra_7", IDS, (8000,), (9001, 9002)), [IDS.first + 5])
    assert text.startswith("table inet orchestra_7\ndelete table inet orchestra_7\n"), "made anew in one transaction"
    assert f"{IDS.first + 5} . {IDS.first + 5}" in text
    assert "tcp dport { 53, 8000 } accept" in text
    assert "tcp dport { 9001, 9002 } reject with tcp reset" in text
    assert "elements" not in table_text(Rules("t", IDS, (1,)))


@needs_root
def test_the_kernel_takes_the_rules_and_gives_them_back() -> None:
    rules = Rules(f"orchestra_test_{os.getpid()}", IDS, (8000,))
    loopback_rules.apply(table_text(rules))
    try:
        loopback_rules.apply(loopback_rules.let_in(rules.table, IDS.first))
        assert loopback_rules.is_there(rules.table)
    finally:
        loopback_rules.apply(loopback_rules.removal(rules.table))
    assert not loopback_rules.is_there(rules.table)
    with pytest.raises(loopback_rules.RulesFailed):
        loopback_rules.apply(loopback_rules.let_in(rules.table, IDS.first))


def test_a_folder_is_added_up_only_when_it_may_have_grown_too_much() -> None:
    first = measured(100 << 20, 1 << 30, 50 << 30, 0.0, None)
    assert is_due(None, 50 << 30, 0.0)
    assert not is_due(first, 50 << 30, 10.0)
    assert not is_due(first, (50 << 30) - (400 << 20), 10.0)
    assert is_due(first, (50 << 30) - (500 << 20), 10.0), "half of what it had left"
    assert is_due(first, 50 << 30, 600.0)


def test_a_seat_started_above_its_limit_may_be_tidied_up() -> None:
    first = measured(3 << 30, 1 << 30, 50 << 30, 0.0, None)
    assert not first.over
    assert measured((3 << 30) + HEADROOM_BYTES + 1, 1 << 30, 50 << 30, 1.0, first).over
    tidy = measured(1 << 20, 1 << 30, 50 << 30, 1.0, first)
    assert measured((1 << 30) + 1, 1 << 30, 50 << 30, 2.0, tidy).over, "the limit is the limit again"


def test_a_family_is_all_that_descends() -> None:
    table = {pid: Process(pid, parent, 0, 1) for pid, parent in ((2, 1), (3, 2), (4, 3), (5, 1))}
    assert family(table, [2, 99]) == {2, 3, 4}


def test_amounts_for_people() -> None:
    assert [in_words(amount) for amount in (1 << 30, 3 << 29, 300 << 20, 2048)] == [
        "1 GiB", "1.5 GiB", "300 MiB", "2 KiB",
    ]  # fmt: skip


def test_an_ending_is_kept_until_the_next_start(tmp_path: Path) -> None:
    record = tmp_path / "ada--x.json"
    assert ending(record) is None
    note_ending(record, "Why.")
    assert ending(record) == "Why."
    forget_ending(record)
    assert ending(record) is None


def test_the_warden_stops_a_seat_above_its_memory_or_disk_and_no_other(tmp_path: Path) -> None:
    big = "import time; x = bytearray(b'x') * (300 << 20); print('big', flush=True); time.sleep(100)"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={"ORCHESTRA_SEAT": name})
        for name, code in (
            ("big/s", big),
            ("small/s", big.replace("300 <<", "1 <<")),
            ("disk/s", big.replace("300", "1")),
        )
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        home = tmp_path / "home"
        home.mkdir()
        (home / "file").write_bytes(b"x" * 100)
        for process, name in zip(started, ("big", "small", "disk"), strict=True):
            created = created_ticks(process.pid)
            storage = 200 << 20 if name == "disk" else None
            seat = SeatProcess(process.pid, created, f"{name}/s", None, 0, str(home), 200 << 20, storage)
            write_record(tmp_path / "run" / "seats" / f"{name}--s.json", seat)
        warden = Warden(tmp_path)
        (stopped,) = asyncio.run(warden.look())
        assert stopped.name == "big--s.json"
        assert "more than the 200 MiB" in (ending(stopped) or "")
        started[0].wait(10)
        with (home / "file").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 250 << 20)
        assert folder_bytes(home) >= 250 << 20
        (stopped,) = asyncio.run(warden.look())
        assert stopped.name == "disk--s.json"
        assert started[1].poll() is None
        assert asyncio.run(warden.look()) == [], "once"
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_room_is_told_with_the_figures(tmp_path: Path) -> None:
    assert obstacle(tmp_path, memory_bytes=1, disk_bytes=1) is None
    full = obstacle(tmp_path, memory_bytes=1, disk_bytes=1 << 60)
    assert full is not None and not full.wait and "nearly full" in full.sentence
    busy = obstacle(tmp_path, memory_bytes=1 << 60, disk_bytes=1)
    assert busy is not None and busy.wait


def test_two_platforms_never_have_the_same_user_ids(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    make_folder(folder)
    with hold_user_ids(folder, None, seats_run=False) as first, hold_user_ids(folder, first, seats_run=False) as second:
        assert first != second
    with hold_user_ids(folder, first, seats_run=False) as again:
        assert again == first
    somebody = UserIds.block(first).first + 3
    with hold_user_ids(folder, first, seats_run=False, running=lambda: {somebody}) as other:
        assert other != first, "somebody's seats run under them"
    with hold_user_ids(folder, first, seats_run=True, running=lambda: {somebody}) as own:
        assert own == first, "our own do"
    assert os.geteuid() in running_user_ids()


def test_other_machines_are_served_only_while_seats_are_apart(tmp_path: Path) -> None:
    everywhere, here = UpSettings(tmp_path, listen="0.0.0.0"), UpSettings(tmp_path, listen="127.0.0.2")
    whole = Found(IDS, Rules("t", IDS, (8000,)))
    shared = Found(lacks=("seats share one user id, as `up` doesn't run as root",))
    half = Found(IDS, None, {}, ("seats can connect to each other's ports (nft is missing)",))
    check_listening(here, shared, shared_allowed=False)
    check_listening(everywhere, whole, shared_allowed=False)
    check_listening(everywhere, shared, shared_allowed=True)
    for found in (shared, half):
        with pytest.raises(CommandRefused, match="--seats-share-one-user") as refused:
            check_listening(everywhere, found, shared_allowed=False)
        assert refused.value.exit_code is ExitCode.SEATS_NOT_APART
    assert said(whole) is None
    assert "\n" not in (said(shared) or "\n")
    assert "doesn't run as root" in (said(shared) or "")


def test_the_proxy_listens_where_asked_and_always_on_loopback(tmp_path: Path) -> None:
    def points(listen: str) -> tuple[str, ...]:
        return UpSettings(tmp_path, listen=check_listen(listen)).entry_addresses

    assert points("localhost") == points("127.0.0.1") == ("127.0.0.1:8000",)
    assert points("0.0.0.0") == ("0.0.0.0:8000",)
    assert points("192.0.2.1") == ("192.0.2.1:8000", "127.0.0.1:8000")
    assert points("::") == ("[::]:8000",)
    with pytest.raises(InvalidInput, match="IP address"):
        check_listen("hub.example.org")
