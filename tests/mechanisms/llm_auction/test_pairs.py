"""Training on exported preference pairs: what is read, what is learned, and that both back ends' adapters load."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mechanisms.llm_auction.pair_data import PairConfig, PreferencePair, read_pairs
from mechanisms.llm_auction.pairs import PairTraining
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.train import LLMAuctionTrainer
from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.cli import main as cli
from simenv.datasets.export import export_run
from simenv.errors import DataFileError, InputError
from simenv.llm.local import LocalLLM
from simenv.mechanism import run_mechanism
from simenv.testing import small_world
from tests.support.auctions import make_auction
from tests.support.runs import save, transitions
from tests.support.tiny_training import QUIET

SMALL: dict[str, Any] = {"batch": 4, "epochs": 3, "learning_rate": 0.02, "r": 2, "threads": 1, "save_every": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three mechanisms on a scripted model."""
    rows = transitions(small_world(candidates=2), "organic", "gsp", "best_of_n")
    return save(tmp_path_factory.mktemp("run") / "run", rows)


@pytest.fixture(scope="module")
def pairs(run: Path) -> Path:
    file = run.parent / "pairs.jsonl"
    export_run(run, file, "preferences", min_gap=5.0)
    lines = file.read_text(encoding="utf-8").splitlines()
    lines = lines[:: len(lines) // 10][:10]  # of several auctions
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def curve(folder: Path, part: str) -> list[dict[str, float]]:
    with (folder / "curve.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row.pop("part") == part]
    return [{name: float(value) for name, value in row.items()} for row in rows]


def test_both_formats_of_the_export_are_read_alike(run: Path, tmp_path: Path) -> None:
    read = []
    for name in ("a.jsonl", "a.parquet"):
        rows = export_run(run, tmp_path / name, "preferences", min_gap=5.0)
        found = read_pairs(PairConfig(file=str(tmp_path / name)))
        assert len(found.train) + len(found.held_out) == rows
        read.append(found[:2])
    assert read[0] == read[1]
    train_prompts, held_out_prompts = ({pair.prompt for pair in part} for part in read[0])
    assert train_prompts.isdisjoint(held_out_prompts)
    assert "Candidate ads" in read[0][0][0].prompt.user


def test_plain_texts_are_pairs_too(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "Why?", "chosen": "So.", "rejected": "No."}\n')
    (pair,) = read_pairs(PairConfig(file=str(tmp_path / "p.jsonl"), held_out=0.0)).train
    assert (pair.prompt.user, pair.chosen, pair.rejected) == ("Why?", "So.", "No.")


@pytest.mark.weights
def test_training_prefers_the_chosen_answers_and_the_adapter_loads(tiny: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    LLMAuctionTrainer().train({**SMALL, "from": str(pairs), "llm": f"local:{tiny}", "held_out": 0.3}, out, QUIET)
    rows = curve(out, "train")
    assert rows[0]["loss"] == pytest.approx(math.log(2))  # the policy is the reference
    assert (rows[0]["accuracy"], rows[0]["margin"]) == (0.0, 0.0)
    found = read_pairs(PairConfig(file=str(pairs), held_out=0.3))
    assert sum(row["margin"] for row in rows[-2:]) > 0
    assert found.held_out
    assert len(curve(out, "held_out")) == SMALL["epochs"]
    assert mean_margin(tiny, out, found.train) > 0
    mechanism = make_mechanism("llm_auction", context={"llm": LocalLLM(tiny)}, adapter=out, format="json")
    assert run_sync(run_mechanism, mechanism, make_auction([50.0, 20.0])).usage.calls == 1
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["pairs"] + manifest["pairs_held_out"] == 10
    assert len(manifest["file_sha256"]) == 64


def mean_margin(base: Path, adapter: Path, pairs: list[PreferencePair]) -> float:
    """Of the adapter's policy against the base model, in nats."""
    margins = []
    for llm in (AdaptedLLM(base, adapter), AdaptedLLM(base)):
        with torch.no_grad():
            logps = torch.stack([llm.text_logps(pair.prompt, [pair.chosen, pair.rejected]) for pair in pairs])
        margins.append(float((logps[:, 0] - logps[:, 1]).mean()))
    return margins[0] - margins[1]


@pytest.mark.weights
def test_a_training_that_is_cut_off_goes_on_exactly(
    tiny: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SMALL, "from": str(pairs), "llm": f"local:{tiny}", "epochs": 1}
    LLMAuctionTrainer().train(options, tmp_path / "whole", QUIET)
    keep, saved = PairTraining._save, 0

    def dying(self: PairTraining) -> None:
        nonlocal saved
        keep(self)
        saved += 1
        if saved in (1, 3):  # with the references, amid the pass
            raise KeyboardInterrupt

    monkeypatch.setattr(PairTraining, "_save", dying)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            LLMAuctionTrainer().train(options, tmp_path / "cut", QUIET)
    LLMAuctionTrainer().train(options, tmp_path / "cut", QUIET)
    for name in ("adapter_model.safetensors", "curve.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    with pytest.raises(InputError, match=r"other options: beta was 0\.1, now 0\.5"):
        LLMAuctionTrainer().train({**options, "beta": 0.5}, tmp_path / "cut", QUIET)
    (tmp_path / "other.jsonl").write_text(pairs.read_text().partition("\n")[0])
    with pytest.raises(DataFileError, match="is not the file that the training"):
        LLMAuctionTrainer().train(
            {**options, "from": str(tmp_path / "other.jsonl"), "held_out": 0.1}, tmp_path / "cut", QUIET
        )


PAIR = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (None, [], "pairs.jsonl: no such file"),
        ("", [], "pairs.jsonl: no rows, expected at least one"),
        ('{"text": "x"}', [], "pairs.jsonl:1: no column 'prompt': expected prompt, chosen and rejected, got text"),
        (json.dumps(PAIR | {"chosen": 3}), [], "pairs.jsonl:1: chosen must be a text or a list of messages"),
        (json.dumps(PAIR | {"rejected": ""}), [], "pairs.jsonl:1: rejected must be a text or a list of messages"),
        (json.dumps(PAIR | {"prompt": [{"role": "user"}]}), [], "prompt must be a text or a list of messages"),
        (json.dumps(PAIR), ["--set", "held_out=0.999999"], "no pair to train on: all 1 are held out"),
        (json.dumps(PAIR), ["--set", "backend=jax"], "training option backend: Input should be 'own' or 'trl'"),
        (json.dumps(PAIR), ["--auctions", "3"], "training option auctions: Extra inputs are not permitted"),
        (json.dumps(PAIR), ["--set", "held_out=0.0", "--llm", "local:nowhere"], "no transformers model at nowhere"),
    ],
)
def test_mistakes_are_one_line(
    content: str | None, arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "pairs.jsonl", tmp_path / "out"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", "llm-auction", "--from", str(file), "--out", str(out), *arguments])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert not out.exists()


def test_a_missing_back_end_says_what_to_install(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(InputError, match=r"backend trl: .* pip install 'simenv-ads\[train\]'"):
        LLMAuctionTrainer().train({"from": str(pairs), "backend": "trl"}, tmp_path / "out", QUIET)


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")  # of TRL and peft
def test_trls_adapter_loads_and_is_what_it_measured(tiny: Path, pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="pip install 'simenv-ads[train]'")
    pytest.importorskip("peft", reason="pip install 'simenv-ads[train]'")
    out = tmp_path / "out"
    options = {**SMALL, "from": str(pairs), "llm": f"local:{tiny}", "held_out": 0.3, "backend": "trl", "epochs": 1}
    LLMAuctionTrainer().train(options, out, QUIET)
    rows, held_out = curve(out, "train"), curve(out, "held_out")
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=0.01)
    found = read_pairs(PairConfig(file=str(pairs), held_out=0.3))
    assert found.held_out
    margin = PairConfig(file="").beta * mean_margin(tiny, out, found.held_out)
    assert margin == pytest.approx(held_out[-1]["margin"], rel=0.2, abs=0.1)
    mechanism = make_mechanism("llm_auction", context={"llm": LocalLLM(tiny)}, adapter=out, format="json")
    assert run_sync(run_mechanism, mechanism, make_auction([50.0, 20.0])).usage.calls == 1
    assert json.loads((out / "manifest.json").read_text())["packages"]["trl"]
    with pytest.raises(InputError, match="other options"):
        LLMAuctionTrainer().train({**options, "beta": 0.5}, out, QUIET)
