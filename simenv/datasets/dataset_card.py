"""The dataset card of an exported file: schema, columns, counts, source run and options."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simenv.datasets.columns import COLUMNS, MEANINGS
from simenv.datasets.front_matter import Part, front_matter, licences
from simenv.errors import DataFileError
from simenv.files.blocks import markdown_table
from simenv.runs.folder import read_manifest

FORMAT_MEANINGS = {
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

    def numbers(self, format: str) -> dict[str, Any]:
        """What a card of this format says of them."""
        numbers: dict[str, Any] = {
            "rows": self.rows,
            "auctions in the run": self.auctions,
            "auctions with rows": self.auctions_with_rows,
            "answers in the run": ", ".join(f"{name} {number}" for name, number in self.answers.items()),
            "answers that were selected": self.selected,
            "answers on which the judge abstained": self.abstained,
        }
        if self.failed:
            numbers["answers that failed, left out"] = self.failed
        if format == "kto":
            numbers["labels"] = f"{self.labels[True]} true, {self.labels[False]} false"
        return numbers


def dataset_card(run: str | Path, counts: Counts, part: Part, options: str) -> str:
    """Writes the card of one file as Markdown. It begins with the schema in the form of Hugging Face.

    Args:
        run: The folder of the run.
        counts: What was counted.
        part: The exported file.
        options: Options of the export, as on the command line.
    """
    licence, inputs = read_inputs(Path(run))
    name = Path(run).resolve().name
    texts = [
        f"{front_matter([part], licence)}\n\n# {part.path}",
        FORMAT_MEANINGS[part.format],
        f"Made by `simenv export {name} --format {part.format}{options} --out {part.path}`.",
        "## Counts\n\n" + markdown(("what", "number"), counts.numbers(part.format)),
        "## Columns\n\n" + columns_table(part.format),
        *about_run(Path(run), inputs),
    ]
    return "\n\n".join(texts) + "\n"


def read_inputs(run: Path) -> tuple[str, dict[str, str]]:
    """The licences of what was put into a run; see `front_matter.licences`."""
    return licences(_manifest(run))


def columns_table(format: str) -> str:
    """The columns of a format with types and meanings, as a table."""
    columns = {name: f"{kind}: {MEANINGS[name]}" for name, kind in COLUMNS[format].items()}
    return markdown(("column", "type and meaning"), columns)


def about_run(run: Path, inputs: dict[str, str]) -> list[str]:
    """The end of a card: where the answers come from, and under which licences."""
    return [
        "## Run\n\n" + markdown(("what", "value"), _run_facts(run)),
        *(["## Licences of what was put in\n\n" + markdown(("what", "licence"), inputs)] if inputs else []),
        "Simulated users and ads: nothing here was said or clicked by a person.",
    ]


def _manifest(run: Path) -> dict[str, Any]:
    try:
        return read_manifest(run)
    except DataFileError:
        return {}


def _run_facts(run: Path) -> dict[str, Any]:
    file = run / "transitions.jsonl" if run.is_dir() else run
    with file.open("rb") as log:
        facts: dict[str, Any] = {"SHA-256 of transitions.jsonl": hashlib.file_digest(log, "sha256").hexdigest()}
    if not (manifest := _manifest(run)):
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


def markdown(header: tuple[str, str], rows: dict[Any, Any]) -> str:
    """A table of names and values."""
    cells = {key: it if isinstance(it, str) else json.dumps(it, ensure_ascii=False) for key, it in rows.items()}
    return markdown_table(header, [(str(key), text) for key, text in cells.items()])
