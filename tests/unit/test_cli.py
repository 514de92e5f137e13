"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from typer.main import get_command

from orchestra_hub import __version__, accounts
from orchestra_hub.cli.app import SHARED_OPTIONS, hoisted, run
from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode, exit_code_of
from orchestra_hub.cli.times import shown, typed
from orchestra_hub.errors import InvalidInput, NewerData, OrchestraError, StoreUnavailable, WorkshopFull
from orchestra_services.main import whole_app
from tests.unit.served import WORKSHOP, Served, serving

ID = WORKSHOP["id"]
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"
EAST = timezone(timedelta(hours=5, minutes=30))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ORCHESTRA_DATA_DIR", "ORCHESTRA_URL", "ORCHESTRA_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as made:
        yield made


@pytest.fixture
def data_dir(tmp_path: Path, served: Served) -> Path:
    """A data folder as `up` leaves it, for the test's own server."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "orchestra.json").write_text(json.dumps({"format": 1, "domain": "localhost", "port": served.port}))
    (tmp_path / "secrets" / "tokens.json").write_text(json.dumps({"command_line": "cli-token"}))
    return tmp_path


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def orchestra_hub(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command on the data folder; gives exit code, stdout, stderr."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(whole_app(), ["--data-dir", str(data_dir), *arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return command


def test_the_version_is_told(orchestra_hub: Command) -> None:
    code, out, _ = orchestra_hub("version")
    assert code == 0
    assert out.startswith(f"orchestra-hub {__version__} (JupyterHub 6.")


def test_create_prints_id_address_and_join_link(orchestra_hub: Command, served: Served) -> None:
    served.answer("POST /v1/workshops", WORKSHOP, 201)
    code, out, err = orchestra_hub(
        "workshop", "create", "--template", "rnaseq-intro", "--session", "2026nov", "--opens", "now", "--hours", "4",
        "--seats", "30",
    )  # fmt: skip
    assert (code, err) == (0, "")
    for part in (ID, WORKSHOP["url"], WORKSHOP["join_url"]):
        assert re.search(rf"\s{re.escape(part)}\n", out), out
    assert served.asked[0].authorization == "token cli-token"
    assert served.asked[0].body["opens_at"] == "now"


def test_create_sends_the_settings_of_one_workshop(orchestra_hub: Command, served: Served) -> None:
    served.answer("POST /v1/workshops", WORKSHOP, 201)
    options = ("--warn-min", "30", "--idle-min", "20", "--keep-h", "48")
    code, _, err = orchestra_hub("workshop", "create", "--template", "a", "--session", "b", *options)
    assert (code, err) == (0, "")
    sent = served.asked[0].body
    assert (sent["warning_min"], sent["idle_timeout_min"], sent["retention_h"]) == (30, 20, 48)


def test_create_answers_programs_in_json(orchestra_hub: Command, served: Served) -> None:
    served.answer("POST /v1/workshops", WORKSHOP, 201)
    code, out, _ = orchestra_hub("workshop", "create", "--template", "a", "--session", "b", "--json")
    assert code == 0
    assert json.loads(out)["join_url"] == WORKSHOP["join_url"]


def test_a_time_without_a_zone_is_this_machines_and_that_is_said(orchestra_hub: Command, served: Served) -> None:
    served.answer("POST /v1/workshops", WORKSHOP, 201)
    command = ("workshop", "create", "--template", "a", "--session", "b", "--opens")
    _, _, err = orchestra_hub(*command, "2026-11-03T09:00")
    assert "--opens 2026-11-03T09:00: read in this machine's time zone, 2026-11-03 09:00" in err
    _, _, err = orchestra_hub(*command, "2026-11-03T09:00+01:00")
    assert err == ""
    local = datetime(2026, 11, 3, 9).astimezone()
    assert datetime.fromisoformat(served.asked[0].body["opens_at"]) == local
    assert datetime.fromisoformat(served.asked[1].body["opens_at"]) == datetime(2026, 11, 3, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--session", "A B"), "--session"),
        (("--seats", "0"), "--seats"),
        (("--opens", "tomorrow"), "--opens"),
        (("--hours", "2", "--expires", "2026-11-03T09:00Z"), "--hours and --expires"),
        (("--hours", "-1"), "--hours"),
        (("--join", "never"), "--join"),
    ],
)
def test_what_cannot_be_is_refused_by_the_options_name(
    orchestra_hub: Command, served: Served, options: tuple[str, ...], named: str
) -> None:
    code, _, err = orchestra_hub("workshop", "create", "--template", "a", "--session", "b", *options)
    assert code == ExitCode.INVALID_INPUT
    assert named in err
    assert served.asked == []


def test_list_shows_every_workshop_whole(orchestra_hub: Command, served: Served) -> None:
    hostile = WORKSHOP | {"title": "[red]not markup[/red] \x1b[31m", "learners": None}
    served.answer("GET /v1/workshops?limit=200", {"items": [WORKSHOP, hostile], "next": None})
    code, out, _ = orchestra_hub("workshop", "list")
    assert code == 0
    assert out.count(ID) == 2
    assert "12/30" in out
    assert "?/30" in out
    assert "[red]not markup[/red]" in out
    assert "\x1b" not in out
    code, out, _ = orchestra_hub("workshop", "list", "--json")
    assert [found["id"] for found in json.loads(out)] == [ID, ID]
    served.answer("GET /v1/workshops?limit=200&state=open&state=closing&mine=true", {"items": []})
    _, out, _ = orchestra_hub("workshop", "list", "--state", "open", "--state", "closing", "--mine")
    assert out == "No workshops.\n"


def test_show_extend_end_and_cancel(orchestra_hub: Command, served: Served) -> None:
    served.answer(f"GET /v1/workshops/{ID}", WORKSHOP | {"trouble": "The disk is full."})
    code, out, _ = orchestra_hub("workshop", "show", ID)
    assert code == 0
    assert "The disk is full." in out
    assert "12 of 30" in out
    for word in ("extend", "end", "cancel"):
        served.answer(f"POST /v1/workshops/{ID}/{word}", WORKSHOP)
    assert orchestra_hub("workshop", "extend", ID, "--hours", "1")[0] == 0
    assert orchestra_hub("workshop", "extend", ID, "--until", "2026-11-03T15:00Z")[0] == 0
    assert orchestra_hub("workshop", "extend", ID)[0] == ExitCode.INVALID_INPUT
    assert orchestra_hub("workshop", "end", ID, "--yes")[0] == 0
    assert orchestra_hub("workshop", "cancel", ID, "-y")[0] == 0
    assert [asked.body for asked in served.asked[1:]] == [
        {"hours": 1},
        {"expires_at": "2026-11-03T15:00:00+00:00"},
        {},
        {},
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_ending_asks_first_on_a_terminal(
    orchestra_hub: Command, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.answer(f"POST /v1/workshops/{ID}/end", WORKSHOP)
    for answer, code, requests in (("n", ExitCode.UNEXPECTED, 0), ("", ExitCode.UNEXPECTED, 0), ("y", ExitCode.OK, 1)):
        monkeypatch.setattr("sys.stdin", _Terminal(f"{answer}\n"))
        assert orchestra_hub("workshop", "end", ID)[0] == code
        assert len(served.asked) == requests
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert orchestra_hub("workshop", "end", ID)[0] == ExitCode.OK


def test_a_refusal_is_one_line_and_its_exit_code(orchestra_hub: Command, served: Served) -> None:
    for status, kind, code in ((404, "not-found", 3), (403, "not-allowed", 4), (409, "wrong-state", 5), (503, "x", 6)):
        served.problem(f"GET /v1/workshops/{ID}", status, kind, "One sentence.\nOr two.")
        assert orchestra_hub("workshop", "show", ID) == (code, "", "One sentence. Or two.\n")


def test_templates_are_listed_and_linted(orchestra_hub: Command, served: Served, tmp_path: Path) -> None:
    template = {
        "name": "rnaseq-intro", "title": "RNA-seq", "summary": "One line.", "default_duration_h": 6,
        "resources": {"cpu": 1, "memory": "2Gi", "storage": "1Gi"}, "max_duration_h": 48, "default_seats": 20,
        "idle_timeout_min": 60, "retention_d": 14,
    }  # fmt: skip
    served.answer("GET /v1/templates", {"items": [template]})
    code, out, _ = orchestra_hub("template", "list")
    assert code == 0
    assert re.search(r"rnaseq-intro\s+RNA-seq", out)
    assert json.loads(orchestra_hub("template", "list", "--json")[1])[0]["name"] == "rnaseq-intro"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "template.yaml").write_text("name: broken\nseats: many\n")
    code, out, err = orchestra_hub("template", "lint", str(broken))
    assert code == ExitCode.INVALID_INPUT
    assert re.search(r"template\.yaml:2:\d+: .* Fix: ", out)
    assert re.fullmatch(r"\d+ error\(s\) found\.\n", err)
    assert orchestra_hub("template", "lint", str(tmp_path / "none"))[0] == ExitCode.NOT_FOUND
    assert json.loads(orchestra_hub("template", "schema")[1])["type"] == "object"


def test_a_password_is_reset_and_shown_once(orchestra_hub: Command, data_dir: Path) -> None:
    assert orchestra_hub("user", "reset-password", "admin")[0] == ExitCode.NOT_FOUND
    accounts.ensure_admin(f"sqlite:///{data_dir}/jupyterhub.sqlite", "admin")
    code, out, _ = orchestra_hub("user", "reset-password", "admin")
    assert code == 0
    assert re.search(r"password\s+[a-z2-9-]{17}\n", out)
    assert orchestra_hub("user", "reset-password", "nobody")[0] == ExitCode.NOT_FOUND
    assert orchestra_hub("user", "add", "ada", "--admin")[0] == 0
    assert orchestra_hub("user", "add", "ada")[0] == ExitCode.CONFLICT


def test_accounts_of_a_newer_release_are_left_alone(orchestra_hub: Command, data_dir: Path) -> None:
    accounts.ensure_admin(f"sqlite:///{data_dir}/jupyterhub.sqlite", "admin")
    with closing(sqlite3.connect(data_dir / "jupyterhub.sqlite")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        database.commit()
    code, out, err = orchestra_hub("user", "reset-password", "admin")
    assert (code, out, len(err.splitlines())) == (ExitCode.DATA_NEWER, "", 1)


ENTRY = f"POST /v1/workshops/{ID}/enrolments"
PLACE = {"user": "ada", "role": "learner", "joined_at": "2026-11-03T08:05:00Z", "in_hub": True}
INVITED = {"id": 3, "label": "Bo", "role": "learner", "created_at": "2026-11-03T08:05:00Z"}


def test_people_are_enrolled_or_get_a_link(orchestra_hub: Command, served: Served, tmp_path: Path) -> None:
    served.answer(ENTRY, {"enrolment": PLACE}, 201)
    assert orchestra_hub("workshop", "add-people", ID, "ada") == (0, "ada: enrolled as learner\n", "")
    served.answer(ENTRY, {"invitation": INVITED | {"url": "http://app.localhost:8000/x?invitation=3-abc"}}, 201)
    roster = tmp_path / "roster.txt"
    roster.write_text("\ufeffBo\n\n  Cy Young \n", encoding="utf-8")
    code, out, _ = orchestra_hub("workshop", "add-people", ID, "--file", str(roster), "--role", "instructor")
    assert (code, out.count("http://app.localhost:8000/x?invitation=3-abc\n")) == (0, 2)
    assert [asked.body["user"] for asked in served.asked] == ["ada", "Bo", "Cy Young"]
    assert [asked.body["role"] for asked in served.asked] == ["learner", "instructor", "instructor"]
    _, out, _ = orchestra_hub("workshop", "add-people", ID, "Bo", "--json")
    assert json.loads(out)[0]["invitation"]["url"].endswith("invitation=3-abc")


def test_links_shown_before_a_refusal_are_not_lost(orchestra_hub: Command, served: Served) -> None:
    served.then(ENTRY, {"invitation": INVITED | {"url": "http://app.localhost:8000/x?invitation=3-abc"}}, 201)
    served.problem(ENTRY, 409, "workshop-full", "It is full.")
    code, out, err = orchestra_hub("workshop", "add-people", ID, "Bo", "Cy")
    assert (code, err) == (ExitCode.CONFLICT, "It is full.\n")
    assert "invitation=3-abc" in out


def test_a_roster_needs_names(orchestra_hub: Command, served: Served, tmp_path: Path) -> None:
    assert orchestra_hub("workshop", "add-people", ID)[0] == ExitCode.INVALID_INPUT
    for bad in (tmp_path / "none.txt", tmp_path):
        code, _, err = orchestra_hub("workshop", "add-people", ID, "--file", str(bad))
        assert (code, len(err.splitlines())) == (ExitCode.INVALID_INPUT, 1)
    assert served.asked == []


def test_who_is_in_is_shown(orchestra_hub: Command, served: Served) -> None:
    served.answer(f"GET /v1/workshops/{ID}/enrolments", {"items": [PLACE], "invitations": [INVITED]})
    _, out, _ = orchestra_hub("workshop", "people", ID)
    assert re.search(r"ada\s+learner\s+enrolled\s+\n?Bo\s+learner\s+invited", out), out
    assert json.loads(orchestra_hub("workshop", "people", ID, "--json")[1])["items"][0]["user"] == "ada"
    served.answer(f"GET /v1/workshops/{ID}/enrolments", {"items": []})
    assert orchestra_hub("workshop", "people", ID)[1] == "Nobody.\n"


def test_an_empty_data_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["workshop", "list", "--data-dir", ""], ["--data-dir=", "up"]):
        assert run(whole_app(), arguments) == ExitCode.INVALID_INPUT
        assert "--data-dir is empty" in capsys.readouterr().err


def test_a_folder_up_never_ran_on_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(whole_app(), ["workshop", "list", "--data-dir", str(tmp_path / "none")]) == ExitCode.NOT_FOUND
    assert "orchestra-hub up" in capsys.readouterr().err


def test_a_url_and_a_token_need_no_folder(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.answer("GET /v1/workshops?limit=200", {"items": []})
    assert run(whole_app(), ["workshop", "list", "--url", served.url, "--token", "mine"]) == 0
    assert served.asked[0].authorization == "token mine"
    assert run(whole_app(), ["workshop", "list", "--url", served.url]) == ExitCode.INVALID_INPUT
    assert run(whole_app(), ["--url", served.url, "--token", "t", "user", "add", "ada"]) == ExitCode.INVALID_INPUT


def test_a_usage_error_is_exit_code_2(orchestra_hub: Command) -> None:
    assert orchestra_hub("workshop", "nonsense")[0] == 2
    assert orchestra_hub("workshop", "create")[0] == 2


def test_shared_options_may_stand_anywhere_before_two_hyphens() -> None:
    assert hoisted(["workshop", "list", "--url", "u", "--json", "--token=t"]) == [
        "--url", "u", "--token=t", "workshop", "list", "--json",
    ]  # fmt: skip
    assert hoisted(["a", "--", "--url", "u"]) == ["a", "--", "--url", "u"]
    assert hoisted(["a", "--url"]) == ["--url", "a"]
    assert hoisted([]) == []


def test_every_kind_of_error_has_its_exit_code() -> None:
    assert exit_code_of(CommandRefused("x", exit_code=ExitCode.PORT_IN_USE)) is ExitCode.PORT_IN_USE
    assert exit_code_of(InvalidInput("x")) is ExitCode.INVALID_INPUT
    assert exit_code_of(WorkshopFull("x")) is ExitCode.CONFLICT
    assert exit_code_of(StoreUnavailable("x")) is ExitCode.TEMPORARY
    assert exit_code_of(NewerData("x")) is ExitCode.DATA_NEWER
    assert exit_code_of(OrchestraError("x")) is ExitCode.UNEXPECTED


def test_times_are_read_and_shown_in_the_given_zone() -> None:
    def in_the_east(moment: datetime) -> datetime:
        return moment.replace(tzinfo=EAST) if moment.tzinfo is None else moment.astimezone(EAST)

    assert typed("2026-11-03 09:00", "--opens", in_the_east) == (datetime(2026, 11, 3, 9, tzinfo=EAST), True)
    assert typed("2026-11-03T09:00Z", "--opens", in_the_east) == (datetime(2026, 11, 3, 9, tzinfo=UTC), False)
    with pytest.raises(InvalidInput, match="--opens 'x'"):
        typed("x", "--opens", in_the_east)
    moment = datetime(2026, 11, 3, 20, tzinfo=UTC)
    assert shown(moment, in_the_east) == "2026-11-04 01:30 +05:30"
    assert shown(moment, lambda m: m.astimezone(UTC)) == "2026-11-03 20:00 UTC"
    assert shown(moment, lambda m: m.astimezone(timezone(-timedelta(hours=3)))) == "2026-11-03 17:00 -03:00"


def test_every_command_option_and_exit_code_is_in_the_docs() -> None:
    text = DOCS.read_text()
    missing = [f"| {code.value} |" for code in ExitCode if f"| {code.value} |" not in text]
    root = get_command(whole_app())
    waiting = [("orchestra-hub", root)]
    while waiting:
        path, command = waiting.pop()
        children = getattr(command, "commands", {})
        waiting += [(f"{path} {name}", child) for name, child in children.items()]
        if not children and f"`{path}" not in text:
            missing.append(path)
        for parameter in command.params:
            missing += [name for name in parameter.opts if name.startswith("--") and f"`{name}" not in text]
    assert set(SHARED_OPTIONS) <= {name for parameter in root.params for name in parameter.opts}
    assert not [name for name in missing if name != "--help"]
