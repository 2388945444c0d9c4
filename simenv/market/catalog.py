"""Catalogs of ads: an embedded pack, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from simenv.errors import DataFileError
from simenv.files.packs import pack_path
from simenv.files.rows import Row, check_columns, read_rows, require, to_record
from simenv.records import Ad

_OPTIONAL = ("id", "advertiser", "body", "category", "url")


def load_catalog(name: str | Path = "everyday", columns: Mapping[str, str] | None = None) -> tuple[Ad, ...]:
    """Loads a catalog.

    Args:
        name: A pack of `ad_catalogs/` ("everyday"), or a .csv, .tsv, .jsonl or .parquet file with the
            columns title (required), id, advertiser, body, category, url. Missing ids become ad-1, ad-2, ...; a
            missing advertiser is the title.
        columns: Our column name -> the file's column name.

    Raises:
        DataFileError: unreadable file, missing column, duplicate id, or a title with mark-up characters.
    """
    check_columns(columns, Ad.model_fields)
    seen: dict[str, str] = {}
    ads = []
    for number, row in enumerate(read_rows(pack_path("ad_catalogs", name), columns=columns), start=1):
        ad = _ad(row, number)
        if ad.id in seen:
            raise DataFileError(f"{row.where}: duplicate ad id {ad.id!r}, first used at {seen[ad.id]}")
        seen[ad.id] = row.where
        ads.append(ad)
    return tuple(ads)


def _ad(row: Row, number: int) -> Ad:
    require(row, ["title"])
    fields = {name: row.fields[name] for name in _OPTIONAL if row.fields.get(name) not in (None, "")}
    title = row.fields["title"]
    if isinstance(title, str) and set(title) & set("@[]\n\r"):
        raise DataFileError(f"{row.where}: title {title!r} contains mark-up: @ [ ] and line breaks are not allowed")
    fields = {"id": f"ad-{number}", "advertiser": str(title), **fields, "title": title}
    return to_record(row, Ad, fields)
