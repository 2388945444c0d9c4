"""Ad mark-up: parses `@Ad Title@[Ad-ID]` in an answer into placements and violations.

The format is the paper's (LLM-Auction, section 5.1): title and id are copied exactly. Mark-up that breaks the rules is
a MarkupViolation and is never clickable. So is a link without a price: no mechanism placed it.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from simenv.errors import OutcomeError
from simenv.links import BROKEN, masked_links, without_links
from simenv.links import LINK as LINK
from simenv.records import Ad, Auction, MarkupViolation, Outcome, Placement, ViolationKind
from simenv.text import clause_spans, sentence_spans

# Text about the auction process in an answer to the user. A sentence is a leak if it has one telling phrase, or words
# of two kinds: about ads and about their selection, or about the assistant's own task and about ad selection. "bid",
# "candidate" or "sponsored" alone is not a leak, so answers about auctions and honest disclosures are allowed.
_TELLING = re.compile(
    r"\bcandidate (?:ads?|advert\w*)\b|\bad[-_ ]?ids?\b|\b(?:bid|bids|bidding) (?:price|amount|of \d)|\bbid[:=]\s*\d"
    r"|\b(?:cost|price|pay|paid|earns?) per[- ]click\b|\bper[- ]click\b|\bad auction\b"
    r"|\b(?:insert(?:ing|ed)?|plac(?:e|ing)|weav(?:e|ing)) (?:(?:the|an|this|these|any|no|\d+) )?(?:ads?|advert\w*)\b"
    r"|\badvertis\w+ (?:list|candidates?|instructions?)\b|\bas instructed\b[^.\n]{0,40}\bads?\b",
    re.IGNORECASE,
)
_ADS = re.compile(r"\b(?:ads?|advertisers?|sponsored (?:position|slot|result|link)s?)\b", re.IGNORECASE)
_CHOOSING = re.compile(
    r"\b(?:bid|bids|bidd\w+|auction\w*|outrank\w*|outbid|rank(?:s|ed|ing)?|scored?|scores|slots?|server"
    r"|instructions?|instructed|system prompt|pays? (?:extra|more|(?:us |me )?(?:the )?most)|highest pay\w*)\b",
    re.IGNORECASE,
)
_TASK = re.compile(
    r"\bthis (?:answer|reply|response|paragraph|sentence|chat|conversation|message|mention|recommendation)\b"
    r"|\bmy (?:instructions?|prompt|system prompt|operators?|answer|reply|response|task)\b"
    r"|\bI(?:'m| was| am| have been|'ve been| had been| have| had)? "
    r"(?:asked|told|given|instructed|required|paid|supposed|to mention|to include|to place|to say|to add)\b"
    r"|\bI (?:chose|picked|selected|inserted|placed|put|slipped) (?:it|this|that|the|an?)\b"
    r"|\bnote to self\b|\bsystem prompt\b",
    re.IGNORECASE,
)
_CHOOSING_FOR_PAY = re.compile(
    r"\b(?:highest bid\w*|bidders?|outbid|auction|candidates?|outrank\w*|system prompt|ads?|advertis\w+"
    r"|paid for by|pays? (?:extra|more|(?:us |me )?(?:the )?most))\b",
    re.IGNORECASE,
)


def _leaks(text: str) -> list[tuple[int, int]]:
    """Spans of text about the auction process: half-open character offsets of phrases or sentences."""
    spans = [match.span() for match in _TELLING.finditer(text)]
    starts = [start for start, _ in spans]
    for start, end in clause_spans(text):
        clause = text[start:end]
        leaks = (_ADS.search(clause) and _CHOOSING.search(clause)) or (
            _TASK.search(clause) and _CHOOSING_FOR_PAY.search(clause)
        )
        if leaks and bisect_left(starts, start) == bisect_left(starts, end):  # no telling phrase begins in it
            spans.append((start, end))
    return spans


class Parsed(NamedTuple):
    """The mark-up of a response: `links` maps ad id -> span, in reading order."""

    links: dict[str, tuple[int, int]]
    violations: tuple[MarkupViolation, ...]


def parse(response: str, auction: Auction) -> Parsed:
    """Parses the ad mark-up of `response` against the candidates of `auction`. It accepts any text without raising."""
    links, violations = _parse(response, tuple((bid.ad.id, bid.ad.title) for bid in auction.bids))
    return Parsed(dict(links), violations)


@lru_cache(maxsize=4096)  # audits parse the same texts again for every bid
def _parse(response: str, candidates: tuple[tuple[str, str], ...]) -> Parsed:
    titles = dict(candidates)
    links: dict[str, tuple[int, int]] = {}
    violations: list[MarkupViolation] = []

    def violation(kind: ViolationKind, span: tuple[int, int]) -> None:
        violations.append(MarkupViolation(kind=kind, text=response[slice(*span)], span=span))

    rest = list(response)
    for match in LINK.finditer(response):
        ad_id, span = match["id"], match.span()
        if ad_id not in titles:
            violation("unknown_ad", span)
        elif match["title"] != titles[ad_id]:
            violation("changed_title", span)
        elif ad_id in links:
            violation("repeated_ad", span)
        else:
            links[ad_id] = span
        rest[span[0] : span[1]] = "\n" * (span[1] - span[0])  # same length, and no pattern crosses a line break
    for pattern in (BROKEN, _bare_ids(titles)):
        for match in pattern.finditer("".join(rest)):
            violation("broken_markup", match.span())
            start, end = match.span()
            rest[start:end] = "\n" * (end - start)
    prose = list(response)
    for start, end in [*links.values(), *(f.span for f in violations)]:
        prose[start:end] = " " * (end - start)  # a sentence continues after its link
    for span in _leaks("".join(prose)):
        violation("leaked_process", span)
    violations.sort(key=lambda f: f.span)
    return Parsed(links, tuple(violations))


def _bare_ids(ids: Iterable[str]) -> re.Pattern[str]:
    """Pattern of a candidate's id in brackets without its title. It matches nothing if there are no candidates."""
    return re.compile(rf"\[(?:{'|'.join(map(re.escape, ids)) or '(?!)'})\]")


def neutral(text: str, auction: Auction) -> str:
    """Text that places no ad of the auction: links become titles, and bare ids and pieces of links lose their mark-up.

    For an advertiser's copy and a model's free text, before a mechanism puts them into an answer.
    """
    text = without_links(text)
    if "[" not in text:
        return text
    plain = _bare_ids(bid.ad.id for bid in auction.bids).sub(lambda found: found[0][1:-1], text)
    return plain if plain == text else without_links(plain)


def links_only(ad: Ad, text: str, auction: Auction) -> bool:
    """Whether a text has the link of this ad once, and no other mark-up and no other @."""
    pieces = text.split(ad.link)
    return len(pieces) == 2 and all("@" not in piece and neutral(piece, auction) == piece for piece in pieces)


def strip_markup(response: str) -> str:
    """The text without mark-up: a link becomes its title, and other mark-up characters are removed."""
    return re.sub(r"[@\[\]]", "", LINK.sub(lambda match: match["title"], response))


def sentences(response: str) -> list[str]:
    """The sentences of an answer with its links, without white space around them and without blank ones.

    No sentence ends within a link, as it might by `simenv.text.sentences`.
    """
    pieces = [response[start:stop].strip() for start, stop in sentence_spans(masked_links(response))]
    return [piece for piece in pieces if piece]


def outcome(
    auction: Auction,
    response: str,
    prices: Mapping[str, float] | None = None,
    *,
    transfers: Mapping[str, float] | None = None,
    **fields: object,
) -> Outcome:
    """Builds an Outcome: placements and violations are parsed from the text, prices are given.

    A link to an ad without a price is a violation (unpriced_ad), not a placement: the mechanism did not place it.

    Args:
        auction: The auction that is answered.
        response: The answer with ads as `ad.link`.
        prices: Ad id -> currency per unit of its bid, for every ad that the mechanism shows. A price per click goes
            into the placement, a price per view is added to the transfers. Prices of other ads are ignored: a mechanism
            may price an ad before it knows whether the language model shows it.
        transfers: Ad id -> currency per auction, independent of clicks.
        fields: Other fields of Outcome, such as `details`.

    Raises:
        OutcomeError: a price of a shown ad is negative or not finite.
    """
    prices = prices or {}
    parsed = _with_unpriced(response, parse(response, auction), prices)
    for ad_id in parsed.links:
        if not 0 <= prices[ad_id] < math.inf:
            raise OutcomeError(f"the price of {ad_id} must be at least 0 and finite, got {prices[ad_id]}")
    per_view = {bid.ad.id for bid in auction.bids if bid.unit == "view"} & parsed.links.keys()
    placements = tuple(
        Placement(ad_id=ad_id, price=0.0 if ad_id in per_view else prices[ad_id], span=span)
        for ad_id, span in parsed.links.items()
    )
    paid = dict(transfers or {})
    for ad_id in sorted(per_view):
        paid[ad_id] = paid.get(ad_id, 0.0) + prices[ad_id]
    return Outcome.model_validate(
        {
            "response": response,
            "placements": placements,
            "violations": parsed.violations,
            "transfers": paid,
            **fields,
        }
    )


def _with_unpriced(response: str, parsed: Parsed, priced: Container[str]) -> Parsed:
    """The same with every link of an ad that is not in `priced` as a violation."""
    unpriced = {ad_id: span for ad_id, span in parsed.links.items() if ad_id not in priced}
    if not unpriced:
        return parsed
    added = [MarkupViolation(kind="unpriced_ad", text=response[slice(*s)], span=s) for s in unpriced.values()]
    links = {ad_id: span for ad_id, span in parsed.links.items() if ad_id in priced}
    return Parsed(links, tuple(sorted([*parsed.violations, *added], key=lambda v: v.span)))


def verify(outcome: Outcome, auction: Auction) -> None:
    """Checks an outcome against its own text and the auction.

    Raises:
        OutcomeError: placements or violations differ from the text, a price of a bid per click is below the reserve, a
            transfer or a suggestion names an ad that is not a candidate, or the chosen suggestion does not exist.
    """
    parsed = parse(outcome.response, auction)
    unpriced = {v.span for v in outcome.violations if v.kind == "unpriced_ad"}
    priced = [ad_id for ad_id, span in parsed.links.items() if span not in unpriced]
    links, violations = _with_unpriced(outcome.response, parsed, priced)
    placed = {p.ad_id: p.span for p in outcome.placements}
    if placed != links:
        raise OutcomeError(
            f"placements {placed} do not match the links in the text {links}",
            hint="build outcomes with simenv.outcome(auction, response, prices)",
        )
    if len(outcome.placements) != len(placed):
        raise OutcomeError(f"an ad is placed twice: {[p.ad_id for p in outcome.placements]}")
    if outcome.violations != violations:
        raise OutcomeError(f"violations {outcome.violations} do not match those in the text {violations}")
    per_view = {bid.ad.id for bid in auction.bids if bid.unit == "view"}
    for placement in outcome.placements:
        low = placement.price < auction.reserve * (1 - 1e-9)  # tolerance for rounding in computed prices
        if low and placement.ad_id not in per_view:
            raise OutcomeError(
                f"{placement.ad_id} is priced at {placement.price}, below the reserve {auction.reserve} per click"
            )
    unknown = sorted(outcome.transfers.keys() - {bid.ad.id for bid in auction.bids})
    if unknown:
        raise OutcomeError(f"transfers name {unknown}, which are not candidates of auction {auction.id}")
    _verify_suggestions(outcome, auction)


def _verify_suggestions(outcome: Outcome, auction: Auction) -> None:
    """Raises OutcomeError if follow-up questions name other ads, or the chosen one is none of them."""
    n, candidates = len(outcome.suggestions), {bid.ad.id for bid in auction.bids}
    unknown = [s.ad_id for s in outcome.suggestions if s.ad_id is not None and s.ad_id not in candidates]
    if unknown:
        raise OutcomeError(f"suggestions name {unknown}, which are not candidates of auction {auction.id}")
    if outcome.chosen is not None and outcome.chosen >= n:
        raise OutcomeError(f"chosen must be below the number of suggestions, {n}, or None, got {outcome.chosen}")
