"""The commands together, and what every one of them does with an error: one line on stderr and an exit code."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestra_hub import __version__
from orchestra_hub.cli.connection import DEFAULT_DATA_DIR, Connection
from orchestra_hub.cli.console import Console
from orchestra_hub.cli.context import Context
from orchestra_hub.cli.exit_codes import ExitCode, exit_code_of
from orchestra_hub.cli.template import template_app
from orchestra_hub.cli.user import user_app
from orchestra_hub.cli.workshop import workshop_app
from orchestra_hub.errors import InvalidInput, OrchestraError

__all__ = ["SHARED_OPTIONS", "hoisted", "make_app", "run"]

SHARED_OPTIONS = ("--data-dir", "--url", "--token")
"""Options of all commands; they may stand anywhere."""

DataDir = Annotated[
    str,
    typer.Option(
        "--data-dir", envvar="ORCHESTRA_DATA_DIR", help="The data folder of `orchestra-hub up`.", show_default=True
    ),
]


def make_app() -> typer.Typer:
    """A fresh app with every command but `up`."""
    app = typer.Typer(
        name="orchestra-hub",
        help="One JupyterHub as a workshop platform. The options below may stand behind a command too.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def options(
        context: typer.Context,
        data_dir: DataDir = str(DEFAULT_DATA_DIR),
        url: Annotated[
            str | None,
            typer.Option("--url", envvar="ORCHESTRA_URL", help="The API's address, instead of a data folder's."),
        ] = None,
        token: Annotated[
            str | None,
            typer.Option("--token", envvar="ORCHESTRA_TOKEN", help="A Hub API token, instead of the data folder's."),
        ] = None,
    ) -> None:
        if not data_dir.strip():  # as from an unset variable: it would be the folder one happens to be in
            raise InvalidInput("--data-dir is empty; name a folder, or leave the option out.")
        context.obj = Context(Connection(Path(data_dir), url, token), Console())

    @app.command()
    def version(context: typer.Context) -> None:
        """Say which release this is, and of what it is made."""
        from jupyterhub import __version__ as jupyterhub_version

        Context.of(context).console.line(
            f"orchestra-hub {__version__} (JupyterHub {jupyterhub_version}, Python {platform.python_version()})"
        )

    app.add_typer(workshop_app(), name="workshop")
    app.add_typer(template_app(), name="template")
    app.add_typer(user_app(), name="user")
    return app


def hoisted(arguments: Sequence[str]) -> list[str]:
    """`arguments` with the options of all commands first, as people write them behind a command too."""
    first: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            return [*first, *rest, argument, *left]
        if argument in SHARED_OPTIONS:
            first += [argument, *([value] if (value := next(left, None)) is not None else [])]
        elif argument.partition("=")[0] in SHARED_OPTIONS:
            first.append(argument)
        else:
            rest.append(argument)
    return [*first, *rest]


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code. Errors raised on purpose become one line on stderr."""
    try:
        app(args=hoisted(sys.argv[1:] if arguments is None else arguments), prog_name="orchestra-hub")
    except OrchestraError as error:
        Console().error(str(error))
        return exit_code_of(error)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, such as `head`
        sys.stderr.close()
        return ExitCode.OK
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.OK if end.code is None else ExitCode.UNEXPECTED
    return ExitCode.OK
