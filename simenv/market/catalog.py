"""Catalogs of ads: an embedded pack, or a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from simenv.errors import DataFileError
from simenv.files.characters import as_seen, hidden_in_name, hidden_in_text
from simenv.files.columns import known_rows
from simenv.files.packs import pack_path
from simenv.files.rows import as_text, check_columns, to_record
from simenv.files.tables import Row
from simenv.market.ad_file import LARGE, keep, look_alike, open_kept
from simenv.records import Ad

_OPTIONAL = ("id", "advertiser", "body", "category", "url")


def load_catalog(name: str | Path = "everyday", columns: Mapping[str, str] | None = None) -> Sequence[Ad]:
    """Loads a catalog. One of more than `simenv.market.ad_file.LARGE` ads stays on disk, in the user's cache folder.

    Args:
        name: A pack of `ad_catalogs/` ("everyday"), or a .csv, .tsv, .jsonl or .parquet file with the
            columns title (required), id, advertiser, body, category, url. Missing ids become ad-1, ad-2, ...; a
            missing advertiser is the title. Numbers are read as text. A .jsonl file may be longer than
            SIMENV_MAX_BYTES.
        columns: Our column name -> the file's column name.

    Raises:
        DataFileError: unreadable file, missing column, duplicate id, a title with mark-up characters, a character
            that nobody sees (see `simenv.files.characters`), or two titles that differ only by such characters.
        CannotWrite: a large catalog cannot be written into the cache folder.

    Warns:
        DataFileWarning: columns that are not read.
    """
    check_columns(columns, Ad.model_fields)
    path = pack_path("ad_catalogs", name)
    if (known := open_kept(path, columns)) is not None:
        return known
    seen: dict[str, str] = {}
    titles: dict[str, tuple[str, str]] = {}
    ads = []
    for ad, row in _ads(path, columns):
        if ad.id in seen:
            raise DataFileError(f"{row}: duplicate ad id {ad.id!r}, first used at {seen[ad.id]}")
        seen[ad.id] = row
        title, where = titles.setdefault(as_seen(ad.title), (ad.title, row))
        if title != ad.title:
            raise look_alike(row, ad.title, title, where)
        ads.append(ad)
        if len(ads) > LARGE:
            return keep(path, columns, _ads(path, columns))
    return tuple(ads)


def _ads(path: Path, columns: Mapping[str, str] | None) -> Iterator[tuple[Ad, str]]:
    """The ads of a file, each checked by itself, with their rows."""
    rows = known_rows(path, list(Ad.model_fields), ["title"], columns, option="catalog_columns", long=True)
    for number, row in enumerate(rows, start=1):
        yield _ad(row, number), row.where


def _ad(row: Row, number: int) -> Ad:
    fields = {name: as_text(row.fields[name]) for name in _OPTIONAL if row.fields.get(name) not in (None, "")}
    title = as_text(row.fields["title"])
    if isinstance(title, str) and set(title) & set("@[]\n\r"):
        raise DataFileError(f"{row.where}: title {title!r} contains mark-up: @ [ ] and line breaks are not allowed")
    fields = {"title": title, "id": f"ad-{number}", "advertiser": str(title), **fields}
    for field, text in fields.items():
        hidden = hidden_in_text if field == "body" else hidden_in_name
        if isinstance(text, str) and (character := hidden(text)):
            raise DataFileError(f"{row.where}: {field} {text!a:.80} contains {character}, which nobody sees: remove it")
    return to_record(row, Ad, fields)
