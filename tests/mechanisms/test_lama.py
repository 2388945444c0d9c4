"""LAMA on a menu: its joint draw against the token recursion, its price against the envelope integral, its bounds."""

from __future__ import annotations

import asyncio
import itertools
import math

import numpy as np
import pytest

from mechanisms.lama import Lama, Pair, joint, linked_alone, pair_logs, potential_price
from mechanisms.tilted_optimum import TiltedOptimum
from simenv import Auction
from simenv.check import with_bid
from simenv.ctr.models import Floats
from simenv.errors import InputError, MissingCapability
from simenv.llm import Capability, ScriptedLLM
from simenv.mechanism import Lottery, lottery_of, run_mechanism
from simenv.seeding import keyed_rng
from tests.support.auctions import make_auction, small_auction
from tests.support.fakes import FakeChooser

LLM = FakeChooser()
TOKENS, LENGTH = 3, 4
ANSWERS = list(itertools.product(range(TOKENS), repeat=LENGTH))


class Tree:
    """A random reference policy over answers of `LENGTH` tokens, and bidders with random q_i(y); bidder 0 has q = 0."""

    def __init__(self, index: int) -> None:
        rng = keyed_rng("lama-tree", index)
        beginnings = [s for size in range(LENGTH) for s in itertools.product(range(TOKENS), repeat=size)]
        self.policy = {s: rng.dirichlet(np.ones(TOKENS)) for s in beginnings}
        self.bids = [0.0, *map(float, rng.uniform(0, 60, int(rng.integers(1, 5))))]
        self.q = rng.uniform(0, 0.9, (len(self.bids), len(ANSWERS)))
        self.q[0] = 0.0
        self.kl_weight = float(rng.uniform(1, 30))
        self.auction = make_auction(self.bids[1:], name=f"tree.{index}")

    def reference(self, y: tuple[int, ...]) -> float:
        return math.prod(self.policy[y[:t]][y[t]] for t in range(LENGTH))

    def pairs(self) -> list[Pair]:
        names = ["", *(bid.ad.id for bid in self.auction.bids)]
        return [
            Pair(name, str(y), float(self.q[i, k]), math.log(self.reference(y)))
            for k, y in enumerate(ANSWERS)
            for i, name in enumerate(names)
        ]

    def value(self, i: int, s: tuple[int, ...]) -> float:
        """exp(V_i(s) / kl_weight): the reference's mean of exp(b q / kl_weight) over what can follow."""
        if len(s) == LENGTH:
            return math.exp(self.bids[i] * self.q[i, ANSWERS.index(s)] / self.kl_weight)
        return sum(self.policy[s][a] * self.value(i, (*s, a)) for a in range(TOKENS))

    def recursion(self) -> Floats:
        """P(i, y), token by token: a latent bidder from the posterior, a token of its policy, and Bayes' rule."""
        n = len(self.bids)
        values = {s: [self.value(i, s) for i in range(n)] for s in [*self.policy, *ANSWERS]}
        made = np.zeros((len(ANSWERS), n))
        for k, y in enumerate(ANSWERS):
            latent = np.array(values[()]) / sum(values[()])
            seen = 1.0
            for t in range(LENGTH):
                s = y[:t]
                own = np.array([self.policy[s][y[t]] * values[y[: t + 1]][i] / values[s][i] for i in range(n)])
                token = float(latent @ own)
                seen *= token
                latent = latent * own / token
            made[k] = seen * latent
        return made.ravel()


def test_the_token_recursion_has_the_joint_distribution() -> None:
    """20 random trees of 81 answers, one to four bidders and bidder 0."""
    worst = 0.0
    for index in range(20):
        tree = Tree(index)
        drawn = joint(pair_logs(tree.auction, tree.pairs(), tree.kl_weight))
        worst = max(worst, float(np.abs(drawn - tree.recursion()).max()))
    assert worst < 1e-12


class Case:
    """Random pairs: several advertisers, some with rare or hardly clicked answers, with or without a reserve."""

    def __init__(self, index: int) -> None:
        rng = keyed_rng("lama-case", index)
        n = int(rng.integers(1, 6))
        self.reserve = float(rng.choice([0.0, 12.0]))
        self.kl_weight = float(rng.choice([0.5, 5.0, 40.0]))
        self.auction = make_auction(list(map(float, rng.uniform(0, 90, n))), reserve=self.reserve, name=f"case.{index}")
        self.pairs = [Pair("", "", 0.0, 0.0)]
        for bid in self.auction.bids:
            for k in range(int(rng.integers(1, 4))):
                q = float(rng.uniform(0, 0.9) * rng.choice([1.0, 1e-3]))
                self.pairs.append(Pair(bid.ad.id, f"y{k}", q, float(rng.normal(0, 3))))
        self.clicks = np.array([pair.click_prob for pair in self.pairs])

    def own(self, ad_id: str) -> np.ndarray:
        return np.array([pair.winner == ad_id for pair in self.pairs])

    def expected(self, ad_id: str, amount: float) -> float:
        """X_i at this bid."""
        probs = joint(pair_logs(with_bid(self.auction, ad_id, amount), self.pairs, self.kl_weight))
        return float(np.sum((probs * self.clicks)[self.own(ad_id)]))

    def area(self, ad_id: str, amount: float) -> float:
        """The integral of X_i from the reserve to this bid: 40 pieces of 8 Gauss-Legendre points."""
        points, weights = np.polynomial.legendre.leggauss(8)
        width = (amount - self.reserve) / 40
        bids = self.reserve + width * (np.arange(40)[:, None] + (1 + points) / 2)
        logs = pair_logs(with_bid(self.auction, ad_id, self.reserve), self.pairs, self.kl_weight)
        mine = self.own(ad_id) * self.clicks
        shares = np.exp(logs + (bids - self.reserve)[..., None] * mine / self.kl_weight)
        return float(np.sum(weights * width / 2 * (shares @ mine) / shares.sum(axis=-1)))

    def potential(self, ad_id: str, amount: float) -> float:
        logs = pair_logs(with_bid(self.auction, ad_id, amount), self.pairs, self.kl_weight)
        return self.kl_weight * float(np.logaddexp.reduce(logs))


def test_the_price_is_the_envelope_integral_per_expected_click() -> None:
    """200 random cases, one advertiser in each: the formula against a quadrature of its expected clicks."""
    mechanism, worst, priced = Lama(LLM), 0.0, 0
    for index in range(200):
        case = Case(index)
        mechanism.kl_weight = case.kl_weight
        prices = mechanism.prices(case.auction, case.pairs)
        bid = case.auction.bids[0]
        price, clicks = prices[bid.ad.id], case.expected(bid.ad.id, bid.amount)
        assert all(case.reserve <= prices[b.ad.id] <= max(b.amount, case.reserve) for b in case.auction.bids)
        if bid.amount < case.reserve:
            assert clicks == 0
            continue
        area = case.area(bid.ad.id, bid.amount)
        worst = max(worst, abs(price * clicks - (bid.amount * clicks - area)))
        priced += 1
    assert priced > 150
    assert worst < 1e-8


def test_expected_clicks_are_the_slope_of_the_potential_and_rise() -> None:
    step = 1e-4
    for index in range(30):
        case = Case(index)
        ad_id = case.auction.bids[-1].ad.id
        curve = [case.expected(ad_id, case.reserve + amount) for amount in np.linspace(0.01, 80, 12)]
        assert (np.diff(curve) >= 0).all()
        assert curve[-1] > curve[0]
        middle = case.reserve + 20.0
        slope = (case.potential(ad_id, middle + step) - case.potential(ad_id, middle - step)) / (2 * step)
        assert slope == pytest.approx(case.expected(ad_id, middle), abs=1e-6)


def test_regularised_welfare_is_within_kl_weight_ln_n_of_its_optimum() -> None:
    for index in range(20):
        tree = Tree(index)
        p0 = np.array([tree.reference(y) for y in ANSWERS])
        worth = np.array(tree.bids)[:, None] * tree.q
        drawn = joint(pair_logs(tree.auction, tree.pairs(), tree.kl_weight)).reshape(len(ANSWERS), -1)
        marginal = drawn.sum(axis=1)
        welfare = float((drawn * worth.T).sum() - tree.kl_weight * np.sum(marginal * np.log(marginal / p0)))
        optimum = tree.kl_weight * math.log(float(p0 @ np.exp(worth.max(axis=0) / tree.kl_weight)))
        assert optimum - tree.kl_weight * math.log(len(tree.bids)) <= welfare <= optimum
        entropy = -float(np.sum(drawn * np.log(drawn / marginal[:, None])))
        logs = pair_logs(tree.auction, tree.pairs(), tree.kl_weight)
        potential = tree.kl_weight * float(np.logaddexp.reduce(logs))
        assert potential == pytest.approx(welfare + tree.kl_weight * entropy)


def test_an_ad_that_nobody_clicks_is_not_paid_for_being_there() -> None:
    """Its removal would lower Phi by the entropy of its pairs, so "remove i" instead of "bid 0" would pay it."""
    pairs = [Pair("", "", 0.0, 0.0), Pair("c0", "", 0.0, 0.0), Pair("c1", "", 0.4, 0.0)]
    auction = make_auction([30.0, 20.0])
    logs = pair_logs(auction, pairs, 10.0)
    assert potential_price(30.0, logs, np.array([0.0, 0.0, 0.4]), np.array([False, True, False]), 10.0) == 0


def test_huge_bids_and_shares_near_0_and_1_keep_the_price_between_0_and_the_bid() -> None:
    for own_log, amount in [(0.0, 1e9), (-700.0, 1e9), (-700.0, 1.0), (700.0, 1.0), (0.0, 1e-9), (-40.0, 5.0)]:
        logs = np.array([0.0, own_log + amount * 0.5 / 10])
        price = potential_price(amount, logs, np.array([0.0, 0.5]), np.array([False, True]), 10.0)
        assert 0 <= price <= amount


def lottery(mechanism: Lama | TiltedOptimum, auction: Auction) -> Lottery:
    return asyncio.run(lottery_of(mechanism, auction))


def test_the_winner_alone_is_linked_and_the_others_are_plain_words() -> None:
    auction = small_auction(4)
    made = lottery(Lama(LLM), auction)
    assert len(made) == 1 + 4 + 2 * 4 * 3, "no ad, one ad, and two winners for each ordered pair"
    titles = {bid.ad.id: bid.ad.title for bid in auction.bids}
    several = 0
    for _, outcome in made:
        assert [p.ad_id for p in outcome.placements] == ([outcome.details["winner"]] if outcome.placements else [])
        assert outcome.violations == ()
        several += sum(title in outcome.response for title in titles.values()) == 2
    assert several == 2 * 4 * 3
    assert linked_alone("A @One@[a1], @Two@[b2].", "@Two@[b2]") == "A One, @Two@[b2]."


def test_with_answers_of_one_ad_the_draw_is_that_of_the_tilted_optimum() -> None:
    auction = small_auction(5, max_ads=1)
    one, other = lottery(Lama(LLM), auction), lottery(TiltedOptimum(LLM), auction)
    assert {made.response: prob for prob, made in one} == pytest.approx({made.response: prob for prob, made in other})
    cheaper = [
        (a.placements[0].price, b.placements[0].price)
        for (_, a), (_, b) in zip(one, other, strict=True)
        if a.placements
    ]
    assert cheaper
    assert all(0 < price < bid for price, bid in cheaper)


def test_a_run_is_one_of_its_lottery_with_its_probability() -> None:
    auction = small_auction(4)
    rows = {made.response: (prob, made) for prob, made in lottery(Lama(LLM), auction)}
    made = asyncio.run(run_mechanism(Lama(LLM), auction))
    prob, same = rows[made.response]
    assert (made.placements, made.details["propensity"]) == (same.placements, prob)


def test_options_that_cannot_be_are_refused() -> None:
    for wrong in ({"kl_weight": 0}, {"kl_weight": "1"}, {"shortlist": -1}, {"reference": "me"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Lama(LLM, **wrong)  # type: ignore[arg-type]
    with pytest.raises(MissingCapability, match="logprobs"):
        Lama(ScriptedLLM(capabilities=frozenset({Capability.CONSTRAINT, Capability.PREFILL})))
