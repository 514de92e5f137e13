"""`orchestra-hub workshop`: make, look at, extend, end and cancel workshops."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from orchestra_hub.api_models import WorkshopCreate, WorkshopView
from orchestra_hub.cli.context import Context
from orchestra_hub.cli.people import add_people, people
from orchestra_hub.cli.times import machine_zone, shown, typed
from orchestra_hub.errors import InvalidInput
from orchestra_hub.workshop import JoinPolicy, State

__all__ = ["workshop_app"]

Id = Annotated[str, typer.Argument(metavar="ID", help="The workshop's id, such as rnaseq-intro-2026nov-k3x9qz.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
OPTIONS = {
    "/template": "--template",
    "/session": "--session",
    "/course": "--course",
    "/title": "--title",
    "/teacher": "--teacher",
    "/opens_at": "--opens",
    "/hours": "--hours",
    "/expires_at": "--expires",
    "/seats": "--seats",
    "/warning_min": "--warn-min",
    "/idle_timeout_min": "--idle-min",
    "/retention_h": "--keep-h",
    "/join_policy": "--join",
}


def workshop_app() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="Workshops.", no_args_is_help=True, rich_markup_mode=None)
    app.command("create")(_create)
    app.command("list")(_list)
    app.command("show")(_show)
    app.command("extend")(_extend)
    app.command("end")(_end)
    app.command("mend")(_mend)
    app.command("cancel")(_cancel)
    app.command("people")(people)
    app.command("add-people")(add_people)
    return app


def _create(
    context: typer.Context,
    template: Annotated[str, typer.Option("--template", help="The kind of workshop; see `template list`.")],
    session: Annotated[str, typer.Option("--session", help="Which run this is, part of the address: 2026nov.")],
    opens: Annotated[str, typer.Option("--opens", help="'now' or an ISO 8601 date-time.")] = "now",
    hours: Annotated[float | None, typer.Option("--hours", help="How long it lasts.")] = None,
    expires: Annotated[str | None, typer.Option("--expires", help="When it ends, instead of --hours.")] = None,
    seats: Annotated[int | None, typer.Option("--seats", help="Learners' places.")] = None,
    join: Annotated[JoinPolicy, typer.Option("--join", help="How people join.")] = JoinPolicy.CODE,
    course: Annotated[str | None, typer.Option("--course", help="First part of the address.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="What people see.")] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help="Who teaches, as learners see it.")] = None,
    warn_min: Annotated[float | None, typer.Option("--warn-min", help="Minutes of warning before the end.")] = None,
    idle_min: Annotated[float | None, typer.Option("--idle-min", help="Minutes until an unused seat stops.")] = None,
    keep_h: Annotated[float | None, typer.Option("--keep-h", help="Hours the data is kept after the end.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a workshop; prints its id, address and join link.

    What is left out, the template decides. A date-time without a zone is read in this machine's.
    """
    ours = Context.of(context)
    wanted: dict[str, Any] = {
        "template": template,
        "session": session,
        "opens_at": "now" if opens.strip().lower() == "now" else _moment(ours, opens, "--opens"),
        "hours": hours,
        "expires_at": None if expires is None else _moment(ours, expires, "--expires"),
        "seats": seats,
        "join_policy": join,
        "course": course,
        "title": title,
        "teacher": teacher,
        "warning_min": warn_min,
        "idle_timeout_min": idle_min,
        "retention_h": keep_h,
    }
    try:
        request = WorkshopCreate(**wanted)
    except ValidationError as error:
        first = error.errors()[0]
        pointer = "".join(f"/{part}" for part in first["loc"])
        name = OPTIONS.get(pointer, pointer or "--hours and --expires")
        raise InvalidInput(f"{name}: {first['msg']}; {_given(wanted, first['loc'])}", field=pointer) from error
    with ours.connection.client() as client:
        _tell(ours, client.create_workshop(request), as_json=as_json)


def _list(
    context: typer.Context,
    state: Annotated[
        list[State] | None, typer.Option("--state", help="Only these; may be given several times.")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only those you own or are enrolled in.")] = False,
    as_json: AsJson = False,
) -> None:
    """List workshops, newest first."""
    ours = Context.of(context)
    damaged: dict[str, str] = {}
    with ours.connection.client() as client:
        found = list(client.workshops(states=state or (), mine=mine, damaged=damaged))
    for workshop_id, sentence in damaged.items():
        ours.console.note(f"{workshop_id}: {sentence}")
    if as_json:
        ours.console.json([workshop.model_dump(mode="json") for workshop in found])
    elif not found:
        ours.console.line("No workshops.")
    else:
        rows = [
            (
                workshop.id,
                workshop.state.value,
                shown(workshop.opens_at, machine_zone),
                shown(workshop.expires_at, machine_zone),
                f"{'?' if workshop.learners is None else workshop.learners}/{workshop.seats}",
                workshop.title,
            )
            for workshop in found
        ]
        ours.console.table(["ID", "STATE", "OPENS", "EXPIRES", "PLACES", "TITLE"], rows)


def _show(context: typer.Context, workshop_id: Id, as_json: AsJson = False) -> None:
    """Show one workshop."""
    ours = Context.of(context)
    with ours.connection.client() as client:
        _tell(ours, client.workshop(workshop_id), as_json=as_json)


def _extend(
    context: typer.Context,
    workshop_id: Id,
    hours: Annotated[float | None, typer.Option("--hours", help="Hours added to the present end.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="The new end, ISO 8601, instead of --hours.")] = None,
    as_json: AsJson = False,
) -> None:
    """Move a workshop's end, never past its deadline."""
    ours = Context.of(context)
    if (hours is None) == (until is None):
        raise InvalidInput("Give --hours or --until, exactly one of them.")
    expires_at = None if until is None else _moment(ours, until, "--until")
    with ours.connection.client() as client:
        _tell(ours, client.extend(workshop_id, hours=hours, expires_at=expires_at), as_json=as_json)


def _end(
    context: typer.Context,
    workshop_id: Id,
    yes: Yes = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="End one that can't be mended.")] = False,
    as_json: AsJson = False,
) -> None:
    """End a workshop now: seats stop, the data is kept until the purge date."""
    ours = Context.of(context)
    _confirm(f"End {workshop_id} now? Its seats stop and can't be started again.", yes=yes)
    with ours.connection.client() as client:
        _tell(ours, client.end(workshop_id, damaged=damaged), as_json=as_json)


def _mend(context: typer.Context, workshop_id: Id, as_json: AsJson = False) -> None:
    """Put right what somebody damaged by hand: row, content, folder, Hub group; prints what was mended."""
    ours = Context.of(context)
    with ours.connection.client() as client:
        mended = client.mend(workshop_id)
    if as_json:
        ours.console.json(mended.model_dump(mode="json"))
        return
    for what in mended.mended or ["nothing: what is kept of it is as it should be"]:
        ours.console.field("mended", what)
    _tell(ours, mended.workshop, as_json=False)


def _cancel(context: typer.Context, workshop_id: Id, yes: Yes = False, as_json: AsJson = False) -> None:
    """Cancel a workshop; data it has is kept until the purge date."""
    ours = Context.of(context)
    _confirm(f"Cancel {workshop_id}? That can't be taken back.", yes=yes)
    with ours.connection.client() as client:
        _tell(ours, client.cancel(workshop_id), as_json=as_json)


def _confirm(question: str, *, yes: bool) -> None:
    if not yes and sys.stdin.isatty():
        typer.confirm(question, abort=True)


def _moment(ours: Context, text: str, option: str) -> datetime:
    moment, local = typed(text, option, machine_zone)
    if local:
        ours.console.note(f"{option} {text}: read in this machine's time zone, {shown(moment, machine_zone)}.")
    return moment


def _given(wanted: dict[str, Any], location: tuple[int | str, ...]) -> str:
    value = wanted.get(str(location[0])) if location else None
    return "leave one out." if value is None else f"{str(value)[:60]!r} was given."


def _tell(ours: Context, workshop: WorkshopView, *, as_json: bool) -> None:
    if as_json:
        ours.console.json(workshop.model_dump(mode="json"))
        return
    console = ours.console
    console.field("id", workshop.id)
    console.field("title", workshop.title)
    console.field("state", workshop.state.value)
    console.field("address", workshop.url)
    if workshop.join_url:
        console.field("join link", workshop.join_url)
    console.field("opens", shown(workshop.opens_at, machine_zone))
    console.field("expires", shown(workshop.expires_at, machine_zone))
    console.field("purged", shown(workshop.purge_at, machine_zone))
    taken = "" if workshop.learners is None else f"{workshop.learners} of "
    console.field("places", f"{taken}{workshop.seats}")
    if workshop.trouble:
        console.field("trouble", workshop.trouble)
    for warning in workshop.warnings:
        console.field("warning", warning)
