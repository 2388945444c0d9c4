"""Tables, and reports of them: for the terminal, as Markdown, and as a folder with the data and plots."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simenv.files.atomic import write_bytes_atomically
from simenv.files.folders import make_folder
from simenv.records import Record


class Block(NamedTuple):
    """One table: the first columns are text, the rest are numbers."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    texts: int = 1
    """Number of columns of text."""


def print_block(block: Block, console: Console) -> None:
    """Prints a table and its note."""
    print_table(block.title, block.header, block.rows, console, texts=block.texts)
    if block.note:
        console.print(Text(block.note), style="dim")


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], console: Console, *, texts: int = 1
) -> None:
    """Prints a table. Where the console is too narrow, it goes on in another one; no number is cut.

    Args:
        title: Its title.
        header: Names of the columns.
        rows: The cells.
        console: Where to.
        texts: Number of the first columns that are text. The first one is in every part, and may be folded.
    """
    widths = [max(cell_len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    widest = max(widths[1:], default=0)
    first = min(widths[0], max(console.width - widest - 4, 8))
    parts: list[list[int]] = []
    left = 0
    for i in range(1, len(header)):
        if not parts or left < widths[i] + 3:
            parts.append([])
            left = console.width - first - 4
        parts[-1].append(i)
        left -= widths[i] + 3
    for part in parts:
        shown = Table(title=Text(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        shown.add_column(Text(header[0]), width=first, overflow="fold")
        for i in part:
            shown.add_column(Text(header[i]), justify="left" if i < texts else "right", overflow="fold")
        for row in rows:
            shown.add_row(Text(row[0]), *(Text(row[i]) for i in part))
        console.print(shown)


def markdown_parts(block: Block) -> list[str]:
    """Returns heading, table and note as Markdown; join them with empty lines."""
    table = markdown_table(block.header, block.rows)
    return [f"## {block.title}", table, *([block.note] if block.note else [])]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join([_markdown_row(header), f"|{'---|' * len(header)}", *map(_markdown_row, rows)])


def _markdown_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table. What would end a cell or begin HTML is escaped."""
    return f"| {' | '.join(map(_markdown_cell, cells))} |"


def csv_text(text: str) -> str:
    """Text as the cell of a CSV file. What a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _markdown_cell(text: str) -> str:
    text = re.sub(r"\\(?=[\\|]|$)", r"\\\\", " ".join(text.split()))  # elsewhere a backslash stands for itself
    return text.replace("|", "\\|").replace("<", "&lt;")


class Report(NamedTuple):
    """Tables with what is said of all of them."""

    title: str
    caption: str
    blocks: Sequence[Block]
    warnings: Sequence[str] = ()

    def print(self, console: Console) -> None:
        """Prints the tables, then caption and warnings."""
        for block in self.blocks:
            print_block(block, console)
        console.print(Text(self.caption), style="dim")
        for warning in self.warnings:
            console.print(Text(warning), style="yellow")

    def to_markdown(self, pictures: Sequence[str] = ()) -> str:
        """Returns caption, warnings and tables as Markdown, with links to the pictures."""
        parts = [f"# {self.title}", self.caption, *self.warnings]
        for block in self.blocks:
            parts += markdown_parts(block)
        parts += [f"![{Path(name).stem}]({name})" for name in pictures]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path, file: str, data: Record, plots: Callable[[Path], Sequence[str]]) -> None:
        """Writes the data, the plots and report.md.

        Args:
            folder: A new or empty folder.
            file: Name of the file with the data.
            data: What the report was made of.
            plots: Writes the plots into the folder, and returns their file names.

        Raises:
            DataFileError: the folder is not empty.
            CannotWrite: it cannot be made or written.
        """
        make_folder(folder)
        write_bytes_atomically(folder / file, (data.model_dump_json(indent=2) + "\n").encode())
        write_bytes_atomically(folder / "report.md", self.to_markdown(plots(folder)).encode())
