"""The trained adapter that ships."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mechanisms.llm_auction.adapter_files import SHIPPED, changes_of
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.levels import Links, episodes
from mechanisms.llm_auction.part_auctions import part_world
from mechanisms.llm_auction.policy import AdaptedLLM, cell
from mechanisms.llm_auction.slim import LABELS, offer
from simenv import make_llm, make_mechanism
from simenv.background_loop import run_sync
from simenv.errors import DataFileError, InputError
from simenv.llm import LLM, OneOf, Prompt, ScriptedLLM
from simenv.llm.cassette import Cassette, CassetteLLM
from simenv.llm.local import LocalLLM
from simenv.llm.weights import embedded_path
from simenv.market.catalog import load_catalog
from simenv.runs.folder import records_hash
from simenv.users.personas import load_personas
from tests.support.auctions import make_auction


@pytest.mark.weights
def test_the_adapter_that_ships_is_what_its_manifest_says_and_prefers_high_bids() -> None:
    """In eight auctions of held-out users and ads; exact, no sampling."""
    file = SHIPPED / "adapter_model.safetensors"
    manifest = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == manifest["adapter_sha256"]
    assert file.stat().st_size < 5_000_000
    drawn = episodes(part_world("test", Config(), 6), 8, 0)
    revenue = {}
    for name, folder in {"trained": SHIPPED, "untrained": None}.items():
        policy = Links(AdaptedLLM(embedded_path(), folder))
        revenue[name] = 0.0
        for episode, logs in zip(drawn, policy.distributions(drawn), strict=True):
            probs = logs.exp()
            worth = [bid.amount * bid.relevance for bid in episode.offer.bids]
            revenue[name] += sum(
                float(probs[cell(choice, len(worth))]) * sum(worth[i] for i in choice)
                for choice in episode.offer.choices()
            )
    assert revenue["trained"] > 1.2 * revenue["untrained"]


@pytest.mark.weights
def test_it_is_what_the_embedded_mechanism_uses(embedded: LocalLLM) -> None:
    auction = make_auction([90.0, 5.0], [0.5, 0.5])
    first = {}
    for name, options in {"trained": {}, "untrained": {"adapter": "none"}}.items():
        mechanism: Any = make_mechanism("llm_auction", context={"llm": embedded}, **options)
        chances = run_sync(mechanism.distribution, offer(auction))
        first[name] = sum(prob for choice, prob in chances.items() if choice[:1] == (0,))
    assert first["trained"] > first["untrained"]


@pytest.mark.weights
def test_it_goes_through_a_cassette_under_a_name_of_its_own(tmp_path: Path) -> None:
    auction = make_auction([90.0, 5.0], [0.5, 0.5])
    file = tmp_path / "texts.jsonl"

    def chances(llm: LLM, **options: Any) -> Any:
        mechanism: Any = make_mechanism("llm_auction", context={"llm": llm}, **options)
        return run_sync(mechanism.distribution, offer(auction))

    made = chances(CassetteLLM(Cassette(file, "record"), make_llm("embedded")))
    assert made == chances(make_llm("embedded"))
    # To replay needs a completion of the base model too, as a whole answer has.
    untrained = chances(CassetteLLM(Cassette(file, "cache"), make_llm("embedded")), adapter="none")
    assert untrained != made
    assert made == chances(CassetteLLM(Cassette(file, "replay"), name="embedded"))
    with pytest.raises(InputError, match="an adapter needs a model on this machine"):
        chances(CassetteLLM(Cassette(file, "cache"), ScriptedLLM()), adapter=str(SHIPPED), format="slim")


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
