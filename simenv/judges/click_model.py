"""The click model: clicks with known probabilities, computed offline. World "v1".

    p_i = examination_i * attraction_i * nativeness_i * competition_i * flooding

    examination_i = rank_discount^rank_i * exp(-depth_loss * (1 - patience) * words_before_i / 100)
    attraction_i  = sigmoid(base + relevance + taste + appeal + tolerance + price)
    nativeness_i  = coherence(ad sentence, text before it) * hard_sell^(sales pressure) * shouting^(marks)
    competition_i = a_i / (a_i + sum_j s_ij a_j),   a = attraction, s_ij in [0, 1] = degree to which j substitutes i
    flooding      = exp(-rate * (1.5 - ad_tolerance) * max(0, ads - free_ads)) * (1 - leak)

The cues of price, sales pressure and leaks are learned from example sentences (`cues.py`).

Sources. The product of examination and attraction is the examination hypothesis (Richardson, Dominowska and Ragno
2007, "Predicting clicks"). Examination falls with the amount of text before the ad, as in the position and cascade
models (Craswell, Zoeter, Taylor and Ramsey 2008, "An experimental comparison of click position-bias models"). The user
reads from the top, so text after an ad does not change its probability, with two exceptions that affect the whole
answer: more ads, and leaked text about the ad process. Substitutes share attention in proportion to their attraction,
as in Luce's choice rule (Luce 1959). The remaining criteria are those of the judge in LLM-Auction (section 5.1,
step 3): relevance to question and persona, nativeness, competition, flooding, leaks.

Two properties that may surprise follow from the product. Both are meant, and part of world v1:

- Moving an ad's sentence one sentence down can raise its click probability, although examination falls: coherence
  compares it with the sentences read before it, and further down there are more of them. On 10 scenarios of the
  contrast suite (development part, native wording) 5 of 30 such steps raise it, four of them by 24% to 37% and one,
  from a place where nothing fits to one where all does, to 4.2 times.
- Tolerance raises attraction of all ads alike, and so can lower the click probability of an ad that is far more
  attractive than a full substitute beside it: the rival gains a larger share. With a = attraction of the ad and b of
  the substitute, p falls in tolerance where b (2a - 1 - b) > a (1 - a): at a = 0.9, b = 0.4, raising tolerance from 0.5
  to 0.7 takes a^2 / (a + b) from 0.623 to 0.611. Of 1,152 steps between two copies of one ad (24 scenarios, tolerance
  0.1 to 0.9), none fell.

Two terms are hidden from every mechanism: each ad's appeal, and each persona's taste for a category. Relevance also
differs from the retriever's score. So no mechanism can predict the exact click probability. Every parameter is in
`click_model_v1.toml`.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from simenv import markup
from simenv.encoder import Encoder, together
from simenv.errors import InputError
from simenv.judges import ad_copy
from simenv.judges.cues import Examples, learn, ramp, read_examples
from simenv.one_thread import one_thread, product
from simenv.records import Ad, Auction, Click, Feedback, Outcome, Persona, Record
from simenv.seeding import keyed_rng
from simenv.text import sentence_around, sentences


class Attraction(Record):
    """Weights of the attraction term, in log-odds."""

    base: float
    relevance: float = Field(ge=0)
    relevance_centre: float
    relevance_scale: float = Field(gt=0)
    affinity: float = Field(ge=0)
    affinity_spread: float = Field(ge=0)
    appeal: float
    tolerance: float = Field(ge=0)
    price: float = Field(ge=0)
    price_slope: float = Field(ge=0)
    amount_weight: float = Field(ge=0)


class Examination(Record):
    """Decay of attention with rank and with the number of words read."""

    rank_discount: float = Field(ge=0, le=1)
    depth_loss: float = Field(ge=0)


class Nativeness(Record):
    """Penalty for an ad sentence that does not fit the text or presses to buy."""

    floor: float = Field(ge=0, le=1)
    coherence_none: float
    coherence_full: float
    hard_sell: float = Field(ge=0, le=1)
    pressure_none: float
    pressure_full: float
    shouting: float = Field(ge=0, le=1)


class Leaks(Record):
    """Scores of the "leak" cue at which a sentence counts as no leak and as a full leak."""

    cue_none: float
    cue_full: float


class Competition(Record):
    """Cosines at which two ads start to be substitutes and at which they are full substitutes."""

    substitutes_from: float
    substitutes_full: float


class Flooding(Record):
    """Penalty for too many ads in one answer."""

    free_ads: int = Field(ge=0)
    rate: float = Field(ge=0)


class ClickParams(Record):
    """All parameters of the click model. Comments in `click_model_v1.toml` explain each one."""

    world: str
    """Key of the hidden draws: another name gives another world."""
    attraction: Attraction
    examination: Examination
    nativeness: Nativeness
    competition: Competition
    leaks: Leaks
    flooding: Flooding
    examples: dict[str, Examples] = Field(default_factory=read_examples)
    """Cue name -> the example sentences that the cue is fitted to."""

    def changed(self, changes: Mapping[str, Any]) -> ClickParams:
        """Returns a copy with some parameters changed, each named "section.name" (or "world").

        Raises:
            InputError: unknown parameter, or value out of range.
        """
        numbers: dict[str, Any] = self.model_dump()
        for name, value in changes.items():
            section, dot, field = name.partition(".")
            target = numbers if not dot else numbers.get(section)
            key = field if dot else section
            if not isinstance(target, dict) or key not in target or isinstance(target[key], dict):
                raise InputError(f"the click model has no parameter {name!r}: known are {', '.join(self.numbers())}")
            target[key] = value
        return _read(numbers, "changed click model")

    def numbers(self) -> dict[str, float]:
        """All numeric parameters: "section.name" -> value."""
        return {
            f"{section}.{name}": value
            for section, part in self.model_dump().items()
            if isinstance(part, dict) and section != "examples"
            for name, value in part.items()
        }

    @property
    def sha256(self) -> str:
        """Hash of all parameters, for manifests: two runs with the same hash used the same click model."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


def _read(numbers: Mapping[str, Any], source: str) -> ClickParams:
    try:
        return ClickParams.model_validate(numbers)
    except ValueError as error:
        raise InputError(f"{source}: {' '.join(str(error).split())}") from None


@cache
def world_v1() -> ClickParams:
    """The frozen parameters of world "v1"."""
    text = (files("simenv.judges") / "click_model_v1.toml").read_text(encoding="utf-8")
    return _read(tomllib.loads(text), "click_model_v1.toml")


class ClickModel:
    """Click model with known click probabilities, computed from relevance, position, sentence and persona.

    Args:
        encoder: Computes the cosines of query, ads and answer.
        params: The model's parameters; world "v1" by default.
    """

    def __init__(self, encoder: Encoder, params: ClickParams | None = None) -> None:
        self.params = params or world_v1()
        self.name = f"click-model-{self.params.world}"
        self.sha256 = self.params.sha256
        self._encoder = encoder
        self._cues = {name: learn(encoder, examples) for name, examples in self.params.examples.items()}

    def prepare(self) -> None:
        """Fits the cues."""
        for cue in self._cues.values():
            cue.prepare()

    def with_params(self, params: ClickParams) -> ClickModel:
        """Returns the same judge with other parameters."""
        return ClickModel(self._encoder, params)

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        ads = [auction.bid_of(placement.ad_id).ad for placement in outcome.placements]

        def compute() -> tuple[npt.NDArray[np.float64], dict[str, float]]:
            with one_thread():
                substitutes = self._substitutes(ads)
                return substitutes, self._probabilities(persona, auction, outcome, ads, substitutes)

        substitutes, probs = await together(self._encoder, compute, lambda: self._texts(auction, outcome))
        clicked = {}
        for group in _exclusive(ads, substitutes):
            # One uniform per group, keyed only by auction and ad: all mechanisms get the same draw for the same user.
            uniform = keyed_rng("click", auction.id, min(ad.id for ad in group)).random()
            for ad in group:
                clicked[ad.id] = 0 <= uniform < probs[ad.id]
                uniform -= probs[ad.id]
        return Feedback(clicks=tuple(Click(ad_id=i, clicked=clicked[i], click_prob=prob) for i, prob in probs.items()))

    def probabilities(self, persona: Persona, auction: Auction, outcome: Outcome) -> dict[str, float]:
        """Click probability of every shown ad: ad id -> [0, 1], in the order of the placements.

        An ad whose link is not at its placement's span gets 0.
        """
        ads = [auction.bid_of(placement.ad_id).ad for placement in outcome.placements]
        with one_thread():
            return self._probabilities(persona, auction, outcome, ads, self._substitutes(ads))

    def _probabilities(
        self,
        persona: Persona,
        auction: Auction,
        outcome: Outcome,
        ads: Sequence[Ad],
        substitutes: npt.NDArray[np.float64],
    ) -> dict[str, float]:
        p = self.params
        if not ads:
            return {}
        attraction = self.attraction(persona, auction.query.text, ads)
        competition = _competition(ads, attraction, substitutes)
        annoyance = 1.5 - persona.traits.ad_tolerance
        flooding = math.exp(-p.flooding.rate * annoyance * max(0, len(ads) - p.flooding.free_ads))
        flooding *= 1 - self._leak(auction, outcome)
        haste = p.examination.depth_loss * (1 - persona.traits.patience) / 100
        probs = {}
        for ad, placement in zip(ads, outcome.placements, strict=True):
            start, end = placement.span
            rank = sum(other.span < placement.span for other in outcome.placements)  # by text position, not list order
            if outcome.response[start:end] != ad.link:
                probs[ad.id] = 0.0
                continue
            words_before = len(markup.strip_markup(outcome.response[:start]).split())
            examination = p.examination.rank_discount**rank * math.exp(-haste * words_before)
            native = self._nativeness(auction.query.text, outcome.response, placement.span, ad)
            probs[ad.id] = examination * attraction[ad.id] * native * competition[ad.id] * flooding
        return probs

    def _texts(self, auction: Auction, outcome: Outcome) -> list[str]:
        """All texts whose vectors `probabilities` needs."""
        response, links = outcome.response, [auction.bid_of(p.ad_id).ad.link for p in outcome.placements]
        texts = [auction.query.text]
        for placement, link in zip(outcome.placements, links, strict=True):
            ad = auction.bid_of(placement.ad_id).ad
            texts += [ad_copy.offer(ad), f"{ad_copy.offer_title(ad)} {ad.category}"]
            if len(links) > 1:
                texts.append(ad_copy.offer_body(ad) or ad_copy.offer_title(ad))
            start, end = placement.span
            if response[start:end] == link:
                texts += _long_enough(ad_copy.pitch_around(response, placement.span).replace(link, "it"))
                start, end = sentence_around(response, placement.span)
                texts.append(ad_copy.words_around(response[start:end], ad) or ad_copy.offer_title(ad))
                texts += sentences(markup.strip_markup(response[:start]))
        for link in links:
            response = response.replace(link, "it")
        return [*texts, *_long_enough(markup.strip_markup(response))]

    def attraction(self, persona: Persona, query: str, ads: Sequence[Ad]) -> dict[str, float]:
        """Click probability of an examined ad that stands alone in a sentence that fits: ad id -> (0, 1)."""
        p, traits = self.params.attraction, persona.traits
        odds = {}
        offers = [ad_copy.offer(ad) for ad in ads]
        cheap = self._cues["cheap"](offers) - p.amount_weight * np.array([ad_copy.log_amount(text) for text in offers])
        cues = np.tanh(p.price_slope * cheap)
        for ad, cosine, cue in zip(ads, self._relevance(query, ads), cues, strict=True):
            odds[ad.id] = (
                p.base
                + p.relevance * (float(cosine) - p.relevance_centre) / p.relevance_scale
                + p.affinity * self._affinity(persona, ad.category)
                + p.appeal * self._appeal(ad)
                + p.tolerance * (traits.ad_tolerance - 0.5)
                + p.price * traits.price_sensitivity**2 * float(cue)
            )
        return {ad_id: 1 / (1 + math.exp(-value)) for ad_id, value in odds.items()}

    def _relevance(self, query: str, ads: Sequence[Ad]) -> npt.NDArray[np.float64]:
        """Mean of two cosines with the query: of the ad's copy, and of its title plus category, both without brand."""
        offers = [ad_copy.offer(ad) for ad in ads]
        kinds = [f"{ad_copy.offer_title(ad)} {ad.category}" for ad in ads]
        vectors = self._encoder.encode([query, *offers, *kinds])
        cosines = product(vectors[1:], vectors[0]).astype(np.float64)
        return np.asarray((cosines[: len(ads)] + cosines[len(ads) :]) / 2)

    def _affinity(self, persona: Persona, category: str) -> float:
        named = persona.traits.affinity.get(category)
        if named is not None:
            return named
        return _hidden_taste(self.params.world, persona.id, category, self.params.attraction.affinity_spread)

    def _appeal(self, ad: Ad) -> float:
        # Keyed by the offer, because the ad's id and the advertiser's name are labels that must not matter.
        return _hidden_appeal(self.params.world, ad_copy.offer_title(ad).lower())

    def _nativeness(self, query: str, response: str, span: tuple[int, int], ad: Ad) -> float:
        p = self.params.nativeness
        pitch = ad_copy.pitch_around(response, span).replace(ad.link, "it")
        pressure = ramp(self._strongest("pressure", pitch), p.pressure_none, p.pressure_full)
        factor = p.hard_sell**pressure * p.shouting ** ad_copy.typographic_pressure(pitch)
        start, end = sentence_around(response, span)
        words = ad_copy.words_around(response[start:end], ad) or ad_copy.offer_title(ad)
        read = [query, *sentences(markup.strip_markup(response[:start]))]
        vectors = self._encoder.encode([words, *read])
        cosine = float(
            product(vectors[1:], vectors[0]).max()
        )  # the sentence must continue one earlier sentence, not all
        return float(factor * (p.floor + (1 - p.floor) * ramp(cosine, p.coherence_none, p.coherence_full)))

    def _leak(self, auction: Auction, outcome: Outcome) -> float:
        """How strongly the answer mentions bids, candidates or instructions: 0 = not at all, 1 = no clicks at all."""
        if any(violation.kind == "leaked_process" for violation in outcome.violations):
            return 1.0
        text = outcome.response
        for placement in outcome.placements:
            text = text.replace(auction.bid_of(placement.ad_id).ad.link, "it")
        worst = self._strongest("leak", markup.strip_markup(text))
        return ramp(worst, self.params.leaks.cue_none, self.params.leaks.cue_full)

    def _strongest(self, cue: str, text: str) -> float:
        """Highest score of any sentence of at least five words; shorter ones ("See it.") cannot be scored reliably."""
        long_enough = _long_enough(text)
        return float(self._cues[cue](long_enough).max()) if long_enough else -1.0

    def _substitutes(self, ads: Sequence[Ad]) -> npt.NDArray[np.float64]:
        """Degree to which ads are substitutes: shape (n, n), in [0, 1]."""
        if len(ads) < 2:
            return np.ones((len(ads), len(ads)))
        p = self.params.competition
        vectors = self._encoder.encode([ad_copy.offer_body(ad) or ad_copy.offer_title(ad) for ad in ads])
        cosines = product(vectors, vectors.T).astype(np.float64)
        return np.asarray(np.clip((cosines - p.substitutes_from) / (p.substitutes_full - p.substitutes_from), 0, 1))


@lru_cache(maxsize=8192)
def _hidden_taste(world: str, persona_id: str, category: str, spread: float) -> float:
    return float(np.clip(keyed_rng("affinity", world, persona_id, category).normal(0, spread), -1, 1))


@lru_cache(maxsize=8192)
def _hidden_appeal(world: str, offer: str) -> float:
    return float(keyed_rng("appeal", world, offer).normal())


def _competition(
    ads: Sequence[Ad], attraction: Mapping[str, float], substitutes: npt.NDArray[np.float64]
) -> dict[str, float]:
    a = np.array([attraction[ad.id] for ad in ads])
    s = substitutes.copy()
    np.fill_diagonal(s, 1.0)
    return dict(zip([ad.id for ad in ads], (a / (s @ a)).tolist(), strict=True))


def _exclusive(ads: Sequence[Ad], substitutes: npt.NDArray[np.float64]) -> list[list[Ad]]:
    """Groups of full substitutes, in reading order: at most one ad of each group is clicked.

    Within a group the probabilities sum to at most the largest attraction, so one uniform draw decides for all.
    """
    full = (substitutes >= 1).tolist()
    groups: list[list[int]] = []
    for i in range(len(ads)):
        match = next((group for group in groups if all(full[i][j] for j in group)), None)
        if match is None:
            groups.append([i])
        else:
            match.append(i)
    return [[ads[i] for i in group] for group in groups]


def _long_enough(text: str) -> list[str]:
    return [sentence for sentence in sentences(text) if len(sentence.split()) >= 5]
