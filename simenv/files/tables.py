"""The formats of tables: text, CSV, TSV, JSON lines and Parquet, each as rows with their position in the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from simenv.errors import DataFileError
from simenv.files.limits import limits, read_lines, too_much

_KINDS = {",": "CSV", ";": "CSV", "\t": "TSV"}
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
Bad = Callable[[DataFileError], None]
"""Called with the error of a row that cannot be read, if the others are to be read."""
_BATCH = 64
"""Rows of a Parquet file that are decoded together: a dictionary may unfold one long text into every row."""


class Row(NamedTuple):
    """One row and its position in the file, for messages."""

    where: str
    fields: dict[str, Any]


def decoded(path: Path, content: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 if the file begins with its byte order mark. Line ends become newlines.

    Raises:
        DataFileError: another encoding.
    """
    encoding = _MARKS.get(content[:2], "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        remedy = "save it as UTF-8, for instance with: iconv -f LATIN1 -t UTF-8"
        raise DataFileError(f"{path}: not {name} text (byte {error.start})", hint=remedy) from None
    if "\0" in text:
        remedy = "save it as UTF-8, for instance with: iconv -f UTF-16LE -t UTF-8"
        raise DataFileError(f"{path}: not UTF-8 text: zero byte at character {text.index(chr(0))}", hint=remedy)
    return text.replace("\r\n", "\n").replace("\r", "\n")  # as Python reads a text file


def text_rows(path: Path, text: str, column: str) -> Iterator[Row]:
    """One row per line that is not blank."""
    for number, line in _lines(path, text):
        yield Row(f"{path}:{number}", {column: line.strip()})


def csv_rows(path: Path, text: str, delimiter: str, strip: bool = True, bad: Bad | None = None) -> Iterator[Row]:
    """Rows of a table with a header. A .csv header without a comma may be separated by semicolons or tabs.

    Args:
        path, text, delimiter: The file, its text, and what separates its cells.
        strip: Whether cells lose white space around them.
        bad: Called with the error of a row that has more cells than the header, if the others are to be read.
    """
    if delimiter == ",":
        delimiter = _delimiter(text)
    most = limits().field
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    header: list[str] = []
    begins = 1  # a quoted cell may span lines: messages name the first line
    before = csv.field_size_limit()
    while True:
        try:
            csv.field_size_limit(most)  # of the whole process: another reader may have changed it since the last row
            cells = next(reader, None)
        except csv.Error as error:
            if "field limit" in str(error):
                raise _too_long(f"{path}:{begins}", "a cell", most) from None
            raise DataFileError(f"{path}:{begins}: not readable as {_KINDS[delimiter]}: {error}") from None
        finally:
            csv.field_size_limit(before)
        if cells is None:
            return
        line, begins = begins, reader.line_num + 1
        cells = [cell.strip() for cell in cells] if strip or not header else cells
        if not header:
            header = cells
            _refuse_doubles(f"{path}:{line}", header)
        elif len(cells) > len(header):
            too_many = DataFileError(f"{path}:{line}: more cells than the {len(header)} columns of the header")
            if bad is None:
                raise too_many
            bad(too_many)
        elif any(cell.strip() for cell in cells):
            cells += [""] * (len(header) - len(cells))
            yield Row(f"{path}:{line}", {n: c for n, c in zip(header, cells, strict=True) if n})


def _delimiter(text: str) -> str:
    header = next((line for line in text.split("\n", 100)[:100] if line.strip()), "")
    return "," if "," in header else next((other for other in ";\t" if other in header), ",")


def jsonl_rows(path: Path, text: str, bad: Bad | None = None) -> Iterator[Row]:
    """One JSON object per line; blank lines are skipped.

    Args:
        path, text: The file and its text.
        bad: Called with the error of a line that cannot be read, if the others are to be read.
    """
    for number, line in _lines(path, text):
        try:
            yield _json_row(path, number, line)
        except DataFileError as error:
            if bad is None:
                raise
            bad(error)


def long_jsonl_rows(path: Path) -> Iterator[Row]:
    """The rows of `jsonl_rows`, of a UTF-8 file of any length: one line is in memory."""
    most = limits().field
    for number, content in enumerate(read_lines(path), start=1):
        try:
            line = content.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataFileError(f"{path}:{number}: not UTF-8 text (byte {error.start} of the line)") from None
        if len(line) > most:
            raise _too_long(f"{path}:{number}", "a line", most)
        if line.strip():
            yield _json_row(path, number, line)


def _json_row(path: Path, number: int, line: str) -> Row:
    try:
        fields = json.loads(line)
        json.dumps(fields, ensure_ascii=False).encode()  # raises UnicodeEncodeError for a lone surrogate
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path}:{number}: not a JSON object: {error}") from None
    if not isinstance(fields, dict):
        raise DataFileError(f"{path}:{number}: expected a JSON object, got {type(fields).__name__}")
    return Row(f"{path}:{number}", fields)


def _lines(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    most = limits().field
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        line = line.removesuffix("\n")
        if len(line) > most:
            raise _too_long(f"{path}:{number}", "a line", most)
        if line.strip():
            yield number, line


def parquet_rows(path: Path, content: bytes) -> Iterator[Row]:
    """Rows of a Parquet file. The counts in its metadata are checked before anything is decoded."""
    import pyarrow
    import pyarrow.parquet

    most = limits()
    failures = (pyarrow.ArrowException, OSError, ValueError, ArithmeticError, MemoryError, TypeError, KeyError)
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        names = [str(name) for name in file.schema_arrow.names]
        rows = file.metadata.num_rows
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        size = sum(max(0, group.total_byte_size) for group in groups)
    except failures as error:
        raise _not_parquet(path, error) from None
    _refuse_doubles(str(path), names)
    if rows > most.rows:
        raise too_much(str(path), f"{rows:,} rows, more than {most.rows:,}", "SIMENV_MAX_ROWS")
    if size > most.bytes:
        raise too_much(str(path), f"{size:,} bytes after unpacking, more than {most.bytes:,}", "SIMENV_MAX_BYTES")
    batches = file.iter_batches(batch_size=_BATCH)
    number = size = 0
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            size += batch.nbytes
            if size > most.bytes:
                raise too_much(str(path), f"more than {most.bytes:,} bytes after unpacking", "SIMENV_MAX_BYTES")
            columns = [column.to_pylist() for column in batch.columns]
        except failures as error:
            raise _not_parquet(path, error) from None
        for cells in zip(*columns, strict=True):
            number += 1
            fields = {name: _without_nulls(cell) for name, cell in zip(names, cells, strict=True)}
            for cell in fields.values():
                if isinstance(cell, str | bytes) and len(cell) > most.field:
                    raise _too_long(f"{path}:{number}", "a cell", most.field)
            yield Row(f"{path}:{number}", fields)


def _not_parquet(path: Path, error: BaseException) -> DataFileError:
    return DataFileError(f"{path}: not readable as Parquet: {one_line(str(error))}")


def _without_nulls(cell: Any) -> Any:
    """Removes null fields of structs: Parquet adds a null field where only other rows have a value."""
    if isinstance(cell, dict):
        return {key: _without_nulls(value) for key, value in cell.items() if value is not None}
    return cell


def _refuse_doubles(where: str, header: list[str]) -> None:
    for name in header:
        if name and header.count(name) > 1:
            raise DataFileError(f"{where}: column {name!r} is there twice")


def _too_long(where: str, what: str, most: int) -> DataFileError:
    return too_much(where, f"{what} of more than {most:,} characters", "SIMENV_MAX_FIELD")


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())
