"""Features of the embedded judge: cosines of the encoder and likelihoods of the language model.

Inputs are what the user sees (query, answer, the ad's title and sentence) and the persona's texts (interests,
attitude). The ad's body and the persona's numeric traits are not used: the user does not see the one, and a judge of
texts does not get the other.

A model of 135 million parameters answers yes-or-no questions no better than chance. But a text has a higher likelihood
after a label that describes it. So a "channel" feature is log p(text | label for yes) - log p(text | label for no) per
token: the noisy channel of Min et al. 2022 ("Noisy channel language model prompting for few-shot text classification").
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv.encoder import Encoder
from simenv.judges import ad_copy, cues
from simenv.judges.fence import neutralize
from simenv.llm.base import LLM, Capability, Prompt
from simenv.markup import strip_markup
from simenv.one_thread import product
from simenv.records import Ad, Auction, Outcome, Persona, Placement, Record
from simenv.text import sentence_around, sentences

FEATURES = {
    "query": "cosine of the query with the ad's sentence and with its title, mean",
    "thread": "cosine of the sentence's words with the nearest of query and sentences before, up to 0.45",
    "calm_cue": "minus the cue 'pushy' of the loudest sentence of the pitch, up to 0.1",
    "calm_channel": "minus the channel 'pushy' of that sentence, up to 0",
    "interest": "cosine of query and ad's title with the nearest of the persona's interests",
    "tolerance_cue": "cue 'tolerance' of the persona's attitude",
    "tolerance_channel": "channel 'tolerance' of the persona's attitude",
    "price_cue": "cue 'cheap' of the ad's sentence, times how thrifty the persona's attitude is",
    "price_channel": "channel 'cheap' of the ad's sentence, times the same",
    "no_rival": "minus the cosine with the most similar other ad shown",
    "few_ads": "minus the number of ads beyond two",
    "discreet": "minus the cue 'leak' of the most telling sentence of the answer, above what is common",
}
"""Name -> meaning. A larger value means a likelier click, other things equal.

Some features have a cap, above which a larger value carries no information: an ad sentence that is coherent enough or
calm enough does not improve further. Without caps, mere paraphrases would change the click probability.
"""

_MAX_SENTENCE_CHARS = 400
"""Characters of a sentence that are used: the encoder and a small model represent longer ones badly."""
_SENTENCES_BEFORE = 12
"""Sentences before the ad that are used."""
_LEAK_SENTENCES = 60
"""Sentences of the answer that are checked for leaks, the last ones."""
_FREE_ADS = 2
_THREAD_CAP = 0.45
_CALM_CAP = 0.1
_LEAK_BASELINE = -0.1
"""Highest leak cue of a sentence without a leak, on the dev part of the suite."""
_DEFAULT_INTEREST = 0.25
"""Cosine if the persona has no interests: between an interest in the product (0.4) and no interest (0.1)."""
_PROMPT = Prompt(user="Write something.")
_CHANNEL_LIMIT = 5.0
"""Channels are clipped to +-5, so that a single impossible token does not decide."""


class Labels(Record):
    """Text beginnings: `yes` ones make a text with the property likely, `no` ones make it unlikely."""

    yes: tuple[str, ...]
    no: tuple[str, ...]


class VisibleAd(NamedTuple):
    """One ad as the user sees it, without its brand."""

    query: str
    before: tuple[str, ...]
    """Sentences of the answer before the ad's sentence."""
    sentence: str
    """The ad's sentence, with the offer's name in place of the link."""
    words: str
    """The same without the offer's name."""
    title: str
    pitch: tuple[str, ...]
    """The ad's sentence, and the one before it; see `ad_copy.pitch_around`."""

    @property
    def offer(self) -> str:
        """The offer as the answer describes it."""
        return f"{self.title}. {self.words}"


class PersonaSignals(NamedTuple):
    """Features of a persona's texts."""

    interests: tuple[str, ...]
    tolerance_cue: float
    tolerance_channel: float
    thrift: float
    """From 0 to 1."""


def visible_ad(auction: Auction, outcome: Outcome, placement: Placement) -> VisibleAd | None:
    """Returns the ad as the user sees it; None if its link is not at the placement's span."""
    response = outcome.response
    ad = next((bid.ad for bid in auction.bids if bid.ad.id == placement.ad_id), None)
    if ad is None or response[slice(*placement.span)] != ad.link:
        return None
    start, end = sentence_around(response, placement.span)
    title = ad_copy.offer_title(ad)
    pitch = ad_copy.pitch_around(response, placement.span)
    return VisibleAd(
        query=_short(auction.query.text),
        before=tuple(map(_short, sentences(strip_markup(response[:start]))[-_SENTENCES_BEFORE:])),
        sentence=_short(_plain(response[start:end], ad)) or title,
        words=_short(ad_copy.words_around(response[start:end], ad)) or title,
        title=title,
        pitch=tuple(map(_short, sentences(_plain(pitch, ad)))) or (title,),
    )


def _plain(text: str, ad: Ad) -> str:
    """Replaces the link by the offer's name and removes the brand, unless the title consists of the brand alone."""
    named = text.replace(ad.link, ad_copy.offer_title(ad))
    return strip_markup(named).strip() if ad_copy.offer_title(ad) == ad.title else ad_copy.words_around(named, ad)


def _short(text: str) -> str:
    return " ".join(neutralize(text, _MAX_SENTENCE_CHARS).split())


class FeatureReader:
    """Computes the features of an answer's ads.

    Args:
        encoder: Computes cosines and cues.
        llm: Computes likelihoods; it must be able to score continuations.
        wording: Version of the label prompts, 1 or 2.

    Raises:
        MissingCapability: the model cannot score continuations.
    """

    def __init__(self, encoder: Encoder, llm: LLM, wording: int = 1) -> None:
        llm.require(Capability.LOGPROBS)
        self._encoder = encoder
        self._llm = llm
        folder = files("simenv.judges")
        self.texts = [
            (folder / name).read_text(encoding="utf-8")
            for name in ("judge_examples.toml", f"prompts/judge_labels_{wording}.toml")
        ]
        """Contents of the examples file and of the labels file."""
        examples, labels = map(tomllib.loads, self.texts)
        self._cues = {name: cues.Cue(encoder, cues.Examples.model_validate(lists)) for name, lists in examples.items()}
        self._labels = {name: Labels.model_validate(lists) for name, lists in labels.items()}
        self._lengths: dict[str, list[int]] = {}

    async def measure_labels(self) -> None:
        """Counts the tokens of the labels once. `read` does so too, but would bill these calls to the first answer."""
        for name, labels in self._labels.items():
            if name not in self._lengths:
                rows = await self._llm.logprob(_PROMPT, [*labels.yes, *labels.no])
                self._lengths[name] = [len(row) for row in rows]

    async def read(self, persona: Persona, auction: Auction, outcome: Outcome) -> list[dict[str, float] | None]:
        """Features of every shown ad, in the order of the placements; None for an ad whose link is not in the text."""
        await self.measure_labels()
        ads = [visible_ad(auction, outcome, placement) for placement in outcome.placements]
        if not any(ads):
            return [None for _ in ads]
        person = await self._person(persona)
        common = {
            "tolerance_cue": person.tolerance_cue,
            "tolerance_channel": person.tolerance_channel,
            "few_ads": -float(max(0, len(ads) - _FREE_ADS)),
            "discreet": -max(0.0, self._leak(auction, outcome) - _LEAK_BASELINE),
        }
        rows: list[dict[str, float] | None] = []
        for ad in ads:
            others = [other.offer for other in ads if other is not None and other is not ad]
            rows.append(None if ad is None else {**await self._ad(ad, others, person), **common})
        return rows

    async def _ad(self, ad: VisibleAd, others: Sequence[str], person: PersonaSignals) -> dict[str, float]:
        pushy = self._cues["pushy"](ad.pitch)
        loudest = int(pushy.argmax())
        cheap_cue, cheap_channel = 0.0, 0.0
        if person.thrift > 0:
            cheap_cue = float(self._cues["cheap"]([ad.sentence])[0])
            cheap_channel = await self._channel("cheap", ad.sentence)
        return {
            "query": float(self._cosines(ad.query, [ad.sentence, ad.title]).mean()),
            "thread": min(_THREAD_CAP, float(self._cosines(ad.words, [ad.query, *ad.before]).max())),
            "calm_cue": min(_CALM_CAP, -float(pushy[loudest])),
            "calm_channel": min(0.0, -await self._channel("pushy", ad.pitch[loudest])),
            "interest": max(
                self._cosines(f"{ad.query} {ad.title}", person.interests).tolist(), default=_DEFAULT_INTEREST
            ),
            "price_cue": person.thrift * cheap_cue,
            "price_channel": person.thrift * cheap_channel,
            "no_rival": -max([0.0, *self._cosines(ad.offer, others).tolist()]),
        }

    async def _person(self, persona: Persona) -> PersonaSignals:
        """An attitude mentions ads and prices in different sentences, so the strongest sentence counts for each."""
        attitude = list(map(_short, sentences(persona.attitude)))
        interests = tuple(map(_short, persona.interests))
        if not attitude:
            return PersonaSignals(interests, 0.0, 0.0, 0.0)
        tolerance = self._cues["tolerance"](attitude)
        place = int(np.abs(tolerance).argmax())
        channel = await self._channel("tolerance", attitude[place])
        thrift = 0.5 + float(self._cues["thrift"](attitude).max())
        return PersonaSignals(interests, float(tolerance[place]), channel, min(1.0, max(0.0, thrift)))

    def _leak(self, auction: Auction, outcome: Outcome) -> float:
        """The highest leak cue of any sentence of the answer."""
        text = outcome.response
        for bid in auction.bids:
            text = text.replace(bid.ad.link, ad_copy.offer_title(bid.ad))
        answer = list(dict.fromkeys(map(_short, sentences(strip_markup(text)))))
        return float(self._cues["leak"](answer[-_LEAK_SENTENCES:] or [""]).max())

    def _cosines(self, text: str, others: Sequence[str]) -> npt.NDArray[np.float64]:
        vectors = self._encoder.encode([text, *others]).astype(np.float64)
        return np.asarray(product(vectors[1:], vectors[0]))

    async def _channel(self, name: str, text: str) -> float:
        """log p(text | yes) - log p(text | no) per token, mean over the labels of each side; 0 if both are impossible.

        All labels are scored in one call. The first tokens of each row belong to the label and are dropped.
        """
        yes, no = self._labels[name].yes, self._labels[name].no
        rows = await self._llm.logprob(_PROMPT, [f"{label} {text}" for label in (*yes, *no)])
        means = [_mean(row[length:]) for row, length in zip(rows, self._lengths[name], strict=True)]
        gap = sum(means[: len(yes)]) / len(yes) - sum(means[len(yes) :]) / len(no)
        return 0.0 if math.isnan(gap) else min(_CHANNEL_LIMIT, max(-_CHANNEL_LIMIT, gap))


def _mean(logprobs: Sequence[float]) -> float:
    return sum(logprobs) / len(logprobs) if logprobs else 0.0
