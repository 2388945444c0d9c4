"""Auctions and outcomes of answers that were written elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simenv import markup
from simenv.encoder import Encoder
from simenv.errors import InputError
from simenv.files.rows import to_record
from simenv.files.tables import Row
from simenv.one_thread import product
from simenv.records import Ad, Auction, Bid, Outcome, Persona, Query
from simenv.scoring.placing import is_link, with_markup
from simenv.scoring.rows import Written
from simenv.seeding import keyed_int, keyed_rng
from simenv.users.queries import FileQueries, Question
from simenv.world import Session


@dataclass
class Asked:
    """One question of one user, and the answers to it."""

    session: Session
    answers: dict[str, Written] = field(default_factory=dict)
    """By system."""


class WrittenAnswers:
    """A system as a mechanism: it has an answer for each auction that its file has, and for no other.

    Args:
        name: The system.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.outcomes: dict[str, Outcome] = {}
        """By auction."""
        self.auctions: dict[str, Auction] = {}
        """By id: with the bids that this system's rows give."""
        self.values: dict[str, dict[str, float]] = {}
        """Auction -> ad id -> value per click."""
        self.references: dict[str, str] = {}
        """Auction -> the answer without ads."""
        self.unlinked: dict[str, set[str]] = {}
        """Auction -> ids of the ads that stand in the answer in plain words, without a link."""

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        if auction.id not in self.outcomes:
            raise InputError(f"{self.name} has no answer to auction {auction.id}")
        return self.outcomes[auction.id]


class WrittenQueries(FileQueries):
    """The questions of the answers, in order."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.name = "answers"
        self.questions = [Question(text) for text in texts]
        self.hash = f"{keyed_int(*sorted(text for text, _ in self.questions)):032x}"


def grouped(answers: Sequence[Written], personas: Sequence[Persona], seed: int) -> list[Asked]:
    """The answers by auction, in the order of the first answer to each.

    Answers of several systems meet in one auction if they have one id, or without ids one question and one user: the
    first answer of each system, then the second one of each, and so on. A user that is not given is drawn from
    `personas`, keyed by the seed and the auction: the same in every file.
    """
    found: dict[tuple[str, ...], Asked] = {}
    count: dict[tuple[str, ...], int] = {}
    users = {it.id: it.persona for it in reversed(answers) if it.id and it.persona is not None}
    for it in answers:
        given = it.persona if it.persona is not None else users.get(it.id)
        user = given.id if given is not None else ""
        same = ("id", it.id) if it.id else ("query", it.query, user)
        number = count.get((it.system, *same), 0)
        count[(it.system, *same)] = number + 1
        key = (*same, str(number))
        if key not in found:
            persona = given or personas[int(keyed_rng("score", seed, *key).integers(len(personas)))]
            name = f"{seed}.{keyed_int(*key, it.query):032x}"[: len(str(seed)) + 13] + f".{persona.id}"
            found[key] = Asked(Session(name, persona, [Question(it.query)]))
        elif given != found[key].session.persona and given is not None:
            raise InputError(f"{it.where}: persona: auction {it.id!r:.60} has another one in another row")
        found[key].answers[it.system] = it
    return list(found.values())


def settle_auctions(asked: Sequence[Asked], systems: Mapping[str, WrittenAnswers], max_ads: int) -> list[str]:
    """Gives every system its auctions, outcomes, values and references.

    The candidates of an auction are the ads that any of its answers shows. A bid is what the answer's own row says,
    else another answer's row of this auction; else the price, so that it covers it; else 1, so that money counts
    clicks.

    Returns:
        Rows that cannot be scored, one message each.
    """
    bad = []
    for question in asked:
        ads = {place.ad.id: place.ad for it in question.answers.values() for place in it.places}
        for system, it in list(question.answers.items()):
            try:
                _settle(question, it, ads, systems[system], max_ads)
            except InputError as error:
                bad.append(str(error) if str(error).startswith(it.where) else f"{it.where}: {error}")
                del question.answers[system]
    return bad


def _settle(question: Asked, it: Written, ads: Mapping[str, Ad], system: WrittenAnswers, max_ads: int) -> None:
    session = question.session
    others = list(question.answers.values())

    def money(name: str, ad_id: str) -> float | None:
        own = it.money[name].get(ad_id)
        return own if own is not None else next((o.money[name][ad_id] for o in others if ad_id in o.money[name]), None)

    bids: dict[str, float] = {}
    prices: dict[str, float] = {}
    values: dict[str, float] = {}
    for ad_id in ads:
        bid, price, value = (money(name, ad_id) for name in ("bid", "price", "value"))
        bids[ad_id] = bid if bid is not None else price if price is not None else 1.0
        prices[ad_id] = it.money["price"].get(ad_id, 0.0)
        values[ad_id] = value if value is not None else bids[ad_id]
    fields: dict[str, Any] = {
        "id": f"{session.id}.0",
        "session_id": session.id,
        "query": Query(text=it.query),
        "profile": session.persona.profile,
        "bids": tuple(Bid(ad=ad, amount=bids[ad.id]) for ad in ads.values()),
        "max_ads": max_ads,
    }
    auction = to_record(Row(it.where, {}), Auction, fields)
    response = it.response
    wording: dict[str, str] = {}
    if it.form != "markup":
        response, wording = with_markup(it.response, it.places, auction)
    shown = {place.ad.id: prices[place.ad.id] for place in it.places}
    details: dict[str, Any] = {"row": it.where.rpartition("/")[2]}
    details |= {"id": it.id} if it.id else {}
    details |= {"wording": wording} if wording else {}
    outcome = markup.outcome(auction, response, shown, details=details)
    if it.form != "markup" and (lost := set(shown) - {placement.ad_id for placement in outcome.placements}):
        raise InputError(f"the text around ad {min(lost)} breaks its link")
    system.auctions[auction.id], system.outcomes[auction.id] = auction, outcome
    system.values[auction.id] = values
    system.unlinked[auction.id] = {ad_id for ad_id, words in wording.items() if not is_link(words)}
    if it.reference is not None:
        system.references[auction.id] = it.reference


def set_relevance(systems: Iterable[WrittenAnswers], encoder: Encoder) -> None:
    """Gives every candidate the relevance that retrieval would: the cosine of query and ad. The largest come first.

    Args:
        systems: The systems.
        encoder: The encoder of the world.
    """
    systems = list(systems)
    auctions = [auction for system in systems for auction in system.auctions.values() if auction.bids]
    texts = list(dict.fromkeys([*(a.query.text for a in auctions), *(bid.ad.text for a in auctions for bid in a.bids)]))
    if not texts:
        return
    place = {text: i for i, text in enumerate(texts)}
    vectors = encoder.encode(texts)
    for system in systems:
        for auction_id, auction in system.auctions.items():
            if not auction.bids:
                continue
            ads = vectors[[place[bid.ad.text] for bid in auction.bids]]
            pairs = zip(auction.bids, product(ads, vectors[place[auction.query.text]]).tolist(), strict=True)
            bids = [bid.model_copy(update={"relevance": relevance}) for bid, relevance in pairs]
            bids.sort(key=lambda bid: -bid.relevance)
            system.auctions[auction_id] = auction.model_copy(update={"bids": tuple(bids)})
