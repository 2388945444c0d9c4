"""Token auction: each advertiser's language model bids for every token of one sponsored sentence.

Source: Duetting, Mirrokni, Paes Leme, Xu, Zuo (2024), "Mechanism design for large language models" (arXiv 2310.10826).
Advertiser i is a language model with next-token distribution p_i and a bid w_i. A token is drawn from

    linear:      q = sum_i w_i p_i / sum_i w_i               monotone in each bid
    log-linear:  q proportional to prod_i p_i^(w_i / sum w)  not monotone in general

Second-price payment by stable sampling: with the sampling noise fixed, i pays for the bids z in [0, w_i] at which the
token would have been another one. The noise is a maximal coupling: at the bid z the token t stays while
v <= q_z(t) / q(t), with one uniform v for all z, so that it differs with probability TV(q_z, q), the least that is
possible. (Independent Gumbel noise per token changes tokens more often, and overcharges.) Under the linear rule the
expected payment per token is, with W the others' bids and t = w_i / W,

    integral_0^w_i TV(q_z, q) dz = TV(p_i, q_without_i) W (ln(1 + t) - t / (1 + t)).

How the parts are made here: the answer is written without any advertiser. Then one sentence is decoded jointly, each
advertiser's model being the same one under a prompt about its own ad: first which link it shows, then what it says, all
under the same constraint. The paper's bids are per token and know no clicks; here w_i = (b_i - reserve) q_i, what an ad
in the answer is worth above the reserve, spread evenly over the tokens drawn. The sum is a transfer: it is due whatever
is shown or clicked. The ad that is shown pays the reserve per click besides.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from simenv import outcome
from simenv.ctr.models import CosineCTR, CTRModel, Floats
from simenv.errors import InputError
from simenv.llm import LLM, PLAIN, Capability, Combined, LinksOnly, OneOf, Prompt, Sampling
from simenv.mechanism import Claim
from simenv.records import Auction, Outcome, Record

from .writer import Writer, end_of_sentence, read_prompt

Rule = Literal["linear", "log_linear"]
_GRID = 16
"""Own bids at which the log-linear rule is compared: it has no closed form."""


class Linear(Record):
    """The linear rule with its payments. Its `repr` names all bids, as `LLM.ensemble_decode` wants."""

    weights: tuple[float, ...]
    """The bids w_i, above 0: currency per token."""

    def __call__(self, logprobs: Floats, rng: np.random.Generator) -> Combined:
        columns, logs = _support(logprobs)
        bids = np.array(self.weights)
        probs = np.exp(logs)
        mixed = bids @ probs / bids.sum()
        place = _draw(mixed, rng.random())
        paid = self.payments(probs[:, place], float(mixed[place]), rng.random())
        return Combined(int(columns[place]), float(np.log(mixed[place])), tuple(map(float, paid)))

    def payments(self, own: Floats, mixed: float, noise: float) -> Floats:
        """What each pays for a token: the bid below which it would have been another one.

        Args:
            own: p_i of the token: shape (n,).
            mixed: q of the token.
            noise: v, uniform in [0, 1).
        """
        bids = np.array(self.weights)
        share = bids / bids.sum()
        others = 1 - share
        paid = np.zeros(len(bids))
        for i in np.flatnonzero(others > 1e-12):  # who is alone changes nothing by bidding less
            without = max(0.0, (mixed - share[i] * own[i]) / others[i])
            if own[i] > without:  # else a lower bid makes the token likelier, and it stays
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
        place = _draw(mixed, rng.random())
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
        mixed = sum(shares[..., i, None] * row for i, row in enumerate(logs))  # not @: 0 bids are none, -inf x 0 is nan
        weights = np.exp(mixed - np.max(mixed, axis=-1, keepdims=True))
        return np.asarray(weights / weights.sum(-1, keepdims=True))


class TokenAuction:
    """One sponsored sentence after the answer, decoded by all advertisers above the reserve together.

    Nothing is claimed: the paper's incentive property (with a monotone rule nobody wants to bid otherwise) is about
    preferences over token distributions, not about values per click. What a value per click makes of it is measured.

    Args:
        llm: The model behind every advertiser. Its cost grows with their number: each decodes every token.
        ctr_model: Gives q_i, the click probability before any text is written.
        rule: "linear" or "log_linear".
        tokens: Most tokens of the sentence after its link.

    Raises:
        InputError: another rule, or tokens below 1.
        MissingCapability: the model cannot decode jointly, or be constrained.
    """

    name = "token_auction"
    claims: frozenset[Claim] = frozenset()

    def __init__(self, llm: LLM, ctr_model: CTRModel | None = None, rule: Rule = "linear", tokens: int = 24) -> None:
        if rule not in get_args(Rule):
            raise InputError(f"rule must be one of {', '.join(get_args(Rule))}, got {rule!r}")
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
            raise InputError(f"tokens must be 1 or more, got {tokens!r}")
        for capability in (Capability.ENSEMBLE, Capability.CONSTRAINT, Capability.PREFILL):
            llm.require(capability)
        self.ctr_model = ctr_model or CosineCTR()
        self.rule = rule
        # As cool as the writer's ad sentences; every token stays possible, or a product of distributions may be 0.
        self._sampling = Sampling(temperature=0.3, top_p=1.0, top_k=None, max_tokens=tokens, stop=(".", "!", "?", "\n"))
        self._llm = llm
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        answer = await self._writer.answer(auction)
        relevance = self.ctr_model.relevance(auction)
        worth = {b.ad.id: (b.amount - auction.reserve) * float(q) for b, q in zip(auction.bids, relevance, strict=True)}
        ads = [bid.ad for bid in auction.bids if worth[bid.ad.id] > 0 and auction.max_ads]
        if not ads:
            return outcome(auction, answer)
        weights = tuple(worth[ad.id] for ad in ads)
        combine = Linear(weights=weights) if self.rule == "linear" else LogLinear(weights=weights)

        def prompts(beginning: str) -> list[Prompt]:
            asks = [
                read_prompt("ad_sentence").format(
                    query=auction.query.text, title=ad.title, advertiser=ad.advertiser, body=ad.body
                )
                for ad in ads
            ]
            return [Prompt(system=read_prompt("answer_system"), user=ask, prefill=beginning) for ask in asks]

        opening = f"{answer} One option worth a look is".strip()
        link = await self._llm.ensemble_decode(
            prompts(opening),
            combine,
            key=(auction.id, "token-link"),
            sampling=PLAIN,
            constraint=OneOf(options=tuple(f" {ad.link}" for ad in ads)),
        )
        opening = f"{opening}{link.text},"
        tail = await self._llm.ensemble_decode(
            prompts(opening),
            combine,
            key=(auction.id, "token-sentence"),
            sampling=self._sampling,
            constraint=LinksOnly(),
        )
        log = np.array([*link.log, *tail.log]).reshape(-1, len(ads))
        paid = log.mean(0) if len(log) else np.zeros(len(ads))  # a single advertiser's link is no draw
        return outcome(
            auction,
            opening + end_of_sentence(tail.text),
            dict.fromkeys((ad.id for ad in ads), auction.reserve),
            transfers={ad.id: float(amount) for ad, amount in zip(ads, paid, strict=True)},
            details={"draws": len(log)},
        )


def _support(logprobs: Floats) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], Floats]:
    """The tokens that anybody may draw, and the distributions on them."""
    columns = np.flatnonzero(np.isfinite(logprobs).any(0))
    return columns, logprobs[:, columns]


def _draw(probs: Floats, uniform: float) -> int:
    cdf = np.cumsum(probs)
    return min(int(np.searchsorted(cdf, uniform * cdf[-1], side="right")), len(cdf) - 1)
