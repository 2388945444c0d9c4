"""Finite menus of answers, written without the bids, so that the distribution of a choice among them is exact.

A menu of `Menu` has the answer without ads, the answer with each single candidate, and the answer with every ordered
list of two or more ads, up to the auction's max_ads, from a shortlist of the most relevant candidates. With n
candidates, max_ads 2 and a shortlist of k, a menu has 1 + n + k (k - 1) answers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from simenv import Writer, markup
from simenv.background_loop import gather
from simenv.ctr.models import CosineCTR, CTRModel, Floats
from simenv.errors import InputError
from simenv.llm import LLM, Capability
from simenv.objective import Objective
from simenv.records import Ad, Auction

AdList = tuple[Ad, ...]
"""The ads of an answer in reading order."""
Tables = Mapping[frozenset[str], Mapping[str, float]]
"""Ids of the ads already in the answer -> id of the next ad ("" = none) -> log-probability."""


class Item(NamedTuple):
    """One answer of a menu."""

    response: str
    click_probs: dict[str, float]
    """Ad id -> predicted click probability, for the ads it shows."""
    penalty: float
    """The objective's penalty, in currency; it does not depend on the bids."""
    log_weight: float
    """Logarithm of its bid-free weight: a prior probability or an importance weight, up to a constant."""


class Menu:
    """Writes menus.

    Args:
        llm: The Ad-LLM.
        ctr_model: Predicts clicks in each answer.
        objective: Gives the penalty for extra ads and violations.
        shortlist: Number of most relevant candidates from which lists of two or more ads are built.
        reference: The prior over the menu. "writer": the probability that the two-stage writer, without bids, shows
            exactly these ads (`Writer.choice_logprobs`), as log-weights. "uniform": equal weights.

    Raises:
        InputError: another reference, or a shortlist below 0.
        MissingCapability: `reference` is "writer" and the model does not give these probabilities.
    """

    def __init__(
        self, llm: LLM, ctr_model: CTRModel, objective: Objective, *, shortlist: int, reference: str = "uniform"
    ) -> None:
        if reference not in ("uniform", "writer"):
            raise InputError(f"reference must be 'uniform' or 'writer', got {reference!r}")
        if isinstance(shortlist, bool) or not isinstance(shortlist, int) or shortlist < 0:
            raise InputError(f"shortlist must be a number of ads, 0 or more, got {shortlist!r}")
        if reference == "writer":
            require_choices(llm)
        self._writer = Writer(llm)
        self._ctr_model = ctr_model
        self._objective = objective
        self._shortlist = shortlist
        self._reference = reference

    async def items(self, auction: Auction) -> list[Item]:
        """The whole menu, the answer without ads first. It depends neither on the bids nor on the reserve."""
        lists = self.lists(auction)
        texts = await write(self._writer, auction, lists)
        weights = [0.0] * len(lists)
        if self._reference == "writer":
            tables = await choice_tables(self._writer, auction, choice_points(auction, lists))
            weights = [log_prob(auction, tables, ads) for ads in lists]
        return [
            read(auction, text, weight, self._ctr_model, self._objective)
            for text, weight in zip(texts, weights, strict=True)
        ]

    def lists(self, auction: Auction) -> list[AdList]:
        """The ad list of each answer: none, one ad, then longer lists. Relevance ties go to the earlier candidate."""
        ads = [bid.ad for bid in auction.bids]
        by_relevance = sorted(auction.bids, key=lambda bid: -bid.relevance)
        top = [bid.ad for bid in by_relevance[: self._shortlist]]
        longer = (ads for size in range(2, auction.max_ads + 1) for ads in permutations(top, size))
        return [(), *((ad,) for ad in ads if auction.max_ads), *longer]


def kl_weight_of(number: object) -> float:
    """A kl_weight as a float.

    Raises:
        InputError: it is not a positive finite number.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
        raise InputError(f"kl_weight must be a number above 0 and finite, got {number!r}")
    return float(number)


class TiltedMenu:
    """Base of mechanisms that draw from a menu tilted by the bids.

    Args:
        llm, ctr_model, objective: As everywhere; the cosine and the paper's objective by default.
        kl_weight: Weight of the KL divergence to the prior, currency per nat.
        shortlist, reference: See `Menu`.

    Raises:
        InputError, MissingCapability: see `kl_weight_of` and `Menu`.
    """

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        objective: Objective | None = None,
        kl_weight: float = 10.0,
        shortlist: int = 4,
        reference: str = "writer",
    ) -> None:
        self.kl_weight = kl_weight_of(kl_weight)
        self.ctr_model = ctr_model or CosineCTR()
        self.menu = Menu(llm, self.ctr_model, objective or Objective(), shortlist=shortlist, reference=reference)


def require_choices(llm: LLM) -> None:
    """Raises MissingCapability unless the model can give the choice probabilities of the two-stage writer."""
    for capability in (Capability.LOGPROBS, Capability.CONSTRAINT, Capability.PREFILL):
        llm.require(capability)


async def write(writer: Writer, auction: Auction, lists: Iterable[AdList]) -> list[str]:
    """Writes the answer with each list of ads. A beginning that two answers share is written once."""
    ordered = list(lists)
    texts: dict[AdList, str] = {(): await writer.answer(auction)}
    for size in range(1, max(map(len, ordered), default=0) + 1):
        prefixes = list(dict.fromkeys(ads[:size] for ads in ordered if len(ads) >= size))
        longer = await gather(writer.add_sentence(auction, texts[ads[:-1]], ads[-1]) for ads in prefixes)
        texts |= dict(zip(prefixes, longer, strict=True))
    return [texts[ads] for ads in ordered]


def choice_points(auction: Auction, lists: Iterable[AdList]) -> set[frozenset[str]]:
    """The sets of ad ids after which the writer makes a further choice on the way to these lists."""
    ids = [[ad.id for ad in ads] for ads in lists]
    return {frozenset(row[:size]) for row in ids for size in range(min(len(row) + 1, auction.max_ads))}


async def choice_tables(
    writer: Writer, auction: Auction, sets: Collection[frozenset[str]], *, in_context: bool = False
) -> dict[frozenset[str], dict[str, float]]:
    """Log-probabilities of the writer's next choice after each of these sets of ads."""
    ordered = sorted(sets, key=sorted)
    rows = await gather(writer.choice_logprobs(auction, taken, in_context=in_context) for taken in ordered)
    return dict(zip(ordered, rows, strict=True))


def log_prob(auction: Auction, tables: Tables, ads: AdList) -> float:
    """Log-probability that sequential choices give exactly this list."""
    ids = [ad.id for ad in ads]
    steps = [*ids, ""][: auction.max_ads]  # at max_ads there is no further choice
    return sum(tables[frozenset(ids[:place])][step] for place, step in enumerate(steps))


def read(auction: Auction, response: str, log_weight: float, ctr_model: CTRModel, objective: Objective) -> Item:
    """Parses a text and predicts its click probabilities and its penalty."""
    links, violations = markup.parse(response, auction)
    probs = ctr_model.click_probs(auction, response, list(links))
    return Item(response, probs, objective.penalty(auction, len(links), violations), log_weight)


def scores(auction: Auction, items: Sequence[Item], click_cost: float = 0.0) -> Floats:
    """sum_i (b_i - click_cost) q_i - penalty of each answer, in currency; -inf if it shows a bid below the reserve."""
    amounts = {bid.ad.id: bid.amount for bid in auction.bids}
    return np.array(
        [
            sum((amounts[i] - click_cost) * q for i, q in item.click_probs.items()) - item.penalty
            if all(amounts[i] >= auction.reserve for i in item.click_probs)
            else -np.inf
            for item in items
        ]
    )


def tilted(items: Sequence[Item], rewards: Floats, kl_weight: float) -> Floats:
    """Probabilities proportional to weight x exp(reward / kl_weight): shape (items,)."""
    logs = _log_weights(items) + rewards / kl_weight
    shares = np.exp(logs - logs.max())
    return np.asarray(shares / shares.sum())


def log_value(items: Sequence[Item], rewards: Floats, kl_weight: float) -> float:
    """V = kl_weight ln sum_y weight(y) exp(reward(y) / kl_weight): the maximum of E[reward] - kl_weight x KL."""
    return kl_weight * float(np.logaddexp.reduce(_log_weights(items) + rewards / kl_weight))


def _log_weights(items: Sequence[Item]) -> Floats:
    return np.array([item.log_weight for item in items])
