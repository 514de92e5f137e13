"""The program `orchestra-hub`: the command line of `orchestra_hub.cli` with `up` beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestra_hub.cli.app import make_app, run
from orchestra_hub.cli.context import Context

__all__ = ["main", "whole_app"]


def whole_app() -> typer.Typer:
    """Every command."""
    app = make_app()

    @app.command("up")
    def up(
        context: typer.Context,
        demo: Annotated[bool, typer.Option("--demo", help="Make sure that a demo workshop is open.")] = False,
        port: Annotated[
            int | None, typer.Option("--port", help="Port of the address.", show_default="as last time, at first 8000")
        ] = None,
        domain: Annotated[
            str | None,
            typer.Option("--domain", help="Domain of all hosts.", show_default="as last time, at first localhost"),
        ] = None,
        sign_up: Annotated[
            bool, typer.Option("--sign-up/--no-sign-up", help="Whether everybody may make an account.")
        ] = True,
        listen: Annotated[
            str, typer.Option("--listen", help="Address to serve at; other than loopback needs seats kept apart.")
        ] = "127.0.0.1",
        seats_share_one_user: Annotated[
            bool,
            typer.Option(
                "--seats-share-one-user", help="Serve other machines even though seats can read what the platform can."
            ),
        ] = False,
        config: Annotated[
            Path | None, typer.Option("--config", help="A configuration file for the hub, instead of our own.")
        ] = None,
        database_url: Annotated[
            str | None,
            typer.Option(
                "--database-url",
                help="PostgreSQL for the platform's own data, or 'sqlite' for the data folder's. The environment's "
                "ORCHESTRA_DATABASE_URL does the same, and takes a password too.",
                show_default="as last time, at first sqlite",
            ),
        ] = None,
    ) -> None:
        """Run everything on this machine: hub, proxy, services, seats. Ctrl-C stops it all.

        Data is in one folder, --data-dir (default ~/.local/share/orchestra-hub).
        """
        from orchestra_services.up.chosen_store import check_no_password
        from orchestra_services.up.command import Asked
        from orchestra_services.up.command import up as run_up

        ours = Context.of(context)
        asked = Asked(
            data_dir=ours.connection.data_dir,
            port=port,
            domain=domain,
            demo=demo,
            sign_up=sign_up,
            hub_config_file=None if config is None else config.expanduser().absolute(),
            listen=listen,
            seats_share_one_user=seats_share_one_user,
            database_url=os.environ.get("ORCHESTRA_DATABASE_URL") or None
            if database_url is None
            else check_no_password(database_url),
        )
        raise typer.Exit(run_up(asked, ours.console, os.environ))

    return app


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(whole_app()))


if __name__ == "__main__":
    main()
