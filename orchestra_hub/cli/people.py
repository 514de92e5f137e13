"""`orchestra-hub workshop people` and `add-people`: who is in a workshop, and putting a roster in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestra_hub.api_models import RosterEntry
from orchestra_hub.cli.context import Context
from orchestra_hub.errors import InvalidInput
from orchestra_hub.workshop import Role

__all__ = ["add_people", "people"]

Id = Annotated[str, typer.Argument(metavar="ID", help="The workshop's id, such as rnaseq-intro-2026nov-k3x9qz.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def people(context: typer.Context, workshop_id: Id, as_json: AsJson = False) -> None:
    """Show who is in a workshop, and the invitations nobody has used."""
    ours = Context.of(context)
    with ours.connection.client() as client:
        page = client.enrolments(workshop_id)
    if as_json:
        ours.console.json(page.model_dump(mode="json"))
        return
    rows = [(place.user, place.role.value, "enrolled") for place in page.items]
    rows += [(invitation.label, invitation.role.value, "invited") for invitation in page.invitations]
    if rows:
        ours.console.table(["NAME", "ROLE", "STATE"], rows)
    else:
        ours.console.line("Nobody.")


def add_people(
    context: typer.Context,
    workshop_id: Id,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="User names, or names to invite.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A text file with one name in each line.")] = None,
    role: Annotated[Role, typer.Option("--role", help="What they are in the workshop.")] = Role.LEARNER,
    as_json: AsJson = False,
) -> None:
    """Put people on a workshop's roster.

    Who has an account is enrolled at once. Everybody else gets an invitation: a link that works once and is shown only
    now.
    """
    ours = Context.of(context)
    wanted = [*(names or []), *(_names_in(file) if file is not None else [])]
    if not wanted:
        raise InvalidInput("Give names, or a file of them with --file.")
    done: list[dict[str, Any]] = []
    try:
        with ours.connection.client() as client:
            for name in wanted:
                entry = client.enrol(workshop_id, name, role)
                done.append(entry.model_dump(mode="json"))
                if not as_json:  # at once: what is shown only now must not be lost when the next one is refused
                    _tell(ours, name, entry)
    finally:
        if as_json:
            ours.console.json(done)


def _names_in(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InvalidInput(f"--file {file} can't be read: {reason}.") from error
    return [line.strip() for line in lines if line.strip()]


def _tell(ours: Context, name: str, entry: RosterEntry) -> None:
    if entry.invitation is not None:
        ours.console.line(f"{name}: invited as {entry.invitation.role.value}, {entry.invitation.url}")
    elif entry.enrolment is not None:
        ours.console.line(f"{name}: enrolled as {entry.enrolment.role.value}")
