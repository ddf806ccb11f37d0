"""What a command prints: one JSON document with `--json`, else a table for people. Messages go to standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def print_json(value: Any) -> None:
    """One JSON document on standard output, indented for a person who looks at it."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    sys.stdout.flush()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """A table on standard output; wide on a terminal, never cut in a pipe."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    table = Table(title=title or None, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for index, row in enumerate(rows):
        table.add_row(*(cell.replace("[", "\\[") for cell in row), style=styles[index] if styles else None)
    console.print(table)


def short(digest: str) -> str:
    """A digest as tables show it: enough to tell two apart, whole in `--json`. Empty shows as a dash."""
    return digest.removeprefix("sha256:")[:12] or "–"
