"""The dataset card of an exported file: columns, counts, source run and options."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simenv.errors import DataFileError
from simenv.files.blocks import markdown_row
from simenv.records import Transition
from simenv.runs.folder import read_manifest

if TYPE_CHECKING:
    import pandas

_FORMATS = {
    "clicks": "One row per ad shown, with the judge's verdict.",
    "preferences": "Pairs of answers to the same auction, the one of higher reward chosen. TRL: DPOTrainer.",
    "sft": "The best judged answer of each auction. TRL: SFTTrainer.",
    "kto": "Answers labelled by whether they beat the mean of their auction. TRL: KTOTrainer.",
}
_COLUMNS = {
    "mechanism": "label of the mechanism in the run; several gave the same text where joined by +",
    "mechanisms": "those of the chosen and of the rejected answer",
    "auction_id": "unique in the run",
    "index": "position of the auction in its run",
    "turn": "position of the query in the persona's session",
    "persona_id": "whose query it is",
    "profile": "the user as the platform sees it",
    "query": "what the user typed",
    "response": "the whole answer, with mark-up",
    "ad_id": "the ad shown",
    "ad_title": "its link text",
    "ad_body": "its advertiser's copy",
    "ad_category": "its product category",
    "bid": "currency per click",
    "price": "currency per click, charged if clicked",
    "position": "0 = first ad of the answer",
    "span_start": "where its mark-up begins in the response, in characters",
    "span_end": "where it ends, exclusive",
    "clicked": "null = the judge abstained",
    "click_prob": "null = the judge does not know it",
    "reason": "the judge's",
    "propensity": "probability with which the mechanism drew this answer; null = it did not log it",
    "prompt": "system and user message: the one-call ad prompt, with the bids",
    "chosen": "one assistant message: the answer of higher reward",
    "rejected": "one assistant message: the answer of lower reward",
    "completion": "one assistant message: the answer",
    "label": "true: reward positive and above the mean of its rivals; false: below that mean",
    "gap": "chosen_reward - rejected_reward, currency per answer",
    "chosen_reward": "currency per answer",
    "rejected_reward": "currency per answer",
    "reward": "currency per answer",
    "mean_reward": "mean reward of the rivals, currency per answer",
    "source": "judge: rewards as judged (expected over clicks where known); candidates: a mechanism's own predictions",
}
_OPTIONS = ("mechanisms", "n", "seed", "catalog", "personas", "queries", "bidder", "candidates", "max_ads", "reserve")
_FACTS = ("ad_llm", "judge", "query_source", "encoder")


def dataset_card(
    run: str | Path, frame: pandas.DataFrame, transitions: Sequence[Transition], file: str, format: str, options: str
) -> str:
    """Writes the card as Markdown.

    Args:
        run: The folder of the run.
        frame: The exported data.
        transitions: The transitions of the run.
        file: Name of the exported file.
        format: One of the export formats.
        options: Options of the export, as on the command line.
    """
    answers = Counter(t.mechanism for t in transitions)
    counts = {
        "rows": len(frame),
        "auctions in the run": len({t.index for t in transitions}),
        "auctions with rows": int(frame["auction_id"].nunique()),
        "answers in the run": ", ".join(f"{name} {number}" for name, number in answers.items()),
        "answers on which the judge abstained": sum(t.abstentions > 0 for t in transitions),
    }
    if "label" in frame:
        counts["labels"] = f"{int(frame['label'].sum())} true, {int((~frame['label'].astype(bool)).sum())} false"
    name = Path(run).resolve().name
    parts = [
        f"# {file}",
        _FORMATS[format],
        f"Made by `simenv export {name} --format {format}{options} --out {file}`.",
        "## Counts\n\n" + _table(("what", "number"), counts),
        "## Columns\n\n" + _table(("column", "meaning"), {c: _COLUMNS.get(str(c), "") for c in frame.columns}),
        "## Run\n\n" + _table(("what", "value"), _run_facts(Path(run))),
        "Simulated users and ads: nothing here was said or clicked by a person.",
    ]
    return "\n\n".join(parts) + "\n"


def _run_facts(run: Path) -> dict[str, Any]:
    file = run / "transitions.jsonl" if run.is_dir() else run
    facts: dict[str, Any] = {"SHA-256 of transitions.jsonl": hashlib.sha256(file.read_bytes()).hexdigest()}
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
    lines = [markdown_row(header), "|---|---|"]
    for key, value in rows.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(markdown_row((str(key), text)))
    return "\n".join(lines)
