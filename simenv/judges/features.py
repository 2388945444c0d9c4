"""What the embedded judge reads in an answer, as numbers: cosines of the encoder and likelihoods of the language model.

It reads what the user sees (query, answer, the ad's title and sentence) and the persona's words (interests, attitude).
It never reads the ad's own copy, which the user does not see, nor the persona's numeric traits.

A model of 135 million parameters answers "yes" or "no" by chance, but its likelihoods are of use the other way round:
a text is likelier after a label that describes it. So a channel here is log p(text | label that says yes) -
log p(text | label that says no) per token, the noisy channel of Min et al. 2022 ("Noisy channel language model
prompting for few-shot text classification").
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
from simenv.judges.fence import neutral
from simenv.llm.base import LLM, Capability, Prompt
from simenv.markup import strip_markup
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
"""Name -> meaning; each is larger where a click is likelier, other things equal.

They are capped where more of them means nothing: an ad sentence that goes on from what was read well enough, or that
is calm enough, is not better for being closer or calmer still. Else paraphrases would count.
"""

_LONGEST_SENTENCE = 400
"""Characters of a sentence that are read: the encoder and a small model lose the thread of longer ones."""
_READ_BEFORE = 12
"""Sentences before the ad that are read."""
_READ_FOR_LEAKS = 60
"""Sentences of the answer in which leaks are looked for."""
_FREE_ADS = 2
_THREAD_KEPT = 0.45
_CALM_ENOUGH = 0.1
_COMMON_LEAK = -0.1
"""Cue of sentences that leak nothing, at most, on the development part."""
_NO_INTEREST = 0.25
"""Cosine where the persona names no interests: between an interest in the thing (0.4) and none (0.1)."""
_PROMPT = Prompt(user="Write something.")
_WIDEST = 5.0
"""Channels are cut here: no single impossible token decides."""


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
    tolerance_cue: float
    tolerance_channel: float
    thrift: float
    """From 0 to 1."""


def seen(auction: Auction, outcome: Outcome, placement: Placement) -> Seen | None:
    """What the user sees of an ad; None if its link is not where the placement says."""
    response = outcome.response
    ad = next((bid.ad for bid in auction.bids if bid.ad.id == placement.ad_id), None)
    if ad is None or response[slice(*placement.span)] != ad.link:
        return None
    start, end = sentence_around(response, placement.span)
    title = ad_copy.offer_title(ad)
    pitch = ad_copy.pitch_around(response, placement.span)
    return Seen(
        query=_short(auction.query.text),
        before=tuple(map(_short, sentences(strip_markup(response[:start]))[-_READ_BEFORE:])),
        sentence=_short(_plain(response[start:end], ad)) or title,
        words=_short(ad_copy.words_around(response[start:end], ad)) or title,
        title=title,
        pitch=tuple(map(_short, sentences(_plain(pitch, ad)))) or (title,),
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
        folder = files("simenv.judges")
        self.texts = [
            (folder / name).read_text(encoding="utf-8")
            for name in ("judge_examples.toml", f"prompts/judge_labels_{wording}.toml")
        ]
        """Examples and labels, as in their files."""
        examples, labels = map(tomllib.loads, self.texts)
        self._cues = {name: cues.Cue(encoder, cues.Examples.model_validate(it)) for name, it in examples.items()}
        self._labels = {name: Labels.model_validate(it) for name, it in labels.items()}
        self._lengths: dict[str, list[int]] = {}

    async def measure_labels(self) -> None:
        """Counts the tokens of the labels, once; `read` would do it too, but this cost is not the first answer's."""
        for name, labels in self._labels.items():
            if name not in self._lengths:
                rows = await self._llm.logprob(_PROMPT, [*labels.yes, *labels.no])
                self._lengths[name] = [len(row) for row in rows]

    async def read(self, persona: Persona, auction: Auction, outcome: Outcome) -> list[dict[str, float] | None]:
        """The features of every shown ad, in the order of the placements; None for one that is not in the text."""
        await self.measure_labels()
        ads = [seen(auction, outcome, placement) for placement in outcome.placements]
        if not any(ads):
            return [None for _ in ads]
        person = await self._person(persona)
        common = {
            "tolerance_cue": person.tolerance_cue,
            "tolerance_channel": person.tolerance_channel,
            "few_ads": -float(max(0, len(ads) - _FREE_ADS)),
            "discreet": -max(0.0, self._leak(auction, outcome) - _COMMON_LEAK),
        }
        found: list[dict[str, float] | None] = []
        for ad in ads:
            others = [other.offer for other in ads if other is not None and other is not ad]
            found.append(None if ad is None else {**await self._ad(ad, others, person), **common})
        return found

    async def _ad(self, ad: Seen, others: Sequence[str], person: Person) -> dict[str, float]:
        pushy = self._cues["pushy"](ad.pitch)
        loudest = int(pushy.argmax())
        cheap_cue, cheap_channel = 0.0, 0.0
        if person.thrift > 0:
            cheap_cue = float(self._cues["cheap"]([ad.sentence])[0])
            cheap_channel = await self._channel("cheap", ad.sentence)
        return {
            "query": float(self._cosines(ad.query, [ad.sentence, ad.title]).mean()),
            "thread": min(_THREAD_KEPT, float(self._cosines(ad.words, [ad.query, *ad.before]).max())),
            "calm_cue": min(_CALM_ENOUGH, -float(pushy[loudest])),
            "calm_channel": min(0.0, -await self._channel("pushy", ad.pitch[loudest])),
            "interest": max(self._cosines(f"{ad.query} {ad.title}", person.interests).tolist(), default=_NO_INTEREST),
            "price_cue": person.thrift * cheap_cue,
            "price_channel": person.thrift * cheap_channel,
            "no_rival": -max([0.0, *self._cosines(ad.offer, others).tolist()]),
        }

    async def _person(self, persona: Persona) -> Person:
        """Attitudes speak of ads and of prices in different sentences: the most decided one counts."""
        said = list(map(_short, sentences(persona.attitude)))
        interests = tuple(map(_short, persona.interests))
        if not said:
            return Person(interests, 0.0, 0.0, 0.0)
        tolerance = self._cues["tolerance"](said)
        place = int(np.abs(tolerance).argmax())
        channel = await self._channel("tolerance", said[place])
        thrift = 0.5 + float(self._cues["thrift"](said).max())
        return Person(interests, float(tolerance[place]), channel, min(1.0, max(0.0, thrift)))

    def _leak(self, auction: Auction, outcome: Outcome) -> float:
        """The cue of the most telling sentence."""
        text = outcome.response
        for bid in auction.bids:
            text = text.replace(bid.ad.link, ad_copy.offer_title(bid.ad))
        said = list(dict.fromkeys(map(_short, sentences(strip_markup(text)))))
        return float(self._cues["leak"](said[-_READ_FOR_LEAKS:] or [""]).max())

    def _cosines(self, text: str, others: Sequence[str]) -> npt.NDArray[np.float64]:
        vectors = self._encoder.encode([text, *others]).astype(np.float64)
        return np.asarray(vectors[1:] @ vectors[0])

    async def _channel(self, name: str, text: str) -> float:
        """log p(text | yes) - log p(text | no) per token, mean over the labels of each side; 0 if both are impossible.

        All labels are scored in one call. A label's own tokens are left out by their number.
        """
        yes, no = self._labels[name].yes, self._labels[name].no
        rows = await self._llm.logprob(_PROMPT, [f"{label} {text}" for label in (*yes, *no)])
        means = [_mean(row[length:]) for row, length in zip(rows, self._lengths[name], strict=True)]
        gap = sum(means[: len(yes)]) / len(yes) - sum(means[len(yes) :]) / len(no)
        return 0.0 if math.isnan(gap) else min(_WIDEST, max(-_WIDEST, gap))


def _mean(logprobs: Sequence[float]) -> float:
    return sum(logprobs) / len(logprobs) if logprobs else 0.0
