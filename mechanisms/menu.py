"""Finite menus of answers: written without the bids, so that everything about a choice among them is exact.

The menu of `Menu` holds the answer without ads, the answer with each single candidate, and the answer with every
ordered list of two ads or more, up to the auction's max_ads, from a shortlist of the most relevant candidates. With n
candidates, max_ads 2 and a shortlist of k these are 1 + n + k (k - 1) answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from simenv import markup
from simenv.background_loop import gather
from simenv.ctr.models import CTRModel, Floats
from simenv.errors import InputError
from simenv.llm import LLM, Capability
from simenv.objective import Objective
from simenv.records import Ad, Auction

from .writer import Writer

AdList = tuple[Ad, ...]
"""The ads of an answer in reading order."""
Tables = Mapping[frozenset[str], Mapping[str, float]]
"""Log-probability of the next choice ("" = none) by the ads that stand already."""


class Item(NamedTuple):
    """One answer of a menu."""

    response: str
    click_probs: dict[str, float]
    """Predicted, of the ads it shows."""
    penalty: float
    """In currency: the objective's, whatever the bids."""
    log_weight: float
    """Logarithm of its weight before any bid: a prior probability or an importance weight, up to a constant."""


class Menu:
    """Writes menus.

    Args:
        llm: The Ad-LLM.
        ctr_model: Predicts clicks in each answer.
        objective: Its penalty for extra ads and violations.
        shortlist: Candidates, the most relevant ones, of which lists of two ads or more are made.
        reference: The prior over the menu. "writer": the probability with which the two-stage writer, without bids,
            would show exactly these ads (`Writer.choice_logprobs`), as log-weights. "uniform": all alike.

    Raises:
        InputError: another reference, or a shortlist below 0.
        MissingCapability: the writer's probabilities are wanted of a model that does not know them.
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
        """The whole menu, the answer without ads first. Nothing in it depends on the bids, or on the reserve."""
        lists = self.lists(auction)
        texts = await write(self._writer, auction, lists)
        weights = [0.0] * len(lists)
        if self._reference == "writer":
            tables = await choice_tables(self._writer, auction, needed(auction, lists))
            weights = [log_prob(auction, tables, ads) for ads in lists]
        return [
            read(auction, text, weight, self._ctr_model, self._objective)
            for text, weight in zip(texts, weights, strict=True)
        ]

    def lists(self, auction: Auction) -> list[AdList]:
        """The ads of each answer: none, one, then longer lists. Ties in relevance go to the earlier candidate."""
        ads = [bid.ad for bid in auction.bids]
        by_relevance = sorted(auction.bids, key=lambda bid: -bid.relevance)
        top = [bid.ad for bid in by_relevance[: self._shortlist]]
        longer = (ads for size in range(2, auction.max_ads + 1) for ads in permutations(top, size))
        return [(), *((ad,) for ad in ads if auction.max_ads), *longer]


def require_choices(llm: LLM) -> None:
    """Raises MissingCapability unless the two-stage writer's probabilities can be had of the model."""
    for capability in (Capability.LOGPROBS, Capability.CONSTRAINT, Capability.PREFILL):
        llm.require(capability)


async def write(writer: Writer, auction: Auction, lists: Iterable[AdList]) -> list[str]:
    """The answer with each list of ads; what two answers begin with alike is written once."""
    wanted = list(lists)
    texts: dict[AdList, str] = {(): await writer.answer(auction)}
    for size in range(1, max(map(len, wanted), default=0) + 1):
        prefixes = list(dict.fromkeys(ads[:size] for ads in wanted if len(ads) >= size))
        made = await gather(writer.add_sentence(auction, texts[ads[:-1]], ads[-1]) for ads in prefixes)
        texts |= dict(zip(prefixes, made, strict=True))
    return [texts[ads] for ads in wanted]


def needed(auction: Auction, lists: Iterable[AdList]) -> set[frozenset[str]]:
    """The sets of ads after which the writer had to choose again to arrive at these lists."""
    ids = [[ad.id for ad in ads] for ads in lists]
    return {frozenset(row[:size]) for row in ids for size in range(min(len(row) + 1, auction.max_ads))}


async def choice_tables(
    writer: Writer, auction: Auction, sets: Collection[frozenset[str]], *, in_context: bool = False
) -> dict[frozenset[str], dict[str, float]]:
    """The writer's next choice after each of these sets of ads."""
    ordered = sorted(sets, key=sorted)
    rows = await gather(writer.choice_logprobs(auction, taken, in_context=in_context) for taken in ordered)
    return dict(zip(ordered, rows, strict=True))


def log_prob(auction: Auction, tables: Tables, ads: AdList) -> float:
    """Log-probability that choosing one ad after another gives exactly this list."""
    ids = [ad.id for ad in ads]
    steps = [*ids, ""][: auction.max_ads]  # after the last free ad nothing is asked
    return sum(tables[frozenset(ids[:place])][step] for place, step in enumerate(steps))


def read(auction: Auction, response: str, log_weight: float, ctr_model: CTRModel, objective: Objective) -> Item:
    """What a text shows, and what is predicted of it."""
    links, violations = markup.parse(response, auction)
    probs = ctr_model.click_probs(auction, response, list(links))
    return Item(response, probs, objective.penalty(auction, len(links), violations), log_weight)


def scores(auction: Auction, items: Sequence[Item], click_cost: float = 0.0) -> Floats:
    """sum_i (b_i - click_cost) q_i - penalty of each answer, in currency; -inf where it shows a bid below reserve."""
    amounts = {bid.ad.id: bid.amount for bid in auction.bids}
    return np.array(
        [
            sum((amounts[i] - click_cost) * q for i, q in item.click_probs.items()) - item.penalty
            if all(amounts[i] >= auction.reserve for i in item.click_probs)
            else -np.inf
            for item in items
        ]
    )


def tilted(items: Sequence[Item], worth: Floats, kl_weight: float) -> Floats:
    """Probabilities proportional to weight x exp(worth / kl_weight): shape (items,)."""
    logs = _log_weights(items) + worth / kl_weight
    shares = np.exp(logs - logs.max())
    return np.asarray(shares / shares.sum())


def log_value(items: Sequence[Item], worth: Floats, kl_weight: float) -> float:
    """V = kl_weight ln sum_y weight(y) exp(worth(y) / kl_weight): the most that worth less KL can come to."""
    return kl_weight * float(np.logaddexp.reduce(_log_weights(items) + worth / kl_weight))


def _log_weights(items: Sequence[Item]) -> Floats:
    return np.array([item.log_weight for item in items])
