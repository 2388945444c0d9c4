"""Charges that no bid covers: they are counted, and refused in a strict world.

A bid says what a click or a view is worth at most, and an answer brings an ad at most one of each. A mechanism that
charges an ad more than that, or charges one that it does not show, can report any revenue. So price and transfer of a
shown ad together may not exceed its bid, per click or per view.

Two mechanisms of the literature do charge ads that the answer does not show, because every advertiser pays for its
influence on the text: MOSAIC and the token auction. Their overcharges are counted like any other.
"""

from __future__ import annotations

from simenv.errors import OutcomeError
from simenv.records import Auction, Outcome, Overcharge

_ROUNDING = 1e-9


def overcharges(auction: Auction, outcome: Outcome) -> tuple[Overcharge, ...]:
    """The overcharges of an outcome: those of its prices in reading order, then those of its transfers by ad id."""
    found = []
    for placement in outcome.placements:
        ad_id, price, of_ad = placement.ad_id, placement.price, auction.bid_of(placement.ad_id)
        bid, total = of_ad.amount, price + outcome.transfers.get(ad_id, 0.0)
        if _exceeds(price, bid):
            below = of_ad.unit == "click" and _exceeds(auction.reserve, bid)
            kind = "bid_below_reserve" if below else "price_above_bid"
            found.append(Overcharge(kind=kind, ad_id=ad_id, excess=price - bid))
        elif _exceeds(total, bid):
            found.append(Overcharge(kind="transfer_above_bid", ad_id=ad_id, excess=total - bid))
    shown = {placement.ad_id for placement in outcome.placements}
    for ad_id, amount in sorted(outcome.transfers.items()):
        if ad_id not in shown and _exceeds(amount, 0.0):
            found.append(Overcharge(kind="transfer_not_shown", ad_id=ad_id, excess=amount))
    return tuple(found)


def refuse_overcharges(auction: Auction, outcome: Outcome, name: str) -> None:
    """Raises OutcomeError if the outcome of the mechanism `name` has overcharges."""
    if found := overcharges(auction, outcome):
        told = "; ".join(_told(auction, overcharge) for overcharge in found)
        raise OutcomeError(f"{name} overcharges in auction {auction.id}, which a strict world refuses: {told}")


def _told(auction: Auction, overcharge: Overcharge) -> str:
    ad_id, of_ad = overcharge.ad_id, auction.bid_of(overcharge.ad_id)
    bid, per_view = of_ad.amount, " per view" if of_ad.unit == "view" else ""
    if overcharge.kind == "transfer_not_shown":
        return f"{ad_id} is not shown and has a transfer of {overcharge.excess:g}"
    what = "price and transfer together" if overcharge.kind == "transfer_above_bid" else "price per click"
    least = f", below the reserve of {auction.reserve:g}" if overcharge.kind == "bid_below_reserve" else ""
    return f"{ad_id} has a {what} of {bid + overcharge.excess:g} and a bid of {bid:g}{per_view}{least}"


def _exceeds(amount: float, limit: float) -> bool:
    return amount > limit * (1 + _ROUNDING) + _ROUNDING
