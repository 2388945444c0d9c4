"""GEM-Bench's quantities of an answer (Hu, Zhang, Shi and Xiao 2025, arXiv 2509.14221), from sentence embeddings.

Write e_i for the unit vector of sentence i of the answer without mark-up, A for the ad sentences: those that contain
the title or the address of an ad that was chosen, to the letter. Each quantity is on a scale up to 100:

    flow             = 100 mean over i of cos(e_i, e_i+1)
    coherence        = 100 mean over i of cos(e_i, mean of all e)
    transition       = 100 mean over i in A of exp(-|cos(e_i-1, e_i) - cos(e_i, e_i+1)|)
    transition_least = 100 mean over i in A of min(cos(e_i-1, e_i), cos(e_i, e_i+1))
    alignment        = 100 mean over i in A of cos(e_i, mean of the e outside A)
    has_ad           = 100 if A is not empty
    injected         = 100 if an ad was chosen

GEM-Bench's code computes `transition`; its comments describe `transition_least`. The two differ in kind: an ad that
fits neither neighbour has the first at 100 and the second low. Three things are otherwise here than in that code: an ad
sentence at the beginning or the end has no transition, where the code counts 0 if no other one has; a cosine below 0
counts as it is, where the code leaves the sentence out; and the sentences are those of `simenv.text`. Levels depend on
the encoder (GEM-Bench has text-embedding-3-small, simenv all-MiniLM-L6-v2): compare within one encoder alone.

The six grades are in `simenv.quality.gem_rubric`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv.encoder import Encoder, together
from simenv.one_thread import one_thread
from simenv.quality.embedded import EmbeddedQuality, split
from simenv.quality.gem_rubric import Rubric
from simenv.records import Ad, Auction, Feedback, Gem, Outcome, Persona, Quality

_VERSION = "gem-v1"


class Embedded(NamedTuple):
    """The quantities that embeddings give; None where they are not defined."""

    flow: float | None
    coherence: float | None
    transition: float | None
    transition_least: float | None
    alignment: float | None


def from_vectors(vectors: npt.NDArray[np.floating], ads: Sequence[int]) -> Embedded:
    """The quantities of an answer.

    Args:
        vectors: Unit vectors of its sentences in order: shape (sentences, dimension).
        ads: Places of the ad sentences.
    """
    n = len(vectors)
    if n < 2:
        return Embedded(None, None, None, None, None)
    exact = np.asarray(vectors, dtype=np.float64)
    between = (exact[:-1] * exact[1:]).sum(axis=1)
    both = [(float(between[i - 1]), float(between[i])) for i in ads if 0 < i < n - 1]
    shown = sorted(set(ads))
    others = [i for i in range(n) if i not in set(ads)]
    return Embedded(
        flow=_hundredfold(between),
        coherence=_hundredfold(_cosines(exact, exact.mean(axis=0))),
        transition=_hundredfold([np.exp(-abs(before - after)) for before, after in both]),
        transition_least=_hundredfold([min(pair) for pair in both]),
        alignment=_hundredfold(_cosines(exact[shown], exact[others].mean(axis=0))) if shown and others else None,
    )


def ad_sentences(sentences: Sequence[str], ads: Sequence[Ad]) -> list[int]:
    """Places of the sentences that contain the title or the address of one of the ads, to the letter."""
    marks = [mark for ad in ads for mark in (ad.title, ad.url) if mark]
    return [i for i, sentence in enumerate(sentences) if any(mark in sentence for mark in marks)]


class GemQuality:
    """The embedded measures, and GEM-Bench's quantities beside them.

    Args:
        encoder: Text encoder.
        rubric: Grades the answer with a language model too, six calls an answer; None: without grades.
    """

    def __init__(self, encoder: Encoder, rubric: Rubric | None = None) -> None:
        self._encoder, self._rubric = encoder, rubric
        self._inner = EmbeddedQuality(encoder)
        judged = "" if rubric is None else f"{rubric.name},"
        self.name = f"{_VERSION}:{judged}{self._inner.name}"
        parts = [self._inner.sha256, _VERSION, "" if rubric is None else rubric.sha256]
        self.sha256 = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    async def measure(self, persona: Persona, auction: Auction, outcome: Outcome, ad_free: str | None) -> Feedback:
        measured = await self._inner.measure(persona, auction, outcome, ad_free)
        quality = measured.quality or Quality()
        ads = [auction.bid_of(placement.ad_id).ad for placement in outcome.placements]
        sentences = [sentence.text for sentence in split(outcome.response)]
        of_ads = ad_sentences(sentences, ads)

        def compute() -> Embedded:
            with one_thread():
                return from_vectors(self._encoder.encode(sentences), of_ads)

        gem = Gem(
            **(await together(self._encoder, compute, lambda: sentences))._asdict(),
            has_ad=100.0 if of_ads else 0.0,
            injected=100.0 if ads else 0.0,
        )
        usage = quality.usage
        if self._rubric is not None:
            graded = await self._rubric.grade(auction, outcome)
            gem = gem.model_copy(update={**graded.grades, "unread": graded.unread})
            usage = usage + graded.usage
        return measured.model_copy(update={"quality": quality.model_copy(update={"gem": gem, "usage": usage})})


def _cosines(vectors: npt.NDArray[np.float64], centre: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    length = float(np.linalg.norm(centre))
    found: npt.NDArray[np.float64] = vectors @ (centre / length if length else centre)
    return found


def _hundredfold(cosines: Sequence[float] | npt.NDArray[np.float64]) -> float | None:
    """100 x the mean; rounding may have put a cosine of 1 above it."""
    return float(np.clip(100 * np.mean(cosines), -100, 100)) if len(cosines) else None
