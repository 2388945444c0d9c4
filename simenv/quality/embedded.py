"""Answer quality beside clicks, measured on embeddings: cheap and deterministic.

Write y for the answer, y0 for the ad-free one (same query, same key), x for the query, S(y) for y's sentences, w_s for
a sentence's word count, cos for the encoder's cosine, and ramp_a for the linear ramp from 0 at a.none to 1 at a.full.

    serves(s)    = ramp_s(max(cos(s, x), max over t in S(y0) of cos(s, t)))          times ad_worth if s is an ad's
    precision    = sum over s in S(y) of w_s serves(s) / sum of w_s
    kept         = sum over t in S(y0) of w_t ramp_k(max over s in S(y) of cos(s, t)) / sum of w_t
    recall       = max(kept, min(1, sum over s in S(y) that are no ad's of w_s serves(s) / sum over S(y0) of w_t))
    satisfaction = worth(y0) * F1(precision, recall) * (1 - leak_cost leak) * (1 - pressure_cost pressure)
                   * min(1, form(y) / form(y0))
    quality_loss = worth(y0) - satisfaction
    worth(y)     = form(y) * (relevance(y), or 1 for a refusal)
    relevance(y) = off_topic + (1 - off_topic) ramp_r(cos(x, mean of S(y)'s vectors, weighted by words))

form(y) in [0, 1] is 1 for a plain answer, and less for one that repeats the question, refuses, loops or breaks off
(`form.py`). So an echo, the answer to another question, a refusal, a looped and a cut answer stand in this order below
a plain good one: `simenv validate-quality` measures how often.

Precision and kept are BERTScore's greedy matching (Zhang, Kishore, Wu, Weinberger and Artzi 2020, "BERTScore", eq. 1)
with sentences in place of tokens. Precision is the share of the answer that serves the question; kept is the share of
the ad-free answer that the answer still contains. `recall` also accepts new content: sentences that serve the question
make up for content of y0 that is missing. `leak` and `pressure` in [0, 1] are the highest sentence scores on the cues
of `simenv/judges/cues.py`. For each ad:

    factuality   = ramp_f(max over the copy's sentences c of cos(ad's words, c)) * (1 - unsupported / (1 + claims))
    disclosure   = 1 if the text calls it an ad, 0.5 if only the link shows it, 0 without an intact link

Claims are numbers, prices and proper nouns (`simenv/writer/claims.py`). Not measured are: the truth of an answer (one
that puts the Colosseum in Lisbon is worth as much as one that puts it in Rome); whether the answer is better than y0,
which has loss 0 by definition; a claim that the copy itself makes falsely, or denies; whether a
reader notices a disclosure. Because y0 has loss 0, a mechanism that writes its own answer has a loss above 0 by chance:
a second ad-free sample of SmolLM2-135M lost 0.22 +- 0.07 on 16 questions, the answer to another question 0.81 (both
with the measure before it had a floor). The
click model uses the same cues, so the two measurements are not independent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from simenv import markup
from simenv.encoder import Encoder, together
from simenv.judges import ad_copy
from simenv.judges.cues import Cue, ramp, read_examples
from simenv.links import masked_links
from simenv.one_thread import one_thread, product
from simenv.quality.form import FormWorth, form
from simenv.records import Ad, AdQuality, Auction, Feedback, Outcome, Persona, Quality, Record
from simenv.refusals import sounds_like_refusal
from simenv.text import sentence_spans, sentences
from simenv.writer.claims import content_words, numbers, unsupported


class Scales(Record):
    """All parameters of the embedded measures, chosen on the dev part of the contrast suite.

    Each pair is (none, full): the cosine or cue score at which the ramp is 0 and at which it is 1.
    """

    serves: tuple[float, float] = (0.15, 0.45)
    """Ramp of a sentence that serves the question."""
    kept: tuple[float, float] = (0.45, 0.75)
    """Ramp of a sentence of the ad-free answer that is kept. Other sentences on the same topic reach 0.45."""
    relevance: tuple[float, float] = (0.24, 0.5)
    """Ramp of a whole answer's relevance to the question."""
    off_topic: float = 0.05
    """Relevance of an answer to another question: more than that of an echo."""
    refusal: float = 0.4
    """Cosine with an example of `refusals.txt` from which a sentence refuses. Refusals of the dev part are at 0.4 or
    more, sentences of its answers at 0.31 or less."""
    form: FormWorth = FormWorth()
    factual: tuple[float, float] = (0.2, 0.5)
    """Ramp of an ad sentence's similarity to the ad's copy."""
    ad_worth: float = 0.8
    """Weight of a perfectly relevant ad sentence, relative to a sentence of the answer: the user did not request it."""
    leak: tuple[float, float] = (0.0, 0.35)
    leak_cost: float = 0.5
    pressure: tuple[float, float] = (-0.15, 0.3)
    pressure_cost: float = 0.3


class QualityMeasure(Protocol):
    """Measures the quality of an answer; the judge decides on clicks."""

    name: str
    sha256: str
    """Hash of the measure's parameters or prompts, for manifests."""

    async def measure(self, persona: Persona, auction: Auction, outcome: Outcome, ad_free: str | None) -> Feedback:
        """Returns `satisfaction` and `quality` of one answer, without clicks. An unknown value is None, not 0.

        Args:
            persona, auction, outcome: As for a judge.
            ad_free: The ad-free answer to the same auction; None if there is none.
        """
        ...


class Sentence(NamedTuple):
    """One sentence of an answer."""

    text: str
    """Without mark-up."""
    words: int
    ad_id: str | None
    """The ad whose link it contains or whose body it repeats; None for a sentence without an ad."""


def split(text: str, ads: Sequence[Ad] = ()) -> list[Sentence]:
    """Splits an answer into sentences; a full stop inside a link does not end a sentence.

    Args:
        text: The answer, with mark-up.
        ads: The ads that it shows.
    """
    ids = {ad.id for ad in ads}
    parts = []
    for plain, words, links in _pieces(text):
        linked = [ad_id for ad_id in links if ad_id in ids]
        quoted = [ad.id for ad in ads if plain.rstrip(".!? ") in ad.body]
        parts.append(Sentence(plain, words, next(iter([*linked, *quoted]), None)))
    return parts


@lru_cache(maxsize=256)  # one answer is split for each of its ads
def _pieces(text: str) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    """Every sentence with a word in it: without mark-up, its number of words, and the ids that it links."""
    pieces = []
    for start, stop in sentence_spans(masked_links(text)):
        piece = text[start:stop]
        plain = markup.strip_markup(piece).strip()
        if re.search(r"\w", plain):
            links = tuple(match["id"] for match in markup.LINK.finditer(piece))
            pieces.append((plain, len(plain.split()), links))
    return tuple(pieces)


def ad_text_share(text: str, ads: Sequence[Ad]) -> float:
    """Words in sentences that contain an ad's link or repeat its body, divided by all words. In [0, 1]."""
    parts = split(text, ads)
    total = sum(part.words for part in parts)
    return sum(part.words for part in parts if part.ad_id) / total if total else 0.0


def disclosure(response: str, span: tuple[int, int], ad: Ad) -> float:
    """Returns 1 if the ad's sentence, or the line or sentence before it, says that it is an ad; 0.5 for the link alone.

    Returns 0 if `span` does not contain the ad's intact link, because nothing then separates the ad from the answer.
    """
    if response[slice(*span)] != ad.link:
        return 0.0
    return 1.0 if ad_copy.is_labelled(response, span) else 0.5


class EmbeddedQuality:
    """Measures satisfaction, ad text, factuality and disclosure with the sentence encoder; calls no language model.

    Args:
        encoder: Text encoder. Sharing the click model's encoder saves time, because it caches embeddings.
        scales: The parameters.
    """

    def __init__(self, encoder: Encoder, scales: Scales | None = None) -> None:
        self.name = f"embedded-v2:{encoder.name}"
        self._scales = scales or Scales()
        examples = read_examples()
        parts = [
            self._scales.model_dump_json(),
            *_refusal_examples(),
            *(examples[cue].model_dump_json() for cue in ("leak", "pressure")),
        ]
        self.sha256 = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self._encoder = encoder
        self._leak = Cue(encoder, examples["leak"])
        self._pressure = Cue(encoder, examples["pressure"])

    async def measure(self, persona: Persona, auction: Auction, outcome: Outcome, ad_free: str | None) -> Feedback:
        return await together(
            self._encoder,
            lambda: self._measure(auction, outcome, ad_free),
            lambda: self._texts(auction, outcome, ad_free),
        )

    def _texts(self, auction: Auction, outcome: Outcome, ad_free: str | None) -> list[str]:
        """All texts whose vectors `_measure` needs."""
        ads = [auction.bid_of(placement.ad_id).ad for placement in outcome.placements]
        parts = split(outcome.response, ads) + (split(ad_free) if ad_free is not None else [])
        texts = [auction.query.text, *(part.text for part in parts)]
        for ad in ads:
            texts += [_statement(split(outcome.response, [ad]), ad), ad.text, ad.title, *sentences(ad.body)]
        plain, pitches = _plain_and_pitches(auction, outcome)
        return [*texts, *pitches, *(plain if pitches else [])]

    def _measure(self, auction: Auction, outcome: Outcome, ad_free: str | None) -> Feedback:
        ads = [auction.bid_of(placement.ad_id).ad for placement in outcome.placements]
        answer = split(outcome.response, ads)
        # Without an ad-free answer, the answer is compared with its own sentences that have no ad: satisfaction is
        # defined, the loss is unknown.
        reference = split(ad_free) if ad_free is not None else [s for s in answer if s.ad_id is None]
        with one_thread():
            satisfaction, worth, kept = self._satisfaction(auction, outcome, answer, reference)
            factuality = [self.factuality(auction, outcome.response, ad) for ad in ads]
        rated = zip(ads, outcome.placements, factuality, strict=True)
        return Feedback(
            satisfaction=satisfaction,
            quality=Quality(
                ad_free=ad_free,
                quality_loss=None if ad_free is None else worth - satisfaction,
                kept=None if ad_free is None else kept,
                ad_text_share=ad_text_share(outcome.response, ads),
                ads=tuple(
                    AdQuality(
                        ad_id=ad.id,
                        factuality=factual,
                        disclosure=disclosure(outcome.response, placement.span, ad),
                    )
                    for ad, placement, factual in rated
                ),
            ),
        )

    def factuality(self, auction: Auction, response: str, ad: Ad) -> float:
        """Degree to which the answer's statements on an ad come from the ad's copy: in [0, 1]; 1 for a bare link."""
        parts = split(response, [ad])
        statement = _statement(parts, ad)
        if not content_words(statement) and not numbers(statement):
            return 1.0  # a bare link, with or without words that only recommend
        copy = [ad.title, *sentences(ad.body)]
        vectors = self._encoder.encode([statement, ad.text, *copy])
        support = ramp(float(product(vectors[1:], vectors[0]).max()), *self._scales.factual)
        elsewhere = " ".join(s.text for s in parts if s.ad_id != ad.id)
        new, claims = unsupported(statement, [ad.advertiser, ad.category, *copy, auction.query.text, elsewhere])
        return support * (1 - len(new) / (1 + claims))

    def _satisfaction(
        self, auction: Auction, outcome: Outcome, answer: Sequence[Sentence], reference: Sequence[Sentence]
    ) -> tuple[float, float, float]:
        """Returns satisfaction, worth of the reference, and kept."""
        scales = self._scales
        if not answer or not reference:
            return 0.0, self._worth(auction, reference)[0], 0.0
        query, *rest = self._encoder.encode([auction.query.text, *(s.text for s in (*answer, *reference))])
        ours, theirs = np.array(rest[: len(answer)]), np.array(rest[len(answer) :])
        cosines = product(ours, theirs.T)
        serves = [ramp(float(max(o @ query, row.max())), *scales.serves) for o, row in zip(ours, cosines, strict=True)]
        weights = [scales.ad_worth if s.ad_id else 1.0 for s in answer]
        precision = _mean([s * w for s, w in zip(serves, weights, strict=True)], answer)
        kept = _mean([ramp(float(column.max()), *scales.kept) for column in cosines.T], reference)
        own = sum(s.words * serve for s, serve in zip(answer, serves, strict=True) if s.ad_id is None)
        recall = max(kept, min(1.0, own / sum(s.words for s in reference)))
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        worth, whole = self._worth(auction, reference)
        formed = self._form(auction, answer)
        leak, pressure = self._leak_and_pressure(auction, outcome)
        penalty = (1 - scales.leak_cost * leak) * (1 - scales.pressure_cost * pressure)
        return worth * f1 * penalty * (min(1.0, formed / whole) if whole else 0.0), worth, kept

    def _worth(self, auction: Auction, reference: Sequence[Sentence]) -> tuple[float, float]:
        """Returns the worth of a reference, and what its form leaves of it."""
        if not reference:
            return 0.0, 1.0
        scales = self._scales
        formed = self._form(auction, reference)
        if formed == scales.form.refusal:
            return formed, formed
        return formed * (scales.off_topic + (1 - scales.off_topic) * self._relevance(auction, reference)), formed

    def _form(self, auction: Auction, parts: Sequence[Sentence]) -> float:
        """The form of an answer without its ads; of one that has nothing else, of all of it."""
        own = [part for part in parts if part.ad_id is None] or list(parts)
        if not own:
            return 1.0
        closeness = product(self._encoder.encode([part.text for part in own]), self._refusals.T)
        refusing = [
            sounds_like_refusal(part.text) or float(row.max()) >= self._scales.refusal
            for part, row in zip(own, closeness, strict=True)
        ]
        most = _mean([float(refuses) for refuses in refusing], own) >= 0.5
        return form("\n".join(part.text for part in own), auction.query.text, most, self._scales.form)

    @cached_property
    def _refusals(self) -> npt.NDArray[np.float32]:
        return self._encoder.encode(_refusal_examples())

    def _relevance(self, auction: Auction, sentences: Sequence[Sentence]) -> float:
        query, *rest = self._encoder.encode([auction.query.text, *(s.text for s in sentences)])
        pooled: npt.NDArray[np.float64] = np.average(rest, axis=0, weights=[s.words for s in sentences])
        return ramp(float(product(query, pooled) / np.linalg.norm(pooled)), *self._scales.relevance)

    def _leak_and_pressure(self, auction: Auction, outcome: Outcome) -> tuple[float, float]:
        """Returns how strongly the answer leaks the ad process and how strongly it presses to buy, each in [0, 1]."""
        plain, pitches = _plain_and_pitches(auction, outcome)
        leak = ramp(float(self._leak(plain).max()), *self._scales.leak) if pitches and plain else 0.0
        if any(violation.kind == "leaked_process" for violation in outcome.violations):
            leak = 1.0
        return leak, ramp(float(self._pressure(pitches).max()), *self._scales.pressure) if pitches else 0.0


@cache
def _refusal_examples() -> tuple[str, ...]:
    lines = (files("simenv.quality") / "refusals.txt").read_text(encoding="utf-8").splitlines()
    return tuple(sentence for line in lines for sentence in sentences(line))


def _plain_and_pitches(auction: Auction, outcome: Outcome) -> tuple[list[str], list[str]]:
    """Returns the answer's sentences and the pitch of each ad, with "it" in place of links."""
    text = outcome.response
    pitches = []
    for placement in outcome.placements:
        link = auction.bid_of(placement.ad_id).ad.link
        text = text.replace(link, "it")
        pitches.append(ad_copy.pitch_around(outcome.response, placement.span).replace(link, "it"))
    return sentences(markup.strip_markup(text)), pitches


def _statement(parts: Sequence[Sentence], ad: Ad) -> str:
    """What the answer says of an ad, without its names."""
    return " ".join(_remove_names(part.text, ad) for part in parts if part.ad_id == ad.id).strip(" ,.;:-")


def _remove_names(text: str, ad: Ad) -> str:
    return " ".join(text.replace(ad.title, " ").replace(ad.advertiser, " ").split())


def _mean(values: Sequence[float], sentences: Sequence[Sentence]) -> float:
    """The mean weighted by words: what numpy.average gives, without its checks."""
    weights = np.array([sentence.words for sentence in sentences], dtype=np.float64)
    return float(np.multiply(values, weights).sum() / weights.sum())
