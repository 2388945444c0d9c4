"""Conversions: what users do after a click, such as a purchase. An optional stage; without it nothing changes.

    P(conversion | click) = sigmoid(logit(rate) + relevance (cosine - 0.4) / 0.15 + affinity * taste
                                    - price * price_sensitivity * log10(amount / 30))

cosine is the retriever's relevance of the ad to the query, taste the persona's named affinity for the ad's category (0
if it names none), amount the largest price in the ad's copy (the term is 0 if the copy names none). A user who clicked
an ad that fits the question, and who can pay the price, buys more often. The form is ours: a logistic regression on
three properties that the click model also uses; no data stand behind its default weights.

A conversion is worth value per click / rate to the advertiser, so that clicks that convert at the base rate are worth
what they were worth before. Bids, answers, clicks and payments do not depend on this stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from simenv.errors import InputError
from simenv.judges import ad_copy
from simenv.records import Auction, Bid, Click, Feedback, Persona
from simenv.seeding import keyed_rng

_CENTRE, _SCALE = 0.4, 0.15
"""Cosine of a candidate as relevant as most that are shown, and the difference that counts as one step."""


@dataclass(frozen=True)
class Conversions:
    """The conversion stage.

    Raises:
        InputError: a rate outside (0, 1), or a weight that is negative or not finite.
    """

    rate: float
    """Base rate: conversions per click for an ad of ordinary relevance, without named taste and price."""
    relevance: float = 0.5
    """Log-odds for each 0.15 of cosine above 0.4."""
    price: float = 1.0
    """Log-odds that a tenfold price costs with a persona of price sensitivity 1."""
    affinity: float = 0.5
    """Log-odds of a full taste for the ad's category."""

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise InputError(f"conversions per click must be above 0 and below 1, got {self.rate}")
        for name in ("relevance", "price", "affinity"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"the weight {name} of conversions must be at least 0, got {getattr(self, name)}")

    def prob(self, persona: Persona, bid: Bid) -> float:
        """Probability that this user's click on this ad converts."""
        traits, ad = persona.traits, bid.ad
        odds = math.log(self.rate / (1 - self.rate))
        odds += self.relevance * (bid.relevance - _CENTRE) / _SCALE
        odds += self.affinity * traits.affinity.get(ad.category, 0.0)
        odds -= self.price * traits.price_sensitivity * ad_copy.log_amount(ad_copy.offer(ad))
        return 1 / (1 + math.exp(-odds))

    def after(self, persona: Persona, auction: Auction, feedback: Feedback, values: Mapping[str, float]) -> Feedback:
        """Adds to each click whether it converts, with which probability, and what that is worth.

        Draws are keyed by auction and ad: under all mechanisms, the same user who clicks the same ad converts or not.

        Args:
            persona, auction, feedback: The user, the auction and the judge's feedback.
            values: Private value per click of every candidate: ad id -> currency.
        """

        def converted(click: Click) -> Click:
            prob = self.prob(persona, auction.bid_of(click.ad_id))
            drawn = bool(keyed_rng("conversion", auction.id, click.ad_id).random() < prob)
            stage = {
                "conversion_prob": prob,
                "converted": None if click.clicked is None else click.clicked and drawn,
                "conversion_value": values[click.ad_id] / self.rate,
            }
            return click.model_copy(update=stage)

        return feedback.model_copy(update={"clicks": tuple(map(converted, feedback.clicks))})
