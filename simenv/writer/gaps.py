"""Where a sentence can be put into a text, and how much it breaks the text there.

Source: the insertion of GEM-Bench (Hu, Zhang, Shi, Xiao, 2025, arXiv 2509.14221). An ad between two neighbours breaks

    cos(previous, next) - (cos(ad, previous) + cos(ad, next)) / 2,

with cosines of sentence embeddings: little where the text does not hold together, or where the ad fits on both sides.
The formula is our reading. Their code scores a gap by (1 - mean / cos) log(1 + 2 cos), with the same mean and the
cosine of the neighbours, which has the same sign. As there, an ad stands between two sentences, and at the end only if
the text has no such place. They insert one ad; several ads here keep their order, each in a gap of its own, so that the
sum over the ads is least.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simenv.encoder import Encoder, know
from simenv.one_thread import product
from simenv.records import Ad
from simenv.text import stops

Floats = npt.NDArray[np.float64]
_ABBREVIATION = re.compile(r"\b(?:[^\W\d_]|mrs?|ms|dr|prof|st|vs|approx|no|fig|inc|ltd|e\.g|i\.e)\.\Z", re.IGNORECASE)
_MARKER = re.compile(r"[\W\d_]*")
_ROW = re.compile(r"\s*[|#]")
_PAIRS = (("(", ")"), ("[", "]"), ("“", "”"))


def gaps(text: str) -> list[int]:
    """Where a sentence can be put between two of the text's: offsets right behind a full stop, ascending.

    Not behind the number of a list's item or an abbreviation, not within brackets, quotes, bold type or code, not in
    a heading or a table, and not before a small letter.
    """
    found = []
    last = 0
    for end in stops(text):
        following = text[end:].lstrip()
        if not _MARKER.fullmatch(text[last:end]) and following and not following[0].islower() and _is_free(text[:end]):
            found.append(end)
            last = end
    return found


def _is_free(before: str) -> bool:
    line = before.rpartition("\n")[2]
    is_open = (
        before.count("```") % 2
        or line.count("**") % 2
        or line.count('"') % 2
        or any(line.count(left) > line.count(right) for left, right in _PAIRS)
    )
    return not (is_open or _ROW.match(line) or _ABBREVIATION.search(line))


async def disruption(encoder: Encoder, text: str, cuts: Sequence[int], ads: Sequence[Ad]) -> Floats:
    """How much each ad breaks the text in each gap: shape (ads, gaps), in [-2, 2].

    Args:
        encoder: Embeds what stands between two gaps, and the ads' title and copy.
        text: An answer without ads.
        cuts: Its `gaps`.
        ads: The ads.
    """
    if not cuts or not ads:
        return np.zeros((len(ads), len(cuts)))
    pieces = [text[a:b].strip() for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    texts = [*pieces, *(ad.text for ad in ads)]
    await know(encoder, texts)
    vectors = encoder.encode(texts)
    own, theirs = vectors[: len(pieces)], vectors[len(pieces) :]
    fit = np.asarray(product(theirs, own.T), dtype=np.float64)
    flow = np.sum(own[:-1] * own[1:], axis=1, dtype=np.float64)
    return np.asarray(flow - (fit[:, :-1] + fit[:, 1:]) / 2, dtype=np.float64)


def best_places(costs: Floats) -> list[int]:
    """The gap of each ad: ascending and all different, with the least sum of costs; the first of equal ones.

    Args:
        costs: Shape (ads, gaps), with no more ads than gaps.
    """
    ads, gaps = costs.shape
    least = np.zeros((ads + 1, gaps + 1))  # least[i, j]: of the last i ads in the last j gaps
    least[1:, 0] = np.inf
    for i in range(1, ads + 1):
        for j in range(1, gaps + 1):
            least[i, j] = min(least[i, j - 1], costs[ads - i, gaps - j] + least[i - 1, j - 1])
    places = []
    left = gaps
    for i in range(ads, 0, -1):
        while costs[ads - i, gaps - left] + least[i - 1, left - 1] > least[i, left]:
            left -= 1
        places.append(gaps - left)
        left -= 1
    return places


def with_sentences(text: str, places: Sequence[int], sentences: Sequence[str]) -> str:
    """The text with each sentence at its offset. Those at the end of the text follow it in their order."""
    for place, sentence in reversed(list(zip(places, sentences, strict=True))):
        text = f"{text[:place]} {sentence}{text[place:]}"
    return text.strip()
