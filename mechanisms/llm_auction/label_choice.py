"""IRPO on the choice of ads within sampled answers, before IRPO on whole answers.

Of the hundred sampled tokens of an answer one or two decide which ads it shows, so a reward of whole answers says
little about that choice. Here the policy writes an answer, which is cut before one of its links. The responses are the
candidates whose links may stand there. Their distribution is exact, one forward pass gives it, and each response has a
reward: that of the answer so far with the ad's link and its own words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from simenv import markup
from simenv.records import Outcome
from simenv.seeding import keyed_rng
from simenv.writer.copy_check import own_words

from .levels import Drawn, Episode, Pages
from .written import Written, read


class Chosen(NamedTuple):
    """A response."""

    before: str
    """The answer up to the link."""
    ad_id: str


class LabelChoices:
    """Responses are all ads that may stand at one place of a sampled answer.

    Args:
        pages: Samples the answers.
    """

    _AT_ONCE = 32
    """Auctions that share a pass on a GPU."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def respond(self, auctions: Sequence[Episode], count: int, key: str, *, scored: bool = True) -> list[list[Drawn]]:
        """Each ad once, and none for an answer without a link; `count` and `scored` change nothing."""
        texts = self._pages.respond(auctions, 1, key, scored=False)
        before = [cut(e, one[0].response, key) if one else None for e, one in zip(auctions, texts, strict=True)]
        places = [i for i, text in enumerate(before) if text is not None]
        drawn: list[list[Drawn]] = [[] for _ in auctions]
        for start in range(0, len(places), self._AT_ONCE):
            part = places[start : start + self._AT_ONCE]
            asked = [(self._pages.page(auctions[i]), before[i] or "") for i in part]
            with torch.no_grad():
                rows = self._pages.policy.label_logps(asked)
            for i, (page, text), row in zip(part, asked, rows, strict=True):
                known = [Drawn(Chosen(text, ad.id), logp) for ad, logp in zip(page.ads, row.tolist(), strict=True)]
                drawn[i] = [one for one in known if one.logp > -math.inf]
        return drawn

    def outcome(self, episode: Episode, response: Chosen) -> Outcome:
        """The outcome of the answer that ends after this ad, at first price."""
        ad = episode.auction.bid_of(response.ad_id).ad
        text = read(episode.auction, Written(f"{response.before} {ad.link}: {own_words(ad)}".strip()))
        return markup.outcome(episode.auction, text, {bid.ad.id: bid.amount for bid in episode.auction.bids})

    def logps(self, batch: Sequence[tuple[Episode, Sequence[Chosen]]]) -> list[torch.Tensor]:
        asked = [(self._pages.page(episode), choices[0].before) for episode, choices in batch]
        rows = self._pages.policy.label_logps(asked)
        ids = [[ad.id for ad in page.ads] for page, _ in asked]
        return [
            row[[known.index(one.ad_id) for one in choices]]
            for row, known, (_, choices) in zip(rows, ids, batch, strict=True)
        ]


def cut(episode: Episode, written: Written, key: str) -> str | None:
    """The part of an answer before one of its links, drawn at random; None for an answer without a link."""
    text = written.text
    places = sorted(text.index(f" {bid.ad.link}") for bid in episode.auction.bids if f" {bid.ad.link}" in text)
    return text[: keyed_rng("label choice", episode.auction.id, key).choice(places)] if places else None
