"""An example of your own mechanism: VCG for K places in an answer, with an option and a CTR model.

Run this file, or pass it to the command line:
    simenv check examples/own_mechanism.py:PositionVCG
    simenv bench --mechanisms gsp,examples/own_mechanism.py:PositionVCG --n 32 --out runs/mine
"""

import simenv
from simenv.env.environment import NativeAdsEnv


class PositionVCG:
    """Rank by bid x relevance; the ad at place j, seen with weight discount^j, pays the loss of the ads below it.

    Varian (2007), "Position auctions": sum over l >= j of (a_l - a_(l+1)) s_(l+1), divided by a_j q_j per click.
    """

    claims = frozenset({simenv.Claim.INDIVIDUALLY_RATIONAL, simenv.Claim.MONOTONE, simenv.Claim.TRUTHFUL_UM})

    def __init__(self, llm, ctr_model, slots=2):
        self.writer = simenv.Writer(llm)  # asks with the prompts of the mechanisms that ship
        self.ctr_model = ctr_model  # the claims are checked with these predictions
        self.slots = slots

    async def run(self, auction, rng):
        q = self.ctr_model.relevance(auction)  # one click probability per candidate, before any text is written
        reserve = auction.reserve
        scores = [(bid.amount - reserve) * q[i] for i, bid in enumerate(auction.bids)]
        ranked = sorted((i for i, s in enumerate(scores) if s > 0), key=lambda i: -scores[i])
        weights = [self.ctr_model.position_discount**j for j in range(self.slots)] + [0.0]
        following = [*(scores[i] for i in ranked[1:]), *[0.0] * (self.slots + 1)]
        prices = {}
        for j, i in enumerate(ranked[: self.slots]):
            loss = sum((weights[k] - weights[k + 1]) * following[k] for k in range(j, self.slots))
            prices[auction.bids[i].ad.id] = reserve + loss / (weights[j] * q[i])
        text = await self.writer.with_ads(auction, [auction.bid_of(ad_id).ad for ad_id in prices])
        return simenv.outcome(auction, text, prices)


def main():
    llm = simenv.make_llm("embedded")
    print(simenv.check_mechanism(simenv.make_mechanism(f"{__file__}:PositionVCG", llm=simenv.make_llm("scripted"))))
    env = NativeAdsEnv(horizon=2)
    for mechanism in (simenv.make_mechanism(f"{__file__}:PositionVCG", llm=llm), simenv.make_mechanism("gsp", llm=llm)):
        env.reset(seed=0)
        revenue = 0.0
        for _ in range(2):
            transition = env.step(mechanism)[4]["transition"]
            revenue += sum(transition.expected_payments.values())
        print(f"{transition.mechanism}: expected revenue {revenue / 2:.2f} per answer")


if __name__ == "__main__":
    main()
