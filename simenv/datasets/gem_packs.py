"""GEM-Bench's questions and products as files that `bench` reads (data sets MT-Human, LM-Market and CA-Prod).

Its products are a JSON object, category -> {"names": [...], "urls": [...], "descs": [...]}, or CA-Prod's table
products.tsv. Its questions are a JSON list of texts, with a list of categories beside it, or CA-Prod's queries.tsv.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from simenv.datasets.gem_json import read_json
from simenv.errors import DataFileError, InputError
from simenv.files.atomic import write_bytes_atomically
from simenv.files.characters import as_seen
from simenv.files.folders import ensure_folder
from simenv.files.limits import read_bytes
from simenv.records import Ad
from simenv.text import printable

ADS, QUERIES = "ads.jsonl", "queries.jsonl"
_LONGEST = 120
"""Characters of a title, as in `Ad`."""


class Imported(NamedTuple):
    """What was written."""

    ads: int
    queries: int
    left_out: int
    """Products of a title that another one has, and products without a title."""


class _Product(NamedTuple):
    name: str
    url: str
    desc: str
    category: str


def import_packs(
    out: str | Path,
    *,
    products: str | Path | None = None,
    questions: str | Path | None = None,
    categories: str | Path | None = None,
) -> Imported:
    """Writes GEM-Bench's products as ads.jsonl and its questions as queries.jsonl, which replace earlier ones.

    A title loses the characters @ [ ] and what nobody sees, and is cut after 120 characters. Of the products of one
    title the first is kept: it is one bidder.

    Args:
        out: A folder; it is made if it is not there.
        products: products.json or products.tsv.
        questions: prompts.json or queries.tsv.
        categories: The list of categories beside prompts.json; without, questions have no topic.

    Raises:
        InputError: neither products nor questions, or categories that are not beside a list of questions.
        DataFileError: a file cannot be read, or has another form.
        CannotWrite: the folder cannot be written.
    """
    if products is None and questions is None:
        raise InputError("nothing to import: give products or questions")
    if categories is not None and (questions is None or Path(questions).suffix == ".tsv"):
        raise InputError("categories stand beside a list of questions in JSON, got none")
    every = [] if products is None else list(_products(Path(products)))
    kept = _first_of_each_title(every)
    ads = [_ad(product, number, str(products)) for number, product in enumerate(kept, start=1)]
    topics = None if categories is None else _texts(Path(categories))
    asked = [] if questions is None else list(_questions(Path(questions), topics))
    folder = Path(out)
    ensure_folder(folder)
    if products is not None:
        write_bytes_atomically(folder / ADS, "".join(f"{ad.model_dump_json()}\n" for ad in ads).encode())
    if questions is not None:
        write_bytes_atomically(folder / QUERIES, "".join(f"{json.dumps(row)}\n" for row in asked).encode())
    return Imported(len(ads), len(asked), len(every) - len(ads))


def _products(path: Path) -> Iterator[_Product]:
    if path.suffix == ".tsv":
        for row in _table(path, ("ad_title", "ad_description")):
            url = row.get("website", "")
            whole = "://" in url or not url
            yield _Product(row["ad_title"], url if whole else f"https://{url}", row["ad_description"], "")
        return
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise DataFileError(f"{path}: expected an object of categories, got {type(content).__name__}")
    for category, lists in content.items():
        parts = [lists.get(name) if isinstance(lists, Mapping) else None for name in ("names", "urls", "descs")]
        if not all(isinstance(part, list) and all(isinstance(it, str) for it in part) for part in parts):
            raise DataFileError(f"{path}: category {category!r} needs the lists of texts names, urls and descs")
        names, urls, descs = (part or [] for part in parts)
        if not len(names) == len(urls) == len(descs):
            lengths = f"{len(names)}, {len(urls)} and {len(descs)}"
            raise DataFileError(f"{path}: names, urls and descs of {category!r} have {lengths} entries: not as many")
        yield from (_Product(*row, category=category) for row in zip(names, urls, descs, strict=True))


def _questions(path: Path, topics: list[str] | None) -> Iterator[dict[str, str]]:
    if path.suffix == ".tsv":
        yield from ({"text": row["query_text"]} for row in _table(path, ("query_text",)))
        return
    texts = _texts(path)
    if topics is not None and len(topics) != len(texts):
        raise DataFileError(f"{path}: {len(texts)} questions, but {len(topics)} categories")
    for place, text in enumerate(texts):
        yield {"text": text, **({"topic": topics[place]} if topics is not None else {})}


def _first_of_each_title(products: list[_Product]) -> list[_Product]:
    by_title: dict[str, _Product] = {}
    for product in products:
        title = " ".join(as_seen(product.name.translate(dict.fromkeys(map(ord, "@[]"), " "))).split())[:_LONGEST]
        if title.strip():
            by_title.setdefault(title.strip(), product._replace(name=title.strip()))
    return list(by_title.values())


def _ad(product: _Product, number: int, where: str) -> Ad:
    try:
        return Ad(
            id=f"gem-{number}",
            advertiser=product.name,
            title=product.name,
            body=" ".join(as_seen(product.desc).split()),
            category=product.category or "general",
            url=product.url,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise DataFileError(
            f"{where}: product {printable(product.name)!r}: {first['loc'][0]}: {first['msg']}"
        ) from None


def _table(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a table with a header, as pandas writes it."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), delimiter="\t", restval="")
    try:
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            known = ", ".join(reader.fieldnames or ()) or "none"
            raise DataFileError(f"{path}: no column {missing[0]}: it has {known}")
        for row in reader:
            yield {name: str(value).strip() for name, value in row.items() if name}
    except csv.Error as error:
        raise DataFileError(f"{path}: line {reader.reader.line_num}: {error}") from None


def _texts(path: Path) -> list[str]:
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(it, str) for it in content):
        raise DataFileError(f"{path}: expected a list of texts")
    return content


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: not UTF-8 text (byte {error.start})") from None
