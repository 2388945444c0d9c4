"""Which column of a file is which, and the rows of files, records and DataFrames."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simenv.errors import DataFileError, InputError
from simenv.files.rows import iter_rows
from simenv.files.tables import Row, one_line
from simenv.runs.options import ScoreOptions
from simenv.scoring.markdown import is_markdown, read_markdown

MEANINGS: Mapping[str, tuple[str, ...]] = {
    "query": ("query", "question", "prompt", "user_query", "user_prompt", "input", "messages"),
    "response": ("response", "answer", "completion", "output", "reply", "generated_text", "messages"),
    "ads": ("ads", "ad", "ad_ids", "ad_id", "placements"),
    "persona": ("persona", "persona_id", "profile"),
    "system": ("system", "model", "mechanism", "variant", "engine"),
    "bid": ("bid", "bids"),
    "price": ("price", "prices", "cpc"),
    "value": ("value", "values"),
    "reference": ("reference", "ad_free", "response_without_ads", "organic"),
    "id": ("auction_id",),
}
"""Option -> names of the columns that are read for it where the option is not given; the first that is there counts."""
REQUIRED = ("query", "response")
_NO_FLAGS = ("ads", "persona", "system", "reference")
"""Not looked for in columns of yes and no, such as `organic`."""
REFERENCES = ("none", "model")
"""Values of the option `reference` that name no column."""


@dataclass
class Source:
    """The rows of one file, or of the records of a caller."""

    name: str
    """What messages call it."""
    label: str
    """The system that wrote the answers, where no column tells."""
    rows: list[Row]
    sha256: str
    """Hash of what was read."""
    columns: dict[str, str] = field(default_factory=dict)
    """Option -> column."""
    unread: list[str] = field(default_factory=list)
    """Columns that are not read."""
    bad: list[str] = field(default_factory=list)
    """Rows that cannot be read, one message each."""


def read_file(path: Path, options: ScoreOptions) -> Source:
    """The rows of a .csv, .tsv, .jsonl, .parquet or Markdown file.

    Raises:
        DataFileError: it cannot be read, or lacks a column.
    """
    bad: list[str] = []
    if is_markdown(path):
        rows, sections = read_markdown(path, "query", "response")
        label = path.stem if sections else path.resolve().parent.name or path.stem
        source = Source(str(path), label, rows, _sha256(path), {"query": "query", "response": "response"})
        return source
    rows = list(iter_rows(path, bad=lambda error: bad.append(str(error)), strip=False))
    label = path.name.removesuffix(".gz").rpartition(".")[0]
    return _with_columns(Source(str(path), label, rows, _sha256(path), bad=bad), options)


def read_records(records: Iterable[Mapping[str, Any]] | Any, options: ScoreOptions) -> Source:
    """The rows of an iterable of mappings, of a DataFrame (pandas, polars) or of a pyarrow table.

    Raises:
        InputError: something else, no rows, or a missing column.
    """
    try:
        found = _records(records)
    except TypeError:
        raise InputError(f"answers: expected files, records or a DataFrame, got {type(records).__name__}") from None
    rows = []
    for number, record in enumerate(found, start=1):
        if not isinstance(record, Mapping):
            raise InputError(f"answer {number}: expected a mapping of column to value, got {type(record).__name__}")
        rows.append(Row(f"answer {number}", {str(name): _plain(cell) for name, cell in record.items()}))
    if not rows:
        raise InputError("no answers: expected at least one")
    digest = hashlib.sha256(json.dumps([row.fields for row in rows], default=repr).encode(errors="replace"))
    return _with_columns(Source("answers", "answers", rows, digest.hexdigest()), options)


def _records(records: Any) -> list[Any]:
    for method, arguments in (("to_pylist", ()), ("to_dicts", ()), ("to_dict", ("records",))):
        if hasattr(records, method):  # of pyarrow, polars, pandas
            return list(getattr(records, method)(*arguments))
    return list(records)


def _plain(cell: Any) -> Any:
    """The value of a cell as JSON has it: NumPy's numbers and arrays become Python's, NaN and NA become None."""
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    missing = (isinstance(cell, float) and cell != cell) or type(cell).__name__ in ("NAType", "NaTType")
    return None if missing else cell


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _with_columns(source: Source, options: ScoreOptions) -> Source:
    there = list(dict.fromkeys(name for row in source.rows for name in row.fields))
    given = {name: getattr(options, name) for name in MEANINGS if getattr(options, name) is not None}
    if given.get("reference") in REFERENCES:
        del given["reference"]
    for name, column in given.items():
        if column not in there:
            shown = ", ".join(map(one_line, there[:20]))
            raise DataFileError(f"{source.name}: no column {column!r} for {name}; the columns are {shown}")
    folded = {column.strip().casefold().replace(" ", "_"): column for column in reversed(there)}
    for name, meanings in MEANINGS.items():
        usual = [folded[it] for it in meanings if it in folded and folded[it] not in given.values()]
        if name in _NO_FLAGS:
            usual = [column for column in usual if not _says_yes_or_no(source.rows, column)]
        if name in given:
            source.columns[name] = given[name]
        elif usual and not (name == "reference" and options.reference in REFERENCES):
            source.columns[name] = usual[0]
    for name in REQUIRED:
        if name not in source.columns:
            shown = ", ".join(map(one_line, there[:20]))
            raise DataFileError(
                f"{source.name}: no column for {name}: expected {' or '.join(MEANINGS[name])}, the columns are {shown}",
                hint=f"name it with the option {name}",
            )
    source.unread = [name for name in there if name not in source.columns.values()]
    return source


def _says_yes_or_no(rows: Iterable[Row], column: str) -> bool:
    cells = {str(cell).strip().casefold() for row in rows if (cell := row.fields.get(column)) is not None} - {""}
    return bool(cells) and cells <= {"true", "false", "yes", "no"}


def _told_apart(sources: Sequence[Source]) -> list[Source]:
    """The sources; files of one name in several folders get the folder's name too."""
    labels = [source.label for source in sources]
    for source in sources:
        path = Path(source.name)
        if labels.count(source.label) > 1 and source.label != path.resolve().parent.name:
            source.label = f"{path.resolve().parent.name}/{source.label}"
    return list(sources)


def read_answers(answers: Any, options: ScoreOptions) -> list[Source]:
    """The sources of what a caller gave: a file, several files, records or a DataFrame.

    Raises:
        InputError: as `read_file` and `read_records`, or a file that is given twice.
    """
    if isinstance(answers, str | Path):
        answers = [answers]
    if isinstance(answers, Sequence) and answers and all(isinstance(it, str | Path) for it in answers):
        paths = [Path(it) for it in answers]
        if twice := next((path for path in paths if paths.count(path) > 1), None):
            raise InputError(f"{twice} is given twice")
        return _told_apart([read_file(path, options) for path in paths])
    return [read_records(answers, options)]
