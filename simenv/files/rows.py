"""Reads rows from .txt (one per line), .csv, .tsv, .jsonl and .parquet files. Every error names the file and the row.

Text files may be compressed with gzip (.csv.gz etc.). Row n of a .parquet file is FILE:n in messages, from 1.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from simenv.errors import DataFileError
from simenv.records import Record

R = TypeVar("R", bound=Record)
_KINDS = {",": "CSV", "\t": "TSV"}


class Row(NamedTuple):
    """One row and its position in the file, for messages."""

    where: str
    fields: dict[str, Any]


def check_columns(columns: Mapping[str, str] | None, ours: Iterable[str]) -> None:
    """Raises DataFileError if `columns` renames something that is not a column of ours."""
    known = list(ours)
    for name in columns or {}:
        if name not in known:
            raise DataFileError(f"no column {name!r} to rename to: ours are {', '.join(known)}")


def read_rows(
    path: str | Path, *, text_column: str | None = None, columns: Mapping[str, str] | None = None
) -> list[Row]:
    """Reads a file of rows.

    Args:
        path: A .txt, .csv, .tsv or .jsonl file, UTF-8, each also with .gz after it, or a .parquet file.
        text_column: The column for the lines of a .txt file; None: .txt is not accepted.
        columns: Our column name -> the file's column name, for files with other names.

    Raises:
        DataFileError: the file does not exist, has another suffix, is not UTF-8, gzip or Parquet as its suffix says,
            or has no rows, a line that is not JSON, a duplicate column, or lacks a column of `columns`.
    """
    path = Path(path)
    allowed = ".csv or .jsonl" if text_column is None else ".txt, .csv or .jsonl"
    allowed += " (or .tsv, .parquet; text also as .gz)"
    content = _read(path, allowed)
    ending = path.suffix.lower()
    if ending == ".gz":
        ending = Path(path.stem).suffix.lower()
        if ending in (".txt", ".csv", ".tsv", ".jsonl"):
            content = _unpacked(path, content)
        else:
            ending = f"{ending}.gz"
    if ending == ".txt" and text_column is not None:
        lines = enumerate(_text(path, content).split("\n"), start=1)
        rows = [Row(f"{path}:{n}", {text_column: line.strip()}) for n, line in lines if line.strip()]
    elif ending in (".csv", ".tsv"):
        rows = _csv_rows(path, _text(path, content), "," if ending == ".csv" else "\t")
    elif ending == ".jsonl":
        rows = _jsonl_rows(path, _text(path, content))
    elif ending == ".parquet":
        rows = _parquet_rows(path, content)
    else:
        raise DataFileError(f"{path}: ending {path.suffix!r} is not read here, expected {allowed}")
    if not rows:
        raise DataFileError(f"{path}: no rows, expected at least one")
    if ending != ".txt":
        rows = [_rename(row, columns or {}) for row in rows]
    return rows


def _read(path: Path, allowed: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataFileError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataFileError(f"{path}: is a folder, expected a {allowed} file") from None
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}") from None


def _text(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: not UTF-8 text (byte {error.start})") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")  # as Python reads a text file


def _unpacked(path: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataFileError(f"{path}: not readable as gzip: {_one_line(str(error))}") from None


def _parquet_rows(path: Path, content: bytes) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(io.BytesIO(content)).read()
        names = [str(name) for name in table.column_names]
        cells = [column.to_pylist() for column in table.columns]
    except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError, MemoryError, TypeError) as error:
        raise DataFileError(f"{path}: not readable as Parquet: {_one_line(str(error))}") from None
    for name in names:
        if names.count(name) > 1:
            raise DataFileError(f"{path}: column {name!r} is there twice")
    cells = [[_without_nulls(cell) for cell in column] for column in cells]
    return [
        Row(f"{path}:{n}", dict(zip(names, row, strict=True)))
        for n, row in enumerate(zip(*cells, strict=True), start=1)
    ]


def _without_nulls(cell: Any) -> Any:
    """Removes null fields of structs: Parquet adds a null field where only other rows have a value."""
    if isinstance(cell, dict):
        return {key: _without_nulls(value) for key, value in cell.items() if value is not None}
    return cell


def _csv_rows(path: Path, content: str, delimiter: str) -> list[Row]:
    reader = csv.reader(io.StringIO(content), delimiter=delimiter, strict=True)
    table: list[tuple[int, list[str]]] = []
    begins = 1  # a quoted cell may span lines: messages name the first line
    try:
        for cells in reader:
            if cells:
                table.append((begins, [cell.strip() for cell in cells]))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise DataFileError(f"{path}:{begins}: not readable as {_KINDS[delimiter]}: {error}") from None
    if not table:
        return []
    (line, header), *body = table
    for name in header:
        if name and header.count(name) > 1:
            raise DataFileError(f"{path}:{line}: column {name!r} is there twice")
    rows = []
    for line, cells in body:
        if len(cells) > len(header):
            raise DataFileError(f"{path}:{line}: more cells than the {len(header)} columns of the header")
        if any(cells):
            cells += [""] * (len(header) - len(cells))
            rows.append(Row(f"{path}:{line}", {n: c for n, c in zip(header, cells, strict=True) if n}))
    return rows


def _jsonl_rows(path: Path, content: str) -> list[Row]:
    rows = []
    for n, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            json.dumps(fields, ensure_ascii=False).encode()  # raises UnicodeEncodeError for a lone surrogate
        except (ValueError, RecursionError) as error:
            raise DataFileError(f"{path}:{n}: not a JSON object: {error}") from None
        if not isinstance(fields, dict):
            raise DataFileError(f"{path}:{n}: expected a JSON object, got {type(fields).__name__}")
        rows.append(Row(f"{path}:{n}", fields))
    return rows


def _rename(row: Row, columns: Mapping[str, str]) -> Row:
    fields = dict(row.fields)
    for ours, theirs in columns.items():
        if theirs not in row.fields:
            raise DataFileError(f"{row.where}: no column {theirs!r}; the columns are {_names(row)}")
        fields[ours] = row.fields[theirs]
    return Row(row.where, fields)


def _names(row: Row) -> str:
    return ", ".join(map(_one_line, row.fields))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def require(row: Row, names: Iterable[str]) -> None:
    """Raises DataFileError if a required column is missing or empty."""
    for name in names:
        if name not in row.fields:
            raise DataFileError(f"{row.where}: missing column {name!r}; the columns are {_names(row)}")
        cell = row.fields[name]
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            raise DataFileError(f"{row.where}: column {name!r} is empty")


def to_record(row: Row, record: type[R], fields: Mapping[str, Any]) -> R:
    """Builds a record from a row. A validation error becomes one line that names file, row and field.

    Raises:
        DataFileError: the fields do not validate.
    """
    try:
        return record.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        field = _one_line(".".join(map(str, first["loc"]))) or "row"
        message = first["msg"][:1].lower() + first["msg"][1:]  # keeps the case of a pattern in the message
        got = repr(first["input"])
        got = got if len(got) <= 80 else f"{got[:77]}..."
        raise DataFileError(f"{row.where}: {field}: {message}, got {got}") from None


def parse_columns(text: str | None) -> dict[str, str]:
    """Reads "title=advertisement,body=qualities" into {"title": "advertisement", "body": "qualities"}.

    Raises:
        DataFileError: a part without "=".
    """
    pairs = [part.split("=", 1) for part in (text or "").split(",") if part.strip()]
    if any(len(pair) != 2 or not pair[0].strip() or not pair[1].strip() for pair in pairs):
        raise DataFileError(f"cannot read column names {text!r}: expected OURS=THEIRS[,OURS=THEIRS...]")
    return {ours.strip(): theirs.strip() for ours, theirs in pairs}
