"""Verdicts on claims: what is broken fails, and a pass says what would have been seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mechanisms.softmax import Softmax
from simenv.auditing import verdicts
from simenv.auditing.records import AuditOptions, Verdict
from simenv.auditing.report import blocks
from simenv.auditing.run import audit
from simenv.auditing.sweep import Sweep
from simenv.background_loop import run_sync
from simenv.llm import ScriptedLLM
from simenv.mechanism import Claim, Mechanism
from simenv.stats import Estimate
from simenv.testing import FakeEncoder, small_world
from tests.support.broken import Free, Overcharging, Shaded, ShadedGenres, ShadedLama, ShadedPositions

WORLD = small_world(horizon=1)
FEW = AuditOptions(n=2, advertisers=2, bids=9, curve_bids=5, collusion=0, wrong_ctr=0, play=0)


def found(mechanism: Mechanism, options: AuditOptions = FEW) -> dict[str, Verdict]:
    return run_sync(lambda: audit(WORLD, {"it": mechanism}, options)).mechanisms["it"].verdicts


@pytest.mark.parametrize("broken", [Overcharging, Free])
def test_charges_that_the_lottery_does_not_say_fail(broken: type) -> None:
    made = found(broken(ScriptedLLM(), samples=4))
    assert made["lottery"].verdict == "failed"
    assert "and the lottery" in made["lottery"].why
    assert made["truthful_um_in_expectation"].verdict == "passed"  # of the lottery, which is right


def test_payments_that_are_5_percent_too_low_fail() -> None:
    for drawn in (Shaded(ScriptedLLM(), samples=4), ShadedLama(ScriptedLLM())):
        smooth = found(drawn)
        assert smooth["truthful_um_in_expectation"].verdict == "failed"
        assert 0 < smooth["truthful_um_in_expectation"].measured < 0.01
        assert smooth["lottery"].verdict == "passed"
    for stepwise in (ShadedPositions, ShadedGenres):
        steps = found(stepwise(ScriptedLLM(), encoder=FakeEncoder()))
        assert steps["truthful_um"].verdict == "failed"


def test_a_claim_of_every_draw_is_measured_in_expectation_where_there_is_a_lottery() -> None:
    made = found(Softmax(ScriptedLLM()))
    assert made["monotone"].why.startswith("in expectation only; 0 of")
    assert made["lottery"].why == "40 draws follow it (false alarm 1e-06)"


def test_the_report_has_a_row_for_each_claim() -> None:
    report = run_sync(lambda: audit(WORLD, {"a": Softmax(ScriptedLLM()), "b": Softmax(ScriptedLLM())}, FEW))
    table = blocks(report)[0]
    assert table.title == "Claims"
    claims = [*sorted(Softmax.claims), "lottery"]
    assert [row[:3] for row in table.rows] == [
        (label if claim == claims[0] else "", claim, "passed") for label in "ab" for claim in claims
    ]


def smooth(bids: np.ndarray, factor: float = 1.0) -> Sweep:
    """Clicks b / (b + 10), and the payments that make them truthful: b x - integral of x; times a factor."""
    clicks = bids / (bids + 10)
    payments = factor * (bids * clicks - (bids - 10 * np.log1p(bids / 10)))
    return Sweep(40.0, bids, 0, 0, 0, 1.0, clicks[None], payments[None], clicks[None], payments[None])


def verdict(*sweeps: Sweep, claim: Claim = Claim.TRUTHFUL_UM, regret: Estimate | None = None) -> Verdict:
    return verdicts.truthfulness(claim, sweeps, regret or Estimate(), exact=regret is None)


def test_power_is_what_the_same_bids_find() -> None:
    """The finer the bids, the smaller the fault that is found; a fault below the power passes, one of it fails."""
    coarse, fine = np.linspace(0, 100, 6), np.linspace(0, 100, 201)
    powers = []
    for bids, error in ((coarse, 0.2), (fine, 0.005)):
        made = verdict(smooth(bids))
        assert made.verdict == "passed"
        assert made.why.startswith(f"would have seen payments {error:.1%} too low or too high: gains of")
        powers.append(made.power)
        smaller = verdicts.LADDER[verdicts.LADDER.index(error) - 1]
        assert {verdict(smooth(bids, 1 + sign * error)).verdict for sign in (-1, 1)} == {"failed"}
        assert "passed" in {verdict(smooth(bids, 1 + sign * smaller)).verdict for sign in (-1, 1)}
    assert 0 < powers[1] < powers[0] < 0.1


def test_value_maximisers_may_pay_their_bid_and_no_more() -> None:
    bids = np.linspace(0, 100, 51)
    clicks = bids / (bids + 10)
    first = smooth(bids)._replace(own_payments=(bids * clicks)[None])
    assert verdict(first, claim=Claim.TRUTHFUL_VM).verdict == "passed"
    for factor in (0.9, 1.001):
        other = first._replace(own_payments=factor * first.own_payments)
        assert verdict(other, claim=Claim.TRUTHFUL_VM).verdict == "failed"


def test_a_sampled_regret_has_the_power_of_its_interval() -> None:
    made = verdict(smooth(np.linspace(0, 100, 6)), regret=Estimate(value=0.01, low=-0.01, high=0.03))
    assert (made.verdict, made.measured) == ("passed", 0.01)
    assert made.power == pytest.approx(0.02 * (1.96 + 0.8416) / 1.96)
    assert verdict(smooth(np.linspace(0, 9, 6)), regret=Estimate(value=0.2, low=0.1, high=0.3)).verdict == "failed"
    assert verdict(smooth(np.linspace(0, 9, 6)), regret=Estimate(value=0.2)).verdict == "not measured"


def test_what_nobody_saw_is_not_measured() -> None:
    nothing = smooth(np.linspace(0, 100, 6))._replace(own_clicks=np.zeros((1, 6)), own_payments=np.zeros((1, 6)))
    assert verdict(nothing).verdict == "not measured"
    assert verdicts.share((0, 0), "advertisers that lose").verdict == "not measured"


def test_shares_follow_the_rule_of_three() -> None:
    made = verdicts.share((0, 60), "advertisers that lose")
    assert (made.verdict, made.power) == ("passed", 0.05)
    assert (1 - made.power) ** 60 == pytest.approx(0.05, abs=0.005)
    assert verdicts.share((1, 60), "advertisers that lose").verdict == "failed"
    assert verdicts.share((2, 400), "steps that fall", by_chance=0.005).verdict == "passed"
    assert verdicts.share((12, 400), "steps that fall", by_chance=0.005).verdict == "failed"
    assert math.isnan(verdicts.share((0, 0), "steps that fall").power)
