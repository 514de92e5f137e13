"""What commands print: the one place that writes to the terminal.

Lines are never folded (addresses stay whole when output goes to a file) and texts are never read as markup, so that a
workshop's title can't change how the output looks. Colours only on a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

__all__ = ["Console"]


class Console:
    """Output to people (stdout, stderr) and to programs (JSON on stdout)."""

    def __init__(self) -> None:
        self._out = RichConsole(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._error = RichConsole(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def line(self, text: str = "", *, style: str = "") -> None:
        """A line on stdout."""
        self._out.print(Text(_plain(text), style=style))

    def field(self, name: str, value: str) -> None:
        """A line `name   value` on stdout."""
        self._out.print(Text.assemble((f"  {name:<9} ", "dim"), (_plain(value), "bold")))

    def error(self, text: str) -> None:
        """One line on stderr."""
        self._error.print(Text(" ".join(_plain(text).split()), style="red"))

    def note(self, text: str) -> None:
        """One line on stderr that is no error."""
        self._error.print(Text(" ".join(_plain(text).split()), style="yellow"))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table on stdout; the first column is never cut."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column, no_wrap=True, overflow="fold" if number == 0 else "ellipsis")
        for row in rows:
            table.add_row(*(Text(_plain(cell)) for cell in row))
        if self._out.is_terminal:
            self._out.print(table, soft_wrap=False)
        else:
            self._out.print(table, soft_wrap=False, width=500, crop=False)

    def json(self, value: Any) -> None:
        """A value as JSON on stdout, the same with and without a terminal."""
        self._out.print(Text(json.dumps(value, indent=2, ensure_ascii=False)))


def _plain(text: str) -> str:
    """`text` without what would steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)
