"""IRPO on single sentences of sampled answers, between the choice of ads and whole answers.

Two sampled answers differ in a hundred tokens, of which few matter for the clicks. Here the policy writes an answer,
which is cut where a sentence ends, and goes on several times, for one sentence each. The responses at a place are these
sentences: plain ones, ads with or without words before their link, and the end of the answer. The reward of each is
that of the whole answer. An ad's sentence ends with its own words and takes the place of the answer's next ad, as in
`label_choice.py`. A plain sentence takes the place of the next one, if that is plain too.

So the answers that are compared are the same but for a sentence, and whether an ad comes there, which one, and what
is said before its link are learned from its tokens alone: those up to the link, for the rest is not the policy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from simenv import markup
from simenv.links import masked_links
from simenv.records import Outcome
from simenv.text import sentence_ends

from . import sampling
from .label_choice import Chosen, LabelChoices, Place, at_places, cut, link_places
from .levels import Drawn, Episode, Group, Level, Pages, Seen
from .written import Page, Written

TOKENS = 40
"""Limit of a sentence. Of an ad's sentence the tokens up to its link are needed."""


class Sentence(NamedTuple):
    """A response."""

    before: str
    """The answer up to the place."""
    words: str
    """What is written there: up to the link if there is one, else a whole sentence."""
    ad_id: str | None
    after: str
    """The rest of the answer."""
    ended: bool = False
    """Whether the answer ends there."""


class SentenceChoices(Level):
    """Responses are sentences that the policy writes at places of a sampled answer.

    Args:
        pages: Samples the answers.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._labels = LabelChoices(pages)

    def respond(self, auctions: Sequence[Episode], count: int, key: str, *, scored: bool = True) -> list[list[Drawn]]:
        """`count` sentences at each place, each different one once."""
        answers = self._pages.respond(auctions, 1, key, scored=False)
        places = [
            (i, place)
            for i, (episode, some) in enumerate(zip(auctions, answers, strict=True))
            for one in some
            for place in cut(episode, one.response, key, ads_at_end=self._pages.ads_at_end, within=False)
        ]
        asked = [
            (f"{auctions[i].auction.id} {len(place.before)}", self._pages.page(auctions[i]).behind(place.before))
            for i, place in places
        ]
        limit = self._pages.sampling.model_copy(update={"max_tokens": TOKENS})
        texts = sampling.sample(self._pages.policy, asked, count, limit, f"sentence {key}") if asked else []
        written: list[list[Sentence]] = [[] for _ in auctions]
        for (i, place), some_texts in zip(places, texts, strict=True):
            sentences = [first_sentence(auctions[i], place, text) for text in some_texts]
            different = dict.fromkeys(one for one in sentences if one is not None)
            written[i] += different if len(different) > 1 else ()
        logps = self._pages.logps_of_drawn(self._written(list(zip(auctions, written, strict=True))), scored=scored)
        return [list(map(Drawn, *one)) for one in zip(written, logps, strict=True)]

    def seen(self, auctions: Sequence[Episode], count: int) -> list[Seen]:
        """`count` whole answers of each auction."""
        return self._pages.seen(auctions, count)

    def outcome(self, episode: Episode, response: Sentence) -> Outcome:
        """The outcome of the whole answer, at first price. An ad at the place is not shown again."""
        return self._labels.outcome(episode, Chosen(response.before + response.words, response.ad_id, response.after))

    def logps(self, batch: Sequence[tuple[Episode, Sequence[Sentence]]]) -> list[torch.Tensor]:
        """Log-probabilities of the answers up to the end of the sentence, or up to its link."""
        return self._pages.policy.written_logps_of(self._written(batch))

    def _written(self, batch: Sequence[tuple[Episode, Sequence[Sentence]]]) -> list[tuple[Page, list[Written]]]:
        """What the policy was asked, and the answers as far as it wrote them."""
        return [(self._pages.page(episode), [_text(episode, one) for one in some]) for episode, some in batch]

    def choices(self, logps: torch.Tensor, group: Group) -> list[tuple[torch.Tensor, Group]]:
        """At each place: among all sentences there, and among those with an ad. What comes before is the same in all.

        Whether an ad comes moves the reward more than its words do. In a choice of its own the words are learned too.
        """
        places = at_places(group)
        with_ads = [[i for i in own if group.responses[i].ad_id is not None] for own in places]
        known = [own for own in with_ads if len(own) > 1]
        return [(logps[own], group.only(own)) for own in places + [own for own in known if own not in places]]


def first_sentence(episode: Episode, place: Place, text: Written) -> Sentence | None:
    """The first sentence of what the policy wrote behind a place; None if it did not come to the sentence's end."""
    links = link_places(episode, text.text)
    ends = [*sentence_ends(masked_links(text.text)), *([len(text.text)] if text.ended else [])]
    if links and (not ends or links[0] < ends[0]):
        rest = text.text[links[0] :]
        ad = next(bid.ad for bid in episode.auction.bids if rest.startswith(f" {bid.ad.link}"))
        return Sentence(place.before, text.text[: links[0]], ad.id, place.behind)
    if not ends:
        return None
    words = text.text[: ends[0]].rstrip()
    if text.ended and not text.text[ends[0] :].strip():
        return Sentence(place.before, words, None, "", ended=True)
    after = markup.sentences(place.after)
    if after and not link_places(episode, f" {after[0]}"):
        after = after[1:]
    return Sentence(place.before, words, None, " ".join(after))


def _text(episode: Episode, one: Sentence) -> Written:
    """The answer as far as the policy wrote it."""
    link = "" if one.ad_id is None else f" {episode.auction.bid_of(one.ad_id).ad.link}"
    return Written(f"{one.before}{one.words}{link}", one.ended)
