"""Preferences, demonstrations and labels: what is in them, what is not, and that TRL trains on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from simenv import outcome
from simenv.background_loop import run_sync
from simenv.cli import main as cli
from simenv.datasets.columns import COLUMNS, FORMATS
from simenv.datasets.export import click_rows, export_run
from simenv.datasets.training_data import ad_prompt, kto_rows, preference_rows, sft_rows
from simenv.errors import InputError
from simenv.llm import ScriptedLLM
from simenv.objective import Objective
from simenv.records import Auction, Click, Feedback, Transition
from simenv.settlement import settle
from simenv.testing import small_world
from tests.support.fakes import Hesitant
from tests.support.runs import save, transitions

NAMES = ("organic", "gsp", "prompted", "best_of_n", "softmax")


@pytest.fixture(scope="module")
def rows() -> list[Transition]:
    return transitions(small_world(), *NAMES)


def auction() -> Auction:
    world = small_world()
    return world.auction(run_sync(world.session, 0, 0), 0)


def answered(mechanism: str, reward: float | None, text: str = "", prob: float | None = None) -> Transition:
    """An answer of a given reward; None = the judge abstained on its one ad."""
    where = auction()
    ad = where.bids[0].ad
    made = outcome(where, f"{text or mechanism} {ad.link}.", {ad.id: 0.0})
    feedback = Feedback(clicks=(Click(ad_id=ad.id, clicked=None if reward is None else True, click_prob=prob),))
    row = settle(where, made, feedback, {}, Objective(), index=0, mechanism=mechanism, persona_id="p", turn=0)
    return row.model_copy(update={"reward": reward, "expected_reward": None})


def said(messages: list[dict[str, str]]) -> str:
    (message,) = messages
    assert message["role"] == "assistant"
    return message["content"]


# What is in the rows


def test_the_prompt_is_the_one_that_a_capable_model_gets() -> None:
    llm = ScriptedLLM(lambda request: "Fine.", follows_formats=True)
    world = small_world(reserve=30.0)
    asked = transitions_of_prompted(world, llm)
    for request, row in asked:
        system, user = ad_prompt(row.auction)
        assert (system["role"], user["role"]) == ("system", "user")
        assert (system["content"], user["content"]) == (request.prompt.system, request.prompt.user)
    assert {len(json.loads(request.prompt.user.split("\n")[3])) for request, _ in asked} != {6}  # the reserve bites


def transitions_of_prompted(world: Any, llm: ScriptedLLM) -> list[tuple[Any, Transition]]:
    from simenv import make_mechanism

    mechanism = make_mechanism("prompted", context={"llm": llm})
    session = run_sync(world.session, 0, 0)
    made = [run_sync(world.step, session, turn, mechanism) for turn in range(3)]
    return list(zip(llm.requests, made, strict=True))


def test_chosen_beats_rejected_within_one_auction(rows: list[Transition]) -> None:
    answers: dict[str, dict[str, list[float]]] = {}
    for t in rows:
        assert t.expected_reward is not None
        answers.setdefault(t.auction.id, {}).setdefault(t.outcome.response, []).append(t.expected_reward)
    pairs = preference_rows(rows, 5.0)
    judged = [pair for pair in pairs if pair["source"] == "judge"]
    candidates = [pair for pair in pairs if pair["source"] == "candidates"]
    assert len(judged) > 10
    assert len(candidates) > 10
    for pair in pairs:
        assert pair["gap"] == pair["chosen_reward"] - pair["rejected_reward"] > 5.0
        assert said(pair["chosen"]) != said(pair["rejected"])
    for pair in judged:
        of = answers[pair["auction_id"]]
        assert pair["chosen_reward"] == pytest.approx(np.mean(of[said(pair["chosen"])]))
        assert pair["rejected_reward"] == pytest.approx(np.mean(of[said(pair["rejected"])]))
    logged = {t.auction.id: t.outcome.details for t in rows if t.mechanism == "best_of_n"}
    for pair in candidates:
        details = logged[pair["auction_id"]]
        score = dict(zip(details["candidate_texts"], details["candidate_scores"], strict=True))  # type: ignore[arg-type]
        assert pair["mechanisms"] == ["best_of_n", "best_of_n"]
        assert pair["chosen_reward"] == score[said(pair["chosen"])]


def test_every_pair_above_the_gap_is_there_best_first() -> None:
    rows = [answered(name, reward) for name, reward in (("a", 0.0), ("b", 30.0), ("c", 15.0), ("d", 20.0))]
    pairs = [(*pair["mechanisms"], pair["gap"]) for pair in preference_rows(rows)]
    assert pairs == [
        ("b", "c", 15.0),
        ("b", "a", 30.0),
        ("d", "a", 20.0),
        ("c", "a", 15.0),
    ]
    # b and d differ by 10, which is not above 10
    assert [pair["mechanisms"] for pair in preference_rows(rows, 29.0)] == [["b", "a"]]


def test_no_abstained_answer_nor_its_candidates() -> None:
    rows = transitions(small_world(judge=Hesitant()), *NAMES)
    abstained = {t.outcome.response for t in rows if t.abstentions}
    kept = {t.outcome.response for t in rows if not t.abstentions}
    assert len(abstained - kept) > 5
    used = {said(pair[side]) for pair in preference_rows(rows, 0.0) for side in ("chosen", "rejected")}
    used |= {said(row["completion"]) for row in [*sft_rows(rows), *kto_rows(rows)]}
    texts = {t.auction.id: t for t in rows if t.mechanism == "best_of_n" and t.abstentions}
    judged = [pair for pair in preference_rows(rows, 0.0) if pair["source"] == "judge"]
    assert not {said(pair[side]) for pair in judged for side in ("chosen", "rejected")} & (abstained - kept)
    assert not {pair["auction_id"] for pair in preference_rows(rows, 0.0) if pair["source"] == "candidates"} & set(
        texts
    )
    assert texts
    assert used


def test_an_abstention_is_neither_chosen_nor_rejected() -> None:
    rows = [answered("a", 40.0), answered("b", None), answered("c", 0.0)]
    assert [pair["mechanisms"] for pair in preference_rows(rows)] == [["a", "c"]]
    with pytest.raises(InputError, match="no preference pairs: the run has no answer on which the judge did not"):
        preference_rows([answered("b", None)])


def test_answers_to_other_bids_are_not_compared() -> None:
    """Bidders that learn bid otherwise under another mechanism, so one index may hold two auctions."""
    one, two = answered("a", 40.0), answered("b", 0.0)
    bids = tuple(bid.model_copy(update={"amount": 1.0}) for bid in two.auction.bids)
    other = two.model_copy(update={"auction": two.auction.model_copy(update={"bids": bids})})
    assert len(preference_rows([one, two])) == 1
    with pytest.raises(InputError, match=r"none of 2 distinct answers to 2 auctions has a gap of rewards above 10"):
        preference_rows([one, other])


def test_the_same_text_is_one_answer_with_the_mean_reward() -> None:
    rows = [answered("a", 40.0, "same"), answered("b", 20.0, "same"), answered("c", 0.0)]
    (pair,) = preference_rows(rows)
    assert (pair["mechanisms"], pair["chosen_reward"]) == (["a+b", "c"], 30.0)


def test_sft_takes_the_best_of_each_auction_above_the_threshold(rows: list[Transition]) -> None:
    best: dict[str, float] = {}
    for t in rows:
        best[t.auction.id] = max(best.get(t.auction.id, -np.inf), t.expected_reward or 0.0)
    made = sft_rows(rows, 10.0)
    assert {row["auction_id"]: row["reward"] for row in made} == {i: r for i, r in best.items() if r > 10.0}
    assert made
    assert [row["mechanism"] for row in sft_rows([answered("a", 3.0), answered("b", 7.0)])] == ["b"]
    with pytest.raises(InputError, match=r"no answers to learn from: none of .* has a reward above 1e\+06"):
        sft_rows(rows, 1e6)


def test_kto_labels_by_sign_and_by_the_mean_of_the_auction() -> None:
    def labels(*rewards: float) -> list[tuple[str, bool]]:
        rows = kto_rows([answered(name, reward) for name, reward in zip("abcd", rewards, strict=False)])
        return [(row["mechanism"], row["label"]) for row in rows]

    assert labels(30.0, 0.0) == [("a", True), ("b", False)]
    assert labels(-10.0, -90.0) == [("b", False)]  # above the mean and negative: no label
    assert labels(30.0, 20.0, 10.0) == [("a", True), ("c", False)]
    for equal in ([5.0], [0.1, 0.1, 0.1]):
        with pytest.raises(InputError, match=r"no labelled answers: none of .* has rivals of another reward"):
            labels(*equal)


def test_the_order_and_the_rows_are_the_same_again(rows: list[Transition]) -> None:
    again = transitions(small_world(), *NAMES)
    for made in (preference_rows, sft_rows, kto_rows):
        assert made(rows) == made(again)
    order = list(dict.fromkeys(t.auction.id for t in rows))
    found = [order.index(pair["auction_id"]) for pair in preference_rows(rows)]
    assert found == sorted(found)


def test_clicks_carry_the_propensity_where_it_was_logged(rows: list[Transition]) -> None:
    for row in click_rows(rows):
        assert (row["propensity"] is not None) == (row["mechanism"] == "softmax")
    drawn = [row["propensity"] for row in click_rows(rows) if row["propensity"] is not None]
    assert drawn
    assert all(0 < p <= 1 for p in drawn)
    odd = rows[0].model_copy(update={"outcome": rows[1].outcome.model_copy(update={"details": {"propensity": "high"}})})
    odd = odd.model_copy(update={"feedback": rows[1].feedback})
    assert {row["propensity"] for row in click_rows([odd])} <= {None}


# Files


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_pandas_and_datasets_read_every_format(
    tmp_path: Path, run: Path, format: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    out = tmp_path / f"data.{ending}"
    number = export_run(run, out, format)
    assert number > 0
    frame = pandas.read_parquet(out) if ending == "parquet" else pandas.read_json(out, lines=True)
    assert len(frame) == number
    builder = "parquet" if ending == "parquet" else "json"
    loaded = datasets.load_dataset(builder, data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == number
    assert loaded.column_names == list(frame.columns)
    if format != "clicks":
        first = loaded[0]
        assert [message["role"] for message in first["prompt"]] == ["system", "user"]
        for column in {"chosen", "rejected", "completion"} & set(loaded.column_names):
            assert said(first[column])
    if format == "preferences":
        assert (frame["chosen_reward"] > frame["rejected_reward"] + 10).all()
    if format == "kto":
        assert {type(label) for label in loaded["label"]} == {bool}


@pytest.mark.parametrize("format", FORMATS)
def test_the_card_names_every_column_and_the_run(tmp_path: Path, run: Path, format: str) -> None:
    import hashlib

    number = export_run(run, tmp_path / "data.jsonl", format)
    card = (tmp_path / "data.jsonl.md").read_text(encoding="utf-8")
    frame = pandas.read_json(tmp_path / "data.jsonl", lines=True)
    described = dict(line.strip("| ").split(" | ", 1) for line in card.splitlines() if line.count(" | ") == 1)
    columns = dict(line.strip("| ").split(" | ", 1) for line in card.split("## Run")[0].splitlines() if " | " in line)
    assert [columns[column].split(":")[0] for column in frame.columns] == list(COLUMNS[format].values())
    assert all(columns[column].split(": ")[1] for column in frame.columns)
    assert described["rows"] == str(number)
    assert described["auctions in the run"] == "12"
    digest = hashlib.sha256((run / "transitions.jsonl").read_bytes()).hexdigest()
    assert described["SHA-256 of transitions.jsonl"] == digest
    assert (described["catalog"], described["judge"], described["seed"]) == ("ads.csv", "click-model-v0", "1")
    assert f"simenv export run --format {format}" in card
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.jsonl", "data.jsonl.md", "run"]


def test_the_command_writes_data_and_card(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(run), "--out", str(tmp_path / "p.jsonl"), "--format", "preferences", "--min-gap", "3"]
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    assert "rows to" in capsys.readouterr().out
    lines = (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()
    assert min(json.loads(line)["gap"] for line in lines) > 3
    assert "--min-gap 3" in (tmp_path / "p.jsonl.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format": "dpo"}, "unknown format 'dpo': known are clicks, preferences, sft, kto"),
        ({"format": "sft", "min_gap": 3.0}, "min_gap is an option of format preferences, got format sft"),
        ({"format": "clicks", "min_reward": 3.0}, "min_reward is an option of format sft, got format clicks"),
        ({"format": "preferences", "min_gap": -1.0}, "min_gap must be a finite number of at least 0, got -1.0"),
        ({"format": "sft", "min_reward": float("nan")}, "min_reward must be a finite number, got nan"),
        ({"format": "preferences", "min_gap": 1e9}, "no preference pairs: none of"),
    ],
)
def test_what_cannot_be_exported_is_named_and_leaves_nothing(
    tmp_path: Path, run: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError) as caught:
        export_run(run, tmp_path / "data.jsonl", **options)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(says)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# TRL


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["preferences", "kto"])
def test_trl_takes_a_step(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    trl = pytest.importorskip("trl", reason="pip install 'simenv-ads[train]'")
    peft = pytest.importorskip("peft", reason="pip install 'simenv-ads[train]'")
    import datasets
    import torch

    from simenv.llm.weights import embedded_path

    # Two candidates: a short prompt, and a step takes seconds.
    run = save(tmp_path / "run", transitions(small_world(candidates=2), *NAMES))
    export_run(run, tmp_path / "data.jsonl", format)
    cache = str(tmp_path / "cache")
    data = datasets.load_dataset("json", data_files=str(tmp_path / "data.jsonl"), split="train", cache_dir=cache)
    names = {"preferences": ("DPOConfig", "DPOTrainer"), "kto": ("KTOConfig", "KTOTrainer")}[format]
    config, trainer = (getattr(trl, name) for name in names)
    trainer = trainer(
        model=str(embedded_path()),
        args=config(
            output_dir=str(tmp_path / "out"),
            max_steps=1,
            per_device_train_batch_size=2,
            max_length=320,  # the end is cut off, and the answer comes after a prompt of some 250 tokens
            model_init_kwargs={"dtype": "float32"},  # bfloat16 is slow on a CPU
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
        ),
        train_dataset=data.select(range(2)),
        peft_config=peft.LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    result = trainer.train()
    assert result.global_step == 1
    assert np.isfinite(result.training_loss)
    moved = [n for n, p in trainer.model.named_parameters() if n in before and not torch.equal(p.detach(), before[n])]
    assert moved
