"""What a judge is asked: one persona, one auction, one answer, and the ad whose click probability is looked at."""

from __future__ import annotations

from typing import NamedTuple

from simenv.markup import outcome
from simenv.records import Ad, Auction, Bid, Outcome, Persona, Query, Traits

PLAIN_ANSWER = "There are several ways to go about this, and it helps to compare a few of them before you decide."
"""The answer where only query and ad are given: it favours no ad."""

NOBODY = Persona(
    id="nobody", info="An adult who uses an AI assistant now and then.", traits=Traits(affinity={"general": 0.0})
)
"""The persona where only query and ad are given. Its taste for the category "general" is 0 for the click model."""


class Case(NamedTuple):
    """One question to a judge."""

    persona: Persona
    auction: Auction
    outcome: Outcome
    ad_id: str
    """The ad in question."""

    def again(self, name: str) -> Case:
        """The same under another auction id, which keys the judge's randomness."""
        return self._replace(auction=self.auction.model_copy(update={"id": f"{self.auction.id}.{name}"}))

    def about(self, ad_id: str) -> Case:
        """The same judgement, looked at for another ad."""
        return self._replace(ad_id=ad_id)


def plain_case(
    key: str, query: str, ad: Ad, sentence: str, *, persona: Persona = NOBODY, auction: Auction | None = None
) -> Case:
    """A neutral answer with one ad at its end.

    Args:
        key: The auction's id.
        query: What the user asked.
        ad: The ad.
        sentence: Its sentence, with {link} where the link stands.
        persona: Who reads it.
        auction: The auction that the ad is a candidate of; by default one with this ad alone.
    """
    auction = auction or Auction(id=key, query=Query(text=query), bids=(Bid(ad=ad, amount=1.0),))
    text = f"{PLAIN_ANSWER} {sentence.replace('{link}', ad.link)}"
    return Case(persona, auction, outcome(auction, text, {bid.ad.id: bid.amount for bid in auction.bids}), ad.id)
