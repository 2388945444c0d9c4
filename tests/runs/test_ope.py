"""Off-policy estimates against closed forms and exact enumeration, and the policy that makes such logs."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import simenv
from simenv import make_mechanism, outcome
from simenv.background_loop import run_sync
from simenv.check import random_auction
from simenv.cli import main as cli
from simenv.ctr.models import CosineCTR
from simenv.errors import InputError
from simenv.judges.click_model import ClickModel
from simenv.llm import ScriptedLLM
from simenv.mechanism import run_mechanism
from simenv.objective import Objective
from simenv.records import Auction, Click, Feedback, Transition
from simenv.runs.folder import read_transitions
from simenv.runs.ope import (
    ESTIMATORS,
    LoggedChoice,
    doubly_robust,
    effective_sample_size,
    evaluate,
    ips,
    logged_choice,
    print_report,
    snips,
)
from simenv.runs.ope_target import target_of_run
from simenv.settlement import settle
from simenv.stats import Estimate
from simenv.testing import PERSONAS, small_world
from simenv.world import World
from tests.support.runs import transitions


def softmax(temperature: float) -> Any:
    return make_mechanism("softmax", context={"llm": ScriptedLLM()}, temperature=temperature)


# The policy


def test_softmax_choice_probs_by_hand() -> None:
    _, auction = random_auction(0, 7)
    auction = auction.model_copy(update={"reserve": 40.0})
    q = CosineCTR().relevance(auction)
    weights = {"": 1.0} | {
        bid.ad.id: math.exp(bid.amount * q[i] / 12.5) for i, bid in enumerate(auction.bids) if bid.amount >= 40.0
    }
    assert 2 < len(weights) < len(auction.bids) + 1
    probs = softmax(12.5).choice_probs(auction)
    assert probs == pytest.approx({choice: weight / sum(weights.values()) for choice, weight in weights.items()})
    assert softmax(12.5).choice_probs(auction.model_copy(update={"max_ads": 0})) == {"": 1.0}


@pytest.mark.parametrize("temperature", [1e-300, 1e-9, 1.0, 1e300])
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_softmax_is_safe_for_any_size_of_bid_and_temperature(temperature: float, scale: float) -> None:
    _, auction = random_auction(0, 7)
    bids = tuple(bid.model_copy(update={"amount": bid.amount * scale}) for bid in auction.bids)
    auction = auction.model_copy(update={"reserve": 0.0, "bids": bids})
    probs = softmax(temperature).choice_probs(auction)
    assert sum(probs.values()) == pytest.approx(1)
    made = run_sync(run_mechanism, softmax(temperature), auction)
    assert made.details["propensity"] == probs[str(made.details["choice"])] > 0


def test_softmax_draws_by_its_probabilities_and_logs_them() -> None:
    """4000 draws: a share that is further than 4.5 standard deviations off is a false alarm once in 10^4 seeds."""
    _, auction = random_auction(0, 7)
    mechanism, n = softmax(15.0), 4000
    rng = np.random.default_rng(0)
    drawn = [run_sync(mechanism.run, auction, rng) for _ in range(n)]
    counts = Counter(str(made.details["choice"]) for made in drawn)
    probs = mechanism.choice_probs(auction)
    for choice, p in probs.items():
        assert abs(counts[choice] / n - p) < 4.5 * math.sqrt(p * (1 - p) / n)
    for made in drawn[:20]:
        choice = made.details["choice"]
        assert [placement.ad_id for placement in made.placements] == ([choice] if choice else [])
        assert (made.details["choice_probs"], made.details["propensity"]) == (probs, probs[str(choice)])
        for placement in made.placements:
            bid = auction.bid_of(placement.ad_id)
            assert placement.price == bid.amount  # first price


def test_raising_a_bid_never_loses_the_draw() -> None:
    """Ex post, for one and the same noise: what Gumbel-max gives and a draw by inverse CDF does not."""
    _, auction = random_auction(0, 7)
    for seed in range(50):
        shown = []
        for amount in (1.0, 20.0, 50.0, 100.0, 400.0):
            bids = (auction.bids[0].model_copy(update={"amount": amount}), *auction.bids[1:])
            raised = auction.model_copy(update={"bids": bids})
            made = run_sync(softmax(15.0).run, raised, np.random.default_rng(seed))
            shown.append(made.details["choice"] == auction.bids[0].ad.id)
        assert shown == sorted(shown)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf, "hot", True])
def test_a_temperature_that_is_none_is_named(temperature: Any) -> None:
    with pytest.raises(InputError, match=r"temperature must be .*above 0.*, got |option temperature: .*number.*, got "):
        softmax(temperature)


# The estimators, on a bandit by hand

BANDIT = [
    LoggedChoice(reward=4.0, propensity=0.5, target=0.25, q_hat=3.0, v_hat=2.0, cluster="p"),
    LoggedChoice(reward=0.0, propensity=0.2, target=0.4, q_hat=1.0, v_hat=2.5, cluster="p"),
    LoggedChoice(reward=10.0, propensity=0.4, target=0.4, q_hat=8.0, v_hat=5.0, cluster="q"),
]  # weights 1/2, 2, 1
T_1 = 12.706204736432095  # 97.5% quantile of Student's t with 1 degree of freedom


def test_the_estimators_by_hand() -> None:
    assert ips(BANDIT).value == pytest.approx((2 + 0 + 10) / 3)
    assert snips(BANDIT).value == pytest.approx(12 / 3.5)
    assert doubly_robust(BANDIT).value == pytest.approx((2 + 0.5 + 2.5 - 2 + 5 + 2) / 3)
    assert effective_sample_size(BANDIT) == pytest.approx(3.5**2 / (0.25 + 4 + 1))


def test_the_intervals_are_clustered_by_persona() -> None:
    """The sum over personas of squared summed influences, each over what its persona lacks of the sum below (CR2)."""
    for estimate, terms, below in (
        (ips(BANDIT), [2.0, 0.0, 10.0], [1.0, 1.0, 1.0]),
        (snips(BANDIT), [2.0, 0.0, 10.0], [0.5, 2.0, 1.0]),
        (doubly_robust(BANDIT), [2.5, 0.5, 7.0], [1.0, 1.0, 1.0]),
    ):
        value = sum(terms) / sum(below)
        psi = [(term - value * b) / sum(below) for term, b in zip(terms, below, strict=True)]
        share = below[2] / sum(below)  # of the second persona
        margin = T_1 * math.sqrt((psi[0] + psi[1]) ** 2 / share + psi[2] ** 2 / (1 - share))
        assert estimate.numbers == pytest.approx((value, value - margin, value + margin))


def test_the_logging_policy_itself_gets_its_mean() -> None:
    rows = [row._replace(target=row.propensity) for row in BANDIT]
    assert ips(rows).value == snips(rows).value == pytest.approx(14 / 3)
    assert effective_sample_size(rows) == 3


def test_dr_is_exact_where_the_model_is() -> None:
    """Whatever was drawn: no error of the draw is left, only that of the auctions."""
    rows = [
        row._replace(q_hat=row.reward, v_hat=3.0, target=t) for row, t in zip(BANDIT, (1.0, 0.01, 0.3), strict=True)
    ]
    assert doubly_robust(rows).numbers == (3.0, 3.0, 3.0)
    assert ips(rows).value != pytest.approx(3.0)


@pytest.mark.parametrize("model", [0.0, 5.0, -3.0])
def test_ips_and_dr_are_unbiased_and_snips_is_not_by_enumeration(model: float) -> None:
    """All 2 x 2 choices x 2 x 2 clicks of two rounds, weighted with their probability."""
    logging, target, worth, click = (0.3, 0.7), (0.9, 0.1), (6.0, 2.0), (0.5, 0.25)
    truth = sum(pi * w * c for pi, w, c in zip(target, worth, click, strict=True))
    q_hat = (model, 1.0)
    v_hat = sum(pi * q for pi, q in zip(target, q_hat, strict=True))

    def mean(estimator: Callable[[Sequence[LoggedChoice]], Estimate]) -> float:
        total = 0.0
        for (a, x), (b, y) in product(product((0, 1), (0, 1)), repeat=2):
            rows, chance = [], 1.0
            for arm, clicked in ((a, x), (b, y)):
                rows.append(LoggedChoice(worth[arm] * clicked, logging[arm], target[arm], q_hat[arm], v_hat))
                chance *= logging[arm] * (click[arm] if clicked else 1 - click[arm])
            total += chance * estimator(rows).value
        return total

    assert mean(ips) == pytest.approx(truth)
    assert mean(doubly_robust) == pytest.approx(truth)
    assert abs(mean(snips) - truth) > 0.05


# The whole way from transitions


def forced(
    world: World, policy: Any, number: int, turn: int, choice: str, clicked: bool | None
) -> tuple[Transition, float]:
    """The transition in which the policy drew `choice`, and the click model's probability of its ad."""
    session = run_sync(world.session, 0, number)
    auction = world.auction(session, turn)
    probs = policy.choice_probs(auction)
    details = {"choice": choice, "propensity": probs[choice], "choice_probs": dict(probs)}
    prices = {choice: auction.bid_of(choice).amount} if choice else {}
    text = run_sync(policy.write, auction, choice)
    made = outcome(auction, text, prices, details=details)
    assert isinstance(world.judge, ClickModel)
    chance = world.judge.probabilities(session.persona, auction, made)
    feedback = Feedback(clicks=tuple(Click(ad_id=i, clicked=clicked, click_prob=p) for i, p in chance.items()))
    row = settle(
        auction, made, feedback, {}, Objective(), index=0, mechanism="softmax", persona_id=session.persona.id, turn=turn
    )
    return row, chance.get(choice, 0.0)


@pytest.mark.parametrize(("number", "turn"), [(0, 0), (1, 2), (3, 1)])
def test_ips_and_dr_of_transitions_are_unbiased_by_exact_enumeration(number: int, turn: int) -> None:
    """Every choice that could have been drawn, clicked and not, with the world's own click probabilities."""
    world, policy, target = small_world(), softmax(20.0), softmax(6.0)
    auction = world.auction(run_sync(world.session, 0, number), turn)
    found, truth = dict.fromkeys(("ips", "dr"), 0.0), 0.0
    for choice, p in policy.choice_probs(auction).items():
        for clicked in (True, False):
            row, click_prob = forced(world, policy, number, turn, choice, clicked)
            seen = logged_choice(row, target, CosineCTR())
            assert seen is not None
            chance = p * (click_prob if clicked else 1 - click_prob)
            for name in found:
                found[name] += chance * ESTIMATORS[name]([seen]).value
        amount = auction.bid_of(choice).amount if choice else 0.0
        truth += target.choice_probs(auction)[choice] * amount * click_prob
    assert truth > 1
    assert found == pytest.approx(dict.fromkeys(found, truth))


def test_v_hat_is_the_mean_of_q_hat_under_the_target() -> None:
    world, policy, target = small_world(), softmax(20.0), softmax(6.0)
    auction = world.auction(run_sync(world.session, 0, 0), 0)
    probs = target.choice_probs(auction)
    seen = {}
    for choice in probs:
        row = logged_choice(forced(world, policy, 0, 0, choice, False)[0], target, CosineCTR())
        assert row is not None
        seen[choice] = row
    assert {choice: row.target for choice, row in seen.items()} == probs
    assert seen[""].q_hat == 0
    mean = sum(probs[choice] * row.q_hat for choice, row in seen.items())
    assert {round(row.v_hat, 9) for row in seen.values()} == {round(mean, 9)}
    shown = auction.bids[0]
    assert seen[shown.ad.id].q_hat == pytest.approx(shown.amount * CosineCTR().relevance(auction)[0])


def test_a_run_is_evaluated_and_other_mechanisms_in_it_do_not_matter() -> None:
    world = small_world()
    alone = evaluate(transitions(world, "softmax"), softmax(5.0))
    assert alone == evaluate(transitions(world, "gsp", "softmax", "organic"), softmax(5.0))
    assert (alone.answers, alone.abstained) == (12, 0)
    assert 1 < alone.effective_sample_size < 12
    for estimate in alone.estimates.values():
        assert estimate.low < estimate.value < estimate.high
    same = evaluate(transitions(world, "softmax"), softmax(10.0))
    assert same.estimates["ips"] == pytest.approx(same.logged)


def test_abstentions_do_not_bias_the_estimates_and_are_counted() -> None:
    """Half of the answers show an ad, every second ad is clicked, and the judge abstains on two ads of five."""
    policy = softmax(20.0)
    auction = small_world().auction(run_sync(small_world().session, 0, 0), 0)
    bid = auction.bids[0]
    row = {clicked: forced(small_world(), policy, 0, 0, bid.ad.id, clicked)[0] for clicked in (True, False, None)}
    without = forced(small_world(), policy, 0, 0, "", False)[0]
    log = 5 * [*10 * [without], *4 * [row[None]], *3 * [row[True]], *3 * [row[False]]]
    report = evaluate(log, policy)
    assert (report.answers, report.abstained) == (100, 20)
    right = bid.amount * 0.25
    assert report.logged.value == pytest.approx(right)
    assert report.estimates["ips"].value == pytest.approx(right)
    assert report.rates == (0.4,)
    assert set(report.bounds) == {"ips", "snips", "dr", "as logged"}
    assert report.bounds["as logged"] == pytest.approx((bid.amount * 0.15, bid.amount * 0.35))
    for name, estimate in report.estimates.items():
        assert report.bounds[name][0] < estimate.value < report.bounds[name][1]
    out = io.StringIO()
    print_report(report, "softmax", Console(file=out, width=200))
    assert out.getvalue().count("40.0%") == 4
    assert "20 of 100 answers have an abstention" in out.getvalue()
    known = [it for it in log if it is not row[None]]  # left out, they would bias it: answers without an ad stay
    assert evaluate(known, policy).logged.value == pytest.approx(0.75 * right)
    with pytest.raises(InputError, match="the judge abstained on all 1 answers of softmax"):
        evaluate([row[None]], policy)


class Rising:
    """A CTR model that is not the default: the later a candidate, the likelier its click."""

    name = "rising"
    position_discount = 1.0

    def relevance(self, auction: Auction) -> Any:
        return np.linspace(0.1, 0.6, len(auction.bids))

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        return {
            bid.ad.id: q for bid, q in zip(auction.bids, self.relevance(auction), strict=True) if bid.ad.id in shown
        }


@pytest.mark.weights
@pytest.mark.parametrize("own", [False, True], ids=["the run's", "the mechanism's"])
def test_the_target_predicts_as_the_run_did(tmp_path: Path, own: bool) -> None:
    """A target that is the logging mechanism has weights of 1, whatever CTR model that had."""
    name = f"{__name__}:Rising"
    given = {"settings": (f"softmax.ctr_model={name}",)} if own else {"ctr_model": name}
    simenv.bench(["softmax"], out=tmp_path / "run", llm="scripted", n=3, horizon=3, quality="none", **given)
    log = list(read_transitions(tmp_path / "run"))

    def weights(**options: Any) -> list[float]:
        target = target_of_run(tmp_path / "run", "softmax", llm=ScriptedLLM(), **options)
        rows = [logged_choice(row, target, CosineCTR()) for row in log]
        return [row.weight for row in rows if row is not None]

    assert weights() == pytest.approx([1.0] * 3)
    assert weights(options={"ctr_model": name}) == pytest.approx([1.0] * 3)
    assert weights(ctr_model="cosine") != pytest.approx([1.0] * 3, abs=0.01)


# What cannot be told


class Always:
    """A target that makes one choice."""

    def __init__(self, probs: dict[str, float]) -> None:
        self.probs = probs

    def choice_probs(self, auction: Auction) -> dict[str, float]:
        return self.probs


def changed(**details: Any) -> Transition:
    row = next(row for row in transitions(small_world(), "softmax", n=1))
    return row.model_copy(update={"outcome": row.outcome.model_copy(update={"details": row.outcome.details | details})})


@pytest.mark.parametrize(
    ("rows", "target", "says"),
    [
        (lambda: [], softmax(5.0), "must contain the propensities of one mechanism, such as softmax: got none"),
        (lambda: transitions(small_world(), "gsp"), softmax(5.0), "one mechanism, such as softmax: got none"),
        (
            lambda: [changed(), changed().model_copy(update={"mechanism": "other"})],
            softmax(5.0),
            "got those of softmax, other",
        ),
        (
            lambda: [changed()],
            Always({"nobody": 1.0}),
            "no overlap: the target makes choice 'nobody' with probability 1",
        ),
        (
            lambda: [changed()],
            Always({"": 0.7}),
            "target: choice_probs must be probabilities that sum to 1, got {'': 0.7}",
        ),
        (lambda: [changed()], Always({"": 1.7, "a": -0.7}), "must be probabilities that sum to 1"),
        (lambda: [changed(choice_probs=None)], softmax(5.0), "expected the details choice and choice_probs"),
        (lambda: [changed(choice_probs={"": "all"})], softmax(5.0), "must be probabilities that sum to 1"),
        (lambda: [changed(propensity=0.123)], softmax(5.0), "propensity 0.123 is not that of"),
        (lambda: [changed(propensity="high")], softmax(5.0), "propensity high is not that of"),
    ],
)
def test_a_log_that_cannot_tell_is_named(rows: Callable[[], list[Transition]], target: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(rows(), target)
    (line,) = str(caught.value).splitlines()
    assert says in line


def test_mass_where_the_log_has_none_is_no_overlap() -> None:
    """A log at a reserve never shows an ad below it: a target that does cannot be valued from it."""
    row = transitions(small_world(reserve=60.0), "softmax", n=1)[0]
    below = row.model_copy(update={"auction": row.auction.model_copy(update={"reserve": 0.0})})
    with pytest.raises(
        InputError, match=r"auction .*, softmax: no overlap: the target makes choice 'ad-.*the log never"
    ):
        evaluate([below], softmax(10.0))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (LoggedChoice(1.0, 0.0, 0.5), r"propensity must be in \(0, 1\], got 0.0"),
        (LoggedChoice(1.0, math.nan, 0.5), r"propensity must be in \(0, 1\], got nan"),
        (LoggedChoice(1.0, 0.5, 1.5), r"target's probability must be in \[0, 1\], got 1.5"),
        (LoggedChoice(math.inf, 0.5, 0.5), "reward, q_hat and v_hat must be finite"),
        (LoggedChoice(1.0, 0.5, 0.0), "no overlap: the target makes none of the 1 logged choices"),
    ],
)
def test_rows_out_of_range_are_named(row: LoggedChoice, says: str) -> None:
    for estimator in (*ESTIMATORS.values(), effective_sample_size):
        with pytest.raises(InputError, match=says):
            estimator([row])
        with pytest.raises(InputError, match="no logged choices"):
            estimator([])


# The command


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [f"{t.model_dump_json()}\n" for t in transitions(small_world(), "gsp", "softmax", n=len(PERSONAS) * 3)]
    (folder / "transitions.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def test_the_command_prints_the_estimates(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["ope", str(run), "--target", "softmax", "--set", "temperature=5"])
    out = capsys.readouterr().out
    assert caught.value.code == 0
    log = transitions(small_world(), "softmax", n=len(PERSONAS) * 3)
    report = evaluate(log, softmax(5.0))
    for name, estimate in report.estimates.items():
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [name]]
        assert f"{estimate.value:.2f}" in line
        assert f"{report.effective_sample_size:.1f} of 12" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "gsp"], "mechanism 'gsp' has no choice_probs(auction)"),
        (
            ["--target", "softmax", "--set", "temperature"],
            "cannot read setting 'softmax.temperature': expected NAME.OPTION=VALUE",
        ),
        (["--target", "softmax", "--set", "temperature=0"], "temperature must be above 0 and finite, got 0"),
        (["--target", "softmax", "--set", "heat=3"], "mechanism 'softmax' has no option heat"),
        (["--target", "softmaxx"], "unknown mechanism 'softmaxx': did you mean softmax?"),
    ],
)
def test_the_command_names_what_is_wrong(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["ope", str(run), *arguments])
    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert line.startswith(f"simenv: {says}")


def test_runs_of_linked_turns_are_refused() -> None:
    rows = transitions(small_world(turns="linked"), "softmax", n=3)
    with pytest.raises(InputError, match="linked turns cannot be valued choice by choice"):
        evaluate(rows, softmax(1.0))
