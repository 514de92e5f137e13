"""`orchestra-hub template`: what kinds of workshop there are, and whether a template's files are right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestra_hub.cli.context import Context
from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode
from orchestra_hub.errors import NotFound

__all__ = ["template_app"]


def template_app() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="Kinds of workshop.", no_args_is_help=True, rich_markup_mode=None)

    @app.command("list")
    def list_(
        context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    ) -> None:
        """List the templates the service offers."""
        ours = Context.of(context)
        with ours.connection.client() as client:
            templates = client.templates()
        if as_json:
            ours.console.json([template.model_dump(mode="json") for template in templates])
            return
        ours.console.table(["NAME", "TITLE"], [(template.name, template.title) for template in templates])

    @app.command()
    def lint(
        context: typer.Context,
        paths: Annotated[list[Path], typer.Argument(help="A template.yaml, its folder, or a folder of templates.")],
    ) -> None:
        """Check templates; every problem with file, line, column and the fix."""
        from orchestra_hub.template_lint import lint as findings_of

        console = Context.of(context).console
        for path in paths:
            if not path.exists():
                raise NotFound(f"There is no {path}; name a template.yaml, its folder, or a folder of templates.")
        findings = [finding for path in paths for finding in findings_of(path)]
        for finding in findings:
            console.line(str(finding), style="yellow" if finding.severity == "warning" else "red")
        errors = sum(1 for finding in findings if finding.severity == "error")
        if errors:
            raise CommandRefused(f"{errors} error(s) found.", exit_code=ExitCode.INVALID_INPUT)
        console.line("No errors found.")

    @app.command()
    def schema(context: typer.Context) -> None:
        """Print the JSON schema of template.yaml, for editors."""
        from orchestra_hub.templates import template_json_schema

        Context.of(context).console.json(template_json_schema())

    return app
