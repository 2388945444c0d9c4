"""Reads rows from .txt (one per line), .csv, .tsv, .jsonl and .parquet files. Every error names the file and the row.

Text files may be compressed with gzip (.csv.gz etc.). Row n of a .parquet file is FILE:n in messages, from 1. All sizes
have limits: see `simenv.files.limits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from simenv.errors import DataFileError
from simenv.files.limits import check_regular, limits, read_bytes, too_much, unpacked
from simenv.files.tables import Row, csv_rows, decoded, jsonl_rows, long_jsonl_rows, one_line, parquet_rows, text_rows
from simenv.records import Record

R = TypeVar("R", bound=Record)


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
        path: A .txt, .csv, .tsv or .jsonl file, UTF-8 or UTF-16 with a byte order mark, each also with .gz after it,
            or a .parquet file. A .csv file may be separated by commas, semicolons or tabs.
        text_column: The column for the lines of a .txt file; None: .txt is not accepted.
        columns: Our column name -> the file's column name, for files with other names.

    Raises:
        DataFileError: the file does not exist, is no regular file, passes a limit, has another suffix, is not text,
            gzip or Parquet as its suffix says, or has no rows, a line that is not JSON, a duplicate column, or lacks a
            column of `columns`.
    """
    return list(iter_rows(path, text_column=text_column, columns=columns))


def iter_rows(
    path: str | Path,
    *,
    text_column: str | None = None,
    columns: Mapping[str, str] | None = None,
    long: bool = False,
    strip: bool = True,
    bad: Callable[[DataFileError], None] | None = None,
) -> Iterator[Row]:
    """The rows of `read_rows`, one after the other. Not all of them need to be in memory.

    Args:
        path, text_column, columns: As for `read_rows`.
        long: Whether a .jsonl file of UTF-8 may be longer than SIMENV_MAX_BYTES: it is then read line by line.
        strip: Whether the cells of a .csv or .tsv file lose white space around them.
        bad: Called with the error of a row of a text file that cannot be read; the others are read then. None: such a
            row ends the reading.
    """
    path = Path(path)
    number, most = 0, limits().rows
    parsed = long_jsonl_rows(path) if long and _is_long(path) else _parsed(path, text_column, strip, bad)
    for number, row in enumerate(parsed, start=1):
        if number > most:
            raise too_much(str(path), f"more than {most:,} rows", "SIMENV_MAX_ROWS")
        yield _rename(row, columns) if columns and not _is_text(path) else row
    if not number:
        raise DataFileError(f"{path}: no rows, expected at least one")


def _parsed(
    path: Path, text_column: str | None, strip: bool, bad: Callable[[DataFileError], None] | None
) -> Iterator[Row]:
    allowed = ".csv or .jsonl" if text_column is None else ".txt, .csv or .jsonl"
    allowed += " (or .tsv, .parquet; text also as .gz)"
    content = read_bytes(path, f"{allowed} file")
    ending = path.suffix.lower()
    if ending == ".gz":
        ending = Path(path.stem).suffix.lower()
        if ending in (".txt", ".csv", ".tsv", ".jsonl"):
            content = unpacked(path, content)
        else:
            ending = f"{ending}.gz"
    if ending == ".txt" and text_column is not None:
        return text_rows(path, decoded(path, content), text_column)
    if ending in (".csv", ".tsv"):
        return csv_rows(path, decoded(path, content), "," if ending == ".csv" else "\t", strip, bad)
    if ending == ".jsonl":
        return jsonl_rows(path, decoded(path, content), bad)
    if ending == ".parquet":
        return parquet_rows(path, content)
    raise DataFileError(f"{path}: ending {path.suffix!r} is not read here, expected {allowed}")


def _is_long(path: Path) -> bool:
    if path.suffix.lower() != ".jsonl":
        return False
    check_regular(path, "file")
    return path.stat().st_size > limits().bytes


def _is_text(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(".txt")


def _rename(row: Row, columns: Mapping[str, str]) -> Row:
    fields = dict(row.fields)
    for ours, theirs in columns.items():
        if theirs not in row.fields:
            raise DataFileError(f"{row.where}: no column {theirs!r}; the columns are {_names(row)}")
        fields[ours] = row.fields[theirs]
    return Row(row.where, fields)


def _names(row: Row) -> str:
    return ", ".join(map(one_line, row.fields))


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
        field = one_line(".".join(map(str, first["loc"]))) or "row"
        message = first["msg"][:1].lower() + first["msg"][1:]  # keeps the case of a pattern in the message
        got = repr(first["input"])
        got = got if len(got) <= 80 else f"{got[:77]}..."
        raise DataFileError(f"{row.where}: {field}: {message}, got {got}") from None


def as_text(value: Any) -> Any:
    """A whole number as text, for instance an id; any other value as it is.

    A Parquet column has 7.0 for 7 if other rows of it are empty.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else value


def parse_columns(text: str | None) -> dict[str, str]:
    """Reads "title=advertisement,body=qualities" into {"title": "advertisement", "body": "qualities"}.

    Raises:
        DataFileError: a part without "=".
    """
    pairs = [part.split("=", 1) for part in (text or "").split(",") if part.strip()]
    if any(len(pair) != 2 or not pair[0].strip() or not pair[1].strip() for pair in pairs):
        raise DataFileError(f"cannot read column names {text!r}: expected OURS=THEIRS[,OURS=THEIRS...]")
    return {ours.strip(): theirs.strip() for ours, theirs in pairs}
