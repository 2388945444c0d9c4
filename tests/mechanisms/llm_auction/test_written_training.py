"""A whole training in the written format: fine-tuning, the choice of ads, single sentences, whole answers.

The tiny random model writes no sentences, so a fake sampler gives the texts. Their log-probabilities, the clicks, the
reward model and the updates are real.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from mechanisms.llm_auction import intent, sampling, sft, train
from mechanisms.llm_auction.folder import parse
from mechanisms.llm_auction.irpo import Config, update
from mechanisms.llm_auction.label_choice import Chosen, LabelChoices
from mechanisms.llm_auction.levels import Episode, Group, Level, Pages
from mechanisms.llm_auction.sentence_choice import Sentence, SentenceChoices
from mechanisms.llm_auction.train import Training
from mechanisms.llm_auction.written import SAMPLING, Page, Written, page
from simenv.llm import Sampling
from tests.support.auctions import make_auction
from tests.support.tiny_training import QUIET, SMALL

pytestmark = pytest.mark.weights

SMALLER = {"auctions": 4, "clicked_auctions": 2, "validation": 1}
STAGES = {
    "sentence_kl_weight": 1.0,
    "epochs": 3,
    "stages": ["labels", "answers", "sentences"],
    "anchor": 0.05,
    "sft_auctions": 2,
    "samples": 3,
}


def fake_sample(_: object, pages: Sequence[tuple[str, Page]], count: int, *__: object) -> list[list[Written]]:
    """`count` of three fixed texts with the first ad that is left, for each page."""
    drawn = []
    for _, asked in pages:
        link = next(iter(asked.links().links))
        whole = [
            Written(f"Walk a mile. {link}: Here. Run."),
            Written(f"Go. As for it, {link}: Here."),
            Written("Go on."),
        ]
        rest = [
            Written(f" {link}: Here."),
            Written(f" As for it, {link}: Here."),
            Written(" Then run. It", ended=False),
        ]
        texts = rest if asked.prompt.prefill else whole
        drawn.append([texts[i % 3] for i in range(count)])
    return drawn


def options(tiny: Path) -> Config:
    return parse(Config, {**SMALL, **STAGES, **SMALLER, "level": "written", "llm": f"local:{tiny}"})


def folder_with_examples(folder: Path) -> Path:
    folder.mkdir()
    auction = make_auction([90.0, 20.0, 55.0])
    sft.save(
        [sft.Example("auction", page(auction), Written(f"Walk. {auction.bids[0].ad.link}: Here."))],
        folder / "sft.jsonl",
    )
    return folder


def test_epochs_are_compared_by_answers_as_the_mechanism_gives_them(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: dict[str, Sampling] = {}

    def noted(policy: object, pages: Sequence[tuple[str, Page]], count: int, how: Sampling, key: str) -> Any:
        asked_for[key] = how
        return fake_sample(policy, pages, count)

    monkeypatch.setattr(sampling, "sample", noted)
    config = options(tiny).model_copy(update={"validation": 4, "plain_share": 0.5, "plain_ad_cost": 1000.0})
    run = Training(config, tmp_path / "new", QUIET)
    facts = run._sampled_facts()
    assert asked_for == {"validation": SAMPLING}
    assert facts["ads"] == 1.0
    assert -500.0 < float(facts["reward"] or 0.0) < -400.0  # every second answer has an ad that costs 1000
    run.level.respond(run.held_out, 1, "preferences")
    assert asked_for["preferences"].temperature == config.temperature == 1.0 != SAMPLING.temperature


def test_the_stages_follow_each_other_and_an_interrupted_one_is_resumed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "sample", fake_sample)
    levels: list[type[Level]] = []

    def interrupted(level: Level, *rest: Any) -> float | None:
        if isinstance(level, SentenceChoices) and levels.count(SentenceChoices) == 1:
            raise KeyboardInterrupt
        return noted(level, *rest)

    def noted(level: Level, *rest: Any) -> float | None:
        levels.append(type(level))
        (given,) = (one for one in rest if isinstance(one, Config))
        assert given.kl_weight == (1.0 if isinstance(level, SentenceChoices) else 5.0)
        return update(level, *rest)

    config = options(tiny)
    monkeypatch.setattr(train, "update", interrupted)
    cut, whole = folder_with_examples(tmp_path / "cut"), folder_with_examples(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        Training(config, cut, QUIET).run()
    monkeypatch.setattr(train, "update", noted)
    Training(config, cut, QUIET).run()
    steps = config.steps_per_epoch
    assert levels == [LabelChoices] * steps + [Pages] * steps + [SentenceChoices] * steps
    run = Training(config, whole, QUIET)
    run.run()
    assert [row["epoch"] for row in run.state["curve"]] == [0, 1, 2, 3, 4]  # untrained, fine-tuned, three of IRPO
    assert all(row["used"] == steps for row in run.state["curve"][2:])
    adapters = [load_file(folder / "epochs" / "4" / "adapter_model.safetensors") for folder in (cut, whole)]
    assert all((adapters[0][name] == value).all() for name, value in adapters[1].items())


def test_questions_without_commercial_intent_train_the_choice_of_ads_in_every_epoch(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "sample", fake_sample)
    kinds: list[tuple[bool, type]] = []

    def noted(level: Level, optimizer: Any, batch: Sequence[tuple[Episode, Group]], *rest: Any) -> float | None:
        kinds.extend((episode.plain, type(group.responses[0])) for episode, group in batch if group.responses)
        return update(level, optimizer, batch, *rest)

    monkeypatch.setattr(train, "update", noted)
    config = options(tiny).model_copy(update={"plain_share": 0.5, "plain_ad_cost": 20.0})
    Training(config, folder_with_examples(tmp_path / "new"), QUIET).run()
    assert {kind for plain, kind in kinds if plain} == {Chosen}
    assert {kind for plain, kind in kinds if not plain} == {Chosen, Written, Sentence}
    assert sum(plain for plain, _ in kinds) == len(kinds) / 2


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_training_with_both_kinds_of_questions_writes_their_classifier(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(sampling, "sample", fake_sample)
    run = Training(options(tiny).model_copy(update={"plain_share": share}), tmp_path / "out", QUIET)
    run._validate(None)  # as after every epoch
    written = [(tmp_path / "out" / folder / intent.FILE).is_file() for folder in ("", "epochs/0")]
    assert written == [share > 0] * 2
