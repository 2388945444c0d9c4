"""What a click-intent evaluator reads of an ad in an answer: texts without the brand, their vectors, and counts.

All of it is in the auction and the answer: a mechanism may see it. The advertiser's name is removed from all texts of
the ad, so that another name changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv import markup
from simenv.encoder import Encoder
from simenv.judges import ad_copy
from simenv.one_thread import product
from simenv.records import Ad, Auction
from simenv.text import sentence_around, sentences

Floats = npt.NDArray[np.float64]

PAIRS = ("query-offer", "query-words", "before-words", "profile-offer", "offer-words")
"""The pairs of texts whose vectors are compared: cosine, and product of each dimension."""
COUNTS = ("rank", "words before", "other ads", "typographic pressure", "leaked process", "nearest other ad")
"""Numbers of an ad in an answer. The last is a cosine, 0 without another ad."""


class AdView(NamedTuple):
    """One ad in one answer, as it is evaluated."""

    query: str
    profile: str
    offer: str
    """The ad's title and copy without the brand."""
    words: str
    """The ad's sentence without link and brand."""
    before: tuple[str, ...]
    """Query and sentences before the ad; the nearest to `words` is compared."""
    others: tuple[str, ...]
    """Title and copy of the other ads shown; the nearest to `offer` is compared."""
    counts: tuple[float, ...] | None
    """`COUNTS` without the last; None before any text is written: those of an average ad at the first place."""

    @property
    def texts(self) -> list[str]:
        """All texts whose vectors are needed."""
        return [self.query, self.profile, self.offer, self.words, *self.before, *self.others]


def views(auction: Auction, response: str, shown: Sequence[str]) -> list[AdView]:
    """Reads the ads `shown` in an answer, in that order. An ad whose link is not in the answer is read as at its end.

    Raises:
        UnknownName: an ad that is not a candidate.
    """
    links, violations = markup.parse(response, auction)
    leaked = any(violation.kind == "leaked_process" for violation in violations)
    rows = []
    offers = {ad_id: ad_copy.offer(auction.bid_of(ad_id).ad) for ad_id in shown}
    for rank, ad_id in enumerate(shown):
        others = [offer for other, offer in offers.items() if other != ad_id]
        ad = auction.bid_of(ad_id).ad
        span = links.get(ad_id, (len(response), len(response)))
        start, end = sentence_around(response, span)
        before = markup.strip_markup(response[: span[0]])
        pitch = ad_copy.pitch_around(response, span).replace(ad.link, "it")
        counts = (
            float(rank),
            float(np.log1p(len(before.split()))),
            float(len(shown) - 1),
            float(ad_copy.typographic_pressure(pitch)),
            float(leaked),
        )
        words = ad_copy.words_around(response[start:end], ad) or ad_copy.offer_title(ad)
        read = sentences(markup.strip_markup(response[:start]))
        rows.append(_view(auction, ad, words, read, others, counts))
    return rows


def bare_views(auction: Auction) -> list[AdView]:
    """Reads every candidate before any text is written: its own copy stands for its sentence."""
    return [_view(auction, bid.ad, ad_copy.offer(bid.ad), [], [], None) for bid in auction.bids]


def inputs(encoder: Encoder, rows: Sequence[AdView]) -> Floats:
    """The numbers of ads in answers: shape (len(rows), 6 d + 11) with vectors of d dimensions.

    These are, for each of `PAIRS`, the products of each dimension, then the vector of `words`, the cosines of `PAIRS`,
    and the counts (before any text, place 0 and nan).
    """
    texts = list(dict.fromkeys(text for row in rows for text in row.texts))
    known = dict(zip(texts, encoder.encode(texts).astype(np.float64), strict=True)) if texts else {}
    found = []
    for row in rows:
        words = known[row.words]
        earlier = np.stack([known[text] for text in row.before])
        nearest = earlier[int(product(earlier, words).argmax())]
        query, offer = known[row.query], known[row.offer]
        products = [query * offer, query * words, nearest * words, known[row.profile] * offer, offer * words]
        rivals = [float(product(known[other], offer)) for other in row.others]
        counts = [0.0, *[np.nan] * (len(COUNTS) - 1)] if row.counts is None else [*row.counts, max([0.0, *rivals])]
        found.append(np.concatenate([*products, words, [float(pair.sum()) for pair in products], counts]))
    return np.stack(found) if found else np.zeros((0, 0))


def width(dimension: int) -> int:
    """Number of inputs with vectors of this dimension."""
    return (len(PAIRS) + 1) * dimension + len(PAIRS) + len(COUNTS)


def _view(
    auction: Auction, ad: Ad, words: str, read: Sequence[str], others: Sequence[str], counts: tuple[float, ...] | None
) -> AdView:
    return AdView(
        query=auction.query.text,
        profile=auction.profile or auction.query.text,
        offer=ad_copy.offer(ad),
        words=words,
        before=(auction.query.text, *read),
        others=tuple(others),
        counts=counts,
    )
