"""Counts in outcomes what no claim forbids but its author should know: `Conduct`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from simenv import markup
from simenv.charges import overcharges
from simenv.records import Auction, Outcome

_TELLING = 3
"""Bids that must stand in their texts: one number may stand there by chance."""
_SAME = 0.005
"""Largest difference between a bid and its number in a text, which may be rounded to cents."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_HINT = "a text shows an ad where it has its link: copy ad.link exactly"


_DONE = {
    "price_above_bid": "charges more than the bid",
    "transfer_above_bid": "charges more than the bid by price and transfer together",
    "bid_below_reserve": "shows an ad that bids less than the reserve",
    "transfer_not_shown": "charges a transfer to an ad that it does not show",
}


class Conduct:
    """Counts over the outcomes of auctions at their own bids."""

    def __init__(self) -> None:
        self._auctions = self._open = self._showing = self._telling = 0
        self._violations: Counter[str] = Counter()
        self._overcharging: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, auction: Auction, outcome: Outcome) -> list[str]:
        """Counts the outcome of one auction.

        Args:
            auction: The auction.
            outcome: An outcome that `markup.verify` accepts.

        Returns:
            What advertisers are charged in it that their bids did not agree to.
        """
        self._auctions += 1
        self._open += auction.max_ads > 0 and any(bid.amount > 0 and auction.admits(bid) for bid in auction.bids)
        self._showing += bool(outcome.placements)
        self._telling += _tells_a_bid(auction, outcome)
        self._violations.update(violation.kind for violation in outcome.violations)
        over = told_overcharges(auction, outcome)
        self._overcharging.update(over.keys())
        self._examples = over | self._examples
        return [f"{kind}: {example}" for kind, example in over.items()]

    def warnings(self) -> list[str]:
        """What the author should know: one sentence each."""
        said = [
            f"{kind} in {count} of {self._auctions} auctions, as {self._examples[kind]}"
            for kind, count in self._overcharging.items()
        ]
        if self._telling >= max(_TELLING, self._showing / 2):
            said.append(
                f"its texts contain the bid of an ad that they show in {self._telling} of {self._showing} auctions"
            )
        if self._open and not self._showing:
            broken = "".join(f"; its texts have {count} x {kind}" for kind, count in sorted(self._violations.items()))
            said.insert(0, f"showed no ad in {self._open} of {self._open} auctions that allow one{broken} ({_HINT})")
        return said


def told_overcharges(auction: Auction, outcome: Outcome) -> dict[str, str]:
    """Charges that no bid covers: what is done -> an example of it in this outcome."""
    found: dict[str, str] = {}
    for over in overcharges(auction, outcome):
        amount = auction.bid_of(over.ad_id).amount
        said = f"{over.ad_id} bids {amount:g} and pays {amount + over.excess:g}"
        if over.kind == "bid_below_reserve":
            said = f"{over.ad_id} bids {amount:g}, and the reserve is {auction.reserve:g}"
        elif over.kind == "transfer_not_shown":
            said = f"{over.ad_id} is not shown and is charged {over.excess:g}"
        found.setdefault(_DONE[over.kind], said)
    return found


def tells_bids(texts: Mapping[float, str]) -> bool:
    """Whether texts contain the bid that they were written at.

    Args:
        texts: Bid of one advertiser -> the response.

    Returns:
        True if, for three bids or more, the text contains the bid as a number that no text at another bid contains.
    """
    numbers = {bid: {float(n) for n in _NUMBER.findall(markup.strip_markup(text))} for bid, text in texts.items()}
    told = [
        bid
        for bid, found in numbers.items()
        if any(abs(n - bid) < _SAME for n in found)
        and not any(abs(n - bid) < _SAME for other, ns in numbers.items() if other != bid for n in ns)
    ]
    return len(told) >= _TELLING


def _tells_a_bid(auction: Auction, outcome: Outcome) -> bool:
    numbers = [float(number) for number in _NUMBER.findall(markup.LINK.sub("", outcome.response))]
    return any(
        abs(number - auction.bid_of(placement.ad_id).amount) < _SAME
        for number in numbers
        for placement in outcome.placements
    )
