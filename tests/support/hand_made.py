"""Transitions of three ads with fixed bids, prices and values; `settle` computes the payments."""

from __future__ import annotations

from collections.abc import Container

from simenv import outcome
from simenv.objective import Objective
from simenv.records import Ad, Auction, Bid, Click, Feedback, Query, Transition, Usage
from simenv.settlement import settle

ADS = [Ad(id=name, advertiser=name, title=f"Ad {name}") for name in ("a", "b", "c")]
BIDS = {"a": 10.0, "b": 20.0, "c": 30.0}
PRICES = {"a": 4.0, "b": 5.0, "c": 6.0}
VALUES = {"a": 11.0, "b": 22.0, "c": 33.0}

Shown = dict[str, tuple[bool | None, float | None]]


def turn(
    index: int,
    shown: Shown,
    persona: str = "p",
    mechanism: str = "m",
    calls: int = 1,
    text: str = "Answer.",
    per_view: Container[str] = (),
) -> Transition:
    """Builds the transition of one answer: `text`, then the given ads, each with (clicked, click probability).

    The ads `per_view` bid, pay and have their value per view.
    """
    bids = tuple(Bid(ad=ad, amount=BIDS[ad.id], unit="view" if ad.id in per_view else "click") for ad in ADS)
    auction = Auction(id=f"auction-{index}", query=Query(text="Which?"), bids=bids, max_ads=2)
    links = " ".join(ad.link for ad in ADS if ad.id in shown)
    usage = Usage(calls=calls, prompt_tokens=100, completion_tokens=20)
    answer = outcome(auction, f"{text} {links}", PRICES, usage=usage)
    clicks = [Click(ad_id=p.ad_id, clicked=shown[p.ad_id][0], click_prob=shown[p.ad_id][1]) for p in answer.placements]
    feedback = Feedback(clicks=tuple(clicks))
    return settle(
        auction, answer, feedback, VALUES, Objective(), index=index, mechanism=mechanism, persona_id=persona, turn=0
    )
