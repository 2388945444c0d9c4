"""Catalogs of ads: an embedded pack, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from simenv.errors import DataFileError
from simenv.files.characters import as_seen, hidden_in_name, hidden_in_text
from simenv.files.columns import known_rows
from simenv.files.packs import pack_path
from simenv.files.rows import as_text, check_columns, to_record
from simenv.files.tables import Row
from simenv.records import Ad

_OPTIONAL = ("id", "advertiser", "body", "category", "url")


def load_catalog(name: str | Path = "everyday", columns: Mapping[str, str] | None = None) -> tuple[Ad, ...]:
    """Loads a catalog.

    Args:
        name: A pack of `ad_catalogs/` ("everyday"), or a .csv, .tsv, .jsonl or .parquet file with the
            columns title (required), id, advertiser, body, category, url. Missing ids become ad-1, ad-2, ...; a
            missing advertiser is the title. Numbers are read as text.
        columns: Our column name -> the file's column name.

    Raises:
        DataFileError: unreadable file, missing column, duplicate id, a title with mark-up characters, a character
            that nobody sees (see `simenv.files.characters`), or two titles that differ only by such characters.

    Warns:
        DataFileWarning: columns that are not read.
    """
    check_columns(columns, Ad.model_fields)
    seen: dict[str, str] = {}
    titles: dict[str, tuple[str, str]] = {}
    ads = []
    rows = known_rows(
        pack_path("ad_catalogs", name), list(Ad.model_fields), ["title"], columns, option="catalog_columns"
    )
    for number, row in enumerate(rows, start=1):
        ad = _ad(row, number)
        if ad.id in seen:
            raise DataFileError(f"{row.where}: duplicate ad id {ad.id!r}, first used at {seen[ad.id]}")
        seen[ad.id] = row.where
        title, where = titles.setdefault(as_seen(ad.title), (ad.title, row.where))
        if title != ad.title:
            raise DataFileError(
                f"{row.where}: title {ad.title!a} looks like {title!a} at {where}: they differ only by characters that "
                "nobody sees"
            )
        ads.append(ad)
    return tuple(ads)


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
