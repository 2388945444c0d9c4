"""The slim format: a prompt for small models, and the choices that it allows.

The prompt has one line per candidate, the most relevant first:

    A Wood Litter Low-cost clumping 6 A A A A

A line has a label, four words of description, a score as one digit, and the label repeated in proportion to the bid.
Small models read repetition better than numbers. A keyed draw rounds the number of repetitions, so that its mean is
linear in the bid. Without the draw, expected clicks would be a step function of the bid, and most changes of a bid
would have no effect. The score is the retriever's cosine, a click probability that a CTR model predicts for the ad
alone, or the bid times that probability (eCPM, without the factor of 1,000). The model sees relevance only as this one
digit and as the order of the lines, which is that of the score. With eCPM a ranking is in the prompt already: the model
needs to learn only where it pays to depart from it.

A label stands for the ad's link. It is one token, so one forward pass gives the distribution over all choices, and the
prompt is a third as long as one with whole links.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from simenv.ctr.models import CTRModel
from simenv.errors import InputError
from simenv.llm import Prompt
from simenv.market.values import HIGHEST
from simenv.records import Ad, Auction, Bid
from simenv.seeding import keyed_rng

Choice = tuple[int, ...]
"""Indices of the shown ads in `Offer.bids`, in reading order; () shows none."""

Score = Literal["retriever", "pctr", "ecpm"]
PREDICTED = ("pctr", "ecpm")
"""The scores that need a CTR model."""

LABELS = string.ascii_uppercase[:24]
"""Labels of the offered candidates. At most this many are offered, the most relevant ones."""
NONE = "None"
PLACES = 2
"""Maximum number of shown ads. The paper sets no limit; here ads beyond max_ads, which is 2, have a penalty."""
REPEATS = 5
"""Repetitions of the label at the largest bid, 100: one per 20 currency units. More repetitions need more tokens."""
_FULL_SCORE = 0.75
"""Cosine that is shown as 9. With the embedded encoder, related pairs have a cosine near 0.5."""
_PROBS = (0.01, 0.5)
"""Click probabilities that are shown as 0 and as 9, on a logarithmic scale. An ad's value is bid times probability, and
most probabilities of single ads lie between 0.02 and 0.2."""
_VALUES = (0.1, 50.0)
"""Bids times probabilities, in currency, that are shown as 0 and as 9, on a logarithmic scale."""


class Offer(NamedTuple):
    """The prompt, the bids that its labels stand for, the maximum number of ads, and the digits of their lines."""

    prompt: Prompt
    bids: tuple[Bid, ...]
    places: int
    digits: Mapping[str, str] = {}

    @property
    def labels(self) -> str:
        return LABELS[: len(self.bids)]

    def choices(self) -> list[Choice]:
        """All valid choices."""
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
    score: Score = "retriever",
    ctr: CTRModel | None = None,
    counts: Mapping[str, int] | None = None,
    places: int | None = None,
) -> Offer:
    """The auction in the slim format.

    Args:
        auction: Bids of 0 and bids below the reserve are not offered.
        order: Another order of the candidates, for experiments.
        show_score: Whether the prompt shows a score, for experiments.
        score: What the digit and the order are: "retriever", its cosine; "pctr", the click probability that `ctr`
            predicts for the ad alone; "ecpm", the bid times that probability.
        ctr: The CTR model; needed for the scores of `PREDICTED`.
        counts: Ad id -> repetitions of its label, in place of the keyed draw, for experiments.
        places: Maximum number of ads, in place of `auction.max_ads`; ads beyond max_ads have a penalty.

    Raises:
        InputError: the score needs a CTR model, and there is none.
    """
    counts = counts or {}
    shown = digits(auction, score, ctr) if show_score else {}
    bids = listed(auction, shown, order)
    lines = []
    for label, bid in zip(LABELS, bids, strict=False):
        lines.append(line(auction, label, describe(bid.ad), bid, shown, counts))
    prompt = Prompt(
        system="Choose the best ads.",
        user="\n".join([f"Request: {auction.query.text}", *lines, NONE]),
        prefill="Best ads:",
    )
    return Offer(prompt, bids, min(auction.max_ads if places is None else places, PLACES, len(bids)), shown)


def listed(auction: Auction, shown: Mapping[str, str], order: Sequence[int] | None = None) -> tuple[Bid, ...]:
    """The bids that are offered, in the order of the list: that of `shown`, from `digits`, or a given `order`.

    Ads without a digit come last, in the retriever's order.
    """
    if order is None:
        places = {ad: i for i, ad in enumerate(shown)}
        order = sorted(range(len(auction.bids)), key=lambda i: places.get(auction.bids[i].ad.id, len(places)))
    bids = [auction.bids[i] for i in order]
    return tuple(bid for bid in bids if bid.amount > 0 and bid.amount >= auction.reserve)[: len(LABELS)]


def line(
    auction: Auction,
    label: str,
    text: str,
    bid: Bid,
    shown: Mapping[str, str],
    counts: Mapping[str, int],
) -> str:
    """The line of one candidate: its label, a text if any, a digit for its relevance, and the label once a repetition.

    Args:
        auction: Keys the draw that rounds the bid.
        label, text, bid: The candidate.
        shown: Ad id -> its digit, from `digits`; an ad without one has none in its line.
        counts: Ad id -> repetitions, in place of the draw.
    """
    described = f"{label} {text}" if text else label
    return f"{described}{shown.get(bid.ad.id, '')}" + f" {label}" * counts.get(bid.ad.id, repeats(auction, bid))


def repeats(auction: Auction, bid: Bid) -> int:
    """Repetitions of the label: REPEATS * bid / 100 on average, rounded by a draw keyed only by auction and ad."""
    exact = REPEATS * min(bid.amount, HIGHEST) / HIGHEST
    return math.floor(exact + keyed_rng("llm-auction bid", auction.id, bid.ad.id).random())


def describe(ad: Ad) -> str:
    """Four words: the title without the advertiser's name, then the copy."""
    names = set(ad.advertiser.split())
    words = [word for word in ad.title.split() if word not in names] + ad.body.split()
    return " ".join(words[:4]).strip(" .,;:")


def digits(auction: Auction, score: Score = "retriever", ctr: CTRModel | None = None) -> dict[str, str]:
    """Ad id -> the digit of its line, with a blank before it; in the order of the list. `score`, `ctr`, errors: see
    `offer`.
    """
    order: Sequence[int] = range(len(auction.bids))
    if score == "retriever":
        shares = [bid.relevance / _FULL_SCORE for bid in auction.bids]
    elif ctr is None:
        raise InputError(f'the score "{score}" needs a CTR model, got none')
    else:
        low, high = _PROBS if score == "pctr" else _VALUES
        values = [float(prob) for prob in ctr.relevance(auction)]
        if score == "ecpm":
            values = [bid.amount * prob for bid, prob in zip(auction.bids, values, strict=True)]
        shares = [math.log(max(value, low) / low) / math.log(high / low) for value in values]
        order = sorted(order, key=lambda i: -values[i])
    return {auction.bids[i].ad.id: f" {round(9 * float(np.clip(shares[i], 0, 1)))}" for i in order}
