"""Tables of reports in Markdown."""

from __future__ import annotations

from simenv.files.blocks import Block, markdown_parts


def test_a_cell_ends_neither_its_table_nor_its_line() -> None:
    block = Block("Money", ("mechanism", "a|b"), [("x | y\n| z", "1"), ("<script>alert(1)</script>", "2")])
    rows = markdown_parts(block)[1].splitlines()
    assert rows == [
        "| mechanism | a\\|b |",
        "|---|---|",
        "| x \\| y \\| z | 1 |",
        "| &lt;script>alert(1)&lt;/script> | 2 |",
    ]
