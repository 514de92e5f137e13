"""Every reason why `up` won't start, met for real."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode
from orchestra_services.up import preflight
from orchestra_services.up.settings import FORMAT, DataFolder, InnerPorts, Remembered

PORTS = InnerPorts(hub=20001, service=20002, proxy_api=20003)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path / "data")
    preflight.make_folder(made)
    return made


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def refusal(caught: pytest.ExceptionInfo[CommandRefused], code: ExitCode) -> str:
    """The refusal's message, which is one line, with `code`."""
    message = str(caught.value)
    assert caught.value.exit_code is code
    assert "\n" not in message
    assert message
    return message


def test_an_old_python_is_refused() -> None:
    preflight.check_python((3, 11))
    with pytest.raises(CommandRefused) as caught:
        preflight.check_python((3, 10))
    assert "3.10 is too old" in refusal(caught, ExitCode.PYTHON_TOO_OLD)


def test_the_programs_are_here() -> None:
    preflight.check_programs()


@pytest.mark.parametrize("missing", ["traefik", "tar"])
def test_a_missing_program_is_named(missing: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        preflight.check_programs(find=lambda name: None if name == missing else preflight.find_program(name))
    assert f"'{missing}' is missing; install" in refusal(caught, ExitCode.PROGRAM_MISSING)


def test_a_missing_package_is_named_with_the_command_that_brings_it() -> None:
    with pytest.raises(CommandRefused) as caught:
        preflight.check_programs(importable=lambda name: None if name == "jupyterlab" else name)
    assert "pip install 'orchestra-hub[seats]'" in refusal(caught, ExitCode.PROGRAM_MISSING)


def test_this_environments_programs_come_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for place in (own, other):
        place.mkdir()
        (place / "some-program").write_text("#!/bin/sh\n")
        (place / "some-program").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    assert preflight.find_program("some-program", str(own)) == str(own / "some-program")
    (own / "some-program").unlink()
    assert preflight.find_program("some-program", str(own)) == str(other / "some-program")


def test_the_folder_is_made_and_private(folder: DataFolder) -> None:
    for path in folder.folders():
        assert path.stat().st_mode & 0o777 == 0o700
    preflight.make_folder(folder)


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("I am a file")
    with pytest.raises(CommandRefused) as caught:
        preflight.make_folder(DataFolder(tmp_path / "data"))
    assert "--data-dir" in refusal(caught, ExitCode.FOLDER_UNUSABLE)


def test_a_folder_nothing_can_be_made_in_is_refused() -> None:
    # /proc refuses new entries to everybody, also to root, whom permissions don't stop
    with pytest.raises(CommandRefused) as caught:
        preflight.make_folder(DataFolder(Path("/proc/orchestra-hub-data")))
    assert "/proc/orchestra-hub-data" in refusal(caught, ExitCode.FOLDER_UNUSABLE)


def test_a_second_up_on_the_folder_is_refused_while_the_first_lives(folder: DataFolder) -> None:
    program = (
        "import sys, pathlib\n"
        "from orchestra_services.up.preflight import hold_lock\n"
        "from orchestra_services.up.settings import DataFolder\n"
        "with hold_lock(DataFolder(pathlib.Path(sys.argv[1]))):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CommandRefused) as caught, preflight.hold_lock(folder):
            pass
        assert f"process {holder.pid}" in refusal(caught, ExitCode.ALREADY_RUNNING)
        holder.kill()
    with preflight.hold_lock(folder):
        pass


def test_a_new_folder_has_nothing_to_remember(folder: DataFolder) -> None:
    assert preflight.read_remembered(folder) is None


def test_what_was_written_is_remembered(folder: DataFolder) -> None:
    before = Remembered(format=FORMAT, domain="localhost", port=8000, inner_ports=PORTS)
    folder.remembered.write_text(before.model_dump_json())
    assert preflight.read_remembered(folder) == before


def test_a_newer_format_is_refused_whatever_else_it_holds(folder: DataFolder) -> None:
    folder.remembered.write_text(json.dumps({"format": FORMAT + 1, "elsewhere": True}))
    with pytest.raises(CommandRefused) as caught:
        preflight.read_remembered(folder)
    assert f"format {FORMAT + 1}" in refusal(caught, ExitCode.DATA_NEWER)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": "x"}'])
def test_a_damaged_file_is_refused(folder: DataFolder, text: str) -> None:
    folder.remembered.write_text(text)
    with pytest.raises(CommandRefused) as caught:
        preflight.read_remembered(folder)
    assert "orchestra.json" in refusal(caught, ExitCode.FOLDER_UNUSABLE)


def database_at(path: Path, revision: str) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    connection.commit()
    connection.close()
    return path


def test_a_database_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    database = database_at(tmp_path / "orchestra.sqlite", "9999")
    preflight.check_revision(database, lambda revision: revision == "9999")
    with pytest.raises(CommandRefused) as caught:
        preflight.check_revision(database, lambda revision: revision == "0001")
    assert "revision 9999" in refusal(caught, ExitCode.DATA_NEWER)


def test_no_database_and_one_without_tables_are_fine(tmp_path: Path) -> None:
    preflight.check_revision(tmp_path / "none.sqlite", lambda revision: False)
    sqlite3.connect(tmp_path / "empty.sqlite").close()
    (tmp_path / "empty.sqlite").touch()
    preflight.check_revision(tmp_path / "empty.sqlite", lambda revision: False)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "orchestra.sqlite").write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(CommandRefused) as caught:
        preflight.check_revision(tmp_path / "orchestra.sqlite", lambda revision: True)
    assert "orchestra.sqlite" in refusal(caught, ExitCode.FOLDER_UNUSABLE)


def test_a_port_in_use_is_refused_and_says_by_whom(taken_port: int) -> None:
    with pytest.raises(CommandRefused) as caught:
        preflight.check_public_port(taken_port)
    message = refusal(caught, ExitCode.PORT_IN_USE)
    assert f"Port {taken_port}" in message
    assert "--port" in message


def test_a_port_just_left_is_free(taken_port: int) -> None:
    with socket.create_connection(("127.0.0.1", taken_port)):
        assert not preflight.is_free(taken_port)
    assert preflight.is_free(preflight.free_port())


def test_inner_ports_are_chosen_apart_and_kept() -> None:
    chosen = preflight.inner_ports(None)
    assert len({chosen.hub, chosen.service, chosen.proxy_api}) == 3
    assert preflight.inner_ports(chosen, free=lambda port: True) == chosen


def test_a_busy_inner_port_is_changed_and_the_others_kept() -> None:
    changed = preflight.inner_ports(
        PORTS, free=lambda port: port != PORTS.hub, choose=iter([PORTS.service, 20009]).__next__
    )
    assert changed == InnerPorts(hub=20009, service=PORTS.service, proxy_api=PORTS.proxy_api)


def test_the_command_line_says_it_in_one_line_without_a_traceback(tmp_path: Path, taken_port: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "orchestra_services.main", "up", "--data-dir", str(tmp_path / "d"), "--port",
         str(taken_port)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == ExitCode.PORT_IN_USE
    assert len(ended.stderr.strip().splitlines()) == 1
    assert f"Port {taken_port}" in ended.stderr


@pytest.mark.parametrize("name", ["what?", "50%41", "a:b", "a\nb"])
def test_a_path_that_cannot_be_told_to_databases_and_seats_is_refused(tmp_path: Path, name: str) -> None:
    assert preflight.check_path(tmp_path / "with space, ü and 'quote'")
    with pytest.raises(CommandRefused) as caught:
        preflight.check_path(tmp_path / name)
    assert "--data-dir" in str(caught.value)
    assert caught.value.exit_code is ExitCode.FOLDER_UNUSABLE


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied", "/data/logs/hub.log"), OSError(28, "No space left on device")]
)
def test_what_the_system_says_about_files_is_one_line(folder: DataFolder, error: OSError) -> None:
    with pytest.raises(CommandRefused) as caught, preflight.file_errors_refused(folder):
        raise error
    assert error.strerror in refusal(caught, ExitCode.FOLDER_UNUSABLE)
    with pytest.raises(BrokenPipeError), preflight.file_errors_refused(folder):
        raise BrokenPipeError


@pytest.fixture
def as_a_plain_user() -> Iterator[Path]:
    """A folder that belongs to nobody special, and a process that may do no more than its owner."""
    folder = Path(tempfile.mkdtemp(prefix="orchestra-"))
    before = os.geteuid()
    try:
        if before == 0:
            os.chown(folder, _NOBODY, _NOBODY)
            os.seteuid(_NOBODY)
        yield folder
    finally:
        os.seteuid(before)
        folder.chmod(0o700)
        shutil.rmtree(folder)


_NOBODY = 65534


def test_a_folder_that_may_not_be_written_is_refused(as_a_plain_user: Path) -> None:
    as_a_plain_user.chmod(0o500)
    with pytest.raises(CommandRefused) as caught:
        preflight.make_folder(DataFolder(as_a_plain_user / "data"))
    assert "Permission denied" in refusal(caught, ExitCode.FOLDER_UNUSABLE)


def test_a_database_that_may_not_be_written_is_refused(as_a_plain_user: Path) -> None:
    database = database_at(as_a_plain_user / "orchestra.sqlite", "0001")
    preflight.check_revision(database, lambda revision: True)
    database.chmod(0o400)
    with pytest.raises(CommandRefused) as caught:
        preflight.check_revision(database, lambda revision: True)
    assert "Permission denied" in refusal(caught, ExitCode.FOLDER_UNUSABLE)
