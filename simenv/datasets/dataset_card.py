"""The dataset card of an exported file: schema, columns, counts, source run and options."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simenv.datasets.columns import COLUMNS, MEANINGS, features_yaml
from simenv.errors import DataFileError
from simenv.files.blocks import markdown_table
from simenv.runs.folder import read_manifest

_FORMATS = {
    "clicks": "One row per ad shown, with the judge's verdict, and per candidate if asked for.",
    "preferences": "Pairs of answers to the same auction, the one of higher reward chosen. TRL: DPOTrainer.",
    "sft": "The best judged answer of each auction. TRL: SFTTrainer.",
    "kto": "Answers labelled by whether they beat the mean of their auction. TRL: KTOTrainer.",
}
_OPTIONS = ("mechanisms", "n", "seed", "catalog", "personas", "queries", "bidder", "candidates", "max_ads", "reserve")
_FACTS = ("ad_llm", "judge", "query_source", "encoder")


@dataclass
class Counts:
    """What an export counted while it wrote."""

    rows: int = 0
    selected: int = 0
    """Answers that were exported."""
    failed: int = 0
    """Answers of the run that failed: they are not exported, nor counted below."""
    abstained: int = 0
    """Answers of the run on which the judge abstained."""
    answers: Counter[str] = field(default_factory=Counter)
    """Mechanism -> answers in the run."""
    auctions: int = 0
    auctions_with_rows: int = 0
    labels: Counter[bool] = field(default_factory=Counter)
    """Label -> rows, of format kto."""


def dataset_card(run: str | Path, counts: Counts, file: str, format: str, options: str) -> str:
    """Writes the card as Markdown. It begins with the schema in the form of Hugging Face.

    Args:
        run: The folder of the run.
        counts: What was counted.
        file: Name of the exported file.
        format: One of the export formats.
        options: Options of the export, as on the command line.
    """
    numbers: dict[str, Any] = {
        "rows": counts.rows,
        "auctions in the run": counts.auctions,
        "auctions with rows": counts.auctions_with_rows,
        "answers in the run": ", ".join(f"{name} {number}" for name, number in counts.answers.items()),
        "answers that were selected": counts.selected,
        "answers on which the judge abstained": counts.abstained,
    }
    if counts.failed:
        numbers["answers that failed, left out"] = counts.failed
    if format == "kto":
        numbers["labels"] = f"{counts.labels[True]} true, {counts.labels[False]} false"
    columns = {name: f"{kind}: {MEANINGS[name]}" for name, kind in COLUMNS[format].items()}
    name = Path(run).resolve().name
    parts = [
        f"{features_yaml(format)}\n\n# {file}",
        _FORMATS[format],
        f"Made by `simenv export {name} --format {format}{options} --out {file}`.",
        "## Counts\n\n" + _table(("what", "number"), numbers),
        "## Columns\n\n" + _table(("column", "type and meaning"), columns),
        "## Run\n\n" + _table(("what", "value"), _run_facts(Path(run))),
        "Simulated users and ads: nothing here was said or clicked by a person.",
    ]
    return "\n\n".join(parts) + "\n"


def _run_facts(run: Path) -> dict[str, Any]:
    file = run / "transitions.jsonl" if run.is_dir() else run
    with file.open("rb") as log:
        facts: dict[str, Any] = {"SHA-256 of transitions.jsonl": hashlib.file_digest(log, "sha256").hexdigest()}
    try:
        manifest = read_manifest(run)
    except DataFileError:
        return facts | {"manifest": "none beside it"}
    options, world = manifest["options"], manifest.get("world")
    facts |= {"started": manifest.get("started"), "finished": manifest.get("finished") or "no"}
    facts |= {key: _without_folder(options[key]) for key in _OPTIONS if options.get(key) is not None}
    facts |= {key: world[key] for key in _FACTS if isinstance(world, dict) and key in world}
    hashes, packages = manifest.get("data_sha256"), manifest.get("packages")
    facts |= {f"SHA-256 of {key}": value for key, value in hashes.items()} if isinstance(hashes, dict) else {}
    return facts | ({"simenv-ads": packages.get("simenv-ads")} if isinstance(packages, dict) else {})


def _without_folder(value: Any) -> Any:
    """Returns only the name of a file, because a published card must not reveal local folders."""
    return Path(value).name if isinstance(value, str) else value


def _table(header: tuple[str, str], rows: dict[Any, Any]) -> str:
    cells = {key: it if isinstance(it, str) else json.dumps(it, ensure_ascii=False) for key, it in rows.items()}
    return markdown_table(header, [(str(key), text) for key, text in cells.items()])
