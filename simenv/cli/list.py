"""`simenv list`: prints every registered plug-in with one line."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from simenv.cli import console


def list_plugins(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="mechanism, judge, llm, bidder, values, ctr_model, quality, metric, penalty, trainer or writer."
        ),
    ] = None,
) -> None:
    """Lists registered plug-ins with one line each."""
    from simenv.plugins import kind_named, plugins

    for name, rows in plugins(kind).items():
        table = Table(
            title=f"{name}: {kind_named(name).describes}",
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            pad_edge=False,
            show_header=False,
        )
        table.add_column(no_wrap=True)
        table.add_column()
        for plugin, line in rows:
            table.add_row(Text(plugin), Text(line))
        console.out.print(table)
