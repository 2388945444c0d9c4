"""LAMA token by token: a latent advertiser for each token of one sponsored sentence; one winner at its end pays.

Source: Liu, Zhang, Yu, Ye, Qi (2026), arXiv 2608.27382, read from its abstract and public notes; `lama.py` explains it.
There the advertisers' policies come from continuation values, learned so that they are consistent. Here there is no
such training. The policy of an advertiser is the language model with a prompt about its own ad, as in `token_auction`,
and its value at the root is w_i = (b_i - reserve) q_i, with the click probability q_i before any text is written. For
each token a latent advertiser i is drawn from the posterior l, the token from its policy, and l_i is multiplied by the
probability that its policy gave the token.

Our choices: the answer is written without any advertiser. Bidder 0, of value 0, writes nothing after it: its policy
ends the text, and no other policy does. So the first token settles whether it wins. The others decode one sentence, as
in `joint_sentence.py`. The winner is drawn from the posterior at the end of the sentence. If the sentence links another
ad, or says more than the winner's copy, the first sentence of the winner's copy takes its place. The winner pays per
click the price of `lama.potential_price` for its one value w_i at the root: l_i is a martingale, so i wins with its
probability at the root.

The values of such policies are not consistent, and bids do not change the policies. So it makes no claim; audits
measure its incentives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simenv import Writer, outcome
from simenv.ctr.models import CosineCTR, CTRModel, Floats
from simenv.llm import LLM, Combined, EnsembleCompletion
from simenv.mechanism import Claim
from simenv.records import Auction, Outcome
from simenv.writer.copy_check import own_words

from .joint_sentence import NEEDED, decode_jointly, draw, joint_sampling, opening
from .lama import joint, potential_price
from .menu import kl_weight_of


class Latent:
    """Draws a latent advertiser from the posterior, then the token from its distribution, and updates the posterior.

    The log has the posterior after each token. A rule is for one decoding.

    Args:
        posterior: Probability of each advertiser before the first token.
    """

    def __init__(self, posterior: Sequence[float]) -> None:
        self._start = tuple(float(share) for share in posterior)
        self._posterior = np.array(self._start)

    def __repr__(self) -> str:
        return f"Latent({self._start})"

    def __call__(self, logprobs: Floats, rng: np.random.Generator) -> Combined:
        latent = draw(self._posterior, rng.random())
        token = draw(np.exp(logprobs[latent]), rng.random())
        weights = self._posterior * np.exp(logprobs[:, token])
        mixed = float(weights.sum())
        self._posterior = weights / mixed
        return Combined(token, float(np.log(mixed)), tuple(map(float, self._posterior)))


class LamaTokens:
    """LAMA token by token: draws each token of one sponsored sentence from a latent advertiser's model.

    The one winner, drawn at the end, pays per click. It makes no claim.

    Args:
        llm: The model of every advertiser. The cost grows with their number, because each decodes every token.
        ctr_model: Gives q_i, the click probability before any text is written.
        kl_weight: In currency: small = the advertiser of greatest value nearly always, large = all alike.
        tokens: Maximum number of tokens of the sentence after its link.

    Raises:
        InputError: a kl_weight that is not a positive finite number, or tokens below 1.
        MissingCapability: the model cannot decode jointly, or cannot be constrained.
    """

    name = "lama_tokens"
    claims: frozenset[Claim] = frozenset()

    def __init__(self, llm: LLM, ctr_model: CTRModel | None = None, kl_weight: float = 10.0, tokens: int = 24) -> None:
        self.kl_weight = kl_weight_of(kl_weight)
        self._sampling = joint_sampling(tokens)
        for capability in NEEDED:
            llm.require(capability)
        self.ctr_model = ctr_model or CosineCTR()
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        answer = await self._writer.answer(auction)
        clicks = self.ctr_model.relevance(auction)
        nets = np.array([bid.amount - auction.reserve for bid in auction.bids])
        taking_part = np.flatnonzero(nets * clicks > 0) if auction.max_ads else np.array([], dtype=np.intp)
        nets, clicks = nets[taking_part], clicks[taking_part]
        logs = np.array([0.0, *(nets * clicks / self.kl_weight)])  # bidder 0 first
        root = joint(logs)
        if draw(root, rng.random()) == 0:
            return outcome(auction, answer, details={"winner": ""})
        ads = [auction.bids[i].ad for i in taking_part]
        shares = tuple(map(float, root[1:] / root[1:].sum()))

        def then(link: EnsembleCompletion) -> Latent:
            return Latent(link.log[-1] if link.log else shares)

        made = await decode_jointly(
            self._writer, auction, ads, Latent(shares), then, name="lama", sampling=self._sampling
        )
        posterior = [shares, *made.link.log, *made.tail.log][-1]
        place = draw(np.array(posterior), rng.random())
        winner = ads[place]
        sentence = made.text
        if made.linked != winner or not self._writer.accepts(auction, sentence, winner):
            sentence = f"{opening(winner)} {own_words(winner)}"
        own = np.arange(len(logs)) == place + 1
        price = potential_price(float(nets[place]), logs, np.array([0.0, *clicks]), own, self.kl_weight)
        bid = auction.bid_of(winner.id).amount
        return outcome(
            auction,
            f"{answer} {sentence}".strip(),
            {winner.id: min(bid, auction.reserve + price)},
            details={"winner": winner.id, "posterior": posterior[place]},
        )
