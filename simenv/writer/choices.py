"""Prompts with which a language model chooses ads."""

from __future__ import annotations

import json
from collections.abc import Sequence

from simenv import markup
from simenv.files.prompts import read_prompt
from simenv.llm import OneOf, Prompt
from simenv.records import Auction, Bid

NO_AD = "none of them"
_PACKAGE = "simenv.writer"


def one_call_prompt(auction: Auction, bids: Sequence[Bid], *, show_bids: bool) -> Prompt:
    """The paper's prompt (LLM-Auction, section 5.1, step 2): one call writes the answer and chooses the ads."""
    candidates = [{"id": bid.ad.id, "title": bid.ad.title} | ({"bid": bid.amount} if show_bids else {}) for bid in bids]
    goal = (
        "The platform earns an ad's bid when the user clicks it: prefer ads with a high bid that the user likes."
        if show_bids
        else "The platform earns when the user clicks: prefer ads that the user likes."
    )
    return Prompt(
        system=read_prompt(_PACKAGE, "one_call_system").format(max_ads=auction.max_ads, goal=goal),
        user=read_prompt(_PACKAGE, "one_call_user").format(
            profile=markup.neutral(auction.profile, auction) or "unknown",
            candidates=json.dumps(candidates, ensure_ascii=False),
            query=markup.neutral(auction.query.text, auction),
        ),
    )


def question(auction: Auction, bids: Sequence[Bid], show_bids: bool) -> tuple[Prompt, OneOf]:
    """The prompt that requests the best ad or none, and the allowed completions, in the order of `bids`."""
    lines = [f"- {b.ad.title}" + (f" (pays {b.amount:g})" if show_bids else "") for b in bids]
    user = read_prompt(_PACKAGE, "choose").format(
        candidates="\n".join(lines),
        by_bid=" and pays well" if show_bids else "",
        none=NO_AD,
        query=auction.query.text,
    )
    return Prompt(user=user, prefill="Best choice:"), options_of(bids)


def question_in_context(auction: Auction, bids: Sequence[Bid]) -> tuple[Prompt, OneOf]:
    """The same with the user's profile and the ads' copy in the prompt."""
    user = read_prompt(_PACKAGE, "choose_in_context").format(
        candidates="\n".join(f"- {bid.ad.text}" for bid in bids),
        profile=auction.profile or "unknown",
        none=NO_AD,
        query=auction.query.text,
    )
    return Prompt(user=user, prefill="Best choice:"), options_of(bids)


def options_of(bids: Sequence[Bid]) -> OneOf:
    return OneOf(options=tuple(f" {option}" for option in [*(bid.ad.link for bid in bids), NO_AD]))
