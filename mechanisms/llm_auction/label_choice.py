"""IRPO on the choice of ads within sampled answers, before IRPO on whole answers.

Of the hundred sampled tokens of an answer one or two decide which ads it shows, so a reward of whole answers says
little about that choice. Here the policy writes an answer, which is cut at `PLACES` places:

    before a link               the responses are the candidates whose links may stand there
    where a sentence ends       the same, and no link
    and no link follows

The distribution of the responses at a place is exact, one forward pass gives it, and each response has a reward: that
of the whole answer. With an ad at the place, its link and its own words take the place of the answer's next ad, if
there is one. Without, the answer is as it was sampled. So an ad here is compared with the same answer that shows an ad
later, in other words, or not at all. Before a link nothing is known of the answers that would open none there. The
answer without that ad is not one of them: they may show an ad a few words later.

The loss is that of two choices: whether a link opens, where its reward is the mean over the ads that the policy would
choose, and which ad it shows if it does. So the many candidates that do not pay have no say in whether an ad is shown.
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
from simenv.writer.guards import whole_sentences

from .levels import Drawn, Episode, Group, Level, Pages, Seen, whole
from .written import Page, Written, read
from .written import ads_at_end as moved_to_end

PLACES = 2
"""Places of an answer."""


class Chosen(NamedTuple):
    """A response."""

    before: str
    """The answer up to the place."""
    ad_id: str | None
    """None: no link opens there."""
    after: str = ""
    """The rest of the answer."""


class Place(NamedTuple):
    """Where an answer is cut."""

    before: str
    optional: bool
    """Whether no link is a response: a sentence ends there, and the answer opened no link."""
    after: str = ""
    """The rest of the answer as it was sampled."""
    behind: str = ""
    """The rest of the answer behind an ad there: without the next sentence that shows an ad."""


class LabelChoices(Level):
    """Responses are all ads that may stand at a place of a sampled answer, and none.

    Args:
        pages: Samples the answers.
    """

    _AT_ONCE = 32
    """Auctions that share a pass on a GPU."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def respond(self, auctions: Sequence[Episode], count: int, key: str, *, scored: bool = True) -> list[list[Drawn]]:
        """Each response once at each place; `count` and `scored` change nothing."""
        texts = self._pages.respond(auctions, 1, key, scored=False)
        places = [self._places(episode, one, key) for episode, one in zip(auctions, texts, strict=True)]
        known = [i for i, some in enumerate(places) if some]
        drawn: list[list[Drawn]] = [[] for _ in auctions]
        for start in range(0, len(known), self._AT_ONCE):
            part = known[start : start + self._AT_ONCE]
            asked = [(self._pages.page(auctions[i]), [place.before for place in places[i]]) for i in part]
            with torch.no_grad():
                tables = self._pages.policy.label_logps(asked)
            for i, (page, _), table in zip(part, asked, tables, strict=True):
                for place, row in zip(places[i], table, strict=True):
                    drawn[i] += _drawn(page, place, row)
        return drawn

    def seen(self, auctions: Sequence[Episode], count: int) -> list[Seen]:
        """`count` whole answers of each auction; and of its first one, every response with an ad at its places.

        The latter make no call, and show ads that the policy would not: R is asked for these too. Of these, only the
        clicks on the ad at the place are logged: the ads before it would be logged once for each candidate.
        """
        seen = []
        drawn = self._pages.respond(auctions, count, "clicks", scored=False)
        for episode, answers in zip(auctions, drawn, strict=True):
            seen += [whole(episode, self._pages.outcome(episode, one.response)) for one in answers]
            offered = self._pages.page(episode).ads
            for place in self._places(episode, answers, "clicks"):
                ads = [ad for ad in offered if ad.link not in place.before]
                shown = [self.outcome(episode, Chosen(place.before, ad.id, place.behind)) for ad in ads]
                seen += [Seen(episode, one, frozenset({ad.id})) for ad, one in zip(ads, shown, strict=True)]
        return seen

    def _places(self, episode: Episode, answers: Sequence[Drawn], key: str) -> list[Place]:
        """Where the first of the answers is cut; [] without an answer."""
        return cut(episode, answers[0].response, key, ads_at_end=self._pages.ads_at_end) if answers else []

    def outcome(self, episode: Episode, response: Chosen) -> Outcome:
        """The outcome of the whole answer, at first price. An ad at the place is not shown again."""
        text, after = response.before, response.after
        if response.ad_id is not None:
            ad = episode.auction.bid_of(response.ad_id).ad
            text = f"{text} {ad.link}: {own_words(ad)}"
            after = " ".join(piece for piece in markup.sentences(after) if ad.link not in piece)
        text = read(episode.auction, Written(f"{text} {after}".strip()))
        return markup.outcome(episode.auction, text, {bid.ad.id: bid.amount for bid in episode.auction.bids})

    def logps(self, batch: Sequence[tuple[Episode, Sequence[Chosen]]]) -> list[torch.Tensor]:
        different = [list(dict.fromkeys(one.before for one in responses)) for _, responses in batch]
        asked = [(self._pages.page(e), texts) for (e, _), texts in zip(batch, different, strict=True)]
        tables = self._pages.policy.label_logps(asked)
        result = []
        for (page, texts), table, (_, responses) in zip(asked, tables, batch, strict=True):
            optional = {one.before for one in responses if one.ad_id is None}
            rows = {text: _logps(row, optional=text in optional) for text, row in zip(texts, table, strict=True)}
            column = {ad.id: i for i, ad in enumerate(page.ads)}
            columns = [len(column) if one.ad_id is None else column[one.ad_id] for one in responses]
            result.append(torch.stack([rows[one.before][i] for one, i in zip(responses, columns, strict=True)]))
        return result

    def choices(self, logps: torch.Tensor, group: Group) -> list[tuple[torch.Tensor, Group]]:
        """At each place: which ad, and whether there is one."""
        found = []
        for own in at_places(group):
            ads = [i for i in own if group.responses[i].ad_id is not None]
            none = [i for i in own if group.responses[i].ad_id is None]
            if ads:
                found.append(_which(logps[ads], group.only(ads)))
            if ads and none:
                found.append(_whether(logps[ads + none], group.only(ads + none)))
        return found


def at_places(group: Group) -> list[list[int]]:
    """The positions of the responses at each place of an answer."""
    places: dict[str, list[int]] = {}
    for i, one in enumerate(group.responses):
        places.setdefault(one.before, []).append(i)
    return list(places.values())


def _which(logps: torch.Tensor, group: Group) -> tuple[torch.Tensor, Group]:
    """The choice among ads, if one is shown."""
    return logps.log_softmax(0), group._replace(ref_logps=torch.tensor(group.ref_logps).log_softmax(0).tolist())


def _whether(logps: torch.Tensor, group: Group) -> tuple[torch.Tensor, Group]:
    """The choice between an ad, drawn by the reference, and none, which is the last response."""
    *_, none = group.responses
    ref, rewards = torch.tensor(group.ref_logps), torch.tensor(group.rewards)
    shown = float(ref[:-1].softmax(0) @ rewards[:-1])
    two = Group(["an ad", none], [float(ref[:-1].logsumexp(0)), float(ref[-1])], [shown, float(rewards[-1])])
    return torch.stack([logps[:-1].logsumexp(0), logps[-1]]), two


def _drawn(page: Page, place: Place, row: torch.Tensor) -> list[Drawn]:
    """The responses at a place, from a row of `AdaptedLLM.label_logps`; [] if the text has all ads."""
    logps = _logps(row, optional=place.optional).tolist()
    ads = [Drawn(Chosen(place.before, ad.id, place.behind), logp) for ad, logp in zip(page.ads, logps, strict=False)]
    ads = [one for one in ads if one.logp > -math.inf]
    none = [Drawn(Chosen(place.before, None, place.after), logps[-1])] if place.optional else []
    return ads + none if ads else []


def _logps(row: torch.Tensor, *, optional: bool) -> torch.Tensor:
    """The log-probabilities of all ads, and of none if a link is `optional`, from a row of `AdaptedLLM.label_logps`."""
    labels, opened = row[:-1], row[-1:]
    if not optional:
        return labels
    none = torch.log(-torch.expm1(opened.clamp(max=-1e-6)))
    return torch.cat([labels + opened, none])


def cut(episode: Episode, written: Written, key: str, *, ads_at_end: bool = False, within: bool = True) -> list[Place]:
    """`PLACES` places of an answer, drawn at random, in their order: where a sentence ends, or before a link.

    Without `within`, no place is within a sentence. With `ads_at_end` the sentences with ads are moved behind the
    others first, and no place is among those.
    """
    text = moved_to_end(episode.auction, written.text) if ads_at_end else written.text
    blank = len(text) - len(text.lstrip())
    whole = text if written.ended else text[:blank] + whole_sentences(text)
    links = link_places(episode, text)
    ends = [end for end in sentence_ends(masked_links(text)) if text[:end].strip()]
    if ads_at_end:
        plain = min(links, default=len(text.rstrip()))
        ends = [end for end in ends if end >= plain]
    at_end = {text[:end].rstrip() for end in ends}
    offsets = {text[:at].rstrip(): at for at in sorted({*ends, *(links if within else ())})}
    known = [_place(episode, whole[at:], before, before in at_end) for before, at in offsets.items() if before]
    rng = keyed_rng("label choice", episode.auction.id, key)
    chosen = rng.permutation(len(known))[:PLACES]
    return [known[i] for i in sorted(chosen.tolist())]


def _place(episode: Episode, rest: str, before: str, ends: bool) -> Place:
    """A place with the two ways in which the answer may go on.

    Args:
        episode: Has the ads.
        rest: What was sampled behind the place.
        before: The answer up to the place.
        ends: Whether a sentence ends there.
    """
    after = markup.sentences(rest)
    shows = [bool(link_places(episode, f" {piece}")) for piece in after]
    next_ad = shows.index(True) if any(shows) else len(after)
    behind = after[:next_ad] + after[next_ad + 1 :]
    opened = bool(after) and 0 in link_places(episode, f" {after[0]}")
    return Place(before, ends and not opened, " ".join(after), " ".join(behind))


def link_places(episode: Episode, text: str) -> list[int]:
    """Where the links of an answer begin, ascending."""
    links = [f" {bid.ad.link}" for bid in episode.auction.bids]
    return sorted(text.index(link) for link in links if link in text)
