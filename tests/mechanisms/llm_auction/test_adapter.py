"""The trained adapter that ships: one call writes the whole answer."""

from __future__ import annotations

import hashlib
import json
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mechanisms.llm_auction.adapter_files import SHIPPED, changes_of
from mechanisms.llm_auction.folder import parse
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.levels import episodes
from mechanisms.llm_auction.mechanism import LLMAuction
from mechanisms.llm_auction.part_auctions import part_world
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.reward_model import PredictedCTR, load
from mechanisms.llm_auction.slim import LABELS, digits
from mechanisms.llm_auction.train import FREE
from mechanisms.llm_auction.written import page
from simenv import make_llm, make_mechanism
from simenv.background_loop import run_sync
from simenv.encoder import default_encoder
from simenv.errors import DataFileError, InputError
from simenv.llm import LLM, OneOf, Prompt, ScriptedLLM
from simenv.llm.cassette import Cassette, CassetteLLM
from simenv.llm.local import LocalLLM
from simenv.llm.weights import embedded_path
from simenv.market.catalog import load_catalog
from simenv.mechanism import run_mechanism
from simenv.records import Auction, Outcome
from simenv.runs.folder import records_hash
from simenv.users.personas import load_personas
from tests.support.auctions import make_auction
from tests.support.paths import ROOT


@pytest.mark.weights
def test_the_adapter_that_ships_is_what_its_manifest_says_and_chooses_by_bid_and_relevance() -> None:
    """At a link behind the first sentence, in eight auctions of held-out users and ads; exact, no sampling."""
    manifest = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))
    weights = (SHIPPED / "adapter_model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == manifest["adapter_sha256"]
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 5_000_000
    config = Config.model_validate(manifest["config"])
    pctr = PredictedCTR(load(SHIPPED, default_encoder()))
    auctions = [episode.auction for episode in episodes(part_world("test", config, 6), 8, 0)]
    policy = AdaptedLLM(embedded_path(), SHIPPED)

    def probabilities(auction: Auction) -> dict[str, float]:
        asked = page(auction, shown=digits(auction, config.score, pctr))
        with torch.no_grad():
            (table,) = policy.label_logps([(asked, ["Here is what I know. As for this,"])])
        return dict(zip([ad.id for ad in asked.ads], table[0, :-1].exp().tolist(), strict=True))

    worth = best = 0.0
    chances = {1.0: 0.0, 100.0: 0.0}
    for auction in auctions:
        worths = {bid.ad.id: bid.amount * bid.relevance for bid in auction.bids}
        worth += sum(prob * worths[ad] for ad, prob in probabilities(auction).items())
        best += max(worths.values())
        relevant = max(auction.bids, key=lambda bid: bid.relevance).ad.id
        for amount in chances:
            bids = [b.model_copy(update={"amount": amount}) if b.ad.id == relevant else b for b in auction.bids]
            chances[amount] += probabilities(auction.model_copy(update={"bids": tuple(bids)}))[relevant]
    assert worth > 0.8 * best
    assert chances[100.0] > 10 * chances[1.0]


def test_its_options_are_those_of_the_example() -> None:
    manifest = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))
    options = tomllib.loads((ROOT / "examples" / "train_written.toml").read_text(encoding="utf-8"))
    trained, example = Config(**manifest["config"]), parse(Config, options)
    assert example.model_dump(exclude={*FREE}) == trained.model_dump(exclude={*FREE})


@pytest.mark.weights
def test_the_embedded_mechanism_writes_an_answer_in_one_call_under_a_name_of_its_own(tmp_path: Path) -> None:
    auction = make_auction([90.0, 5.0], [0.5, 0.5])
    file = tmp_path / "texts.jsonl"

    def run(llm: LLM, **options: Any) -> Outcome:
        return run_sync(run_mechanism, make_mechanism("llm_auction", context={"llm": llm}, **options), auction, 0)

    made = run(CassetteLLM(Cassette(file, "record"), make_llm("embedded")))
    assert made.usage.calls == 1
    assert [p.ad_id for p in made.placements][:1] == [auction.bids[0].ad.id]
    (call,) = [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()]
    assert "embedded with adapter" in json.dumps(call)
    assert run(CassetteLLM(Cassette(file, "replay"), name="embedded")).response == made.response
    with pytest.raises(InputError, match="an adapter needs a model on this machine"):
        run(CassetteLLM(Cassette(file, "cache"), ScriptedLLM()), adapter=str(SHIPPED), format="written")


def test_another_format_has_no_adapter(embedded: LocalLLM) -> None:
    used = {name: LLMAuction(embedded, format=name).policy.name for name in ("auto", "slim", "json")}
    assert used["slim"] == used["json"] == "embedded" != used["auto"]


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no adapter"):
        make_mechanism("llm_auction", context={"llm": ScriptedLLM()}, adapter=str(tmp_path), format="slim")


def test_it_was_trained_on_the_packs_that_ship() -> None:
    manifest = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["data_sha256"] == {
        "catalog": records_hash(load_catalog()),
        "personas": records_hash(load_personas()),
    }


@pytest.mark.weights
def test_both_runtimes_give_a_choice_the_same_probability(embedded: LocalLLM) -> None:
    """The update is added to the weights on onnxruntime, and computed beside them on transformers."""
    options = OneOf(options=tuple(" " + label for label in LABELS[:4]))
    prompt = Prompt(user="Choose a letter.", prefill="I choose")
    changed = LocalLLM(embedded.folder, runtime="onnx", changes=changes_of(SHIPPED, embedded.folder))
    policy = AdaptedLLM(embedded.folder, SHIPPED)
    policy._model.float()
    plain, there, here = (
        run_sync(partial(llm.logprob, prompt, options.options, constraint=options))
        for llm in (embedded, policy, changed)
    )
    assert [sum(row) for row in here] == pytest.approx([sum(row) for row in there], abs=1e-4)
    assert [sum(row) for row in here] != pytest.approx([sum(row) for row in plain], abs=1e-2)
