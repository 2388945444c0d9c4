"""Which columns of a file are read: names in another case are recognised, others are named in a warning."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from simenv.errors import DataFileError, DataFileWarning
from simenv.files.rows import iter_rows, require
from simenv.files.tables import Row, one_line

_MEANINGS = {
    "title": ("headline", "name", "product", "advertisement", "ad_title"),
    "body": ("description", "copy", "text", "content", "qualities", "ad_body", "ad_text"),
    "advertiser": ("brand", "company", "merchant", "sponsor"),
    "url": ("link", "website", "landing_page"),
    "category": ("type", "topic", "vertical"),
    "id": ("ad_id", "persona_id", "user_id", "sku", "key"),
    "info": ("description", "bio", "profile", "about"),
    "region": ("country", "location"),
    "text": ("query", "question", "prompt"),
    "topic": ("category", "subject"),
}
"""Other names that columns of ours have in other people's files, for the guess in the warning."""
_WRITTEN_BY_US = frozenset({"cell"})
"""Columns of packs that `make_pack` wrote, which are not read."""


def known_rows(
    path: Path,
    known: Sequence[str],
    required: Sequence[str],
    columns: Mapping[str, str] | None,
    option: str,
    text_column: str | None = None,
    long: bool = False,
) -> Iterator[Row]:
    """The rows of a file under our column names.

    A column whose name is ours in upper or mixed case is read as ours. At the end, one warning names the columns that
    were not read.

    Args:
        path: As for `read_rows`.
        known: Our column names.
        required: Those that every row must have, not empty.
        columns: Our column name -> the file's.
        option: Name of the option that gives `columns`, for the warning.
        text_column: As for `read_rows`.
        long: As for `iter_rows`.

    Raises:
        DataFileError: as `read_rows`, and a row without a required column.
    """
    ours, renamed = set(known), set((columns or {}).values())
    ignored: dict[str, None] = {}
    for row in iter_rows(path, text_column=text_column, columns=columns, long=long):
        others = [name for name in row.fields if name not in ours and name not in renamed]
        for name in others:
            folded = name.strip().casefold()
            if folded in ours and folded not in row.fields:
                row.fields[folded] = row.fields[name]
            elif folded and name not in _WRITTEN_BY_US and len(ignored) < 100:
                ignored[name] = None
        _require(row, required, option)
        yield row
    if ignored:
        free = [name for name in known if name not in row.fields]
        warnings.warn(_warning(path, ignored, known, free, option), DataFileWarning, stacklevel=3)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of our columns that a foreign column probably is; None if none is near."""
    plain, names = name.strip().casefold().replace(" ", "_"), list(known)
    if close := difflib.get_close_matches(plain, names, n=1, cutoff=0.6):
        return close[0]
    return next((ours for ours in names if plain in _MEANINGS.get(ours, ())), None)


def _require(row: Row, required: Iterable[str], option: str) -> None:
    for name in required:
        theirs = next((other for other in row.fields if nearest(other, [name])), None)
        if name not in row.fields and theirs is not None:
            columns = ", ".join(map(one_line, row.fields))
            remedy = f'name it: {option}="{name}={one_line(theirs)}"'
            raise DataFileError(f"{row.where}: missing column {name!r}; the columns are {columns}", hint=remedy)
    require(row, required)


def _warning(path: Path, ignored: Iterable[str], known: Sequence[str], free: Sequence[str], option: str) -> str:
    parts, example = [], ""
    for name in ignored:
        near = nearest(name, free)
        parts.append(f"{name!a:.60}" + (f" (did you mean {near!r}?)" if near else ""))
        example = example or (f"{near}={one_line(name)}" if near else "")
    shown = ", ".join(parts[:10]) + (f" and {len(parts) - 10} more" if len(parts) > 10 else "")
    remedy = f'to read one, name it: {option}="{example or f"{known[0]}=THEIRS"}"'
    return f"{path}: columns that are not read: {shown}; ours are {', '.join(known)}; {remedy}"
