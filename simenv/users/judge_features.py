"""What the embedded judge reads in an answer, as numbers: cosines of the encoder and likelihoods of the language model.

It reads what the user sees (query, answer, the ad's title and sentence) and the persona's words (interests, attitude).
It never reads the ad's own copy, which the user does not see, nor the persona's numeric traits.

A model of 135 million parameters answers "yes" or "no" by chance, but its likelihoods are of use the other way round:
a text is likelier after a label that describes it. So every likelihood here is log p(text | label that says yes) -
log p(text | label that says no) per token, the noisy channel of Min et al. 2022 ("Noisy channel language model
prompting for few-shot text classification"), or the like with a context in place of a label.
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
from simenv.llm.base import LLM, Capability, Prompt
from simenv.markup import strip_markup
from simenv.records import Ad, Auction, Outcome, Persona, Placement, Record
from simenv.users import ad_copy, cues
from simenv.users.judge_fence import neutral

FEATURES = {
    "query_cosine": "cosine of the query with the ad's sentence and title, mean",
    "query_likelihood": "log p(query | ad's sentence) - log p(query)",
    "thread_cosine": "cosine of the sentence's words with the nearest of query and sentences before",
    "thread_likelihood": "log p(ad's sentence | query, text before) - log p(ad's sentence)",
    "calm_cosine": "minus the cue 'pushy' of the sentence and what leads up to it",
    "calm_likelihood": "minus the channel 'pushy' of them",
    "interest_cosine": "cosine of the ad with the nearest of the persona's interests",
    "tolerance_cosine": "the cue 'tolerance' of the persona's attitude",
    "tolerance_likelihood": "the channel 'tolerance' of the persona's attitude",
    "price_cosine": "the cue 'cheap' of the sentence, times how thrifty the persona's attitude is",
    "price_likelihood": "the channel 'cheap' of the sentence, times the same",
    "no_rival": "minus the cosine with the most similar other ad shown",
    "few_ads": "minus the number of ads beyond two",
    "discreet_cosine": "minus the cue 'leak' of the most telling sentence of the answer, above what is common",
    "discreet_likelihood": "minus the channel 'leak' of that sentence, above what is common",
}
"""Name -> meaning; each is larger where a click is likelier, other things equal. Log-likelihoods are per token."""

_LONGEST_SENTENCE = 400
"""Characters of a sentence that are read: the encoder and a small model lose the thread of longer ones."""
_READ_BEFORE = 12
"""Sentences before the ad that are read."""
_READ_FOR_LEAKS = 60
"""Sentences of the answer in which leaks are looked for."""
_FREE_ADS = 2
_COMMON_LEAK_CUE = -0.1
_COMMON_LEAK_CHANNEL = 0.0
_NO_INTEREST = 0.25
"""Cosine where the persona names no interests: between an interest in the thing (0.35) and none (0.12)."""
_WIDEST = 5.0
"""Log-likelihoods are cut here: no single impossible token decides."""


class Labels(Record):
    """Beginnings after which a text that shows a thing is likely, and beginnings after which it is not."""

    yes: tuple[str, ...]
    no: tuple[str, ...]


class Seen(NamedTuple):
    """One ad as the user sees it, without its brand."""

    query: str
    before: tuple[str, ...]
    """Sentences of the answer before the ad's own."""
    sentence: str
    """The ad's sentence, with the offer's name in place of the link."""
    words: str
    """The same without the offer's name."""
    title: str
    pitch: tuple[str, ...]
    """The ad's sentence, and what leads up to it."""

    @property
    def offer(self) -> str:
        """What is offered, as far as the user is told."""
        return f"{self.title}. {self.words}"


class Person(NamedTuple):
    """What is read in a persona's words."""

    interests: tuple[str, ...]
    tolerance_cosine: float
    tolerance_likelihood: float
    thrift: float
    """From 0 to 1."""


def seen(auction: Auction, outcome: Outcome, placement: Placement) -> Seen | None:
    """What the user sees of an ad; None if its link is not where the placement says."""
    bid = auction.bid_of(placement.ad_id)
    if bid is None or outcome.response[slice(*placement.span)] != bid.ad.link:
        return None
    ad, response = bid.ad, outcome.response
    start, end = ad_copy.sentence_around(response, placement.span)
    title = ad_copy.offer_title(ad)
    pitch = ad_copy.pitch_around(response, placement.span)
    return Seen(
        query=_short(auction.query.text),
        before=tuple(map(_short, ad_copy.sentences(strip_markup(response[:start]))[-_READ_BEFORE:])),
        sentence=_short(_plain(response[start:end], ad)) or title,
        words=_short(ad_copy.words_around(response[start:end], ad)) or title,
        title=title,
        pitch=tuple(map(_short, ad_copy.sentences(_plain(pitch, ad)))) or (title,),
    )


def _plain(text: str, ad: Ad) -> str:
    """Text with the offer's name in place of the link and without the brand, unless the brand is all the name."""
    named = text.replace(ad.link, ad_copy.offer_title(ad))
    return strip_markup(named).strip() if ad_copy.offer_title(ad) == ad.title else ad_copy.words_around(named, ad)


def _short(text: str) -> str:
    return " ".join(neutral(text, _LONGEST_SENTENCE).split())


class Reader:
    """Reads answers.

    Args:
        encoder: For cosines and cues.
        llm: For likelihoods; it must be able to score.
        wording: Which of the label prompts, 1 or 2.

    Raises:
        MissingCapability: the model cannot score.
    """

    def __init__(self, encoder: Encoder, llm: LLM, wording: int = 1) -> None:
        llm.require(Capability.LOGPROBS)
        self._encoder = encoder
        self._llm = llm
        folder = files("simenv.users")
        self.texts = [
            (folder / name).read_text(encoding="utf-8")
            for name in ("judge_examples.toml", f"prompts/judge_labels_{wording}.toml")
        ]
        """Examples and labels, as in their files."""
        examples, labels = map(tomllib.loads, self.texts)
        self._cues = {name: cues.Cue(encoder, cues.Examples.model_validate(it)) for name, it in examples.items()}
        self._labels = {name: Labels.model_validate(it) for name, it in labels.items()}
        self._lengths: dict[str, int] = {}

    async def read(self, persona: Persona, auction: Auction, outcome: Outcome) -> list[dict[str, float] | None]:
        """The features of every shown ad, in the order of the placements; None for one that is not in the text."""
        ads = [seen(auction, outcome, placement) for placement in outcome.placements]
        if not any(ads):
            return [None for _ in ads]
        person = await self._person(persona)
        common = {
            "tolerance_cosine": person.tolerance_cosine,
            "tolerance_likelihood": person.tolerance_likelihood,
            "few_ads": -float(max(0, len(ads) - _FREE_ADS)),
            **await self._discretion(auction, outcome),
        }
        found: list[dict[str, float] | None] = []
        for ad in ads:
            others = [other.offer for other in ads if other is not None and other is not ad]
            found.append(None if ad is None else {**await self._ad(ad, others, person), **common})
        return found

    async def _ad(self, ad: Seen, others: Sequence[str], person: Person) -> dict[str, float]:
        to_query = self._cosines(ad.query, [ad.sentence, ad.title])
        to_thread = self._cosines(ad.words, [ad.query, *ad.before])
        cheap, pushy = await self._channels(["cheap", "pushy"], [ad.sentence])
        return {
            "query_cosine": float(to_query.mean()),
            "query_likelihood": await self._query_likelihood(ad),
            "thread_cosine": float(to_thread.max()),
            "thread_likelihood": await self._thread_likelihood(ad),
            "calm_cosine": -float(self._cues["pushy"](ad.pitch).max()),
            "calm_likelihood": -float(pushy[0]),
            "interest_cosine": max(self._cosines(ad.offer, person.interests), default=_NO_INTEREST),
            "price_cosine": person.thrift * float(self._cues["cheap"]([ad.sentence])[0]),
            "price_likelihood": person.thrift * float(cheap[0]),
            "no_rival": -max([0.0, *self._cosines(ad.offer, others)]),
        }

    async def _person(self, persona: Persona) -> Person:
        """Attitudes speak of ads and of prices in different sentences: the most decided one counts."""
        said = list(map(_short, ad_copy.sentences(persona.attitude)))
        interests = tuple(map(_short, persona.interests))
        if not said:
            return Person(interests, 0.0, 0.0, 0.0)
        tolerance = self._cues["tolerance"](said)
        place = int(np.abs(tolerance).argmax())
        (channel,) = await self._channels(["tolerance"], [said[place]])
        thrift = float(self._cues["thrift"](said).max())
        return Person(interests, float(tolerance[place]), float(channel[0]), min(1.0, max(0.0, 0.5 + thrift)))

    async def _discretion(self, auction: Auction, outcome: Outcome) -> dict[str, float]:
        """The encoder finds the most telling sentence, the language model reads that one."""
        text = outcome.response
        for bid in auction.bids:
            text = text.replace(bid.ad.link, ad_copy.offer_title(bid.ad))
        said = list(dict.fromkeys(map(_short, ad_copy.sentences(strip_markup(text)))))[-_READ_FOR_LEAKS:]
        telling = self._cues["leak"](said)
        worst = int(telling.argmax())
        (channel,) = await self._channels(["leak"], [said[worst]])
        return {
            "discreet_cosine": -max(0.0, float(telling[worst]) - _COMMON_LEAK_CUE),
            "discreet_likelihood": -max(0.0, float(channel[0]) - _COMMON_LEAK_CHANNEL),
        }

    def _cosines(self, text: str, others: Sequence[str]) -> npt.NDArray[np.float64]:
        vectors = self._encoder.encode([text, *others]).astype(np.float64)
        return np.asarray(vectors[1:] @ vectors[0])

    async def _channels(self, names: Sequence[str], texts: Sequence[str]) -> list[list[float]]:
        """log p(text | yes) - log p(text | no) per token, mean over the labels of each cue: shape (names, texts)."""
        labels = [label for name in names for label in (*self._labels[name].yes, *self._labels[name].no)]
        prompt = Prompt(user="Write something.")
        unknown = [label for label in labels if label not in self._lengths]
        if unknown:
            rows = await self._llm.logprob(prompt, unknown)
            self._lengths |= {label: len(row) for label, row in zip(unknown, rows, strict=True)}
        rows = await self._llm.logprob(prompt, [f"{label} {text}" for label in labels for text in texts])
        means = [_mean(row[self._lengths[labels[i // len(texts)]] :]) for i, row in enumerate(rows)]
        scores = dict(zip(labels, np.reshape(means, (len(labels), len(texts))), strict=True))
        found = []
        for name in names:
            yes, no = ([scores[label] for label in side] for side in (self._labels[name].yes, self._labels[name].no))
            found.append(_cut(np.mean(yes, axis=0) - np.mean(no, axis=0)))
        return found

    async def _query_likelihood(self, ad: Seen) -> float:
        asked = "A person asked an assistant a question. The question:"
        ((alone,), (after,)) = [
            await self._llm.logprob(Prompt(user=f"{told}{asked}"), [ad.query])
            for told in ("", f'A person found this useful: "{ad.sentence}"\n')
        ]
        return _cut([_mean(after) - _mean(alone)])[0]

    async def _thread_likelihood(self, ad: Seen) -> float:
        text = f" {ad.sentence}"
        ((after,), (alone,)) = [
            await self._llm.logprob(prompt, [text])
            for prompt in (Prompt(user=ad.query, prefill=" ".join(ad.before)), Prompt(user="Tell me something."))
        ]
        return _cut([_mean(after) - _mean(alone)])[0]


def _mean(logprobs: Sequence[float]) -> float:
    return sum(logprobs) / len(logprobs) if logprobs else 0.0


def _cut(values: Sequence[float] | npt.NDArray[np.float64]) -> list[float]:
    return [0.0 if math.isnan(value) else min(_WIDEST, max(-_WIDEST, float(value))) for value in values]
