"""Folders of runs on a small catalog and small personas, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import simenv
from simenv.testing import ADS, PERSONAS

FILES = ("transitions.jsonl", "sessions.jsonl", "chunks.jsonl")
SHAKY = '''
from simenv import outcome
from simenv.errors import LLMUnavailable


class Shaky:
    """Fails in some auctions."""

    def run(self, auction, rng):
        if auction.turn == 1:
            raise LLMUnavailable("the server is down")
        bid = auction.bids[0]
        return outcome(auction, f"See {bid.ad.link}.", {bid.ad.id: 1.0})
'''


class Folder:
    """Runs on a small catalog and small personas."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name, records in (("ads", ADS), ("personas", PERSONAS)):
            lines = "".join(f"{record.model_dump_json()}\n" for record in records)
            (path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        (path / "shaky.py").write_text(SHAKY, encoding="utf-8")
        self.options: dict[str, Any] = {
            "catalog": str(path / "ads.jsonl"),
            "personas": str(path / "personas.jsonl"),
            "llm": "scripted",
            "quality": "none",
            "horizon": 3,
            "chunk": 2,
        }

    def run(self, name: str, mechanisms: Any = ("gsp", "organic"), **options: Any) -> list[bytes]:
        simenv.bench(mechanisms, out=self.path / name, **{**self.options, "n": 11, **options})
        return self.read(name)

    def read(self, name: str) -> list[bytes]:
        return [(self.path / name / file).read_bytes() for file in FILES]
