"""Token auction: each advertiser's language model bids for every token of one sponsored sentence.

Source: Duetting, Mirrokni, Paes Leme, Xu, Zuo (2024), "Mechanism design for large language models" (arXiv 2310.10826).
Advertiser i is a language model with next-token distribution p_i and a bid w_i. A token is drawn from

    linear:      q = sum_i w_i p_i / sum_i w_i               monotone in each bid
    log-linear:  q proportional to prod_i p_i^(w_i / sum w)  not monotone in general

The second-price payment uses stable sampling: with the sampling noise fixed, i pays for the bids z in [0, w_i] at which
the token would have been another one. The noise is a maximal coupling: at bid z the token t stays while
v <= q_z(t) / q(t), with one uniform v for all z. So the token differs with probability TV(q_z, q), the lowest possible
one. (Independent Gumbel noise per token changes tokens more often and overcharges.) Under the linear rule the expected
payment per token is, with W the sum of the others' bids and t = w_i / W,

    integral_0^w_i TV(q_z, q) dz = TV(p_i, q_without_i) W (ln(1 + t) - t / (1 + t)).

How this file implements it: the answer is written without any advertiser. Then one sentence is decoded jointly, as in
`joint_sentence.py`. A sentence that says more than the shown ad's copy is replaced by the first sentence of that copy,
and only the tokens of the link are paid for. The paper's bids are per token and do not involve clicks. Here w_i = (b_i
- reserve) q_i, the expected value of showing the ad above the reserve, spread evenly over the drawn tokens. The sum is
a transfer, due independent of the ad shown and of clicks. The shown ad also pays the reserve per click.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from simenv import Writer, outcome
from simenv.ctr.models import CosineCTR, CTRModel, Floats
from simenv.errors import InputError
from simenv.llm import LLM, Combined
from simenv.mechanism import Claim
from simenv.records import Auction, Outcome, Record
from simenv.writer.copy_check import own_words

from .joint_sentence import NEEDED, decode_jointly, draw, joint_sampling, opening

Rule = Literal["linear", "log_linear"]
_GRID = 16
"""Number of own bids at which the log-linear payment is evaluated: it has no closed form."""


class Linear(Record):
    """The linear rule with its payments. Its `repr` names all bids, as `LLM.ensemble_decode` requires."""

    weights: tuple[float, ...]
    """The bids w_i, above 0: currency per token."""

    def __call__(self, logprobs: Floats, rng: np.random.Generator) -> Combined:
        columns, logs = _support(logprobs)
        bids = np.array(self.weights)
        probs = np.exp(logs)
        mixed = bids @ probs / bids.sum()
        place = draw(mixed, rng.random())
        paid = self.payments(probs[:, place], float(mixed[place]), rng.random())
        return Combined(int(columns[place]), float(np.log(mixed[place])), tuple(map(float, paid)))

    def payments(self, own: Floats, mixed: float, noise: float) -> Floats:
        """Payment of each advertiser for one token: the bid below which the token would have been another one.

        Args:
            own: p_i of the token: shape (n,).
            mixed: q of the token.
            noise: v, uniform in [0, 1).
        """
        bids = np.array(self.weights)
        share = bids / bids.sum()
        others = 1 - share
        paid = np.zeros(len(bids))
        for i in np.flatnonzero(others > 1e-12):  # a single advertiser's bid does not change the distribution
            without = max(0.0, (mixed - share[i] * own[i]) / others[i])
            if own[i] > without:  # otherwise a lower bid makes the token more likely, so the token stays
                critical = min(max(0.0, (noise * mixed - without) / (own[i] - without)), share[i])
                paid[i] = bids.sum() * others[i] * critical / (1 - critical)
        return np.asarray(np.minimum(paid, bids))  # rounding


class LogLinear(Record):
    """The log-linear rule, its payments summed over a grid of own bids."""

    weights: tuple[float, ...]
    """The bids w_i, above 0: currency per token."""

    def __call__(self, logprobs: Floats, rng: np.random.Generator) -> Combined:
        columns, logs = _support(logprobs)
        bids = np.array(self.weights)
        mixed = self.mix(logs, bids)
        place = draw(mixed, rng.random())
        noise = rng.random()
        paid = []
        for i, bid in enumerate(bids):
            steps = np.tile(bids, (_GRID, 1))
            steps[:, i] = bid * (np.arange(_GRID) + 0.5) / _GRID
            lower = self.mix(logs, steps)[:, place]
            paid.append(float(bid * np.mean(lower < noise * mixed[place])))
        return Combined(int(columns[place]), float(np.log(mixed[place])), tuple(paid))

    @staticmethod
    def mix(logs: Floats, bids: Floats) -> Floats:
        """q at these bids: shape (..., vocab) for bids of shape (..., n) and logs of shape (n, vocab)."""
        shares = bids / bids.sum(-1, keepdims=True)
        mixed = sum(shares[..., i, None] * row for i, row in enumerate(logs))  # not @: no bid is 0, as -inf x 0 is nan
        weights = np.exp(mixed - np.max(mixed, axis=-1, keepdims=True))
        return np.asarray(weights / weights.sum(-1, keepdims=True))


class TokenAuction:
    """Token auction: advertisers decode one sponsored sentence jointly by bids, pay a second price per token.

    Advertisers with bids above the reserve take part. It makes no claim: the paper's incentive property (under a
    monotone rule no advertiser gains from another bid) is about preferences over token distributions, not about values
    per click. Audits measure incentives per click.

    Args:
        llm: The model of every advertiser. The cost grows with their number, because each decodes every token.
        ctr_model: Gives q_i, the click probability before any text is written.
        rule: "linear" or "log_linear".
        tokens: Maximum number of tokens of the sentence after its link.

    Raises:
        InputError: another rule, or tokens below 1.
        MissingCapability: the model cannot decode jointly, or cannot be constrained.
    """

    name = "token_auction"
    claims: frozenset[Claim] = frozenset()

    def __init__(self, llm: LLM, ctr_model: CTRModel | None = None, rule: Rule = "linear", tokens: int = 24) -> None:
        if rule not in get_args(Rule):
            raise InputError(f"rule must be one of {', '.join(get_args(Rule))}, got {rule!r}")
        sampling = joint_sampling(tokens)
        for capability in NEEDED:
            llm.require(capability)
        self.ctr_model = ctr_model or CosineCTR()
        self.rule = rule
        self._sampling = sampling
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        answer = await self._writer.answer(auction)
        relevance = self.ctr_model.relevance(auction)
        token_bids = {
            b.ad.id: (b.amount - auction.reserve) * float(q) for b, q in zip(auction.bids, relevance, strict=True)
        }
        ads = [bid.ad for bid in auction.bids if token_bids[bid.ad.id] > 0 and auction.max_ads]
        if not ads:
            return outcome(auction, answer)
        weights = tuple(token_bids[ad.id] for ad in ads)
        combine = Linear(weights=weights) if self.rule == "linear" else LogLinear(weights=weights)

        made = await decode_jointly(
            self._writer, auction, ads, combine, lambda _: combine, name="token", sampling=self._sampling
        )
        sentence, log = made.text, [*made.link.log, *made.tail.log]
        if not self._writer.accepts(auction, sentence, made.linked):
            sentence = f"{opening(made.linked)} {own_words(made.linked)}"
            log = [*made.link.log]  # nobody pays for tokens that are not shown
        draws = np.array(log).reshape(-1, len(ads))
        paid = draws.mean(0) if len(draws) else np.zeros(len(ads))  # a single advertiser's link is not drawn
        return outcome(
            auction,
            f"{answer} {sentence}".strip(),
            dict.fromkeys((ad.id for ad in ads), auction.reserve),
            transfers={ad.id: float(amount) for ad, amount in zip(ads, paid, strict=True)},
            details={"draws": len(draws)},
        )


def _support(logprobs: Floats) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], Floats]:
    """The tokens with positive probability in any distribution, and the distributions restricted to them."""
    columns = np.flatnonzero(np.isfinite(logprobs).any(0))
    return columns, logprobs[:, columns]
