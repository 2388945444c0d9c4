"""What the pCTR model reads: one record of texts for each shown ad, and the features of many records at once.

A record has only what a platform knows: the profile, the query, the answer, and the copy of the ads that it shows.
Features are cosines of the frozen encoder, places, counts of words, and signs in the text. None of them is a term of
the world's click model, and no parameter of it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv import markup
from simenv.encoder import Encoder, Vectors
from simenv.judges import ad_copy
from simenv.records import Ad, Auction
from simenv.text import sentence_around, sentences

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

READ = 16
"""Sentences before the ad, and as many after it, that are encoded: those next to it."""
SLOTS = ("profile", "query", "copy", "words", "before", "after")
"""The texts of a row whose vectors the model reads. Of before and after: the mean of their sentences."""
OF_THE_OFFER = (
    "query, copy",
    "query, title and category",
    "query, sentence",
    "sentence, copy",
    "profile, copy",
    "profile, category",
    "nearest part of the profile, title and category",
    "nearest part of the profile, copy",
    "rank",
    "number of ads",
    "ads beyond two",
    "nearest other copy",
    "nearest other sentence",
    "query, nearest other copy",
    "largest amount of money",
    "no amount of money",
    "words of the sentence",
    "exclamation mark",
    "capitals",
)
OF_THE_PLACE = (
    "nearest sentence before, sentence",
    "mean of the sentences before, sentence",
    "sentence right before, sentence",
    "nearest sentence before, copy",
    "after, sentence",
    "words before",
    "words of the answer",
)
NUMBERS = (*OF_THE_OFFER, *OF_THE_PLACE)
"""Names of the numbers of a row, in order; a pair of texts stands for their cosine."""
_AMOUNT = re.compile(r"[$€£]\s?(\d[\d,]*)")
_CAPITALS = re.compile(r"\b[A-Z]{4,}\b")
_PARTS = re.compile(r"[.,;:]")
_AT_ONCE = 16_384
"""Cosines that are computed at once: 25 MB of vectors."""


class PCTRExample(NamedTuple):
    """One shown ad: the texts that the pCTR model reads, and its label. All texts are without mark-up."""

    user: str
    """The profile, as the platform sees it."""
    ad: str
    """The ad's id."""
    title: str
    """The ad's title without the advertiser's name."""
    body: str
    """The ad's copy without that name."""
    category: str
    query: str
    before: str | None
    """The answer before the sentence that shows the ad; None where no answer is known yet."""
    sentence: str
    """The sentence that shows the ad, as the user reads it."""
    words: str
    """The same without the ad's title and the advertiser's name."""
    after: str
    """The answer after that sentence."""
    others: tuple[str, ...]
    """The sentences of the other ads in the answer."""
    other_copies: tuple[str, ...]
    """The copy of the other ads, in the same order."""
    rank: int
    """Place in reading order, from 0."""
    clicked: float | None
    """1 or 0; None without a verdict."""

    @property
    def copy(self) -> str:
        """Title and copy."""
        return f"{self.title}. {self.body}" if self.body else self.title


def pctr_examples(
    auction: Auction, response: str, shown: Sequence[str], clicked: Mapping[str, bool | None] | None = None
) -> list[PCTRExample]:
    """The pCTR examples of an answer: one per shown ad, in reading order."""
    ads = [auction.bid_of(ad_id).ad for ad_id in shown]
    spans = [_span(response, ad) for ad in ads]
    texts = [markup.strip_markup(response[start:end]).strip() for start, end in spans]
    copies = [ad_copy.offer(ad) for ad in ads]
    rows = []
    for rank, (ad, (start, end)) in enumerate(zip(ads, spans, strict=True)):
        verdict = (clicked or {}).get(ad.id)
        rows.append(
            _example(
                auction,
                ad,
                response[start:end],
                before=markup.strip_markup(response[:start]).strip(),
                after=markup.strip_markup(response[end:]).strip(),
                others=tuple(texts[:rank] + texts[rank + 1 :]),
                other_copies=tuple(copies[:rank] + copies[rank + 1 :]),
                rank=rank,
                clicked=None if verdict is None else float(verdict),
            )
        )
    return rows


def single_examples(auction: Auction) -> list[PCTRExample]:
    """Each candidate as the only ad of an answer that is not written yet, shown by its own copy."""
    return [
        _example(
            auction,
            bid.ad,
            f"{bid.ad.link}: {bid.ad.body}",
            before=None,
            after="",
            others=(),
            other_copies=(),
            rank=0,
            clicked=None,
        )
        for bid in auction.bids
    ]


def _example(
    auction: Auction,
    ad: Ad,
    sentence: str,
    *,
    before: str | None,
    after: str,
    others: tuple[str, ...],
    other_copies: tuple[str, ...],
    rank: int,
    clicked: float | None,
) -> PCTRExample:
    title = ad_copy.offer_title(ad)
    return PCTRExample(
        user=auction.profile,
        ad=ad.id,
        title=title,
        body=ad_copy.offer_body(ad),
        category=ad.category,
        query=auction.query.text,
        before=before,
        sentence=markup.strip_markup(sentence).strip(),
        words=ad_copy.words_around(sentence, ad) or title,
        after=after,
        others=others,
        other_copies=other_copies,
        rank=rank,
        clicked=clicked,
    )


def _span(response: str, ad: Ad) -> tuple[int, int]:
    """Where the sentence with an ad's link begins and ends."""
    start = response.find(ad.link)
    return sentence_around(response, (start, start + len(ad.link)))


class Features(NamedTuple):
    """The features of many rows. Texts that rows share are there once."""

    vectors: Vectors
    """Shape (texts, dimension)."""
    slots: Integers
    """Indices in `vectors` of each row's `SLOTS`: shape (rows, 6)."""
    numbers: Floats
    """Shape (rows, len(NUMBERS)); nan where no answer is known yet."""


def features(rows: Sequence[PCTRExample], encoder: Encoder) -> Features:
    """Computes the features of all rows, with one request to the encoder."""
    texts: dict[str, int] = {}

    def index(text: str) -> int:
        return texts.setdefault(text, len(texts))

    def column(text: Callable[[PCTRExample], str]) -> Integers:
        return np.array([index(text(row)) for row in rows], dtype=np.int64)

    cut: dict[str, list[int]] = {}

    def sentences_of(text: str) -> list[int]:
        if text not in cut:
            cut[text] = [index(piece) for piece in sentences(text)]
        return cut[text]

    parts: dict[str, list[int]] = {}
    for row in rows:
        if row.user not in parts:
            pieces = [piece.strip() for piece in _PARTS.split(row.user)]
            parts[row.user] = [index(piece) for piece in pieces if piece]
    profile, query = column(lambda row: row.user), column(lambda row: row.query)
    copy, kind = column(lambda row: row.copy), column(lambda row: f"{row.title} {row.category}")
    category, sentence = column(lambda row: row.category), column(lambda row: row.sentence)
    words = column(lambda row: row.words)
    interests = [parts[row.user] for row in rows]
    before = [sentences_of(row.before or "")[-READ:] for row in rows]
    after = [sentences_of(row.after)[:READ] for row in rows]
    other_copies = [[index(text) for text in row.other_copies] for row in rows]
    others = [[index(text) for text in row.others] for row in rows]
    encoded = encoder.encode(list(texts))

    means: dict[tuple[int, ...], int] = {(): len(texts)}  # no sentence: zeros
    before_mean, after_mean = (
        np.array([means.setdefault(tuple(one), len(texts) + len(means)) for one in many], dtype=np.int64)
        for many in (before, after)
    )
    vectors = np.vstack([encoded, [_mean(encoded, list(one)) for one in means]]).astype(np.float32)

    def cosine(left: Integers, right: Integers) -> Floats:
        pieces = [
            np.einsum("rd,rd->r", vectors[left[at : at + _AT_ONCE]], vectors[right[at : at + _AT_ONCE]])
            for at in range(0, len(left), _AT_ONCE)
        ]
        return np.concatenate([*pieces, np.zeros(0)]).astype(np.float64)

    def nearest(left: Integers, lists: Sequence[Sequence[int]]) -> Floats:
        """The largest cosine with one of a list, at least 0."""
        owner = np.repeat(np.arange(len(lists)), [len(one) for one in lists])
        flat = np.fromiter(chain.from_iterable(lists), dtype=np.int64)
        largest = np.zeros(len(lists))
        np.maximum.at(largest, owner, cosine(left[owner], flat))
        return largest

    amounts = np.array([_amount(row.body) for row in rows])
    pitches = [f"{_right_before(row)} {row.sentence}" for row in rows]
    ads = np.array([1 + len(row.others) for row in rows], dtype=np.float64)
    words_before = np.array([len((row.before or "").split()) for row in rows], dtype=np.float64)
    own_words = np.array([len(row.sentence.split()) for row in rows], dtype=np.float64)
    offer = [
        cosine(query, copy),
        cosine(query, kind),
        cosine(query, sentence),
        cosine(words, copy),
        cosine(profile, copy),
        cosine(profile, category),
        nearest(kind, interests),
        nearest(copy, interests),
        np.array([row.rank for row in rows], dtype=np.float64),
        ads,
        np.maximum(0, ads - 2),
        nearest(copy, other_copies),
        nearest(sentence, others),
        nearest(query, other_copies),
        np.log10(np.maximum(amounts, 1)),
        (amounts == 0).astype(np.float64),
        own_words,
        np.array(["!" in pitch for pitch in pitches], dtype=np.float64),
        np.array([bool(_CAPITALS.search(pitch)) for pitch in pitches], dtype=np.float64),
    ]
    place = [
        nearest(words, [[*read, asked] for read, asked in zip(before, query.tolist(), strict=True)]),
        cosine(words, before_mean),
        nearest(words, [one[-1:] for one in before]),
        nearest(copy, before),
        cosine(words, after_mean),
        words_before,
        words_before + own_words + np.array([len(row.after.split()) for row in rows]),
    ]
    placed = np.array([row.before is not None for row in rows])
    numbers = np.stack([*offer, *(np.where(placed, number, np.nan) for number in place)], axis=1)
    slots = np.stack([profile, query, copy, words, before_mean, after_mean], axis=1)
    return Features(vectors, slots, numbers)


def _right_before(row: PCTRExample) -> str:
    """The sentence right before the one that shows the ad."""
    return (sentences(row.before or "") or [""])[-1]


def _amount(text: str) -> float:
    """The largest amount of money that a text names, 0 if it names none."""
    return min(1e9, max((float(number.replace(",", "")) for number in _AMOUNT.findall(text)), default=0.0))


def _mean(vectors: Vectors, places: Sequence[int]) -> Vectors:
    """The mean of some vectors, scaled to length 1; zeros for none."""
    mean: Vectors = vectors[list(places)].sum(axis=0) if places else np.zeros(vectors.shape[1], np.float32)
    return mean / max(float(np.linalg.norm(mean)), 1e-9)
