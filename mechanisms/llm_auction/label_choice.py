"""IRPO on the choice of ads within sampled answers, before IRPO on whole answers.

Of the hundred sampled tokens of an answer one or two decide which ads it shows, so a reward of whole answers says
little about that choice. Here the policy writes an answer, which is cut at one place:

    before one of its links     the responses are the candidates whose links may stand there
    where a sentence ends       the same, and that no link opens there

Their distribution is exact, one forward pass gives it, and each response has a reward: that of the answer so far, with
the ad's link and its own words if there is one. So the second kind teaches when an ad is worth showing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from simenv import markup
from simenv.links import masked_links
from simenv.records import Outcome
from simenv.seeding import keyed_rng
from simenv.text import sentence_ends
from simenv.writer.copy_check import own_words

from .levels import Drawn, Episode, Pages
from .written import Written, read


class Chosen(NamedTuple):
    """A response."""

    before: str
    """The answer up to the place."""
    ad_id: str | None
    """None: no link opens there."""


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
        """Each ad once, and none where a sentence ends; `count` and `scored` change nothing."""
        texts = self._pages.respond(auctions, 1, key, scored=False)
        places = [cut(e, one[0].response, key) if one else None for e, one in zip(auctions, texts, strict=True)]
        known = [i for i, place in enumerate(places) if place is not None]
        drawn: list[list[Drawn]] = [[] for _ in auctions]
        for start in range(0, len(known), self._AT_ONCE):
            part = [(i, place) for i in known[start : start + self._AT_ONCE] if (place := places[i]) is not None]
            asked = [(self._pages.page(auctions[i]), place.before) for i, place in part]
            with torch.no_grad():
                rows = self._pages.policy.label_logps(asked)
            for (i, place), (page, _), row in zip(part, asked, rows, strict=True):
                choices = [*(ad.id for ad in page.ads), *([None] if place.at_end else [])]
                logps = _logps(row, optional=place.at_end).tolist()
                pairs = zip(choices, logps, strict=True)
                drawn[i] = [Drawn(Chosen(place.before, ad), logp) for ad, logp in pairs if logp > -math.inf]
        return drawn

    def outcome(self, episode: Episode, response: Chosen) -> Outcome:
        """The outcome of the answer that ends after this ad, at first price."""
        text = response.before
        if response.ad_id is not None:
            ad = episode.auction.bid_of(response.ad_id).ad
            text = f"{text} {ad.link}: {own_words(ad)}".strip()
        text = read(episode.auction, Written(text))
        return markup.outcome(episode.auction, text, {bid.ad.id: bid.amount for bid in episode.auction.bids})

    def logps(self, batch: Sequence[tuple[Episode, Sequence[Chosen]]]) -> list[torch.Tensor]:
        asked = [(self._pages.page(episode), choices[0].before) for episode, choices in batch]
        rows = self._pages.policy.label_logps(asked)
        result = []
        for row, (page, _), (_, choices) in zip(rows, asked, batch, strict=True):
            ids = [one.ad_id for one in choices]
            places = {ad.id: i for i, ad in enumerate(page.ads)}
            logps = _logps(row, optional=None in ids)
            result.append(logps[[len(places) if ad is None else places[ad] for ad in ids]])
        return result


def _logps(row: torch.Tensor, *, optional: bool) -> torch.Tensor:
    """The log-probabilities of all ads, and of none if a link is `optional`, from a row of `AdaptedLLM.label_logps`."""
    labels, opened = row[:-1], row[-1:]
    if not optional:
        return labels
    none = torch.log(-torch.expm1(opened.clamp(max=-1e-6)))
    return torch.cat([labels + opened, none])


class Place(NamedTuple):
    """Where an answer is cut."""

    before: str
    at_end: bool
    """Whether a sentence ends there."""


def cut(episode: Episode, written: Written, key: str) -> Place | None:
    """A place of an answer, drawn at random: before one of its links or, as likely, where one of its sentences ends.

    None for an answer without both.
    """
    text, rng = written.text, keyed_rng("label choice", episode.auction.id, key)
    links = link_places(episode, text)
    ends = [end for end in sentence_ends(masked_links(text)) if text[:end].strip()]
    if not links and not ends:
        return None
    at_end = not links or (bool(ends) and bool(rng.integers(2)))
    return Place(text[: rng.choice(ends if at_end else links)].rstrip(), at_end)


def link_places(episode: Episode, text: str) -> list[int]:
    """Where the links of an answer begin, ascending."""
    links = [f" {bid.ad.link}" for bid in episode.auction.bids]
    return sorted(text.index(link) for link in links if link in text)
