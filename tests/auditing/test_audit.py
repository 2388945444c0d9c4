"""The audit on real mechanisms: what theory says of each is what is measured, with the scripted model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simenv.auditing import records
from simenv.auditing.play import SHARES
from simenv.auditing.records import Audit, Audited, AuditOptions
from simenv.auditing.run import audit
from simenv.background_loop import run_sync
from simenv.ctr.models import CTRModel
from simenv.llm import ScriptedLLM
from simenv.mechanism import Mechanism, make_mechanism
from simenv.runs.folder import read_transitions
from simenv.testing import FakeEncoder, small_world
from tests.support.fakes import FakeChooser

WORLD = small_world(horizon=1)
QUICK = AuditOptions(n=4, advertisers=3, bids=12, curve_bids=11, collusion=2, wrong_ctr=0, play=0)


def measure(name: str, options: AuditOptions = QUICK, **settings: Any) -> Audited:
    return report(name, options, **settings).mechanisms[name]


def report(name: str, options: AuditOptions = QUICK, **settings: Any) -> Audit:
    llm = FakeChooser()

    def rebuild(label: str, ctr_model: CTRModel) -> Mechanism:
        return make_mechanism(label, context={"llm": llm, "ctr_model": ctr_model}, **settings)

    mechanism = make_mechanism(name, context={"llm": llm}, **settings)
    return run_sync(lambda: audit(WORLD, {name: mechanism}, options, rebuild=rebuild))


@pytest.mark.parametrize("name", ["vcg", "segment", "mosaic", "best_of_n", "quality_preserving"])
def test_truthful_mechanisms_have_no_regret_in_their_own_model(name: str) -> None:
    made = measure(name)
    assert made.measured == "exact"
    assert made.regret_um_own.value == pytest.approx(0, abs=1e-7)
    assert made.largest_regret_um_own == pytest.approx(0, abs=1e-6)
    assert made.ir_violations.value == 0
    assert made.monotonicity_violations.value == 0
    assert max(made.curve) > 0  # they did show ads


@pytest.mark.parametrize("name", ["gsp", "first_price"])
def test_others_have(name: str) -> None:
    made = measure(name)
    assert made.regret_um_own.value > 0.01
    assert made.largest_regret_um_own > 1
    assert made.ir_violations.value == 0


def test_first_price_is_what_a_value_maximiser_bids_truthfully_in() -> None:
    first, second = measure("first_price"), measure("vcg")
    assert first.regret_vm_own.value == 0
    assert first.roi_violations.value == 0
    assert second.regret_vm_own.value > 0.01


@pytest.mark.parametrize("target_roi", [1.0, 2.0])
def test_tilted_optimum_is_truthful_for_value_maximisers(target_roi: float) -> None:
    made = measure("tilted_optimum", QUICK.model_copy(update={"target_roi": target_roi}))
    assert made.regret_vm_own.value == pytest.approx(0, abs=1e-7)
    assert made.regret_vm_world.value == pytest.approx(0, abs=1e-7) or made.monotonicity_violations_world.value
    assert made.monotonicity_violations.value == 0
    assert made.regret_um_own.value > 0.01


def test_jumps_of_a_continuous_curve_shrink_with_the_step() -> None:
    """Ten times finer bids: a curve of bounded slope jumps less in proportion, one with steps jumps as before."""
    coarse, fine = (QUICK.model_copy(update={"curve_bids": n, "n": 2, "collusion": 0}) for n in (11, 101))
    assert measure("tilted_optimum", fine).largest_jump < 0.25 * measure("tilted_optimum", coarse).largest_jump
    assert measure("vcg", fine).largest_jump > 0.6 * measure("vcg", coarse).largest_jump > 0


@pytest.mark.parametrize(
    ("name", "settings", "measured"),
    [
        ("organic", {}, "exact"),
        ("lera", {}, "exact"),
        ("rewrite", {}, "exact"),
        ("segment", {"segments": 2}, "sampled"),
        ("prompted", {}, "sampled"),
        ("token_auction", {}, "sampled"),
    ],
)
def test_what_depends_on_draws_is_sampled(name: str, settings: dict[str, Any], measured: str) -> None:
    few = AuditOptions(n=1, advertisers=1, bids=3, curve_bids=2, replicas=3, collusion=0, wrong_ctr=0, play=0)
    if settings:
        settings = settings | {"encoder": FakeEncoder()}
    made = measure(name, few, **settings)
    assert made.measured == measured
    assert made.replicas == (4 if measured == "sampled" else 0)  # halves of one size


def test_a_mechanism_that_shows_nothing_has_no_share_to_tell() -> None:
    made = measure("organic")
    assert math.isnan(made.regret_um_own.value)
    assert made.largest_regret_um_own == made.largest_jump == 0


def test_learning_bidders_shade_under_first_price() -> None:
    options = AuditOptions(n=2, advertisers=1, bids=3, curve_bids=2, collusion=0, wrong_ctr=0, play=2, play_seeds=2)
    first = measure("first_price", options)
    learned, paced = first.play["learned"], first.play["budgets"]
    assert learned.bid_share.value < 0.9
    assert first.revenue.value > 0
    assert learned.revenue.value < 0.95 * first.revenue.value
    assert math.isnan(learned.spent.value)
    assert paced.spent.value < 2
    assert 0 < first.efficiency.value <= 1


def test_two_gain_by_colluding_under_vcg_though_none_does_alone() -> None:
    made = measure("vcg", QUICK.model_copy(update={"n": 6, "collusion": 6}))
    assert made.collusion_own.value > 0.005
    assert made.regret_um_own.value == pytest.approx(0, abs=1e-7)


def test_wrong_predictions_cost_welfare_and_not_truthfulness_in_them() -> None:
    options = QUICK.model_copy(update={"n": 4, "wrong_ctr": 4})
    found = report("vcg", options).mechanisms["vcg"].wrong_ctr
    assert set(found) == {"as_is", "noise", "flat", "flipped"}
    assert found["as_is"].welfare.value != found["noise"].welfare.value
    assert found["as_is"].revenue.value != found["flat"].revenue.value


def test_the_same_audit_twice_is_the_same() -> None:
    options = QUICK.model_copy(update={"n": 2})
    assert report("gsp", options).model_dump_json() == report("gsp", options).model_dump_json()


def test_every_key_of_audit_json_is_documented() -> None:
    for model in (Audit, Audited, records.AuditOptions, records.Reach, records.Distorted):
        assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.weights
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from simenv.cli.main import main

    few = "--n 2 --advertisers 1 --bids 4 --curve-bids 3 --collusion 1 --wrong-ctr 1 --play 1 --rounds 2 --play-seeds 1"
    folder = tmp_path / "out"
    arguments = ["audit", "gsp,other=first_price", "--llm", "scripted", *few.split(), "--out", str(folder)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--set", "gsp.ctr_model=oracle", "--cache", str(tmp_path / "texts.jsonl")])
    assert ended.value.code == 0
    found = json.loads((folder / "audit.json").read_text())
    assert list(found["mechanisms"]) == ["gsp", "other"]
    assert found["llm_calls"] > 0
    assert not found["cut_short"]
    assert {"curves.png", "regret.png", "play.png", "report.md"} <= {file.name for file in folder.iterdir()}
    out = capsys.readouterr().out
    assert "Incentives" in out
    assert "other" in out
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "not empty" in capsys.readouterr().err

    learned = ["--bidder", f"learned:{folder / 'audit.json'}", "--llm", "scripted", "--n", "2", "--quality", "none"]
    with pytest.raises(SystemExit) as benched:
        main(["bench", "--mechanisms", "gsp,other=first_price", *learned, "--out", str(tmp_path / "bench")])
    assert benched.value.code == 0
    shares = {
        bid.amount / row.values[bid.ad.id] for row in read_transitions(tmp_path / "bench") for bid in row.auction.bids
    }
    assert len(shares) > 1
    assert all(min(abs(share - one) for one in SHARES) < 1e-9 for share in shares)
    with pytest.raises(SystemExit) as unlearned:
        main(["bench", "--mechanisms", "vcg", *learned, "--out", str(tmp_path / "none")])
    assert unlearned.value.code == 2
    assert "unknown mechanism of learned bidders 'vcg'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gps"], "did you mean gsp"),
        (["gsp", "--bids", "2"], "bids must be at least 3"),
        (["gsp", "--target-roi", "0.5"], "target_roi must be at least 1"),
        (["gsp", "--judge", "oracle"], "unknown judge"),
        (["gsp,gsp"], "named twice"),
        (["gsp", "--max-calls", "-1"], "max_calls must be at least 0"),
    ],
)
def test_wrong_options(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    from simenv.cli.main import main

    with pytest.raises(SystemExit) as stopped:
        main(["audit", *arguments, "--llm", "scripted"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_llm_that_writes_is_not_asked_twice_for_a_text() -> None:
    llm = ScriptedLLM()
    mechanism = make_mechanism("vcg", context={"llm": llm})
    found = run_sync(lambda: audit(WORLD, {"vcg": mechanism}, QUICK))
    assert found.llm_calls == len(llm.requests) == found.mechanisms["vcg"].llm_calls
    assert len(set(llm.requests)) == len(llm.requests)
    assert found.llm_calls < 10 * QUICK.n
    assert np.isfinite(found.estimated_calls)
