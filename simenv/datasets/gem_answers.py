"""Answers that GEM-Bench's solutions wrote, as a file that `score` reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from simenv.datasets.gem_json import read_json
from simenv.errors import DataFileError
from simenv.files.atomic import write_bytes_atomically
from simenv.files.folders import ensure_folder
from simenv.records import Ad

ANSWERS = "answers.jsonl"


class ImportedAnswers(NamedTuple):
    """What was written."""

    answers: int
    without: int
    """Answers whose product is not in the text, or cannot be a link: they are answers without an ad."""


def import_answers(results: str | Path, out: str | Path) -> ImportedAnswers:
    """Writes GEM-Bench's results as answers.jsonl, for `score` with the catalog none; it replaces an earlier one.

    The system is the solution. Answers of one data set and repeat to one prompt have one auction_id, so solutions are
    compared on the same questions.

    Args:
        results: A .json file of GEM-Bench: "SOLUTION|DATA SET|REPEAT" -> list of results.
        out: A folder; it is made if it is not there.

    Raises:
        DataFileError: the file cannot be read, or has another form.
        CannotWrite: the folder cannot be written.
    """
    path = Path(results)
    rows = list(_rows(path))
    folder = Path(out)
    ensure_folder(folder)
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    write_bytes_atomically(folder / ANSWERS, lines.encode())
    return ImportedAnswers(len(rows), sum(not row["ads"] for row in rows))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise DataFileError(f"{path}: expected an object of lists of results, got {type(content).__name__}")
    for key, results in content.items():
        parts = key.rsplit("|", 2)
        if len(parts) != 3 or not isinstance(results, list):
            raise DataFileError(f"{path}: expected lists under SOLUTION|DATA SET|REPEAT, got {key!r:.80}")
        solution, data_set, repeat = parts
        for number, result in enumerate(results, start=1):
            texts = [result.get(name) if isinstance(result, Mapping) else None for name in ("prompt", "content")]
            if not all(isinstance(text, str) for text in texts):
                raise DataFileError(f"{path}: result {number} of {key!r:.80} needs the texts prompt and content")
            prompt, answer = (text or "" for text in texts)
            product = result.get("product")
            question = hashlib.sha256(prompt.encode()).hexdigest()[:12]
            yield {
                "query": prompt,
                "response": answer,
                "system": solution,
                "auction_id": f"{data_set}.{repeat}.{question}",
                "ads": _ads(product, answer) if isinstance(product, Mapping) else [],
            }


def _ads(product: Mapping[str, Any], answer: str) -> list[dict[str, str]]:
    """The product as an ad; none if the answer has neither its name nor its address."""
    name, url = (str(product.get(field) or "") for field in ("name", "url"))
    if not any(mark and mark in answer for mark in (name, url)):
        return []
    fields = {"title": name, "advertiser": name, "url": url, "body": str(product.get("desc") or "")}
    fields["category"] = str(product.get("category") or "general")
    try:
        Ad(id="gem", **fields)
    except ValidationError:
        return []
    return [fields]
