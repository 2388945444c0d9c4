"""Examples for fine-tuning in the written format, and the fine-tuning itself on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mechanisms.llm_auction import sft
from mechanisms.llm_auction.folder import parse
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.levels import Episode
from mechanisms.llm_auction.part_auctions import PLAIN_QUESTIONS
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.slim import offer
from mechanisms.llm_auction.written import Written, page, read
from simenv import make_mechanism, make_writer, markup
from simenv.encoder import default_encoder
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.links import masked_links
from simenv.llm import ScriptedLLM
from simenv.llm.requests import ScoreRequest, Scores
from simenv.records import Persona
from simenv.text import sentence_around, sentences_with_space
from simenv.users.queries import load_queries
from simenv.writer.copy_check import own_words
from tests.support.auctions import make_auction

pytestmark = pytest.mark.weights

PERSONA = Persona.model_validate({"id": "p", "info": "x", "traits": {}})


def episode(number: int) -> Episode:
    auction = make_auction([90.0, 20.0, 55.0]).model_copy(update={"id": f"a-{number}"})
    return Episode(PERSONA, auction, offer(auction))


class FakeLikelihoods(ScriptedLLM):
    """Scores any text, by its length: the filler's own scores are -inf for other texts."""

    async def _score(self, request: ScoreRequest) -> Scores:
        words = len(request.prompt.user.split())
        return Scores(logprobs=tuple((-1.0 - words % 7 / 10,) for _ in request.continuations))


@pytest.fixture(scope="module")
def made() -> list[sft.Example]:
    episodes = [episode(number) for number in range(48)]
    return sft.examples(FakeLikelihoods(), episodes[:42], episodes[42:], profile=True)


def test_examples_have_ads_at_varied_places_and_valid_mark_up(made: list[sft.Example]) -> None:
    kinds = {example.kind for example in made}
    assert {"auction", "winners", "plain"} <= kinds
    places, beginnings = set(), set()
    for example in made:
        auction = make_auction([90.0, 20.0, 55.0])
        links, violations = markup.parse(example.text.text.strip(), auction)
        assert not violations
        assert set(links) <= {ad.id for ad in example.asked.ads}
        assert len(links) == 0 if example.kind == "plain" else len(links) == sft.ADS
        if example.kind == "winners":
            assert set(links) == {ad.id for ad in example.asked.ads}
        for start, end in links.values():
            before = sentence_around(masked_links(example.text.text), (start, end))[0]
            beginnings.add(example.text.text[before:start].strip())
            places.add(before)
    assert len(places) > 3
    assert "" in beginnings  # a sentence about an ad begins with its link
    assert len(beginnings) > 3
    assert all(text.endswith(",") for text in beginnings if text)  # or takes up words of the question
    assert "examples (auction" in sft.summary(made)


@pytest.mark.parametrize("sentence", sft.SENTENCES)
def test_sentences_about_ads_keep_to_the_copy(sentence: str) -> None:
    auction = make_auction([90.0])
    ad = auction.bids[0].ad
    text = f"Walk to the shop. {sentence.format(link=ad.link, words=own_words(ad))}"
    assert read(auction, Written(text)) == text


def test_a_sentence_about_an_ad_may_take_up_words_of_the_question() -> None:
    question = "How do I wash wool at home, by hand? Or not"
    rng = np.random.default_rng(0)
    drawn = {sft._beginning(question, rng) for _ in range(200)}
    topics = {"wash wool", "wash wool at home", "wool at home"}  # no clause has other words that begin and end so
    assert drawn == {one.format(topic=topic) for one in sft.BEGINNINGS for topic in topics}
    assert sft._beginning("Why not?", rng) == ""


def test_sentences_are_woven_in_with_one_space_between_them() -> None:
    pieces = sentences_with_space("Walk to the shop. It is near.\nTake a bag. It rains.")
    text, context = sft.woven(pieces, ["@Kit@[A1] helps.", "Try @Boots@[A2] too."], [1, 2])
    assert text == "Walk to the shop. @Kit@[A1] helps. It is near. Try @Boots@[A2] too. Take a bag. It rains."
    assert [sentence for _, sentence in context] == ["@Kit@[A1] helps.", "Try @Boots@[A2] too."]
    assert context[0][0] == "Walk to the shop."
    assert sft.woven(pieces, ["Last."], [4])[0].endswith("It rains. Last.")
    assert sft.woven(pieces, [], [])[0] == "".join(pieces)


def test_examples_are_kept_in_a_file(made: list[sft.Example], tmp_path: Path) -> None:
    sft.save(made, tmp_path / "sft.jsonl")
    assert sft.load(tmp_path / "sft.jsonl") == made
    (tmp_path / "sft.jsonl").write_text('{"kind": "auction"}\n', encoding="utf-8")
    with pytest.raises(DataFileError, match="not examples for fine-tuning"):
        sft.load(tmp_path / "sft.jsonl")
    ad = made[0].asked.ads[0]
    sft.save([made[0], made[0]._replace(text=Written(f" {ad.link}: good."))], tmp_path / "sft.jsonl")
    with pytest.raises(DataFileError, match="line 2: the answer begins with an ad"):
        sft.load(tmp_path / "sft.jsonl")


def test_fine_tuning_makes_the_examples_more_likely(tiny: Path) -> None:
    policy = AdaptedLLM(tiny, r=2)
    auction = make_auction([90.0, 20.0])
    example = sft.Example("auction", page(auction), Written(f"Walk. {auction.bids[0].ad.link} is near."))
    config = Config(level="written", sft_auctions=4, sft_epochs=6, sft_batch=2, sft_rate=0.05)
    optimizer = torch.optim.AdamW(policy.trained.values(), lr=config.sft_rate)
    said: list[str] = []
    losses = sft.fine_tune(policy, [example] * 4, optimizer, config, said.append)
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.2
    assert said == [f"update 10/12, loss {sum(losses[:10]) / 10:.3f}"]


def test_a_writer_is_a_plug_in(tmp_path: Path) -> None:
    assert type(make_writer("plain", ScriptedLLM())).__name__ == "Writer"
    with pytest.raises(UnknownName, match="known are chat, insert, insert_smooth, plain, tuned"):
        make_writer("fancy", ScriptedLLM())
    with pytest.raises(InputError, match="an adapter needs a model on this machine"):
        make_mechanism("gsp", context={"llm": ScriptedLLM()}, writer="tuned")
    (tmp_path / "manifest.json").write_text(json.dumps({"config": {"level": "links"}}))
    with pytest.raises(InputError, match="is a training of level 'links'"):
        make_writer(f"tuned:{tmp_path}", ScriptedLLM())


def test_options_that_do_not_fit_the_level_are_refused() -> None:
    with pytest.raises(InputError, match="level written needs sft_auctions, for instance 600"):
        parse(Config, {"level": "written"})
    with pytest.raises(InputError, match="sft_auctions, plain_share: only for level written, got level links"):
        parse(Config, {"sft_auctions": 5, "plain_share": 0.5})


@pytest.mark.weights
def test_no_question_of_the_training_is_near_one_of_the_test_pack() -> None:
    """Cosine of the embedded encoder: 0.91 for two wordings of one question, below 0.6 for the kin of a question."""
    packs = [load_queries(PLAIN_QUESTIONS), load_queries("no_commercial_intent")]
    trained, tested = (np.asarray(default_encoder().encode([one.text for one in pack])) for pack in packs)
    assert len(trained) >= 300
    cosines = trained @ tested.T / np.linalg.norm(trained, axis=1)[:, None] / np.linalg.norm(tested, axis=1)
    assert float(cosines.max()) < 0.6
