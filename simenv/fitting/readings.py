"""Readings: what simulated readers made of the ads in a run's answers, for a click-intent evaluator.

The run's own judge already read each answer as one persona. It can read the answers as other personas too, and with
another ad in place of the one shown: the sentence of an ad of another auction, which few readers want here. Without
such answers an evaluator never sees an ad that does not fit, since retrieval and mechanisms choose ads that do. And it
can read the development part of the contrast suite, where one ad is worded in several ways, alone and beside others: a
mechanism words all its ads alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from simenv import markup
from simenv.ctr.ad_view import AdView, views
from simenv.ctr.learned import Impression
from simenv.encoder import Encoder
from simenv.errors import InputError
from simenv.judges.base import Judge
from simenv.one_thread import product
from simenv.records import Ad, Auction, Bid, Persona, Transition
from simenv.runs.judged_again import JudgedRun
from simenv.seeding import keyed_rng
from simenv.text import sentence_around
from simenv.validity.ask import CachedJudge
from simenv.validity.cases import Case
from simenv.validity.scenarios import EXTRAS, Scenario, build, load_scenarios, persona, shouted

SHOWN = ("run", "readers")
"""Sources whose answers a mechanism gave."""
SOURCES = (*SHOWN, "swaps", "contrasts")
_CONTRASTS = (
    *((wording,) for wording in ("native", "paraphrase", "spliced", "hard_sell", "other", "rival", "cheap", "dear")),
    ("native", "second"),
    ("native", "rival"),
    ("native", "second", "rival", *EXTRAS),
)
"""Ads of a scenario in one answer; the first one is read. The native one is also read before a leak of the ad process,
and the spliced one shouted."""


class Reading(NamedTuple):
    """One reader's verdict on one shown ad."""

    impression: Impression
    """Persona, ad, place, and whether it was clicked."""
    view: AdView
    """What an evaluator reads of it."""
    intent: float
    """The reader's click probability; where the judge gives none, 1.0 for a click and 0.0 else."""
    source: str
    """"run", "readers" (other readers of a run's answer), "swaps" or "contrasts"."""
    case: Case
    """What was read."""


async def readings(
    run: JudgedRun,
    encoder: Encoder,
    *,
    mechanism: str | None = None,
    readers: int = 0,
    swaps: int = 0,
    contrasts: bool = False,
    seed: int = 0,
    judge: Judge | None = None,
    watch: Callable[[str, int, int], None] = lambda *progress: None,
) -> list[Reading]:
    """Collects the readings of a run's answers. An abstention is no reading.

    Args:
        run: The run.
        encoder: Computes the relevance of ads that are put in.
        mechanism: Only answers of this mechanism; of all by default.
        readers: Number of further personas of the run that read each answer.
        swaps: Number of answers with another ad that are made of each answer, and read by its persona.
        contrasts: Whether the scenarios of the development part are read too, 13 answers each, by three people.
        seed: Names the draws of readers and ads.
        judge: Who reads all this; the run's judge by default. It is built only if there is something to read.
        watch: Called with (section, judgements done, judgements planned).

    Raises:
        InputError: readers or swaps below 0, or the run's judge cannot be built again.
        SimenvError: an error of the judge.
    """
    if readers < 0 or swaps < 0:
        raise InputError(f"readers and swaps must be at least 0, got {readers} and {swaps}")
    answers = [t for t in run.rows if mechanism in (None, t.mechanism) and t.outcome.placements]
    found = [reading for t in answers for reading in _own(t, run.personas[t.persona_id])]
    cases = {
        "readers": [case for t in answers for case in _read_by_others(t, run.personas, readers, seed)],
        "swaps": _swapped(answers, run.personas, encoder, swaps, seed),
        "contrasts": [case for s in load_scenarios("dev") for case in _contrasts(s)] if contrasts else [],
    }
    if any(cases.values()):
        cached = CachedJudge(judge or run.judge(), repeats=1, watch=watch)
        for source, of_source in cases.items():
            verdicts = await cached.ask(of_source, source)
            for case, verdict in zip(of_source, verdicts, strict=True):
                if verdict.clicked is not None and verdict.prob is not None:
                    found.append(_reading(case, verdict.clicked, verdict.prob, source))
    return found


def _own(t: Transition, persona: Persona) -> list[Reading]:
    return [
        _reading(
            Case(persona, t.auction, t.outcome, click.ad_id),
            click.clicked,
            float(click.clicked) if click.click_prob is None else click.click_prob,
            "run",
        )
        for click in t.feedback.clicks
        if click.clicked is not None
    ]


def _reading(case: Case, clicked: bool, intent: float, source: str) -> Reading:
    shown = [placement.ad_id for placement in case.outcome.placements]
    rank = shown.index(case.ad_id)
    bid = case.auction.bid_of(case.ad_id)
    impression = Impression(case.persona.id, bid.ad.id, bid.ad.category, bid.relevance, rank, clicked)
    return Reading(impression, views(case.auction, case.outcome.response, shown)[rank], intent, source, case)


def _read_by_others(t: Transition, personas: dict[str, Persona], readers: int, seed: int) -> list[Case]:
    others = sorted(set(personas) - {t.persona_id})
    rng = keyed_rng("evaluator readers", t.auction.id, t.mechanism, seed)
    chosen = rng.permutation(len(others))[:readers].tolist()
    cases = []
    for number in chosen:
        persona = personas[others[number]]
        update = {"id": f"{t.auction.id}.{persona.id}", "profile": persona.profile}
        auction = t.auction.model_copy(update=update)
        cases += [Case(persona, auction, t.outcome, placement.ad_id) for placement in t.outcome.placements]
    return cases


def _swapped(
    answers: Sequence[Transition], personas: dict[str, Persona], encoder: Encoder, swaps: int, seed: int
) -> list[Case]:
    """For each answer, `swaps` copies with one ad's sentence replaced by that of an ad of another auction."""
    pool = [
        (
            t.auction.bid_of(placement.ad_id).ad,
            t.outcome.response[slice(*sentence_around(t.outcome.response, placement.span))],
        )
        for t in answers
        for placement in t.outcome.placements
    ]
    cases = []
    for t in answers if swaps else ():
        candidates = {bid.ad.id for bid in t.auction.bids}
        foreign = [(ad, text) for ad, text in pool if ad.id not in candidates and len(markup.LINK.findall(text)) == 1]
        rng = keyed_rng("evaluator swaps", t.auction.id, t.mechanism, seed)
        for number in range(swaps if foreign else 0):
            placement = t.outcome.placements[int(rng.integers(len(t.outcome.placements)))]
            ad, sentence = foreign[int(rng.integers(len(foreign)))]
            cases.append(_swap(t, personas[t.persona_id], placement.ad_id, ad, sentence, encoder, f"swap-{number}"))
    return cases


def _swap(t: Transition, persona: Persona, out: str, ad: Ad, sentence: str, encoder: Encoder, key: str) -> Case:
    response = t.outcome.response
    span = next(p.span for p in t.outcome.placements if p.ad_id == out)
    start, end = sentence_around(response, span)
    space = " " if response[start : start + 1] == " " else ""
    text = f"{response[:start]}{space}{sentence.strip()}{response[end:]}"
    bids = tuple(_bid(bid, ad, t.auction, encoder) if bid.ad.id == out else bid for bid in t.auction.bids)
    auction = t.auction.model_copy(update={"id": f"{t.auction.id}.{key}", "bids": bids})
    prices = {bid.ad.id: bid.amount for bid in bids}
    return Case(persona, auction, markup.outcome(auction, text, prices), ad.id)


def _bid(bid: Bid, ad: Ad, auction: Auction, encoder: Encoder) -> Bid:
    query, text = encoder.encode([auction.query.text, ad.text]).astype(np.float64)
    return bid.model_copy(update={"ad": ad, "relevance": float(product(query, text))})


def _contrasts(scenario: Scenario) -> list[Case]:
    readers = (
        persona(scenario),
        persona(scenario, scenario.interested, affinity=0.8),
        persona(scenario, scenario.uninterested, affinity=-0.8),
    )
    built = [build(scenario, ads, who=who) for who in readers for ads in _CONTRASTS]
    built += [build(shouted(scenario), ["spliced"], who=who) for who in readers]
    built += [build(scenario, tail=scenario.leak, who=who) for who in readers]
    return [
        case._replace(
            auction=case.auction.model_copy(
                update={"id": f"{case.auction.id}.contrast-{number}", "profile": case.persona.profile}
            )
        )
        for number, case in enumerate(built)
    ]
