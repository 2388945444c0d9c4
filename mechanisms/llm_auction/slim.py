"""The slim format: the auction as a small model can read it, and the choices it can make.

A line per candidate, in the retriever's order:

    A Wood Litter Low-cost clumping 6 A A A A

its label, four words of description, the retriever's score as one digit, and the label again as often as the bid says.
Small models read repetition better than numbers. The count is rounded by a keyed draw so that its mean is linear in
the bid: in steps alone, the allocation would be a staircase and first price would lose its reason.

The label stands for the ad's link. It is one token, so that the distribution over all choices can be read out of a
single forward pass, and a prompt is a third as long as one that repeats whole links.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from simenv.llm import Prompt
from simenv.market.values import HIGHEST
from simenv.records import Ad, Auction, Bid
from simenv.seeding import keyed_rng

Choice = tuple[int, ...]
"""Places of the ads that are shown, in reading order, in the list of those offered; () shows none."""

LABELS = string.ascii_uppercase[:24]
"""Most candidates that are offered: the most relevant ones."""
NONE = "None"
PLACES = 2
"""Most ads that are shown. The paper sets no limit; the penalty of further ones starts at max_ads, which is 2 here."""
REPEATS = 5
"""Times that the label of the largest bid is repeated: a bid of 20 is one more. More costs tokens."""
_FULL_SCORE = 0.75
"""Cosine that is shown as 9. With the embedded encoder related pairs lie near 0.5."""


class Offer(NamedTuple):
    """What the policy is asked: the prompt, whom its labels stand for, and how many may be shown."""

    prompt: Prompt
    bids: tuple[Bid, ...]
    places: int

    @property
    def labels(self) -> str:
        return LABELS[: len(self.bids)]

    def choices(self) -> list[Choice]:
        """All that may be answered."""
        n = range(len(self.bids))
        none: list[Choice] = [()]
        return (
            none + [(i,) for i in n] * (self.places > 0) + [(i, j) for i in n for j in n if i != j] * (self.places > 1)
        )

    def answer(self, choice: Choice) -> str:
        """The completion that stands for a choice: " A C", " A None" or " None"."""
        ended = [NONE] if len(choice) < self.places or not choice else []
        return "".join(f" {word}" for word in [*(LABELS[i] for i in choice), *ended])

    def read(self, answer: str) -> Choice:
        """The choice that a completion stands for."""
        return tuple(LABELS.index(word) for word in answer.split() if word != NONE)


def offer(
    auction: Auction,
    *,
    order: Sequence[int] | None = None,
    show_score: bool = True,
    counts: Mapping[str, int] | None = None,
    places: int | None = None,
) -> Offer:
    """The auction in the slim format.

    Args:
        auction: Bids of 0 and bids below the reserve are not offered.
        order: Another order of the candidates, for experiments.
        show_score: Whether the retriever's score is shown, for experiments.
        counts: Ad id -> how often its label is repeated, instead of the keyed draw, for experiments.
        places: Most ads that may be shown, instead of `auction.max_ads`: beyond that they cost the penalty.
    """
    counts = counts or {}
    listed = auction.bids if order is None else [auction.bids[i] for i in order]
    bids = tuple(bid for bid in listed if bid.amount > 0 and bid.amount >= auction.reserve)[: len(LABELS)]
    lines = []
    for label, bid in zip(LABELS, bids, strict=False):
        count = counts.get(bid.ad.id, repeats(auction, bid))
        lines.append(f"{label} {describe(bid.ad)}{_score(bid) if show_score else ''}" + f" {label}" * count)
    prompt = Prompt(
        system="Choose the best ads.",
        user="\n".join([f"Request: {auction.query.text}", *lines, NONE]),
        prefill="Best ads:",
    )
    return Offer(prompt, bids, min(auction.max_ads if places is None else places, PLACES, len(bids)))


def repeats(auction: Auction, bid: Bid) -> int:
    """How often the label is repeated: REPEATS * bid / 100 on average, over a draw keyed by auction and ad alone."""
    exact = REPEATS * min(bid.amount, HIGHEST) / HIGHEST
    return math.floor(exact + keyed_rng("llm-auction bid", auction.id, bid.ad.id).random())


def describe(ad: Ad) -> str:
    """Four words: what the title says besides the firm's name, then the copy."""
    names = set(ad.advertiser.split())
    words = [word for word in ad.title.split() if word not in names] + ad.body.split()
    return " ".join(words[:4]).strip(" .,;:")


def _score(bid: Bid) -> str:
    return f" {round(9 * float(np.clip(bid.relevance / _FULL_SCORE, 0, 1)))}"
