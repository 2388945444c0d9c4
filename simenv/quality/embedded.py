"""Answer quality beside clicks, measured on embeddings: cheap, deterministic, and no reader's opinion.

Write y for the answer, y0 for the ad-free one (same query, same key), x for the query, S(y) for y's sentences, w_s for
a sentence's words, cos for the encoder's cosine, and ramp_a for a straight line from 0 at a.none to 1 at a.full.

    serves(s)    = ramp_s(max(cos(s, x), max over t in S(y0) of cos(s, t)))          times ad_worth if s is an ad's
    precision    = sum over s in S(y) of w_s serves(s) / sum of w_s
    kept         = sum over t in S(y0) of w_t ramp_k(max over s in S(y) of cos(s, t)) / sum of w_t
    given        = max(kept, min(1, sum over s in S(y) that are no ad's of w_s serves(s) / sum over S(y0) of w_t))
    satisfaction = relevance(y0) * F1(precision, given) * (1 - leak_cost leak) * (1 - pressure_cost pressure)
    quality_loss = relevance(y0) - satisfaction
    relevance(y) = ramp_r(cos(x, mean of S(y)'s vectors, weighted by words))

Precision and kept are BERTScore's greedy matching (Zhang, Kishore, Wu, Weinberger and Artzi 2020, "BERTScore", eq. 1)
with sentences for tokens: what the answer says that serves the question, and what of the ad-free answer it still says.
`given` forgives other words: content of its own that serves the question as well makes up for what is no longer said.
`leak` and `pressure` in [0, 1] are the most telling sentence's scores on the cues of `cues.py`. Of each ad:

    factuality   = ramp_f(max over the copy's sentences c of cos(ad's words, c)) * (1 - unsupported / (1 + claims))
    disclosure   = 1 said to be an ad, 0.5 its link alone, 0 not even an intact link

Claims are numbers, prices and proper nouns (`claims.py`). What it does NOT measure: whether an answer is true; whether
it is better than y0, which loses nothing by definition (so mechanisms that write an answer of their own lose by chance
too: a second ad-free sample of SmolLM2-135M lost 0.22 +- 0.07 on 16 questions, the answer to another question 0.81); a
claim that the copy's own words make falsely, or deny; whether a reader notices a disclosure. Cues are shared with the
click model, so the two are not independent witnesses.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from simenv import markup
from simenv.encoder import Encoder
from simenv.judges import ad_copy
from simenv.judges.cues import Cue, ramp, read_examples
from simenv.quality.claims import unsupported
from simenv.records import Ad, AdQuality, Auction, Feedback, Outcome, Persona, Quality, Record
from simenv.text import sentence_around, sentence_spans, sentences

# Words that readers understand as "this is an ad": Federal Trade Commission (2015), "Native advertising: a guide for
# businesses", which finds "promoted" and "partner" ambiguous. A word of the product's title does not count.
_DISCLOSED = re.compile(
    r"\b(?:ads?|adverts?|advertisements?|advertising|advertorial|sponsor(?:s|ed|ship)?"
    r"|paid (?:content|link|mention|partnership|placement|promotion))\b",
    re.IGNORECASE,
)


class Scales(Record):
    """Every number of the embedded measures. Set on the development part of the contrast suite."""

    serves: tuple[float, float] = (0.15, 0.45)
    """Cosine from which on a sentence begins to serve the question, and from which on it does so fully."""
    kept: tuple[float, float] = (0.45, 0.75)
    """The same for a sentence of the ad-free answer that is still said: other sentences on its topic reach 0.45."""
    relevance: tuple[float, float] = (0.1, 0.5)
    """The same for a whole answer and the question."""
    factual: tuple[float, float] = (0.2, 0.5)
    """The same for an ad's sentence and its copy."""
    ad_worth: float = 0.8
    """What an ad that fits the question perfectly is worth beside a sentence of the answer: nobody asked for it."""
    leak: tuple[float, float] = (0.0, 0.35)
    leak_cost: float = 0.5
    pressure: tuple[float, float] = (-0.15, 0.3)
    pressure_cost: float = 0.3


class QualityMeasure(Protocol):
    """Says how good an answer is, beside the judge who says what is clicked."""

    name: str
    sha256: str
    """Names the measure's numbers or prompts in manifests."""

    async def measure(self, persona: Persona, auction: Auction, outcome: Outcome, ad_free: str | None) -> Feedback:
        """`satisfaction` and `quality` of one answer, no clicks. What cannot be told is None, never 0.

        Args:
            persona, auction, outcome: As for a judge.
            ad_free: The ad-free answer to the same auction; None if nobody wrote one.
        """
        ...


class Sentence(NamedTuple):
    """One sentence of an answer. `ad_id`: the ad whose link it holds, or whose copy it repeats."""

    text: str
    """Without mark-up."""
    words: int
    ad_id: str | None


def split(text: str, ads: Sequence[Ad] = ()) -> list[Sentence]:
    """The sentences of an answer; a full stop within a link ends none.

    Args:
        text: The answer, with mark-up.
        ads: The ads that it shows.
    """
    ids = {ad.id for ad in ads}
    found = []
    for start, stop in sentence_spans(_masked(text)):
        piece = text[start:stop]
        plain = markup.strip_markup(piece).strip()
        if re.search(r"\w", plain):
            linked = [match["id"] for match in markup.LINK.finditer(piece) if match["id"] in ids]
            quoted = [ad.id for ad in ads if plain.rstrip(".!? ") in ad.body]
            found.append(Sentence(plain, len(plain.split()), next(iter([*linked, *quoted]), None)))
    return found


def ad_text_share(text: str, ads: Sequence[Ad]) -> float:
    """Words of the sentences that hold an ad's link or repeat its copy, divided by all words. In [0, 1]."""
    found = split(text, ads)
    total = sum(sentence.words for sentence in found)
    return sum(sentence.words for sentence in found if sentence.ad_id) / total if total else 0.0


def disclosure(response: str, span: tuple[int, int], ad: Ad) -> float:
    """1 if the ad's sentence, or the line or sentence just before it, says that it is an ad; 0.5 for the link alone.

    0 where `span` does not hold the ad's intact link: nothing then tells the ad from the answer.
    """
    if response[slice(*span)] != ad.link:
        return 0.0
    masked = _masked(response)
    start, stop = sentence_around(masked, (span[0], span[0] + 1))
    before = sentence_around(masked, (start - 1, start))[0] if start else start
    said = markup.LINK.sub(" ", response[before:stop])
    return 1.0 if _DISCLOSED.search(said) else 0.5


def _masked(text: str) -> str:
    """The text with its links painted over, so that no sentence ends within one."""
    return markup.LINK.sub(lambda match: "-" * len(match.group()), text)


class EmbeddedQuality:
    """The measures above.

    Args:
        encoder: Text encoder, the click model's by preference: it remembers what it encoded.
        scales: The numbers.
    """

    def __init__(self, encoder: Encoder, scales: Scales | None = None) -> None:
        self.name = f"embedded:{encoder.name}"
        self._scales = scales or Scales()
        examples = read_examples()
        numbers = [self._scales.model_dump_json(), *(examples[cue].model_dump_json() for cue in ("leak", "pressure"))]
        self.sha256 = hashlib.sha256("\n".join(numbers).encode()).hexdigest()
        self._encoder = encoder
        self._leak = Cue(encoder, examples["leak"])
        self._pressure = Cue(encoder, examples["pressure"])

    async def measure(self, persona: Persona, auction: Auction, outcome: Outcome, ad_free: str | None) -> Feedback:
        ads = [auction.bid_of(placement.ad_id).ad for placement in outcome.placements]
        answer = split(outcome.response, ads)
        # Without a counterfactual the answer is compared with itself: the loss is unknown then, what ads spoil is not.
        reference = split(ad_free) if ad_free is not None else [s for s in answer if s.ad_id is None]
        satisfaction, relevance, kept = self._satisfaction(auction, outcome, answer, reference)
        pairs = zip(ads, outcome.placements, strict=True)
        return Feedback(
            satisfaction=satisfaction,
            quality=Quality(
                ad_free=ad_free,
                quality_loss=None if ad_free is None else relevance - satisfaction,
                kept=None if ad_free is None else kept,
                ad_text_share=ad_text_share(outcome.response, ads),
                ads=tuple(
                    AdQuality(
                        ad_id=ad.id,
                        factuality=self.factuality(auction, outcome.response, ad),
                        disclosure=disclosure(outcome.response, placement.span, ad),
                    )
                    for ad, placement in pairs
                ),
            ),
        )

    def factuality(self, auction: Auction, response: str, ad: Ad) -> float:
        """How far what an answer says of an ad comes from the ad's own copy: in [0, 1]. A bare link says nothing: 1."""
        found = split(response, [ad])
        said = " ".join(_without(s.text, ad) for s in found if s.ad_id == ad.id).strip(" ,.;:-")
        if not re.search(r"\w", said):
            return 1.0
        copy = [ad.title, *sentences(ad.body)]
        vectors = self._encoder.encode([said, ad.text, *copy])
        support = ramp(float((vectors[1:] @ vectors[0]).max()), *self._scales.factual)
        elsewhere = " ".join(s.text for s in found if s.ad_id != ad.id)
        loose, claims = unsupported(said, [ad.advertiser, ad.category, *copy, auction.query.text, elsewhere])
        return support * (1 - len(loose) / (1 + claims))

    def _satisfaction(
        self, auction: Auction, outcome: Outcome, answer: Sequence[Sentence], reference: Sequence[Sentence]
    ) -> tuple[float, float, float]:
        """Satisfaction, the reference's relevance, and kept."""
        scales = self._scales
        if not answer or not reference:
            return 0.0, self._relevance(auction, reference), 0.0
        query, *rest = self._encoder.encode([auction.query.text, *(s.text for s in (*answer, *reference))])
        ours, theirs = np.array(rest[: len(answer)]), np.array(rest[len(answer) :])
        same = ours @ theirs.T
        serves = [ramp(float(max(o @ query, row.max())), *scales.serves) for o, row in zip(ours, same, strict=True)]
        worth = [scales.ad_worth if s.ad_id else 1.0 for s in answer]
        precision = _mean([s * w for s, w in zip(serves, worth, strict=True)], answer)
        kept = _mean([ramp(float(column.max()), *scales.kept) for column in same.T], reference)
        own = sum(s.words * serve for s, serve in zip(answer, serves, strict=True) if s.ad_id is None)
        given = max(kept, min(1.0, own / sum(s.words for s in reference)))
        f1 = 2 * precision * given / (precision + given) if precision + given else 0.0
        relevance = self._relevance(auction, reference)
        leak, pressure = self._spoilt(auction, outcome)
        calm = (1 - scales.leak_cost * leak) * (1 - scales.pressure_cost * pressure)
        return relevance * f1 * calm, relevance, kept

    def _relevance(self, auction: Auction, sentences: Sequence[Sentence]) -> float:
        if not sentences:
            return 0.0
        query, *rest = self._encoder.encode([auction.query.text, *(s.text for s in sentences)])
        pooled: npt.NDArray[np.float64] = np.average(rest, axis=0, weights=[s.words for s in sentences])
        return ramp(float(query @ pooled / np.linalg.norm(pooled)), *self._scales.relevance)

    def _spoilt(self, auction: Auction, outcome: Outcome) -> tuple[float, float]:
        """How far the answer leaks the ad process, and presses to buy."""
        text = outcome.response
        pitches = []
        for placement in outcome.placements:
            link = auction.bid_of(placement.ad_id).ad.link
            text = text.replace(link, "it")
            pitches.append(ad_copy.pitch_around(outcome.response, placement.span).replace(link, "it"))
        said = sentences(markup.strip_markup(text))
        leak = ramp(float(self._leak(said).max()), *self._scales.leak) if pitches and said else 0.0
        if any(violation.kind == "leaked_process" for violation in outcome.violations):
            leak = 1.0
        return leak, ramp(float(self._pressure(pitches).max()), *self._scales.pressure) if pitches else 0.0


def _without(text: str, ad: Ad) -> str:
    return " ".join(text.replace(ad.title, " ").replace(ad.advertiser, " ").split())


def _mean(values: Sequence[float], sentences: Sequence[Sentence]) -> float:
    return float(np.average(values, weights=[sentence.words for sentence in sentences]))
