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
the file of a world (`click_worlds.py`, `worlds/v1.toml`).

A world may have readers who notice ads (`worlds/labels.toml`). Then attraction is, with s in [0, 1] how strongly the
pitch promotes, l = 1 if the text says that it is an ad, and x the log-odds of attraction as above,

    attraction_i = (1 - n_i) sigmoid(x_i + persuasion s_i) + n_i sigmoid(x_i + persuasion s_i + noticed)
    n_i          = sigmoid(notice + notice_label l_i + notice_persuasion s_i)

A world may have users who remember the ads of their session (`worlds/fatigue.toml`). Then x has the further terms
repeated k_i + earlier (m - k_i), with m the ads that earlier answers of the session showed and k_i how many of them are
this ad (`Auction.shown`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from simenv.encoder import Encoder, together
from simenv.judges.click_measures import AdMeasures, AnswerMeasures, Measurer
from simenv.judges.click_worlds import ClickParams, world_v1
from simenv.judges.cues import ramp
from simenv.judges.questions import choose_by_cosines
from simenv.one_thread import one_thread
from simenv.records import (
    Ad,
    Auction,
    Choice,
    Click,
    Feedback,
    Outcome,
    Persona,
    ShownAd,
    Suggestion,
    Traits,
)
from simenv.seeding import keyed_rng

Floats = npt.NDArray[np.float64]


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
        self._measurer = Measurer(encoder, self.params.examples)

    @property
    def remembers(self) -> bool:
        """Whether users remember the ads of their session."""
        return self.params.fatigue is not None

    def prepare(self) -> None:
        """Fits the cues."""
        self._measurer.prepare()

    def with_params(self, params: ClickParams) -> ClickModel:
        """Returns the same judge with other parameters."""
        return ClickModel(self._encoder, params)

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        def compute() -> tuple[AnswerMeasures, dict[str, float]]:
            with one_thread():
                measures = self._measurer(persona, auction, outcome)
                return measures, self.probabilities_of(measures)

        measures, probs = await together(self._encoder, compute, lambda: self._measurer.texts(auction, outcome))
        noticing = self.noticing_of(measures)
        clicked = {}
        for group in _exclusive([ad.id for ad in measures.ads], self._substitutes(measures)):
            # One uniform per group, keyed only by auction and ad: all mechanisms get the same draw for the same user.
            uniform = keyed_rng("click", auction.id, min(group)).random()
            for ad_id in group:
                clicked[ad_id] = 0 <= uniform < probs[ad_id]
                uniform -= probs[ad_id]
        return Feedback(
            clicks=tuple(
                Click(ad_id=i, clicked=clicked[i], click_prob=prob, reason=_reason(noticing.get(i)))
                for i, prob in probs.items()
            )
        )

    async def choose(self, persona: Persona, auction: Auction, questions: Sequence[Suggestion]) -> Choice:
        return await choose_by_cosines(self._encoder, self.params.questions, persona, auction, questions)

    def probabilities(self, persona: Persona, auction: Auction, outcome: Outcome) -> dict[str, float]:
        """Click probability of every shown ad: ad id -> [0, 1], in the order of the placements.

        An ad whose link is not at its placement's span gets 0.
        """
        with one_thread():
            return self.probabilities_of(self._measurer(persona, auction, outcome))

    def measure(self, persona: Persona, auction: Auction, outcome: Outcome) -> AnswerMeasures:
        """What the probabilities depend on, apart from the parameters. It holds for all worlds with the same cues."""
        with one_thread():
            return self._measurer(persona, auction, outcome)

    def probabilities_of(self, measures: AnswerMeasures) -> dict[str, float]:
        """`probabilities` of an answer that was measured."""
        p = self.params
        if not measures.ads:
            return {}
        odds = self._log_odds(measures.traits, measures.ads)
        attraction = {ad.id: self._attraction(odds[ad.id], ad) for ad in measures.ads}
        competition = _competition([ad.id for ad in measures.ads], attraction, self._substitutes(measures))
        annoyance = 1.5 - measures.traits.ad_tolerance
        flooding = math.exp(-p.flooding.rate * annoyance * max(0, len(measures.ads) - p.flooding.free_ads))
        leak = 1.0 if measures.leaked else ramp(measures.leak, p.leaks.cue_none, p.leaks.cue_full)
        flooding *= 1 - leak
        haste = p.examination.depth_loss * (1 - measures.traits.patience) / 100
        probs = {}
        for ad in measures.ads:
            if not ad.intact:
                probs[ad.id] = 0.0
                continue
            examination = p.examination.rank_discount**ad.rank * math.exp(-haste * ad.words_before)
            native = self._nativeness(ad)
            probs[ad.id] = examination * attraction[ad.id] * native * competition[ad.id] * flooding
        return probs

    def noticing_of(self, measures: AnswerMeasures) -> dict[str, float]:
        """Probability that the reader notices each ad as one: ad id -> (0, 1). Empty in a world without readers."""
        if self.params.readers is None:
            return {}
        return {ad.id: self._noticing(ad) for ad in measures.ads if ad.intact}

    def attraction(
        self, persona: Persona, query: str, ads: Sequence[Ad], shown: Sequence[ShownAd] = ()
    ) -> dict[str, float]:
        """Click probability of an examined ad that stands alone in a sentence that fits: ad id -> (0, 1).

        Args:
            persona, query, ads: The user, the question and the ads.
            shown: Ads that earlier answers of the session showed.
        """
        odds = self._log_odds(persona.traits, self._measurer.offers(persona, query, ads, shown))
        return {ad_id: _sigmoid(value) for ad_id, value in odds.items()}

    def _log_odds(self, traits: Traits, ads: Sequence[AdMeasures]) -> dict[str, float]:
        p = self.params.attraction
        cheap = np.array([ad.cheap for ad in ads]) - p.amount_weight * np.array([ad.log_amount for ad in ads])
        cues = np.tanh(p.price_slope * cheap)
        return {
            ad.id: (
                p.base
                + p.relevance * (ad.cosine - p.relevance_centre) / p.relevance_scale
                + p.affinity * self._affinity(ad)
                + p.appeal * self._appeal(ad)
                + p.tolerance * (traits.ad_tolerance - 0.5)
                + p.price * traits.price_sensitivity**2 * float(cue)
                + self._fatigue(ad)
            )
            for ad, cue in zip(ads, cues, strict=True)
        }

    def _fatigue(self, ad: AdMeasures) -> float:
        p = self.params.fatigue
        return 0.0 if p is None else p.repeated * ad.repeated + p.earlier * ad.earlier

    def _attraction(self, log_odds: float, ad: AdMeasures) -> float:
        readers = self.params.readers
        if readers is None or not ad.intact:
            return _sigmoid(log_odds)
        log_odds += readers.persuasion * self._persuasion(ad)
        noticing = self._noticing(ad)
        return (1 - noticing) * _sigmoid(log_odds) + noticing * _sigmoid(log_odds + readers.noticed)

    def _noticing(self, ad: AdMeasures) -> float:
        readers = self.params.readers
        assert readers is not None
        promoted = readers.notice_persuasion * self._persuasion(ad)
        return _sigmoid(readers.notice + readers.notice_label * ad.labelled + promoted)

    def _persuasion(self, ad: AdMeasures) -> float:
        readers = self.params.readers
        assert readers is not None
        return ramp(ad.persuasion, readers.persuasion_none, readers.persuasion_full)

    def _affinity(self, ad: AdMeasures) -> float:
        if ad.affinity is not None:
            return ad.affinity
        return _hidden_taste(self.params.world, ad.persona_id, ad.category, self.params.attraction.affinity_spread)

    def _appeal(self, ad: AdMeasures) -> float:
        # Keyed by the offer, because the ad's id and the advertiser's name are labels that must not matter.
        known = self.params.appeals.get(ad.offer)
        return _hidden_appeal(self.params.world, ad.offer) if known is None else known

    def _nativeness(self, ad: AdMeasures) -> float:
        p = self.params.nativeness
        pressure = ramp(ad.pressure, p.pressure_none, p.pressure_full)
        factor = p.hard_sell**pressure * p.shouting**ad.shouting
        return float(factor * (p.floor + (1 - p.floor) * ramp(ad.coherence, p.coherence_none, p.coherence_full)))

    def _substitutes(self, measures: AnswerMeasures) -> Floats:
        """Degree to which ads are substitutes: shape (n, n), in [0, 1]."""
        if len(measures.ads) < 2:
            return np.ones((len(measures.ads), len(measures.ads)))
        p = self.params.competition
        cosines = measures.cosines
        return np.asarray(np.clip((cosines - p.substitutes_from) / (p.substitutes_full - p.substitutes_from), 0, 1))


@lru_cache(maxsize=8192)
def _hidden_taste(world: str, persona_id: str, category: str, spread: float) -> float:
    return float(np.clip(keyed_rng("affinity", world, persona_id, category).normal(0, spread), -1, 1))


@lru_cache(maxsize=8192)
def _hidden_appeal(world: str, offer: str) -> float:
    return float(keyed_rng("appeal", world, offer).normal())


def _sigmoid(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def _reason(noticing: float | None) -> str:
    return "" if noticing is None else f"notices that it is an ad with probability {noticing:.2f}"


def _competition(ads: Sequence[str], attraction: Mapping[str, float], substitutes: Floats) -> dict[str, float]:
    a = np.array([attraction[ad_id] for ad_id in ads])
    s = substitutes.copy()
    np.fill_diagonal(s, 1.0)
    return dict(zip(ads, (a / (s @ a)).tolist(), strict=True))


def _exclusive(ads: Sequence[str], substitutes: Floats) -> list[list[str]]:
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
