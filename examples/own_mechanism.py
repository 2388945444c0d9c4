"""A mechanism of one's own: sell one place to the highest bid among relevant ads, at the second-highest bid.

Run it alone, or hand it to the command line:
    simenv check examples/own_mechanism.py:RelevantSecondPrice
    simenv bench --mechanisms gsp,examples/own_mechanism.py:RelevantSecondPrice --n 32 --out runs/mine
"""

import simenv
from simenv.ctr import CosineCTR
from simenv.env import NativeAdsEnv


class RelevantSecondPrice:
    """Ads below a relevance threshold are left out; the highest bid wins and pays the next one per click."""

    claims = frozenset({simenv.Claim.INDIVIDUALLY_RATIONAL, simenv.Claim.MONOTONE, simenv.Claim.TRUTHFUL_UM})

    def __init__(self, llm, least_relevance=0.25):
        self.llm = llm
        self.least_relevance = least_relevance
        self.ctr_model = CosineCTR()  # the predictions in which the claims are checked

    async def run(self, auction, rng):
        answer = await self.llm.complete(auction.query.text, key=(auction.id, "answer", 0))
        text = simenv.strip_markup(answer.text)
        bids = [b for b in auction.bids if b.relevance >= self.least_relevance and b.amount >= auction.reserve]
        if not bids:
            return simenv.outcome(auction, text)
        winner, *others = sorted(bids, key=lambda b: b.amount, reverse=True)
        price = max([auction.reserve, *(b.amount for b in others)])
        return simenv.outcome(auction, f"{text} Sponsored: {winner.ad.link}.", {winner.ad.id: price})


def main():
    llm = simenv.make_llm("embedded")
    print(simenv.check_mechanism(RelevantSecondPrice(simenv.make_llm("scripted")), auctions=10))
    env = NativeAdsEnv(horizon=3)
    for mechanism in (RelevantSecondPrice(llm), simenv.make_mechanism("gsp", llm=llm)):
        env.reset(seed=0)
        revenue = 0.0
        for _ in range(3):
            transition = env.step(mechanism)[4]["transition"]
            revenue += sum(transition.expected_payments.values())
        print(f"{transition.mechanism}: expected revenue {revenue / 3:.2f} per answer")


if __name__ == "__main__":
    main()
