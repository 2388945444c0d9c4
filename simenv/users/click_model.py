"""The click model: clicks with known probability, offline and exact.

    p_i = examination_i * attraction_i * nativeness_i * competition_i * flooding

The factorisation into examination and attraction is the examination hypothesis (Richardson, Dominowska, Ragno 2007);
that an ad is read less the more comes before it follows the cascade model (Craswell, Zoeter, Taylor, Ramsey 2008).
The other factors put the judge's criteria of LLM-Auction (section 5.1, step 3) into numbers.

Two terms are hidden from every mechanism: each ad's appeal, and each persona's taste for a category. So no
mechanism's relevance score is the world's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from simenv import markup
from simenv.encoder import Encoder
from simenv.records import Ad, Auction, Click, Feedback, Outcome, Persona, Record
from simenv.seeding import keyed_rng

_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_HARD_SELL = re.compile(
    r"!|\b(?:buy now|act now|hurry|don't miss|limited time|order today|best ever|guaranteed|click here|must[- ]have"
    r"|unbeatable|amazing deal|once in a lifetime)\b|(?-i:\b[A-Z]{4,}(?:\s+[A-Z]{2,})+\b)",
    re.IGNORECASE,
)
_CHEAP = re.compile(
    r"\b(?:free|cheap\w*|budget|low[- ]cost|affordable|discount\w*|under|second[- ]hand|refurbished)\b", re.I
)
_DEAR = re.compile(r"\b(?:premium|luxur\w*|bespoke|hand[- ]?made|high[- ]end|exclusive|flagship|designer)\b", re.I)


class ClickParams(Record):
    """Every number of the click model."""

    # attraction: sigmoid of a sum, so each weight is in log-odds
    base: float = -0.6
    """Log-odds of a click on an examined ad of middling relevance, with no taste either way."""
    relevance_weight: float = 1.1
    """Per `relevance_scale` of cosine above `relevance_centre`."""
    relevance_centre: float = 0.35
    """Cosine of query and ad at which relevance neither helps nor hurts: between the encoder's related (about 0.5)
    and unrelated (about 0.1) pairs."""
    relevance_scale: float = Field(default=0.15, gt=0)
    affinity_weight: float = 0.9
    """Times the persona's hidden affinity to the ad's category, in [-1, 1]."""
    affinity_spread: float = Field(default=0.3, ge=0)
    """Standard deviation of the keyed draw for categories that a persona does not name."""
    appeal_weight: float = 0.6
    """Times the ad's hidden appeal, a standard normal draw."""
    tolerance_weight: float = 1.0
    """Times (ad_tolerance - 0.5)."""
    price_weight: float = 0.8
    """Times price_sensitivity, added for an ad that says it is cheap and subtracted for one that says it is dear."""

    # examination
    depth_loss: float = Field(default=0.7, ge=0, le=1)
    """Share of attention that an impatient reader (patience 0) has lost at the end of the answer."""
    rank_discount: float = Field(default=0.85, ge=0, le=1)
    """Each ad before this one takes this much attention away."""

    # nativeness
    coherence_floor: float = Field(default=0.4, ge=0, le=1)
    """Factor for an ad sentence that has nothing to do with the rest of the answer (cosine 0 or below)."""
    coherence_full: float = Field(default=0.5, gt=0)
    """Cosine of ad sentence and rest of the answer from which on nothing is lost."""
    hard_sell_factor: float = Field(default=0.5, ge=0, le=1)
    """Factor per hard-sell mark in the ad's sentence: exclamation marks, shouting, stock phrases."""

    # competition and flooding
    similar: float = 0.55
    """Ads whose cosine exceeds this compete: they share attention by attraction and at most one is clicked."""
    free_ads: int = Field(default=2, ge=0)
    """Number of ads that annoys nobody."""
    flooding_rate: float = Field(default=0.8, ge=0)
    """Decay per ad beyond that, times (1.5 - ad_tolerance)."""


class ClickModel:
    """A judge whose click probabilities are known.

    Args:
        encoder: For the cosines of query, ads and answer.
        params: The model's numbers.
        world: Names the hidden draws: another name is another world.
    """

    def __init__(self, encoder: Encoder, params: ClickParams | None = None, world: str = "v0") -> None:
        self.params = params or ClickParams()
        self.world = world
        self.name = f"click-model-{world}"
        self._encoder = encoder

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        probs = self.probabilities(persona, auction, outcome)
        groups = self._groups([auction.bid_of(ad_id).ad for ad_id in probs])  # type: ignore[union-attr]
        clicked = {}
        for group in groups:
            # One uniform per group, keyed by auction and ad alone: every mechanism meets the same user's mood.
            uniform = keyed_rng("click", auction.id, min(ad.id for ad in group)).random()
            for ad in group:
                clicked[ad.id] = 0 <= uniform < probs[ad.id]
                uniform -= probs[ad.id]
        return Feedback(clicks=tuple(Click(ad_id=i, clicked=clicked[i], click_prob=prob) for i, prob in probs.items()))

    def probabilities(self, persona: Persona, auction: Auction, outcome: Outcome) -> dict[str, float]:
        """Click probability of every shown ad, in reading order."""
        p = self.params
        ads = [auction.bid_of(placement.ad_id).ad for placement in outcome.placements]  # type: ignore[union-attr]
        if not ads:
            return {}
        if any(fault.kind == "leaked_process" for fault in outcome.faults):
            return {ad.id: 0.0 for ad in ads}  # "leaked ad-process text: click nothing"
        attraction = self._attraction(persona, auction.query.text, ads)
        crowd = math.exp(-p.flooding_rate * (1.5 - persona.traits.ad_tolerance) * max(0, len(ads) - p.free_ads))
        share: dict[str, float] = {}
        for group in self._groups(ads):
            total = sum(attraction[ad.id] for ad in group)
            share |= {ad.id: attraction[ad.id] / total for ad in group}
        probs = {}
        for rank, (ad, placement) in enumerate(zip(ads, outcome.placements, strict=True)):
            depth = placement.span[0] / max(1, len(outcome.response))
            examination = p.rank_discount**rank * (1 - p.depth_loss * (1 - persona.traits.patience) * depth)
            native = self._nativeness(outcome.response, placement.span)
            probs[ad.id] = examination * attraction[ad.id] * native * share[ad.id] * crowd
        return probs

    def _attraction(self, persona: Persona, query: str, ads: Sequence[Ad]) -> dict[str, float]:
        p, traits = self.params, persona.traits
        vectors = self._encoder.encode([query, *(ad.text for ad in ads)])
        odds = {}
        for ad, cosine in zip(ads, vectors[1:] @ vectors[0], strict=True):
            odds[ad.id] = (
                p.base
                + p.relevance_weight * (float(cosine) - p.relevance_centre) / p.relevance_scale
                + p.affinity_weight * self._affinity(persona, ad.category)
                + p.appeal_weight * self._appeal(ad)
                + p.tolerance_weight * (traits.ad_tolerance - 0.5)
                + p.price_weight * traits.price_sensitivity * _price_cue(ad)
            )
        return {ad_id: 1 / (1 + math.exp(-value)) for ad_id, value in odds.items()}

    def _affinity(self, persona: Persona, category: str) -> float:
        named = persona.traits.affinity.get(category)
        if named is not None:
            return named
        draw = keyed_rng("affinity", self.world, persona.id, category).normal(0, self.params.affinity_spread)
        return float(np.clip(draw, -1, 1))

    def _appeal(self, ad: Ad) -> float:
        # By advertiser and title, so that the ad's id, which is only a label, does not matter.
        return float(keyed_rng("appeal", self.world, ad.advertiser, ad.title).normal())

    def _nativeness(self, response: str, span: tuple[int, int]) -> float:
        p = self.params
        start, end = sentence_around(response, span)
        sentence = markup.strip_markup(response[start:end]).strip()
        rest = markup.strip_markup(f"{response[:start]} {response[end:]}").strip()
        factor = p.hard_sell_factor ** len(_HARD_SELL.findall(sentence))
        if not rest:
            return factor * p.coherence_floor  # nothing but the ad: no answer that it could fit into
        vectors = self._encoder.encode([sentence, rest])
        fit = min(1.0, max(0.0, float(vectors[0] @ vectors[1])) / p.coherence_full)
        return factor * (p.coherence_floor + (1 - p.coherence_floor) * fit)

    def _groups(self, ads: Sequence[Ad]) -> list[list[Ad]]:
        """Ads that compete, as connected components of similarity, each in reading order."""
        if len(ads) < 2:
            return [[ad] for ad in ads]
        vectors = self._encoder.encode([ad.text for ad in ads])
        near = vectors @ vectors.T > self.params.similar
        groups: list[list[int]] = []
        for i in range(len(ads)):
            joined = [group for group in groups if any(near[i, j] for j in group)]
            merged = [j for group in joined for j in group]
            groups = [group for group in groups if group not in joined] + [[*merged, i]]
        return [[ads[i] for i in sorted(group)] for group in groups]


def sentence_around(response: str, span: tuple[int, int]) -> tuple[int, int]:
    """Where the sentence that contains `span` begins and ends: half-open character offsets."""
    ends = [match.end() for match in _SENTENCE_END.finditer(response)]
    start = max((end for end in ends if end <= span[0]), default=0)
    stop = min((end for end in ends if end >= span[1]), default=len(response))
    return start, stop


def _price_cue(ad: Ad) -> int:
    """1: the ad says it is cheap, -1: it says it is dear, 0: neither or both."""
    return bool(_CHEAP.search(ad.text)) - bool(_DEAR.search(ad.text))
