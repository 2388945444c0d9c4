"""Tables of reports, in Markdown and in terminals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from simenv.files.blocks import Block, markdown_parts, print_block


def test_a_cell_ends_neither_its_table_nor_its_line() -> None:
    block = Block("Money", ("mechanism", "a|b"), [("x | y\n| z", "1"), ("<script>alert(1)</script>", "2")])
    rows = markdown_parts(block)[1].splitlines()
    assert rows == [
        "| mechanism | a\\|b |",
        "|---|---|",
        "| x \\| y \\| z | 1 |",
        "| &lt;script>alert(1)&lt;/script> | 2 |",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_number_is_cut_where_the_terminal_is_narrow(width: int) -> None:
    header = ("mechanism", *(f"a long name of column {i}" for i in range(6)))
    rows = [("mine.py:HighestBid", *(f"{i}1234.56" for i in range(6)))]
    console = Console(file=io.StringIO(), width=width)
    print_block(Block("A table", header, rows), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert all(number in text for number in rows[0][1:])
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())


def test_a_backslash_before_a_bar_does_not_open_the_cell_again() -> None:
    block = Block("A table", ("mechanism", "n"), [("a\\|b", "1"), ("ends\\", "2"), ("plain\\x", "3")])
    rows = markdown_parts(block)[1].splitlines()[2:]
    assert rows == [r"| a\\\|b | 1 |", r"| ends\\ | 2 |", r"| plain\x | 3 |"]
