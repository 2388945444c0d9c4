"""Mechanisms broken on purpose: each figure of an audit catches what it is there for, and noise is not taken for it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simenv import outcome
from simenv.auditing.evaluate import BidEvaluator
from simenv.auditing.figures import interval
from simenv.auditing.records import Audit, AuditOptions
from simenv.auditing.run import audit
from simenv.auditing.sweep import Sweep, curve_of, gain, grid, loses, misses_target, vm_regret
from simenv.background_loop import run_sync
from simenv.ctr.models import CosineCTR
from simenv.errors import InputError
from simenv.llm import ScriptedLLM
from simenv.mechanism import Mechanism, make_mechanism
from simenv.records import Auction, Outcome
from simenv.seeding import keyed_rng
from simenv.testing import small_world
from tests.support.fakes import FormulaJudge

WORLD = small_world(horizon=1)
QUICK = AuditOptions(n=4, advertisers=3, bids=9, curve_bids=11, collusion=0, wrong_ctr=0, play=0)


def run(mechanism: Mechanism, options: AuditOptions = QUICK, **world: object) -> Audit:
    place = small_world(horizon=1, **world) if world else WORLD
    return run_sync(lambda: audit(place, {"broken": mechanism}, options))


class ShowsAll:
    """Shows all whom `shows` wants at the price that `price` says, in the candidates' order."""

    ctr_model = CosineCTR(position_discount=1.0)

    def shows(self, amount: float) -> bool:
        return amount > 0

    def price(self, amount: float) -> float:
        return amount

    def transfers(self, auction: Auction) -> dict[str, float]:
        return {}

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        shown = [bid for bid in auction.bids if self.shows(bid.amount)]
        text = " ".join(f"Look at {bid.ad.link} now." for bid in shown)
        prices = {bid.ad.id: self.price(bid.amount) for bid in shown}
        return outcome(auction, text, prices, transfers=self.transfers(auction))


class Modest(ShowsAll):
    """Drops whoever bids more than 50: not monotone."""

    def shows(self, amount: float) -> bool:
        return 0 < amount <= 50


class Greedy(ShowsAll):
    """Charges twice the bid."""

    def price(self, amount: float) -> float:
        return 2 * amount


class Fee(ShowsAll):
    """Charges as an entry fee what it predicts clicks to be worth, whatever is clicked."""

    def price(self, amount: float) -> float:
        return 0.0

    def transfers(self, auction: Auction) -> dict[str, float]:
        q = self.ctr_model.relevance(auction)
        return {bid.ad.id: bid.amount * float(q[i]) for i, bid in enumerate(auction.bids) if bid.amount > 0}


class Coin(ShowsAll):
    """Shows everybody at no price or nobody, by a coin that no bid moves: any bid is as good as any other."""

    def price(self, amount: float) -> float:
        return 0.0

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        # Another coin for each bid, as a language model's samples are: common random numbers would hide the problem.
        heads = keyed_rng("coin", auction.id, *(str(bid.amount) for bid in auction.bids)).random() < 0.5
        rng.random()
        return super().run(auction, rng) if heads else outcome(auction, "Nothing.")

    def shows(self, amount: float) -> bool:
        return True


def test_a_curve_that_falls_is_caught() -> None:
    made = run(Modest()).mechanisms["broken"]
    assert made.monotonicity_violations.value == pytest.approx(0.1)  # one step of ten
    assert made.largest_fall > 0.001
    assert made.largest_jump > 0.001
    assert made.curve[-1] == 0 < made.curve[1]


def test_charging_beyond_the_bid_is_caught() -> None:
    made = run(Greedy()).mechanisms["broken"]
    assert made.ir_violations.value == made.ir_violations_world.value == made.ir_violations_ex_post.value == 1
    assert made.roi_violations.value == 1
    assert made.regret_um_own.value > 1  # bidding 0 saves a loss of all that clicks are worth
    assert made.regret_vm_own.value > 0.3


def test_a_fee_on_predictions_that_the_world_does_not_keep_is_caught_in_the_world_alone() -> None:
    rarely = FormulaJudge(lambda persona, auction, outcome, ad_id: 1e-4)
    made = run(Fee(), judge=rarely).mechanisms["broken"]
    assert made.ir_violations.value == 0
    assert made.ir_violations_world.value == 1
    assert made.regret_um_world.value > 0.5


def test_where_no_bid_is_better_none_is_found() -> None:
    """A coin: the split estimate is around 0, where taking the best of the same draws "finds" a great deal.

    The interval of 20 auctions misses 0 with probability 5%; held to three half-widths, with one in 10,000 or less.
    """
    options = QUICK.model_copy(update={"n": 20, "advertisers": 2, "curve_bids": 3, "replicas": 8})
    made = run(Coin(), options, personas=_many()).mechanisms["broken"]
    assert made.measured == "sampled"
    regret = made.regret_um_own
    assert abs(regret.value) < 1.5 * (regret.high - regret.low)
    assert abs(regret.value) < 0.5  # with the best of the same eight draws it is 2.4 here
    assert made.ir_violations.value == 0


def test_the_split_estimate_is_unbiased_where_all_are_alike() -> None:
    """400 draws of 16 replicas and 13 bids: its mean lies within 4 standard errors, missed with probability 6e-5."""
    rng = keyed_rng("split estimate")
    split, naive = [], []
    for _ in range(400):
        worth = rng.normal(size=(16, 13))
        split.append(gain(worth, truth=6))
        naive.append(float(worth.mean(0).max() - worth.mean(0)[6]))
    assert abs(np.mean(split)) < 4 * np.std(split) / 20
    assert np.mean(naive) > 0.3


def test_the_split_estimate_finds_what_is_there() -> None:
    worth = np.zeros((16, 5)) + keyed_rng("noise").normal(size=(16, 1))  # common noise does not matter
    worth[:, 3] += 0.2
    assert gain(worth, truth=1) == pytest.approx(0.2)
    assert gain(worth, truth=3) == pytest.approx(0, abs=1e-12)


def test_a_bid_that_misses_the_target_is_no_deviation() -> None:
    clicks, payments = np.array([[0.0, 0.2, 0.4]]), np.array([[0.0, 2.0, 6.0]])
    bids = np.array([0.0, 10.0, 20.0])
    made = Sweep(10.0, bids, 0, 1, 1, 1.0, clicks, payments, clicks, payments)
    assert vm_regret(made, own=True) == 0  # 0.4 clicks would cost 15 each
    cheaper = made._replace(own_payments=np.array([[0.0, 2.0, 4.0]]))
    assert vm_regret(cheaper, own=True) == pytest.approx(10 * 0.2)
    missing = made._replace(vm_truth=2)
    assert vm_regret(missing, own=True) == pytest.approx(10 * 0.2)  # truth brings nothing, 10 brings 0.2 clicks
    assert misses_target(missing)
    assert not misses_target(made)


def test_noise_alone_is_no_fall_and_no_loss() -> None:
    """Flat curves of 16 noisy replicas: a step falls by three standard errors with probability 0.5%, 1,900 steps."""
    rng = keyed_rng("flat curve")
    falls = 0
    for _ in range(100):
        clicks = rng.random((16, 20))
        falls += curve_of(Sweep(1.0, np.zeros(20), 20, 0, 0, 1.0, clicks, clicks, clicks, clicks), own=True).falls
    assert falls < 30  # 9 on average: 30 or more with probability below 1e-7
    assert not loses(rng.normal(0.0, 1.0, (16, 3)) * [0, 0, 0], [1, 1, 1]).any()
    assert loses(np.full((16, 1), -0.5), [1]).all()


def test_the_calls_end_where_they_are_told_to() -> None:
    llm = ScriptedLLM()
    mechanisms = {name: make_mechanism(name, context={"llm": llm}) for name in ("gsp", "best_of_n")}
    whole = run_sync(lambda: audit(WORLD, mechanisms, QUICK))
    assert not whole.cut_short
    llm = ScriptedLLM()
    mechanisms = {name: make_mechanism(name, context={"llm": llm}) for name in ("gsp", "best_of_n")}
    most = whole.llm_calls // 2
    cut = run_sync(lambda: audit(WORLD, mechanisms, QUICK.model_copy(update={"max_calls": most})))
    assert len(llm.requests) == cut.llm_calls <= most
    assert 0 < cut.auctions < QUICK.n
    assert cut.cut_short == (f"sweeps after {cut.auctions} of 4 auctions",)
    few = QUICK.model_copy(update={"n": cut.auctions})
    assert (
        cut.mechanisms["gsp"].regret_um_own
        == run_sync(lambda: audit(WORLD, mechanisms, few)).mechanisms["gsp"].regret_um_own
    )
    with pytest.raises(InputError, match="max_calls 1 is too few"):
        run_sync(lambda: audit(WORLD, mechanisms, QUICK.model_copy(update={"max_calls": 1, "seed": 9})))


def test_an_abstention_is_not_a_no() -> None:
    """A judge that abstains on one ad: what is known of the others stands, and nothing is counted as unclicked."""
    silent = FormulaJudge(lambda persona, auction, outcome, ad_id: None)
    silent_click = FormulaJudge(lambda persona, auction, outcome, ad_id: 0.5)
    made = run(ShowsAll(), judge=silent_click).mechanisms["broken"]
    assert made.revenue.value > 0

    class Abstains(FormulaJudge):
        async def judge(self, persona, auction, outcome):  # type: ignore[no-untyped-def]
            feedback = await super().judge(persona, auction, outcome)
            clicks = tuple(click.model_copy(update={"clicked": None}) for click in feedback.clicks)
            return feedback.model_copy(update={"clicks": clicks})

    unknown = run(ShowsAll(), judge=Abstains(silent._formula)).mechanisms["broken"]
    assert math.isnan(unknown.revenue.value)
    assert math.isnan(unknown.regret_um_world.value)
    assert unknown.regret_um_own.value == made.regret_um_own.value


def test_a_text_is_judged_once() -> None:
    judge = FormulaJudge(lambda persona, auction, outcome, ad_id: 0.5)
    run(ShowsAll(), QUICK.model_copy(update={"n": 1}), judge=judge)
    assert judge.asked <= 1 + 2 * QUICK.advertisers  # all, and all but one


def test_grid_and_intervals() -> None:
    bids = grid(40.0, 12)
    assert len(bids) == 12
    assert bids[0] == 0
    assert 40.0 in bids
    assert bids[-1] == pytest.approx(160)
    assert sorted(bids) == bids
    assert interval([(1.0, 2.0), (math.nan, 1.0), (3.0, 2.0)], ["a", "b", "c"]).value == 1.0
    assert math.isnan(interval([(1.0, 0.0)], ["a"]).value)
    assert BidEvaluator(WORLD.judge) is not None


def _many() -> tuple[object, ...]:
    from simenv.testing import PERSONAS

    return tuple(
        persona.model_copy(update={"id": f"{persona.id}{i}", "info": f"{persona.info} Number {i}."})
        for i in range(5)
        for persona in PERSONAS
    )
