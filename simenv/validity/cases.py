"""Cases for a judge: one persona, one auction, one answer, and the target ad whose click probability is measured."""

from __future__ import annotations

from typing import NamedTuple

from simenv.markup import outcome
from simenv.records import Ad, Auction, Bid, Outcome, Persona, Query, Traits

PLAIN_ANSWER = "There are several ways to go about this, and it helps to compare a few of them before you decide."
"""The answer of cases that consist of only a query and an ad: it favours no ad."""

NEUTRAL_PERSONA = Persona(
    id="nobody", info="An adult who uses an AI assistant now and then.", traits=Traits(affinity={"general": 0.0})
)
"""The persona of cases that consist of only a query and an ad. Its affinity for the category "general" is 0."""


class Case(NamedTuple):
    """One input to a judge."""

    persona: Persona
    auction: Auction
    outcome: Outcome
    ad_id: str
    """The target ad."""

    def again(self, name: str) -> Case:
        """Returns the same case with another auction id, which keys the judge's randomness."""
        return self._replace(auction=self.auction.model_copy(update={"id": f"{self.auction.id}.{name}"}))

    def about(self, ad_id: str) -> Case:
        """Returns the same case with another target ad."""
        return self._replace(ad_id=ad_id)


def plain_case(
    key: str, query: str, ad: Ad, sentence: str, *, persona: Persona = NEUTRAL_PERSONA, auction: Auction | None = None
) -> Case:
    """Builds a case: a neutral answer with one ad at its end.

    Args:
        key: The auction's id.
        query: The user's query.
        ad: The ad.
        sentence: Its sentence, with {link} in place of the link.
        persona: The reader of the answer.
        auction: The auction in which the ad is a candidate; by default one with this ad alone.
    """
    auction = auction or Auction(id=key, query=Query(text=query), bids=(Bid(ad=ad, amount=1.0),))
    text = f"{PLAIN_ANSWER} {sentence.replace('{link}', ad.link)}"
    return Case(persona, auction, outcome(auction, text, {bid.ad.id: bid.amount for bid in auction.bids}), ad.id)
