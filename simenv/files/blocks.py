"""Tables of a report, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


class Block(NamedTuple):
    """One table: the first column is text, the rest are numbers."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def print_block(block: Block, console: Console) -> None:
    """Prints a table and its note."""
    shown = Table(title=Text(block.title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column(Text(block.header[0]), no_wrap=True)
    for name in block.header[1:]:
        shown.add_column(Text(name), justify="right")
    for row in block.rows:
        shown.add_row(*map(Text, row))
    console.print(shown)
    if block.note:
        console.print(Text(block.note), style="dim")


def markdown_parts(block: Block) -> list[str]:
    """Returns heading, table and note as Markdown; join them with empty lines."""
    lines = [markdown_row(block.header), f"|{'---|' * len(block.header)}", *map(markdown_row, block.rows)]
    return [f"## {block.title}", "\n".join(lines), *([block.note] if block.note else [])]


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table. What would end a cell or begin HTML is escaped."""
    return f"| {' | '.join(map(_markdown_cell, cells))} |"


def _markdown_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
