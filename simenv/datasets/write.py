"""Writes rows to a .parquet or .jsonl file as they come, with the types of their format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from simenv.datasets.columns import COLUMNS, schema
from simenv.errors import InputError
from simenv.files.atomic import replacing
from simenv.files.folders import try_file

_GROUP = 2_000
"""Rows that are in memory, and in one row group of a Parquet file."""


def writable(out: str | Path) -> Path:
    """Checks extension and folder of an export path, and returns it as a Path; .parquet is added if it has no ending.

    Raises:
        InputError: another extension than .parquet or .jsonl, or a folder that does not exist.
        CannotWrite: the file cannot be written.
    """
    out = Path(out)
    if not out.suffix and out.name:
        out = out.with_name(f"{out.name}.parquet")
    if out.suffix not in (".parquet", ".jsonl"):
        raise InputError(f"{out}: cannot write files of type {out.suffix!r}, expected .parquet or .jsonl")
    try_file(out)
    return out


def write_rows(rows: Iterable[Mapping[str, Any]], out: Path, format: str) -> int:
    """Writes rows in the format of the path's extension, and returns how many.

    An error, of the rows or of the file, leaves an existing file unchanged.

    Raises:
        CannotWrite: the file cannot be written.
    """
    with replacing(out) as part:
        return (_write_parquet if out.suffix == ".parquet" else _write_jsonl)(rows, part, format)


def _write_parquet(rows: Iterable[Mapping[str, Any]], part: Path, format: str) -> int:
    import pyarrow
    import pyarrow.parquet

    types, stream, number = schema(format), iter(rows), 0
    with pyarrow.parquet.ParquetWriter(part, types) as writer:
        while group := list(islice(stream, _GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(group, types))
            number += len(group)
    return number


def _write_jsonl(rows: Iterable[Mapping[str, Any]], part: Path, format: str) -> int:
    number = 0
    with part.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps({name: row[name] for name in COLUMNS[format]}, ensure_ascii=False) + "\n")
            number += 1
    return number
