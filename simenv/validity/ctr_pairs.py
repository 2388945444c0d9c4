"""Pairs of answers for CTR models: does a prediction fall where the ad gets worse, and stay where it is only renamed?

The pairs are those of the contrast suite and its placebos, for judges (`contrasts.py`, `placebos.py`), as far as what
changes is in the auction or the answer, where a mechanism may see it. A CTR model sees the reader's profile, but not
the attitude to ads and prices. One more kind degrades the wording in two steps.

A model that does not read the text predicts the same for both answers of most pairs. So ties are counted by themselves,
and the share of pairs in the right order is given of the pairs that were no ties, beside the share that counts a tie
as half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simenv.ctr.models import CTRModel
from simenv.encoder import Encoder
from simenv.one_thread import product
from simenv.records import Record
from simenv.validity import contrasts, placebos
from simenv.validity.ask import Verdict
from simenv.validity.cases import Case
from simenv.validity.contrasts import Contrast, ContrastPair
from simenv.validity.placebos import Placebo
from simenv.validity.scenarios import Scenario, build, shouted

FALLS = {
    "relevance": "swapped for an irrelevant ad",
    "spliced": "spliced in, without connection to the answer",
    "shouted": "spliced in, then shouted",
    "degraded": "native, then shouted: both steps",
    "hard_sell": "hard sell",
    "competition": "beside a rival",
    "flooding": "followed by five more ads",
    "leak": "after a leak of the ad process",
    "interest": "for a reader of other interests",
}
"""Kind -> what makes the ad likelier to be left alone, in the second answer of a pair."""
STAYS = ("brand", "ad_id", "bids", "paraphrase", "text_after")
"""Placebos that a CTR model can see; see `placebos.PLACEBOS`."""
STEPS = ("native", "spliced", "shouted")
"""Wordings of one ad, each worse than the one before."""


class CTRValidity(Record):
    """How a CTR model ordered the pairs."""

    model: str
    """Its name."""
    part: str
    """test, dev or all: the scenarios. Nothing may be learned or tuned on test."""
    scenarios: int
    falls: dict[str, Contrast]
    """Kind (`FALLS`) and "all" -> how the pairs were ordered."""
    in_order: int
    """Scenarios in which the prediction falls at every step of `STEPS`."""
    stays: dict[str, Placebo]
    """Placebo -> how far the prediction moved."""
    renamed_same: int
    """Scenarios in which another brand changes nothing at all."""


class _Predicted(NamedTuple):
    first: float
    second: float

    @property
    def verdicts(self) -> tuple[Verdict, Verdict]:
        return _verdict(self.first), _verdict(self.second)


def measure_ctr(
    model: CTRModel, scenarios: Sequence[Scenario], part: str, encoder: Encoder, seed: int = 0
) -> CTRValidity:
    """Predicts both answers of every pair.

    Args:
        model: The CTR model.
        scenarios: The scenarios of the part.
        part: Name of the part, for the report.
        encoder: Computes the relevance of candidates, as the retriever does.
        seed: Names the draws of ad ids.

    Raises:
        SimenvError: an error of the model.
    """

    def predict(first: Case, second: Case) -> _Predicted:
        return _Predicted(*(_prediction(model, case, encoder) for case in (first, second)))

    falls = [(pair, predict(pair.first, pair.second)) for s in scenarios for pair in pairs(s, seed)]
    rows = [(pair, *predicted.verdicts) for pair, predicted in falls]
    stays = [
        (pair, predict(pair.before, pair.after))
        for s in scenarios
        for pair in placebos.pairs(s, seed)
        if pair.placebo in STAYS
    ]
    dropped = {
        s.id: [predicted.first > predicted.second for pair, predicted in falls if pair.scenario == s.id and _step(pair)]
        for s in scenarios
    }
    return CTRValidity(
        model=model.name,
        part=part,
        scenarios=len(scenarios),
        falls={
            **{kind: contrasts.summarize([row for row in rows if row[0].kind == kind]) for kind in FALLS},
            "all": contrasts.summarize(rows),
        },
        in_order=sum(all(steps) for steps in dropped.values()),
        stays={
            name: placebos.summarize([(pair.scenario, *p.verdicts) for pair, p in stays if pair.placebo == name])
            for name in STAYS
        },
        renamed_same=sum(p.first == p.second for pair, p in stays if pair.placebo == "brand"),
    )


def pairs(scenario: Scenario, seed: int = 0) -> list[ContrastPair]:
    """The pairs of one scenario in which the second answer's prediction must be lower, by `FALLS`."""
    native, spliced = build(scenario, seed=seed), build(scenario, ["spliced"], seed=seed)
    worst = build(shouted(scenario), ["spliced"], seed=seed)
    own = [
        ContrastPair("shouted", scenario.id, spliced, worst),
        ContrastPair("degraded", scenario.id, native, worst),
    ]
    return [*(pair for pair in contrasts.pairs(scenario, seed) if pair.kind in FALLS), *own]


def _step(pair: ContrastPair) -> bool:
    return pair.kind in ("spliced", "shouted")


def _prediction(model: CTRModel, case: Case, encoder: Encoder) -> float:
    auction = case.auction
    vectors = encoder.encode([auction.query.text, *(bid.ad.text for bid in auction.bids)]).astype(np.float64)
    relevance = product(vectors[1:], vectors[0])
    bids = (
        bid.model_copy(update={"relevance": float(cosine)}) for bid, cosine in zip(auction.bids, relevance, strict=True)
    )
    auction = auction.model_copy(update={"bids": tuple(bids), "profile": case.persona.profile})
    shown = [placement.ad_id for placement in case.outcome.placements]
    return model.click_probs(auction, case.outcome.response, shown)[case.ad_id]


def _verdict(prob: float) -> Verdict:
    return Verdict(prob, None, True, False)
