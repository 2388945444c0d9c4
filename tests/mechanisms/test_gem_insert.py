"""GEM-Bench's pipelines: which ad is inserted where, and what it pays."""

from __future__ import annotations

import asyncio
import re

import numpy as np
import pytest

from mechanisms.gem_insert import GemInsert
from simenv import check_mechanism, markup
from simenv.errors import ClaimViolated, InputError
from simenv.llm import Request, ScriptedLLM
from simenv.mechanism import run_mechanism
from simenv.records import Auction, Outcome
from simenv.testing import FakeEncoder
from simenv.writer.gaps import gaps
from tests.support.auctions import small_auction

AUCTION = small_auction(6, max_ads=1)
ANSWER = "Look for a waterproof membrane. Boots should fit with thick socks. Break them in on short trails."


def model(answer: str = ANSWER) -> ScriptedLLM:
    """A fake model with one answer, which smooths by a phrase before the link."""

    def reply(request: Request) -> str:
        if request.key[1] == "answer":
            return answer
        text = request.prompt.user.rpartition("The answer:\n")[2].strip()
        return re.sub(r"One option worth a look is (@[^]]*\])", r"For that there is \1", text)

    return ScriptedLLM(reply, follows_formats=True, capabilities=frozenset())


def run(auction: Auction = AUCTION, llm: ScriptedLLM | None = None, **options) -> Outcome:
    return asyncio.run(run_mechanism(GemInsert(llm or model(), encoder=FakeEncoder(), **options), auction))


@pytest.mark.parametrize("retrieve", ["answer", "prompt"])
@pytest.mark.parametrize("top", [1, 3, 5])
def test_the_pair_of_ad_and_place_that_breaks_least_by_brute_force(retrieve: str, top: int) -> None:
    encoder = FakeEncoder()
    cuts = gaps(ANSWER)
    pieces = encoder.encode([ANSWER[a:b].strip() for a, b in zip([0, *cuts], [*cuts, len(ANSWER)], strict=True)])
    ads = [bid.ad for bid in AUCTION.bids]
    vectors = encoder.encode([ad.text for ad in ads])
    near = {ad.id: float(v @ encoder.encode([ANSWER])[0]) for ad, v in zip(ads, vectors, strict=True)}
    if retrieve == "prompt":
        near = {bid.ad.id: bid.relevance for bid in AUCTION.bids}
    retrieved = sorted(range(len(ads)), key=lambda i: -near[ads[i].id])[:top]
    costs = {
        (i, g): pieces[g] @ pieces[g + 1] - (vectors[i] @ pieces[g] + vectors[i] @ pieces[g + 1]) / 2
        for i in retrieved
        for g in range(len(cuts))
    }
    best, gap = min(costs, key=lambda pair: costs[pair])
    made = run(retrieve=retrieve, top=top)
    assert [p.ad_id for p in made.placements] == [ads[best].id]
    assert made.placements[0].price == AUCTION.bids[best].amount
    assert made.response.startswith(ANSWER[: cuts[gap]] + " One option worth a look is @")
    assert made.response.endswith(ANSWER[cuts[gap] :])
    assert (made.violations, made.details, made.usage.calls) == ((), {}, 1)


def test_smoothing_is_one_more_call_and_the_log_says_whether_it_was_kept() -> None:
    made = run(smooth=True)
    assert (made.details, made.usage.calls) == ({"smoothed": True}, 2)
    assert "For that there is @" in made.response
    made = run(smooth=True, llm=ScriptedLLM())
    assert made.details == {"smoothed": False}
    assert [p.ad_id for p in made.placements] == [p.ad_id for p in run(llm=ScriptedLLM()).placements]


def test_no_ad_where_none_is_free_bids_or_reaches_the_reserve() -> None:
    for changed in ({"max_ads": 0}, {"reserve": 1000.0}, {"bids": ()}):
        assert run(AUCTION.model_copy(update=changed)).placements == ()


def test_an_answer_of_one_sentence_gets_the_most_similar_ad_at_its_end() -> None:
    made = run(llm=model("Look for a waterproof membrane."), retrieve="prompt")
    assert [p.ad_id for p in made.placements] == [AUCTION.bids[0].ad.id]
    assert made.response.startswith("Look for a waterproof membrane. One option")


def test_bids_choose_nothing() -> None:
    low = AUCTION.model_copy(
        update={"bids": tuple(bid.model_copy(update={"amount": bid.amount / 2}) for bid in AUCTION.bids)}
    )
    assert run(low).response == run().response


class Overcharges(GemInsert):
    """A planted error: 5% more than the price."""

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        made = await super().run(auction, rng)
        prices = {p.ad_id: 1.05 * p.price for p in made.placements}
        return markup.outcome(auction, made.response, prices)


def test_a_price_above_the_rule_is_caught() -> None:
    with pytest.raises(ClaimViolated, match="individually_rational"):
        check_mechanism(Overcharges(ScriptedLLM(), encoder=FakeEncoder()), auctions=4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retrieve": "ads"}, "retrieve must be one of answer, prompt, got 'ads'"),
        ({"top": 0}, "top must be a number of ads, 1 or more, got 0"),
        ({"top": True}, "top must be a number of ads, 1 or more, got True"),
    ],
)
def test_wrong_options_are_refused(options, said: str) -> None:
    with pytest.raises(InputError, match=said):
        GemInsert(ScriptedLLM(), **options)
