"""What a judge of one's own may be, and what happens when it fails."""

from __future__ import annotations

import pytest

from simenv import Auction, Click, Feedback, Outcome, Persona, outcome
from simenv.background_loop import run_sync
from simenv.errors import PlugInFailed
from simenv.judges.base import run_judge
from simenv.judges.ensemble_judge import JudgeEnsemble
from simenv.market.bidders import BidRequest
from simenv.testing import ADS, PERSONAS, small_world
from tests.support.auctions import small_auction
from tests.support.fakes import ConstantJudge

AUCTION = small_auction(2)
ANSWER = outcome(AUCTION, f"Take {ADS[0].link} or {ADS[1].link}.", {ad.id: 5.0 for ad in ADS})


class PlainJudge:
    """A plain `def` that clicks everything."""

    name = "plain"

    def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        return Feedback(clicks=tuple(Click(ad_id=p.ad_id, clicked=True) for p in outcome.placements))


class FakeBrokenJudge(PlainJudge):
    name = "broken"

    def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        raise ValueError("boom")


class FakeForeignJudge(PlainJudge):
    name = "foreign"

    def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        return super().judge(persona, auction, outcome).clicks  # type: ignore[return-value]


class FakeUnorderedJudge(PlainJudge):
    name = "unordered"

    def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        return Feedback(clicks=super().judge(persona, auction, outcome).clicks[::-1])


def test_a_judge_may_be_a_plain_function() -> None:
    feedback = run_sync(run_judge, PlainJudge(), PERSONAS[0], AUCTION, ANSWER)
    assert [(click.ad_id, click.clicked) for click in feedback.clicks] == [(ADS[0].id, True), (ADS[1].id, True)]
    both = run_sync(run_judge, JudgeEnsemble([PlainJudge(), ConstantJudge()]), PERSONAS[0], AUCTION, ANSWER)  # type: ignore[list-item]
    assert [click.click_prob for click in both.clicks] == [pytest.approx(0.65)] * 2


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (FakeBrokenJudge(), r"judge 'broken' raised ValueError: boom \(.*test_base.py:\d+\) on auction small.2"),
        (FakeForeignJudge(), "judge 'foreign' returned tuple, expected a Feedback"),
        (
            FakeUnorderedJudge(),
            r"judge 'unordered' gives clicks of \['ad-2', 'ad-1'\] for an answer that shows \['ad-1'",
        ),
    ],
)
def test_a_judge_that_fails_is_named(judge: PlainJudge, message: str) -> None:
    with pytest.raises(PlugInFailed, match=message):
        run_sync(run_judge, judge, PERSONAS[0], AUCTION, ANSWER)


def test_a_bidder_that_returns_text_is_named() -> None:
    class FakeTextBidder:
        name = "words"

        def bid(self, request: BidRequest) -> float:
            return "much"  # type: ignore[return-value]

    world = small_world(bidder=FakeTextBidder())
    with pytest.raises(PlugInFailed, match="bidder 'words' raised ValueError: could not convert"):
        world.auction(run_sync(world.session, 0, 0), 0)
