"""What every command gets: where to connect, and the console."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from orchestra_hub.cli.connection import Connection
from orchestra_hub.cli.console import Console

__all__ = ["Context"]


@dataclass(frozen=True)
class Context:
    """Set by the app's own options, before a command runs."""

    connection: Connection
    console: Console

    @classmethod
    def of(cls, context: typer.Context) -> Context:
        """The context in typer's."""
        found = context.obj
        assert isinstance(found, cls), "set by the app's callback"
        return found
