"""One answer as the page shows it: its text in pieces, its ads with verdicts, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from simenv.records import Ad, Bid, Quality, Transition
from simenv.runs.useless import is_empty, is_refusal

Piece = str | tuple[str, int, int]
"""Text, or (text, number of the ad or -1, number of the violation or -1)."""


Candidate = tuple[Ad, float, float, float] | tuple[Ad, float, float, float, str]
"""Ad, bid, private value, relevance; and what it bids for, if not for clicks."""


class Row(NamedTuple):
    """One answer."""

    mechanism: str
    bids: tuple[Candidate, ...]
    ad_free: str | None
    """The counterfactual answer; often the same for several mechanisms."""
    fields: dict[str, Any]
    """The rest, ready for JSON. What is unknown, or empty, is left out."""


def pack(t: Transition, ads: dict[Ad, Ad]) -> Row:
    """Packs one answer.

    Args:
        t: The answer.
        ads: Every ad met so far; equal ads become one object.
    """
    quality, usage = t.feedback.quality, t.outcome.usage
    fields: dict[str, Any] = {
        "text": pieces(t),
        "ads": _shown(t),
        "violations": [violation.kind for violation in t.outcome.violations],
        "faults": faults(t),
        "note": t.outcome.note or None,
        "paid": sum(t.payments.values()),
        "expectedPaid": None if t.expected_payments is None else sum(t.expected_payments.values()),
        "asked": _asked(t),
        "transfers": [[ad_id, amount] for ad_id, amount in t.outcome.transfers.items() if amount],
        "satisfaction": t.feedback.satisfaction,
        "qualityLoss": None if quality is None else quality.quality_loss,
        "kept": None if quality is None else quality.kept,
        "adText": None if quality is None else quality.ad_text_share,
        "gem": _gem(quality),
        "calls": usage.calls,
        "tokens": usage.tokens,
        "error": None if t.error is None else [t.error.kind, t.error.text],
    }
    fields = {name: value for name, value in fields.items() if value is not None and value != []}
    bids = tuple(_candidate(bid, t, ads) for bid in t.auction.bids)
    return Row(t.mechanism, bids, None if quality is None else quality.ad_free, fields)


def _candidate(bid: Bid, t: Transition, ads: dict[Ad, Ad]) -> Candidate:
    numbers = (ads.setdefault(bid.ad, bid.ad), bid.amount, t.values[bid.ad.id], bid.relevance)
    return numbers if bid.unit == "click" else (*numbers, bid.unit)


def pieces(t: Transition) -> list[Piece]:
    """The text, cut where its ads and violations begin and end. A link is its title, as a reader sees it."""
    outcome = t.outcome
    ads = {placement.span: number for number, placement in enumerate(outcome.placements)}
    spans = [*ads, *(violation.span for violation in outcome.violations)]
    cuts = sorted({0, len(outcome.response), *(end for span in spans for end in span)})
    found: list[Piece] = []
    for start, end in pairwise(cuts):
        ad = _covering(start, end, list(ads))
        violation = _covering(start, end, [violation.span for violation in outcome.violations])
        text = outcome.response[start:end]
        if ad >= 0 and (start, end) in ads:
            text = t.auction.bid_of(outcome.placements[ad].ad_id).ad.title
        found.append(text if ad < 0 and violation < 0 else (text, ad, violation))
    return found


def faults(t: Transition) -> list[str]:
    """The kinds of what is wrong with an answer, for a filter: each once, in alphabetical order."""
    if t.error is not None:
        return ["failed"]
    kinds = {violation.kind.replace("_", " ") for violation in t.outcome.violations}
    kinds |= {f"overcharge: {overcharge.kind.replace('_', ' ')}" for overcharge in t.overcharges}
    kinds |= {name for name, is_so in (("refusal", is_refusal), ("empty", is_empty)) if is_so(t)}
    return sorted(kinds)


def _covering(start: int, end: int, spans: Sequence[tuple[int, int]]) -> int:
    """The number of the first span that covers a piece; -1 if none does."""
    return next((number for number, (a, b) in enumerate(spans) if a <= start and end <= b), -1)


def _gem(quality: Quality | None) -> list[tuple[str, float]] | None:
    """GEM-Bench's quantities that were measured: (name, value)."""
    if quality is None or quality.gem is None:
        return None
    numbers = quality.gem.model_dump(exclude={"unread"})
    known = [(name.replace("_", " "), value) for name, value in numbers.items() if value is not None]
    return known


def _asked(t: Transition) -> list[list[Any]]:
    """Of each follow-up question: text, sponsor, price, predicted and actual probability, whether it was chosen."""
    choice = t.feedback.choice
    probs = (choice.probs if choice else None) or [None] * len(t.outcome.suggestions)
    return [
        [question.text, question.ad_id, question.price, question.prob, prob, place == t.outcome.chosen]
        for place, (question, prob) in enumerate(zip(t.outcome.suggestions, probs, strict=True))
    ]


def _shown(t: Transition) -> list[list[Any]]:
    """Of each shown ad: its place among the candidates, price (a transfer, if it bids per view), click probability,
    clicked, reason, quality."""
    places = {bid.ad.id: place for place, bid in enumerate(t.auction.bids)}
    quality = t.feedback.quality
    measured = {} if quality is None else {ad.ad_id: ad for ad in quality.ads}
    rows = []
    for placement, click in zip(t.outcome.placements, t.feedback.clicks, strict=True):
        ad = measured.get(placement.ad_id)
        numbers = (None, None, None) if ad is None else (ad.factuality, ad.disclosure, ad.surprise)
        per_view = t.auction.bid_of(placement.ad_id).unit == "view"
        price = t.outcome.transfers.get(placement.ad_id, 0.0) if per_view else placement.price
        row = [places[placement.ad_id], price, click.click_prob, click.clicked, click.reason, *numbers]
        rows.append(row)
    return rows
