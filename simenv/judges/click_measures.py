"""What the click model measures of an answer before any of its parameters counts: cosines, cues, places, words.

Measured once, an answer can be judged in many worlds, and the numbers of a world can be fitted to clicks on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv import markup
from simenv.encoder import Encoder
from simenv.judges import ad_copy
from simenv.judges.cues import Examples, learn
from simenv.one_thread import product
from simenv.records import Ad, Auction, Outcome, Persona, ShownAd, Traits
from simenv.text import sentence_around, sentences

Floats = npt.NDArray[np.float64]
NO_CUE = -1.0
"""The score of a text in which no sentence is long enough to be scored."""


class AdMeasures(NamedTuple):
    """What is measured of one shown ad."""

    id: str
    persona_id: str
    category: str
    offer: str
    """Key of the ad's appeal: its title without the advertiser, in lower case."""
    cosine: float
    """Relevance: mean cosine of the query with the ad's copy, and with its title and category."""
    affinity: float | None
    """The persona's own taste for the category, in [-1, 1]; None if the persona does not name it."""
    cheap: float
    """Cue "cheap" of the copy."""
    log_amount: float
    """log10(largest amount of money in the copy / 30)."""
    intact: bool = True
    """Whether the ad's link is at its placement's span. If not, nothing below is measured, and nobody clicks."""
    rank: int = 0
    """Ads before it."""
    words_before: int = 0
    pressure: float = NO_CUE
    """Cue "pressure" of the pitch: the sentence with the link and the one before it."""
    shouting: int = 0
    """Exclamation marks, words in capitals: 0, 1 or 2."""
    coherence: float = 1.0
    """Largest cosine of the ad's sentence with a sentence read before it."""
    labelled: bool = False
    """Whether the text says that it is an ad; False where no persuasion is measured."""
    persuasion: float = NO_CUE
    """Cue "persuasion" of the pitch and the sentence after it; `NO_CUE` where there are no example sentences of it."""
    repeated: int = 0
    """Earlier answers of the session that showed this ad."""
    earlier: int = 0
    """Other ads that earlier answers of the session showed."""


class AnswerMeasures(NamedTuple):
    """What is measured of one answer."""

    traits: Traits
    ads: tuple[AdMeasures, ...]
    """In the order of the placements."""
    cosines: Floats
    """Of the ads' copies: shape (n, n)."""
    leaked: bool
    """Whether the mark-up rules found text about the ad process."""
    leak: float
    """Cue "leak" of the most telling sentence."""


class Measurer:
    """Measures answers.

    Args:
        encoder: Text encoder.
        examples: Cue name -> the sentences that it is learned from.
    """

    def __init__(self, encoder: Encoder, examples: Mapping[str, Examples]) -> None:
        self._encoder = encoder
        self._cues = {name: learn(encoder, it) for name, it in examples.items()}
        self._readers = "persuasion" in examples

    def prepare(self) -> None:
        """Fits the cues."""
        for cue in self._cues.values():
            cue.prepare()

    def __call__(self, persona: Persona, auction: Auction, outcome: Outcome) -> AnswerMeasures:
        """Measures one answer."""
        placements, response = outcome.placements, outcome.response
        ads = [auction.bid_of(placement.ad_id).ad for placement in placements]
        if not ads:
            return AnswerMeasures(persona.traits, (), np.ones((0, 0)), False, NO_CUE)
        cosines = self.cosines(ads)
        measured = []
        leaked = any(violation.kind == "leaked_process" for violation in outcome.violations)
        found = self.offers(persona, auction.query.text, ads, auction.shown)
        leak = NO_CUE if leaked else self._leak(response, ads)
        for ad, placement, offer in zip(ads, placements, found, strict=True):
            start, end = placement.span
            rank = sum(other.span < placement.span for other in placements)  # by text position, not list order
            if response[start:end] != ad.link:
                measured.append(offer._replace(intact=False, rank=rank))
                continue
            pitch = ad_copy.pitch_around(response, placement.span).replace(ad.link, "it")
            measured.append(
                offer._replace(
                    rank=rank,
                    words_before=len(markup.strip_markup(response[:start]).split()),
                    pressure=self._strongest("pressure", pitch),
                    shouting=ad_copy.typographic_pressure(pitch),
                    coherence=self._coherence(auction.query.text, response, placement.span, ad),
                    labelled=self._readers and ad_copy.is_labelled(response, placement.span),
                    persuasion=self._persuasion(response, placement.span, ad) if self._readers else NO_CUE,
                )
            )
        return AnswerMeasures(persona.traits, tuple(measured), cosines, leaked, leak)

    def offers(
        self, persona: Persona, query: str, ads: Sequence[Ad], shown: Sequence[ShownAd] = ()
    ) -> list[AdMeasures]:
        """What can be measured without an answer. `shown`: ads of earlier answers of the session."""
        times = Counter(it.ad_id for it in shown)
        texts = [ad_copy.offer(ad) for ad in ads]
        cheap = self._cues["cheap"](texts)
        return [
            AdMeasures(
                id=ad.id,
                persona_id=persona.id,
                category=ad.category,
                offer=ad_copy.offer_title(ad).lower(),
                cosine=float(cosine),
                affinity=persona.traits.affinity.get(ad.category),
                cheap=float(cue),
                log_amount=ad_copy.log_amount(text),
                repeated=times[ad.id],
                earlier=len(shown) - times[ad.id],
            )
            for ad, text, cue, cosine in zip(ads, texts, cheap, self._relevance(query, ads), strict=True)
        ]

    def texts(self, auction: Auction, outcome: Outcome) -> list[str]:
        """All texts whose vectors are needed."""
        response, links = outcome.response, [auction.bid_of(p.ad_id).ad.link for p in outcome.placements]
        texts = [auction.query.text]
        for placement, link in zip(outcome.placements, links, strict=True):
            ad = auction.bid_of(placement.ad_id).ad
            texts += [ad_copy.offer(ad), f"{ad_copy.offer_title(ad)} {ad.category}"]
            if len(links) > 1:
                texts.append(ad_copy.offer_body(ad) or ad_copy.offer_title(ad))
            start, end = placement.span
            if response[start:end] == link:
                pitch = ad_copy.praise_around if self._readers else ad_copy.pitch_around
                texts += _long_enough(pitch(response, placement.span).replace(link, "it"))
                start, end = sentence_around(response, placement.span)
                texts.append(ad_copy.words_around(response[start:end], ad) or ad_copy.offer_title(ad))
                texts += sentences(markup.strip_markup(response[:start]))
        for link in links:
            response = response.replace(link, "it")
        return [*texts, *_long_enough(markup.strip_markup(response))]

    def _relevance(self, query: str, ads: Sequence[Ad]) -> Floats:
        """Mean of two cosines with the query: of the ad's copy, and of its title plus category, both without brand."""
        offers = [ad_copy.offer(ad) for ad in ads]
        kinds = [f"{ad_copy.offer_title(ad)} {ad.category}" for ad in ads]
        vectors = self._encoder.encode([query, *offers, *kinds])
        cosines = product(vectors[1:], vectors[0]).astype(np.float64)
        return np.asarray((cosines[: len(ads)] + cosines[len(ads) :]) / 2)

    def _coherence(self, query: str, response: str, span: tuple[int, int], ad: Ad) -> float:
        start, end = sentence_around(response, span)
        words = ad_copy.words_around(response[start:end], ad) or ad_copy.offer_title(ad)
        read = [query, *sentences(markup.strip_markup(response[:start]))]
        vectors = self._encoder.encode([words, *read])
        # The sentence must continue one earlier sentence, not all.
        return float(product(vectors[1:], vectors[0]).max())

    def _persuasion(self, response: str, span: tuple[int, int], ad: Ad) -> float:
        return self._strongest("persuasion", ad_copy.praise_around(response, span).replace(ad.link, "it"))

    def _leak(self, response: str, ads: Sequence[Ad]) -> float:
        """How strongly the most telling sentence mentions bids, candidates or instructions."""
        for ad in ads:
            response = response.replace(ad.link, "it")
        return self._strongest("leak", markup.strip_markup(response))

    def _strongest(self, cue: str, text: str) -> float:
        """Highest score of any sentence of at least five words; shorter ones ("See it.") cannot be scored reliably."""
        long_enough = _long_enough(text)
        return float(self._cues[cue](long_enough).max()) if long_enough else NO_CUE

    def cosines(self, ads: Sequence[Ad]) -> Floats:
        """Cosines of the ads' copies: shape (n, n)."""
        if len(ads) < 2:
            return np.ones((len(ads), len(ads)))
        vectors = self._encoder.encode([ad_copy.offer_body(ad) or ad_copy.offer_title(ad) for ad in ads])
        return np.asarray(product(vectors, vectors.T).astype(np.float64))


def _long_enough(text: str) -> list[str]:
    return [sentence for sentence in sentences(text) if len(sentence.split()) >= 5]
