"""A seeded fuzzer of all readers of files and replies: each damaged input is read, or refused with an error of simenv.

SIMENV_FUZZ_INPUTS is the number of inputs of the slow test, over all readers. A failure names reader and number of the
input: the same number gives the same bytes again.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas
import pytest
import torch

from mechanisms.llm_auction import lora, reward_model
from mechanisms.llm_auction.folder import read_state, save_state
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.pair_data import PairConfig, read_pairs
from simenv.auditing.learned_bidders import LearnedBidders
from simenv.cli.train import _read as read_training_options
from simenv.ctr.learned import LearnedCTR
from simenv.datasets.training_data import preference_rows
from simenv.errors import InputError, SimenvError, SimenvWarning
from simenv.judges.llm_judge import read_verdicts
from simenv.llm import Prompt, Sampling
from simenv.llm.base import Completion, Request
from simenv.llm.cassette import Cassette, Entry
from simenv.llm.chat import read_completion
from simenv.market.catalog import load_catalog
from simenv.packmaker.pack_file import PackFile
from simenv.records import Persona, Transition
from simenv.runs.folder import RunFolder, read_manifest, read_sessions, read_transitions
from simenv.runs.options import ScoreOptions, options_of_manifest
from simenv.runs.rollout import Finished
from simenv.scoring.ad_finder import AdFinder
from simenv.scoring.answers import WrittenAnswers, grouped, settle_auctions
from simenv.scoring.columns import read_answers
from simenv.scoring.rows import Reader as AnswerReader
from simenv.testing import ADS, PERSONAS, FakeEncoder, small_world
from simenv.users.personas import load_personas
from simenv.users.queries import Question, load_queries
from simenv.world import Session
from tests.support.damage import damaged
from tests.support.paths import ROOT
from tests.support.runs import transitions

AUDIT = ROOT / "benchmarks" / "results" / "audit" / "4_llm_auction.json"
REACH: dict[str, Any] = {name: {} for name in ("revenue", "welfare", "efficiency", "bid_share", "spent")}


class Reader(NamedTuple):
    """One reader, its good input, and the other files of the folder that it reads."""

    name: str
    """Of the file."""
    content: bytes
    read: Callable[[Path], object]
    beside: Mapping[str, bytes] = {}


def jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def table(rows: Sequence[Mapping[str, Any]], ending: str) -> bytes:
    frame = pandas.DataFrame(list(rows))
    if ending == "parquet":
        out = io.BytesIO()
        frame.to_parquet(out)
        return out.getvalue()
    return str(frame.to_csv(sep="\t" if ending == "tsv" else ",", index=False)).encode()


def of_text(read: Callable[[str], object]) -> Callable[[Path], object]:
    """A reader of replies."""
    return lambda path: read(path.read_bytes().decode(errors="replace"))


def resumed(path: Path) -> object:
    return RunFolder.reopen(path.parent)


def pack(path: Path) -> object:
    return PackFile(path.parent / "pack.jsonl", {"kind": "ads"}, lambda _: "")


def tables() -> dict[str, Reader]:
    ads = [ad.model_dump() for ad in ADS]
    people = [persona.model_dump(mode="json") for persona in PERSONAS]
    flat = [
        {**row, "interests": "|".join(row["interests"]), "traits": json.dumps(row["traits"]), "queries": "A?|B?"}
        for row in people
    ]
    asked = [{"text": "Which boots stay dry?", "topic": "shoes"}, {"text": "Größe 38?", "topic": ""}]
    read_all: dict[str, tuple[Callable[[Path], object], dict[str, bytes]]] = {
        "catalog": (load_catalog, {"csv": table(ads, "csv"), "tsv": table(ads, "tsv"), "jsonl": jsonl(ads)}),
        "personas": (load_personas, {"csv": table(flat, "csv"), "jsonl": jsonl(people)}),
        "queries": (load_queries, {"csv": table(asked, "csv"), "jsonl": jsonl(asked), "txt": b"Which boots?\nWhy?\n"}),
    }
    for what, rows in (("catalog", ads), ("personas", people), ("queries", asked)):
        read_all[what][1]["parquet"] = table(rows, "parquet")
        read_all[what][1]["jsonl.gz"] = gzip.compress(jsonl(rows), mtime=0)
    return {
        f"{what}.{ending}": Reader(f"a.{ending}", content, read)
        for what, (read, contents) in read_all.items()
        for ending, content in contents.items()
    }


def run_files(folder: Path, rows: Sequence[Transition]) -> dict[str, bytes]:
    """The files of a run's folder."""
    run = RunFolder(folder / "run")
    run.begin({"mechanisms": ["gsp"], "n": 4}, {"judge": "click"}, {"catalog": "abc"})
    persona = Persona(id="p", info="A baker.")
    run.save_sessions({0: Session("0.p", persona, [Question("Which boots?", "shoes")])})
    run.append(Finished(list(rows), {"gsp": 0.1}))
    return {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}


def cassette(folder: Path) -> bytes:
    tape = Cassette(folder / "tape.jsonl", "record")
    request = Request(prompt=Prompt(user="Which boots?"), sampling=Sampling(), key=("a", 1), constraint=None)
    said = Completion(text="Trail Boots.", finish="stop")
    tape.add(Entry(model="scripted", capabilities=(), follows_formats=True, request=request, completion=said))
    return tape.path.read_bytes()


def scored(path: Path) -> object:
    """Reads answers up to their outcomes. Rows that cannot be scored are refused together."""
    options = ScoreOptions()
    finder = AdFinder(ADS)
    reader = AnswerReader(options, finder, PERSONAS)
    readings = [reader.read(source) for source in read_answers(path, options)]
    written = [it for reading in readings for it in reading.answers]
    systems = {it.system: WrittenAnswers(it.system) for it in written}
    bad = [text for it in readings for text in it.bad]
    bad += settle_auctions(grouped(written, PERSONAS, 0), systems, 2)
    if bad:
        raise InputError("; ".join(bad))
    return systems


def answers() -> dict[str, Reader]:
    boots, shoes = ADS[:2]
    text = f"Wear {boots.title} or {shoes.title}."
    ads = [[5, 5 + len(boots.title), boots.id], {"id": shoes.id, "bid": 2.0}]
    lamp = [{"title": "Zork Lamp", "body": "A lamp.", "span": [0, 9], "text": "Zork Lamp", "price": 0.5}]
    rows = [
        {"query": "Which boots?", "response": text, "ads": ads, "persona": PERSONAS[0].id, "bid": {boots.id: 3}},
        {"query": "Light?", "response": "Zork Lamp.", "ads": lamp, "persona": {"info": "A cook."}, "system": "b"},
    ]
    flat = [{name: it if isinstance(it, str) else json.dumps(it) for name, it in row.items()} for row in rows]
    links = f"## Which boots?\n\nWear [them]({boots.id}).\n\n## Light?\n\n@Zork@[z] ```\n## no\n```\n"
    return {
        "answers.jsonl": Reader("a.jsonl", jsonl(rows), scored),
        "answers.csv": Reader("a.csv", table(flat, "csv"), scored),
        "answers.parquet": Reader("a.parquet", table(flat, "parquet"), scored),
        "answers.md": Reader("a.md", links.encode(), scored),
    }


class OneLayer(torch.nn.Module):
    """A model with one layer that an adapter fits."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.Module()
        block = torch.nn.Module()
        block.q_proj = torch.nn.Linear(2, 2)
        self.model.layers = torch.nn.ModuleList([block])


def all_readers(folder: Path) -> dict[str, Reader]:
    rows = transitions(small_world(), "gsp", "best_of_n", n=2)
    run = run_files(folder, rows)
    logs = {
        name: Reader(f"{name}.jsonl", run[f"{name}.jsonl"], resumed, run)
        for name in ("transitions", "chunks", "sessions", "timings")
    }
    audit = json.loads(AUDIT.read_text(encoding="utf-8"))
    audit["mechanisms"]["llm_auction"]["play"] = {"learned": {**REACH, "strategy": [0, 0, 0, 0, 1]}}
    ctr = {
        "intercept": 0.1,
        "cosine": [1.0, 2.0],
        "position_discount": 0.5,
        "ads": {"a": 0.1},
        "categories": {"x": 0.2},
    }
    tape = cassette(folder)
    pack_manifest = {"kind": "ads", "rejected": {"long": 1}, "usage": {"calls": 1}, "calls": 3, "started": "now"}
    save_state(folder, Config(), {"epoch": 1, "lora": {"a": torch.ones(3, 3)}})
    lora.save(folder / "adapter", lora.inject(OneLayer(), 2, 16.0), 2, 16.0, "tiny")
    reward_model.save(reward_model.PCTR(FakeEncoder(), ["p"], ["a"]), folder)
    adapter = {path.name: path.read_bytes() for path in (folder / "adapter").iterdir()}
    said = {"verdicts": [{"ad_id": "a", "clicked": True, "reason": "fits"}, {"ad_id": "b", "clicked": False}]}
    verdicts = f"```json\n{json.dumps(said)}\n```".encode()
    chat = b'{"choices": [{"message": {"role": "assistant", "content": [{"type": "text", "text": "Boots."}]}}]}'
    return {
        **tables(),
        **answers(),
        "transitions": Reader(
            "transitions.jsonl", run["transitions.jsonl"], lambda p: list(read_transitions(p.parent))
        ),
        "sessions of a run": Reader("sessions.jsonl", run["sessions.jsonl"], lambda p: read_sessions(p.parent)),
        "manifest": Reader(
            "manifest.json",
            run["manifest.json"],
            lambda p: options_of_manifest(read_manifest(p.parent)["options"], "manifest"),
        ),
        **{f"resumed run, {name}": reader for name, reader in logs.items()},
        "resumed run, manifest": Reader("manifest.json", run["manifest.json"], resumed, run),
        "cassette": Reader("tape.jsonl", tape * 2, lambda p: Cassette(p, "replay")),
        "cassette as cache": Reader("tape.jsonl", tape * 2, lambda p: Cassette(p, "cache")),
        "ctr model": Reader("ctr.json", json.dumps(ctr | {"impressions": 5}).encode(), LearnedCTR.load),
        "audit": Reader("audit.json", json.dumps(audit).encode(), lambda p: LearnedBidders.read(str(p))),
        "pairs": Reader(
            "pairs.jsonl", jsonl(preference_rows(rows, 0.0)[:3]), lambda p: read_pairs(PairConfig(file=str(p)))
        ),
        "training options": Reader("a.toml", b'epochs = 2\nloss = "dpo"\n[more]\nx = [1, 2]\n', read_training_options),
        "pack": Reader("pack.jsonl.manifest.json", json.dumps(pack_manifest).encode(), pack, {"pack.jsonl": b""}),
        "pack's records": Reader(
            "pack.jsonl",
            jsonl([{"cell": "a", "title": "Boots"}] * 2),
            pack,
            {"pack.jsonl.manifest.json": json.dumps(pack_manifest).encode()},
        ),
        "training state": Reader(
            "state.pt", (folder / "state.pt").read_bytes(), lambda p: read_state(p.parent, Config())
        ),
        **{
            f"adapter, {name}": Reader(name, adapter[name], lambda p: lora.load(OneLayer(), p.parent), adapter)
            for name in adapter
        },
        "click model": Reader(
            reward_model.FILE,
            (folder / reward_model.FILE).read_bytes(),
            lambda p: reward_model.load(p.parent, FakeEncoder()),
        ),
        "verdicts": Reader("reply.txt", verdicts, of_text(lambda text: read_verdicts(text, ["a", "b"]))),
        "chat completion": Reader("reply.txt", chat, lambda p: read_completion(p.read_bytes(), "a server")),
    }


def fuzz(folder: Path, inputs: int) -> dict[str, Counter[str]]:
    """Gives every reader its share of damaged inputs. Returns reader -> accepted and refused."""
    (folder / "good").mkdir()
    readers = all_readers(folder / "good")
    others = [reader.content for reader in readers.values()]
    counts: dict[str, Counter[str]] = {}
    failures: list[str] = []
    for name, reader in readers.items():
        counts[name] = counted = Counter()
        place = folder / f"{len(counts)}"
        for number in range(-(-inputs // len(readers))):
            content = damaged(reader.content, others, random.Random(f"{name} {number}")) if number else reader.content
            place.mkdir(exist_ok=True)
            for file in place.iterdir():
                file.unlink()
            for beside, good in reader.beside.items():
                (place / beside).write_bytes(good)
            (place / reader.name).write_bytes(content)
            try:
                reader.read(place / reader.name)
            except SimenvError:
                counted["refused"] += 1
            except Exception as error:
                failures.append(f"{name}, input {number}: {error!r:.300}\n{content!r:.600}")
            else:
                counted["accepted"] += 1
    assert not failures, "\n".join(failures[:20])
    return counts


def check(folder: Path, inputs: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimenvWarning)
        counts = fuzz(folder, inputs)
    for name, counted in counts.items():
        print(f"{name:32} accepted {counted['accepted']:6} refused {counted['refused']:6}")
        assert counted["accepted"] > 0, f"{name}: not even the good file was read"
    assert sum(counted["refused"] for counted in counts.values()) > inputs / 4


def test_some_damaged_inputs_are_read_or_refused(tmp_path: Path) -> None:
    check(tmp_path, 600)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_damaged_inputs_are_read_or_refused(tmp_path: Path) -> None:
    check(tmp_path, int(os.environ.get("SIMENV_FUZZ_INPUTS", "100000")))
