"""The head of a dataset card in the form of Hugging Face: `datasets` reads types, files and splits from it.

Each export format is a configuration with a fixed schema; its parts are splits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from simenv.datasets.columns import COLUMNS

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_OURS = {"scripted": None, "embedded": "Apache-2.0 (SmolLM2-135M-Instruct)"}
"""Models whose texts have a licence that is known: model -> licence."""


class Part(NamedTuple):
    """A file of a dataset."""

    format: str
    """One of the export formats: the name of the configuration."""
    split: str
    """train or test."""
    path: str
    """Relative to the card."""
    rows: int
    size: int
    """Bytes."""


def front_matter(parts: Sequence[Part], licence: str) -> str:
    """The YAML between the two lines of dashes, and these.

    Args:
        parts: The files. Those of a configuration follow each other.
        licence: Identifier of the licence of all that was put in; "unknown" if it is not known.
    """
    of_format: dict[str, list[Part]] = {}
    for part in parts:
        of_format.setdefault(part.format, []).append(part)
    lines = ["---", f"license: {licence}", "pretty_name: Ads in the answers of a simulated assistant"]
    lines += ["tags:", "- simulated", "- advertising", "- simenv", "size_categories:"]
    lines += [f"- {_size(sum(part.rows for part in parts))}", "configs:"]
    for format, own in of_format.items():
        lines += [f"- config_name: {format}", "  data_files:"]
        for part in own:
            lines += [f"  - split: {part.split}", f"    path: {json.dumps(part.path)}"]
    lines.append("dataset_info:")
    for format, own in of_format.items():
        lines += [f"- config_name: {format}", "  features:", *_features(format), "  splits:"]
        for part in own:
            lines += [f"  - name: {part.split}", f"    num_bytes: {part.size}", f"    num_examples: {part.rows}"]
        lines.append(f"  download_size: {sum(part.size for part in own)}")
    return "\n".join([*lines, "---"])


def licences(manifest: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The licence of a run's texts as one identifier, "unknown" unless all are known, and that of each input in words.

    Args:
        manifest: The run's manifest; empty if there is none.
    """
    world = manifest.get("world")
    world = world if isinstance(world, dict) else {}
    packs, model = world.get("packs") or {}, world.get("ad_llm")
    words = {kind: f"{name}: MIT" if name else "your own: not known" for kind, name in packs.items()}
    if model is not None:
        known = _OURS.get(str(model), "not known: see its provider's terms")
        words["texts of the model"] = f"{model}: {known}" if known else f"{model}: invented by simenv, MIT"
    known_packs = bool(packs) and all(packs.values())
    return ("mit" if known_packs and model in _OURS else "unknown"), words


def _features(format: str) -> list[str]:
    lines = []
    for name, kind in COLUMNS[format].items():
        lines.append(f"  - name: {name}")
        if kind == "messages":
            lines += ["    list:", *(f"    - name: {part}\n      dtype: string" for part in ("role", "content"))]
        else:
            lines.append("    list: string" if kind == "strings" else f"    dtype: {kind}")
    return lines


def _size(rows: int) -> str:
    return next((name for limit, name in _SIZES if rows < limit), "1M<n<10M" if rows < 10_000_000 else "n>10M")
