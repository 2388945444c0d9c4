"""The written format: one call writes the answer with its ads. On a tiny random model with the embedded tokenizer."""

from __future__ import annotations

import asyncio
import gc
import shutil
import weakref
from pathlib import Path

import pytest
import torch

from mechanisms.llm_auction.levels import Episode, Pages
from mechanisms.llm_auction.mechanism import LLMAuction
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.sampling import sample, sample_pages
from mechanisms.llm_auction.slim import LABELS, offer
from mechanisms.llm_auction.written import Page, TunedWriter, Written, ads_at_end, page, read, winners_page
from simenv import markup
from simenv.background_loop import run_sync
from simenv.errors import MissingCapability
from simenv.llm import PLAIN, Completion, LabelledLinks, Sampling, ScriptedLLM
from simenv.mechanism import run_mechanism
from simenv.records import Auction, Persona
from simenv.testing import PERSONAS
from simenv.writer.copy_check import own_words
from tests.support.auctions import make_auction
from tests.support.tiny_training import shaken

pytestmark = pytest.mark.weights

AUCTION = make_auction([90.0, 20.0, 55.0])
SHORT = Sampling(temperature=1.0, top_p=1.0, top_k=None, max_tokens=24)


@pytest.fixture(scope="module")
def policy(tiny: Path) -> AdaptedLLM:
    policy = shaken(tiny)
    bias = torch.zeros(policy.model.config.vocab_size)
    bias[policy.opener] = 10.5  # a random model opens a link once in 49,152 tokens
    policy.model.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
    return policy


def texts_of(
    policy: AdaptedLLM, count: int, *, required: bool = False, begun: str = "", auction: Auction = AUCTION
) -> list[Completion]:
    asked = page(auction).behind(begun)

    async def write() -> list[Completion]:
        return [
            await policy.complete(asked.prompt, key=("t", j), sampling=SHORT, constraint=asked.links(required=required))
            for j in range(count)
        ]

    return asyncio.run(write())


def test_the_prompt_lists_the_candidates_with_their_bids_and_copy() -> None:
    asked = page(AUCTION)
    lines = asked.prompt.user.splitlines()
    assert lines[0] == "Ads:"
    for label, bid in zip(LABELS, AUCTION.bids, strict=False):
        line = next(line for line in lines if line.startswith(f"{label} "))
        assert f"{bid.ad.title}: " in line
    request = lines.index(f"Request: {AUCTION.query.text}")
    assert lines[request + 1] == "Values:"
    assert [line[0] for line in lines[request + 2 :]] == ["A", "B", "C"]
    assert "Values:" not in winners_page(AUCTION, [AUCTION.bids[0].ad]).prompt.user
    assert "Bid" not in asked.prompt.user
    bare = page(AUCTION, show_bids=False, profile=False).prompt.user
    assert not any(line.endswith(f" {label}") for label in "ABC" for line in bare.splitlines())
    assert "User:" not in bare
    assert winners_page(AUCTION, [AUCTION.bids[2].ad]).ads == (AUCTION.bids[2].ad,)
    nines = {bid.ad.id: " 9" for bid in AUCTION.bids}
    assert sum(" 9" in line for line in page(AUCTION, shown=nines).prompt.user.splitlines()) == 3


def test_labels_become_links_and_every_link_is_whole(policy: AdaptedLLM) -> None:
    replies = texts_of(policy, 24)
    shown = [markup.parse(reply.text, AUCTION) for reply in replies]
    assert sum(len(links) for links, _ in shown) > 10
    for reply, (links, violations) in zip(replies, shown, strict=True):
        assert not [v for v in violations if v.kind != "leaked_process"]
        assert reply.text.count("@[") == len(links)  # each at most once
        assert len(reply.tokens) == len(reply.logprobs or ())
    assert any(len(reply.tokens) > SHORT.max_tokens for reply in replies)  # a link at the limit is written to its end


def test_no_answer_begins_with_a_link(tiny: Path) -> None:
    policy = shaken(tiny)
    eager = torch.zeros(policy.model.config.vocab_size)
    (newline,), (word,) = policy.token_table.encode("\n"), policy.token_table.encode(" walk")
    eager[[policy.opener, newline, word]] = torch.tensor([30.0, 28.0, 28.0])  # other tokens have no chance
    policy.model.lm_head.bias = torch.nn.Parameter(eager, requires_grad=False)
    asked = page(AUCTION)
    for texts in ([reply.text for reply in texts_of(policy, 6)], *_sampled(policy, asked)):
        assert any("@[" in text for text in texts)
        assert not any(text.lstrip().startswith("@") for text in texts)
    begun = "Walk."
    for texts in ([reply.text for reply in texts_of(policy, 6, begun=begun)], *_sampled(policy, asked.behind(begun))):
        assert any(text.startswith(" @") for text in texts)  # behind a prefill the text has begun
    with torch.no_grad():
        ((blank, begun),) = policy.label_logps([(asked, ["\n", "Walk."])])
        (log_prob,) = policy.written_logps(asked, [Written(f"\n {AUCTION.bids[0].ad.link}")]).tolist()
    assert blank[-1] == log_prob == -torch.inf
    assert begun[-1] > -1


def _sampled(policy: AdaptedLLM, asked: Page) -> list[list[str]]:
    return [[text.text for text in row] for row in sample_pages(policy, [asked], 6, SHORT, "test")]


def test_all_required_links_are_there_before_the_end(policy: AdaptedLLM) -> None:
    for reply in texts_of(policy, 12, required=True):
        links, _ = markup.parse(reply.text, AUCTION)
        assert len(links) == AUCTION.max_ads or reply.finish == "length"


def test_an_answer_shows_no_more_ads_than_are_free(policy: AdaptedLLM) -> None:
    first, second = (bid.ad.link for bid in AUCTION.bids[:2])
    for most in (0, 1, 2):
        auction = AUCTION.model_copy(update={"max_ads": most})
        asked = page(auction)
        for texts in ([reply.text for reply in texts_of(policy, 12, auction=auction)], *_sampled(policy, asked)):
            assert max(text.count("@[") for text in texts) == most
        behind = asked.behind(f"Walk. {first} helps.").links()
        assert behind.most == max(0, most - 1)
        assert first not in behind.links
    one = page(AUCTION.model_copy(update={"max_ads": 1}))
    with torch.no_grad():
        two_ads = policy.written_logps(one, [Written(f"Walk. {first} {second}")])
        ((row,),) = policy.label_logps([(one, [f"Walk. {first}"])])
    assert two_ads.item() == -torch.inf
    assert not torch.isfinite(row[:3]).any()


def test_training_sees_the_probability_that_decoding_samples_with(policy: AdaptedLLM) -> None:
    asked = page(AUCTION)
    replies = [reply for reply in texts_of(policy, 24) if "@[" in reply.text]
    same = [
        reply
        for reply in replies
        if policy.written_tokens(asked, Written(reply.text, reply.finish == "stop"))
        == policy.token_table.ids_of(reply.tokens)
    ]  # a random model writes texts that are tokenized in another way when they are read again
    assert len(same) >= 3
    with torch.no_grad():
        ours = policy.written_logps(asked, [Written(r.text, r.finish == "stop") for r in same]).tolist()
    assert ours == pytest.approx([sum(r.logprobs or ()) for r in same], abs=2e-3)


def test_a_changed_adapter_frees_the_weights_of_the_one_before(tiny: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_pretrained(tiny)
    config.head_dim = 16  # onnxruntime needs this
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    policy = AdaptedLLM(tmp_path, r=2)
    sample(policy, [("auction", page(AUCTION))], 2, SHORT, "test")
    run_sync(lambda: asyncio.sleep(0.5))  # the model's own task ends a moment after its last text
    before = weakref.ref(policy.on_onnx())
    with torch.no_grad():
        next(iter(policy.trained.values())).add_(1.0)
    gc.disable()
    try:
        sample(policy, [("auction", page(AUCTION))], 2, SHORT, "test")
        assert before() is None
    finally:
        gc.enable()


def test_many_are_sampled_at_once_by_the_same_rules(policy: AdaptedLLM) -> None:
    pages = [page(AUCTION), winners_page(AUCTION, [AUCTION.bids[1].ad])]
    rows = sample_pages(policy, pages, 6, SHORT, "test")
    assert [len(row) for row in rows] == [6, 6]
    assert rows == sample_pages(policy, pages, 6, SHORT, "test")
    assert rows != sample_pages(policy, pages, 6, SHORT, "other")
    for asked, row in zip(pages, rows, strict=True):
        links = [ad.link for ad in asked.ads]
        for text in row:
            found = markup.parse(text.text, AUCTION)
            assert not [v for v in found.violations if v.kind != "leaked_process"]
            assert all(text.text.count(link) <= 1 for link in links)
            assert set(found.links) <= {ad.id for ad in asked.ads}
    assert sum("@[" in text.text for row in rows for text in row) > 2
    whole = sample_pages(policy, pages[1:], 8, SHORT, "test", required=True)[0]
    assert all("@[" in text.text or not text.ended for text in whole)


def test_what_was_sampled_can_be_learned_from(tiny: Path) -> None:
    policy, asked = AdaptedLLM(tiny, r=2), page(AUCTION)  # a new one: sampling is the first that it does
    (texts,) = sample_pages(policy, [asked], 2, SHORT, "test")
    policy.written_logps(asked, texts).sum().backward()  # type: ignore[no-untyped-call]
    ((row,),) = policy.label_logps([(asked, ["Walk."])])
    row.sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in policy.trained.values() if value.grad is not None)
    assert any(value.grad is not None for value in policy.trained.values())


def test_a_level_of_whole_answers_has_outcomes_at_first_price(policy: AdaptedLLM) -> None:
    level = Pages(policy)
    persona = Persona.model_validate({"id": "p", "info": "x", "traits": {}})
    episode = Episode(persona, AUCTION, offer(AUCTION))
    ad = AUCTION.bids[1].ad
    shown = level.outcome(episode, Written(f"Walk. One option worth a look is {ad.link}: {ad.body} Then walk"))
    assert [(p.ad_id, p.price) for p in shown.placements] == [(ad.id, 20.0)]
    moved = Pages(policy, ads_at_end=True).outcome(episode, Written(f" {ad.link}: {ad.body} Walk far."))
    assert moved.response.startswith("Walk far.")


def test_one_call_whatever_the_number_of_candidates() -> None:
    for n in (1, 4, 16):
        auction = make_auction([50.0] * n)
        llm = ScriptedLLM()
        outcome = asyncio.run(run_mechanism(LLMAuction(llm, format="written"), auction))
        (request,) = llm.requests
        assert isinstance(request.constraint, LabelledLinks)
        assert len(request.constraint.links) == n
        assert all(placement.price == 50.0 for placement in outcome.placements)


def test_a_text_is_read_without_what_its_ad_does_not_say() -> None:
    ad = AUCTION.bids[0].ad
    text = read(AUCTION, Written(f"Walk. {ad.link} cures every illness in 3 days. Rest", ended=False))
    assert "cures" not in text
    assert ad.link in text
    assert not text.endswith("Rest")
    assert ads_at_end(AUCTION, f"{ad.link}: good. Walk.") == f"Walk. {ad.link}: good."


def test_the_tuned_writer_shows_each_winner_once_in_one_call() -> None:
    llm = ScriptedLLM()
    ads = [AUCTION.bids[2].ad, AUCTION.bids[0].ad]
    text = asyncio.run(TunedWriter(llm).with_ads(AUCTION, ads))
    assert all(text.count(ad.link) == 1 for ad in ads)
    assert len(llm.requests) == 1
    silent = asyncio.run(TunedWriter(ScriptedLLM(lambda request: "Walk.")).with_ads(AUCTION, ads))
    assert all(silent.count(ad.link) == 1 for ad in ads)


def test_a_text_that_does_not_answer_gets_a_plain_answer_before_its_ads() -> None:
    """The ads that were chosen are shown: in the model's words where these can be shown."""
    ad = AUCTION.bids[0].ad
    sentence = f"For a product to choose, {ad.link}: {own_words(ad)}"
    asked = AUCTION.query.text
    looping = f"a hot dog a hot dog a hot dog a hot dog. {sentence}"
    assert read(AUCTION, Written(looping)) == ""
    for text, shown in (
        (looping, f"Walk far. {ad.link}: {own_words(ad)}"),
        (sentence, f"Walk far. {sentence}"),
        (f"{asked} {sentence}", f"Walk far. {sentence}"),
    ):
        writers = [TunedWriter(ScriptedLLM([text, "Walk far."])) for _ in range(2)]
        assert asyncio.run(writers[0].own_choice(AUCTION, show_bids=True)) == shown
        assert asyncio.run(writers[1].with_ads(AUCTION, [ad])) == shown
    for text in ("", asked):
        writer = TunedWriter(ScriptedLLM([text, "Walk far."]))
        assert asyncio.run(writer.own_choice(AUCTION, show_bids=True)) == "Walk far."
    whole = TunedWriter(ScriptedLLM([f"Walk. {sentence}"]))
    assert asyncio.run(whole.own_choice(AUCTION, show_bids=True)) == f"Walk. {sentence}"


def test_a_text_that_does_not_answer_earns_nothing_in_training(policy: AdaptedLLM) -> None:
    episode, level = Episode(PERSONAS[0], AUCTION, offer(AUCTION)), Pages(policy)
    sentence = f"One option is {AUCTION.bids[0].ad.link}: {own_words(AUCTION.bids[0].ad)}"
    shown = {
        before: level.outcome(episode, Written(f"{before} {sentence}")) for before in ("Walk.", AUCTION.query.text)
    }
    assert [len(outcome.placements) for outcome in shown.values()] == [1, 0]


def test_texts_are_not_scored_under_labels(policy: AdaptedLLM) -> None:
    with pytest.raises(MissingCapability, match="LabelledLinks"):
        asyncio.run(policy.logprob("Hi", ["a"], sampling=PLAIN, constraint=page(AUCTION).links()))


def test_several_pages_in_one_pass_have_the_same_probabilities(
    policy: AdaptedLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [page(AUCTION), winners_page(AUCTION, [AUCTION.bids[1].ad])]
    batch = list(zip(pages, sample_pages(policy, pages, 4, SHORT, "pass"), strict=True))
    with torch.no_grad():
        alone = policy.written_logps_of(batch)
        monkeypatch.setattr(policy, "_device", torch.device("cpu"))  # no string "cpu": as on a GPU
        together = policy.written_logps_of(batch)
    for one, other in zip(alone, together, strict=True):
        assert one.tolist() == pytest.approx(other.tolist(), abs=2e-3)
