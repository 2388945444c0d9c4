"""Rows from files: .txt (one a line), .csv, .jsonl, with the file and the row named in every error."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from simenv.errors import DataFileError
from simenv.records import Record

R = TypeVar("R", bound=Record)


class Row(NamedTuple):
    """One row and where it stands, for messages."""

    where: str
    fields: dict[str, Any]


def read_rows(
    path: str | Path, *, text_column: str | None = None, columns: Mapping[str, str] | None = None
) -> list[Row]:
    """Reads a file of rows.

    Args:
        path: A .txt, .csv or .jsonl file, UTF-8.
        text_column: The column that a line of a .txt file fills; None = .txt is not accepted.
        columns: Our column name -> the file's, for files whose columns are named differently.

    Raises:
        DataFileError: no such file, another ending, not UTF-8, no rows, a line that is not JSON, a column that is
            there twice, or a column of `columns` that the file lacks.
    """
    path = Path(path)
    allowed = ".csv or .jsonl" if text_column is None else ".txt, .csv or .jsonl"
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataFileError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataFileError(f"{path}: is a folder, expected a {allowed} file") from None
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}") from None
    suffix = path.suffix.lower()
    if suffix == ".txt" and text_column is not None:
        lines = enumerate(content.split("\n"), start=1)
        rows = [Row(f"{path}:{n}", {text_column: line.strip()}) for n, line in lines if line.strip()]
    elif suffix == ".csv":
        rows = _csv_rows(path, content)
    elif suffix == ".jsonl":
        rows = _jsonl_rows(path, content)
    else:
        raise DataFileError(f"{path}: ending {path.suffix!r} is not read here, expected {allowed}")
    if not rows:
        raise DataFileError(f"{path}: no rows")
    if suffix != ".txt":
        rows = [_rename(row, columns or {}) for row in rows]
    return rows


def _csv_rows(path: Path, content: str) -> list[Row]:
    reader = csv.reader(io.StringIO(content), strict=True)
    table: list[tuple[int, list[str]]] = []
    begins = 1  # a quoted cell may span lines: a row stands where it begins
    try:
        for cells in reader:
            if cells:
                table.append((begins, [cell.strip() for cell in cells]))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise DataFileError(f"{path}:{begins}: not readable as CSV: {error}") from None
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
            json.dumps(fields, ensure_ascii=False).encode()  # half a surrogate pair is no text: refuse it here
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
    """Builds a record from a row; what pydantic refuses becomes one line that names file, row and field."""
    try:
        return record.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        field = _one_line(".".join(map(str, first["loc"]))) or "row"
        says = first["msg"][:1].lower() + first["msg"][1:]  # a pattern in it keeps its case
        got = repr(first["input"])
        got = got if len(got) <= 80 else f"{got[:77]}..."
        raise DataFileError(f"{row.where}: {field}: {says}, got {got}") from None


def parse_columns(text: str | None) -> dict[str, str]:
    """Reads "title=advertisement,body=qualities" into {"title": "advertisement", "body": "qualities"}.

    Raises:
        DataFileError: a part without "=".
    """
    pairs = [part.split("=", 1) for part in (text or "").split(",") if part.strip()]
    if any(len(pair) != 2 or not pair[0].strip() or not pair[1].strip() for pair in pairs):
        raise DataFileError(f"cannot read column names {text!r}: expected OURS=THEIRS[,OURS=THEIRS...]")
    return {ours.strip(): theirs.strip() for ours, theirs in pairs}
