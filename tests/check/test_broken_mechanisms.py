"""Mechanisms that ship, broken on purpose: each is caught for what is wrong with it."""

from __future__ import annotations

import numpy as np
import pytest

from mechanisms.best_of_n import BestOfN
from mechanisms.first_price import FirstPrice
from mechanisms.genre_vcg import GenreVCG
from mechanisms.gsp import GSP
from mechanisms.mosaic import Mosaic
from mechanisms.position_auction import PositionAuction
from mechanisms.segment import Segment
from mechanisms.softmax import Softmax
from mechanisms.vcg import VCG
from simenv import Auction, Claim, Outcome, check_mechanism, outcome
from simenv.errors import ClaimViolated
from simenv.llm import ScriptedLLM
from simenv.testing import FakeEncoder
from tests.support.broken import Free, Overcharging, Shaded, ShadedGenres, ShadedLama, ShadedPositions


class OtherPropensity(Softmax):
    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        made = await super().run(auction, rng)
        assert isinstance(made.details["propensity"], float)
        return made.model_copy(update={"details": {**made.details, "propensity": 1.5 * made.details["propensity"]}})


class OtherProbabilities(Softmax):
    """Draws at a fifth of the temperature of its lottery, and logs nothing."""

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        made = await Softmax(self._writer.llm, self.ctr_model, self.temperature / 5).run(auction, rng)
        return made.model_copy(update={"details": {}})


class HalfPrices(Segment):
    """Its prices vary for the same answer, and are half of what they must be on average."""

    def draw(self, auction: Auction, *args: object, **options: object) -> dict[str, float]:
        prices = super().draw(auction, *args, **options)  # type: ignore[arg-type]
        return {ad_id: max(auction.reserve, 0.5 * price) for ad_id, price in prices.items()}


class RanksByLowBids(VCG):
    def allocate(self, auction: Auction) -> dict[str, float]:
        bids = tuple(bid.model_copy(update={"amount": max(0.0, 100 - bid.amount)}) for bid in auction.bids)
        won = super().allocate(auction.model_copy(update={"bids": bids}))
        amounts = {bid.ad.id: bid.amount for bid in auction.bids}
        return {ad_id: max(auction.reserve, min(price, amounts[ad_id])) for ad_id, price in won.items()}


class DropsSome(FirstPrice):
    def allocate(self, auction: Auction) -> dict[str, float]:
        prices = super().allocate(auction)
        return {ad_id: price for ad_id, price in prices.items() if not 60 < price < 75}


class ChargesTheUnshown(FirstPrice):
    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        made = await super().run(auction, rng)
        shown = {placement.ad_id for placement in made.placements}
        return made.model_copy(update={"transfers": {b.ad.id: 1e-3 for b in auction.bids if b.ad.id not in shown}})


class PriceOfOwnBid(VCG):
    def allocate(self, auction: Auction) -> dict[str, float]:
        prices = super().allocate(auction)
        return {ad_id: 0.98 * price + 0.02 * auction.bid_of(ad_id).amount for ad_id, price in prices.items()}


class NoReserve(GSP):
    def allocate(self, auction: Auction) -> dict[str, float]:
        prices = super().allocate(auction.model_copy(update={"reserve": 0.0}))
        return {ad_id: max(price, auction.reserve) for ad_id, price in prices.items()}


class DrawsInSilence(GSP):
    claims = GSP.claims | {Claim.MONOTONE_IN_EXPECTATION}

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        made = await super().run(auction, rng)
        return made if rng.random() < 0.5 else outcome(auction, "Nothing.")


class TellsTheBid(BestOfN):
    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        made = await super().run(auction, rng)
        amounts = [f"{auction.bid_of(placement.ad_id).amount:.2f}" for placement in made.placements]
        prices = {placement.ad_id: placement.price for placement in made.placements}
        return outcome(auction, f"{made.response} Worth {' and '.join(amounts)} euros.", prices)


class Remembers(GSP):
    """A reserve learned from the bids of the auctions before."""

    def __init__(self, llm: ScriptedLLM) -> None:
        super().__init__(llm)
        self.seen: dict[str, float] = {}

    def allocate(self, auction: Auction) -> dict[str, float]:
        self.seen.setdefault(auction.id, max([0.0, *(bid.amount for bid in auction.bids)]))
        learned = sum(self.seen.values()) / len(self.seen) / 10
        return super().allocate(auction.model_copy(update={"reserve": max(auction.reserve, learned)}))


class Counts(GSP):
    runs = 0

    def allocate(self, auction: Auction) -> dict[str, float]:
        self.runs += 1
        return super().allocate(auction) if self.runs % 2 else {}


BROKEN = [
    (Overcharging, "not consistent with its lottery: .* a transfer of"),
    (Free, "not consistent with its lottery: .* a transfer of 0, and the lottery"),
    (Shaded, "not truthful_um_in_expectation"),
    (ShadedPositions, "not truthful_um:"),
    (ShadedGenres, "not truthful_um:"),
    (ShadedLama, "not truthful_um_in_expectation"),
    (OtherPropensity, "it logs the propensity"),
    (OtherProbabilities, "number . by probability came"),
    (HalfPrices, "of the bid on average, and the lottery expects"),
    (RanksByLowBids, "not monotone"),
    (DropsSome, "not monotone"),
    (ChargesTheUnshown, "not individually_rational: it charges a transfer to an ad that it does not show"),
    (PriceOfOwnBid, "not truthful_um"),
    (NoReserve, "it shows an ad that bids less than the reserve"),
    (DrawsInSilence, r"has no lottery, so its claim .* cannot be checked \(give it a method lottery"),
    (TellsTheBid, "not bid_free_candidates: the answers contain the bid"),
    (Remembers, "not deterministic: after other auctions"),
    (Counts, "not deterministic: a second run"),
]


@pytest.mark.parametrize(("broken", "said"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN])
def test_a_broken_mechanism_is_caught(broken: type, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encodes = issubclass(broken, PositionAuction | Segment | GenreVCG)
    options: dict[str, object] = {"encoder": FakeEncoder()} if encodes else {}
    if issubclass(broken, Mosaic):
        options = {"samples": 4}
    mechanism = broken(ScriptedLLM(), **options)
    if broken is HalfPrices:
        mechanism.claims = frozenset()
    costly = issubclass(broken, Mosaic | PositionAuction | OtherPropensity)
    if costly:
        monkeypatch.setattr("simenv.check.suite.degenerate_auctions", lambda: iter(()))
    with pytest.raises(ClaimViolated, match=said):
        check_mechanism(mechanism, auctions=5 if costly else 15)


class TellsWithoutClaims(TellsTheBid):
    claims = frozenset()


class ChargesMore(GSP):
    claims = frozenset()

    def allocate(self, auction: Auction) -> dict[str, float]:
        return {ad_id: 1.5 * price for ad_id, price in super().allocate(auction).items()}


class ForgetsLinks(VCG):
    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        made = await super().run(auction, rng)
        return outcome(auction, made.response.replace("[", "(").replace("]", ")"))


@pytest.mark.parametrize(
    ("mechanism", "said"),
    [
        (TellsWithoutClaims, ["its texts contain the bid of an ad that they show in 7 of 7 auctions"]),
        (
            ChargesMore,
            [
                "charges more than the bid in 8 of 24 auctions, as c0 bids 10 and pays 15",
                "charges more than the bid by price and transfer together in 1 of 24 auctions, as c6 bids 19 and pays "
                "26.731",
            ],
        ),
        (
            ForgetsLinks,
            [
                "showed no ad in 8 of 8 auctions that allow one; its texts have 13 x broken_markup "
                "(a text shows an ad where it has its link: copy ad.link exactly)"
            ],
        ),
        (GSP, []),
    ],
)
def test_what_no_claim_forbids_is_a_warning(mechanism: type, said: list[str]) -> None:
    assert list(check_mechanism(mechanism(ScriptedLLM()), auctions=2).warnings) == said


def test_draws_that_were_tested_are_reported() -> None:
    report = check_mechanism(Softmax(ScriptedLLM()), auctions=2)
    assert report.draws == 12 * 20
    assert check_mechanism(GSP(ScriptedLLM()), auctions=2).draws == 0
