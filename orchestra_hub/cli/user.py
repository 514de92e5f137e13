"""`orchestra-hub user`: accounts in the hub's database, while the hub runs or not."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra_hub.cli.context import Context

__all__ = ["user_app"]

Name = Annotated[str, typer.Argument(help="The account's name.")]
Prompt = Annotated[bool, typer.Option("--prompt", help="Ask for the password instead of making a random one.")]


def user_app() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="Accounts of this machine's hub.", no_args_is_help=True, rich_markup_mode=None)

    @app.command("reset-password")
    def reset_password(context: typer.Context, name: Name, prompt: Prompt = False) -> None:
        """Give an account a new password; it works at once."""
        from orchestra_hub import accounts  # takes half a second

        ours = Context.of(context)
        url = ours.connection.hub_database_url()
        password = accounts.reset_password(url, name, _asked() if prompt else None)
        _tell(ours, f"{name} has a new password.", password, prompt=prompt)

    @app.command("add")
    def add(
        context: typer.Context,
        name: Name,
        admin: Annotated[bool, typer.Option("--admin", help="Make an operator: may do everything.")] = False,
        prompt: Prompt = False,
    ) -> None:
        """Make an account."""
        from orchestra_hub import accounts

        ours = Context.of(context)
        url = ours.connection.hub_database_url()
        name, password = accounts.add_user(url, name, admin=admin, password=_asked() if prompt else None)
        _tell(ours, f"Made the account {name}{' with admin rights' if admin else ''}.", password, prompt=prompt)

    return app


def _asked() -> str:
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _tell(ours: Context, sentence: str, password: str, *, prompt: bool) -> None:
    ours.console.line(sentence)
    if not prompt:
        ours.console.field("password", password)
        ours.console.line("It is shown only now.", style="dim")
