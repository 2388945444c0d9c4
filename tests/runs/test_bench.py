"""Python first: a benchmark without a console, of names and of objects."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import simenv
from simenv import Auction, Outcome, Transition, outcome
from simenv.errors import InputError, UnknownName
from simenv.runs.folder import read_transitions
from simenv.runs.options import BenchOptions
from simenv.runs.tables import to_csv

QUICK = {"llm": "scripted", "n": 4, "horizon": 2, "quality": "none"}
pytestmark = pytest.mark.weights


class Cheapest:
    """Shows the candidate with the lowest bid, at the reserve."""

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        bid = min(auction.bids, key=lambda bid: bid.amount)
        return outcome(auction, f"Try {bid.ad.link}.", {bid.ad.id: auction.reserve})


OWN_METRIC = '''
class PricePerAd:
    """Mean price per shown ad."""

    name, unit, optional = "price_per_ad", "currency per click", False

    def measure(self, transition, expected):
        placements = transition.outcome.placements
        return sum(p.price for p in placements), float(len(placements))


class Broken(PricePerAd):
    def measure(self, transition, expected):
        raise ZeroDivisionError("no ads")
'''


def test_names_and_objects_meet_the_same_auctions(tmp_path: Path) -> None:
    result = simenv.bench({"gsp": "gsp", "cheapest": Cheapest()}, out=tmp_path / "run", **QUICK)
    assert result.folder == tmp_path / "run"
    assert [(t.index, t.mechanism) for t in result.records] == [(i, m) for i in range(4) for m in ("gsp", "cheapest")]
    assert all(isinstance(t, Transition) for t in result.records)
    one, other = result.records[:2]
    assert one.auction == other.auction
    assert json.loads((result.folder / "manifest.json").read_text())["world"]["objects"] == {
        "cheapest": f"{Cheapest.__module__}:Cheapest"
    }


def test_the_table_is_that_of_the_folder(tmp_path: Path) -> None:
    result = simenv.bench(["organic", "gsp"], out=tmp_path / "run", **QUICK)
    written = pd.read_csv(tmp_path / "run" / "table.csv")
    pd.testing.assert_frame_equal(result.table, written)
    revenue = result.table.set_index(["mechanism", "metric"]).loc[("gsp", "revenue"), "mean"]
    expected = [sum((t.expected_payments or {}).values()) for t in result.records if t.mechanism == "gsp"]
    assert revenue == pytest.approx(np.mean(expected))


def test_a_run_is_the_same_as_that_of_the_command(tmp_path: Path) -> None:
    from simenv.cli.main import main

    simenv.bench("gsp", out=tmp_path / "python", seed=3, settings=("gsp.slots=1",), **QUICK)
    command = "bench --mechanisms gsp --llm scripted --n 4 --horizon 2 --quality none --seed 3 --set gsp.slots=1 --out"
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), str(tmp_path / "command")])
    assert ended.value.code == 0
    logs = [(tmp_path / name / "transitions.jsonl").read_bytes() for name in ("python", "command")]
    assert logs[0] == logs[1] != b""


def test_a_run_of_objects_is_resumed_with_them(tmp_path: Path) -> None:
    whole = simenv.bench({"cheapest": Cheapest()}, out=tmp_path / "run", chunk=2, **QUICK)
    log = (whole.folder / "transitions.jsonl").read_bytes()
    (whole.folder / "transitions.jsonl").write_bytes(log[: len(log) // 2])
    again = simenv.bench({"cheapest": Cheapest()}, out=tmp_path / "run", resume=True, chunk=2, **QUICK)
    assert (again.folder / "transitions.jsonl").read_bytes() == log
    with pytest.raises(InputError, match="cannot resume with other code: mechanism cheapest"):
        simenv.bench(
            {"cheapest": simenv.make_mechanism("organic")}, out=tmp_path / "run", resume=True, chunk=2, **QUICK
        )
    assert (again.folder / "transitions.jsonl").read_bytes() == log, "a refused resume touches nothing"


def test_a_metric_of_ones_own_is_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_METRIC)
    metric = f"{tmp_path / 'mine.py'}:PricePerAd"
    result = simenv.bench(["gsp", "first_price"], out=tmp_path / "run", metrics=(metric,), **QUICK)
    prices = [
        [p.price for t in result.records if t.mechanism == m for p in t.outcome.placements]
        for m in ("gsp", "first_price")
    ]
    means = result.table[result.table["metric"] == "price_per_ad"].set_index("mechanism")["mean"]
    assert means["gsp"] == pytest.approx(np.mean(prices[0]))
    assert means["first_price"] == pytest.approx(np.mean(prices[1]))
    text = (tmp_path / "run" / "table.md").read_text()
    assert "Further metrics" in text
    of_the_run = "Model scripted, judge click-model-v1, catalog everyday 1, personas everyday 1, seed 0, simenv "
    assert of_the_run + version("simenv-ads") in text
    other = simenv.bench(["gsp", "first_price"], out=tmp_path / "other", **{**QUICK, "seed": 1})
    both = simenv.compare([result.folder, other.folder], metrics=[metric])
    assert set(both.table["metric"]) >= {"revenue", "price_per_ad"}
    assert to_csv(both.summary).startswith("mechanism,metric,unit,mean")
    assert "personas everyday 1" in both.summary.about
    assert not any(part.startswith("seed") for part in both.summary.about), "they have other seeds"
    with pytest.raises(InputError, match=r"metric 'price_per_ad' raised ZeroDivisionError: no ads \(.*mine.py:14\)"):
        simenv.bench("gsp", out=tmp_path / "broken", metrics=(f"{tmp_path / 'mine.py'}:Broken",), **QUICK)
    assert len(list(read_transitions(tmp_path / "broken"))) == 4, "the answers stay"


def test_without_a_folder_the_run_is_in_a_temporary_one() -> None:
    result = simenv.bench("organic", **QUICK)
    assert len(list(read_transitions(result.folder))) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 1}, "unknown option 'colour': known are answer_timeout, api_base, baseline"),
        ({"n": "many"}, "option n: input should be a valid integer.*got 'many'"),
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"baseline": "vcg"}, "unknown baseline 'vcg': known are gsp"),
        ({"values": "gamma"}, "unknown values 'gamma': known are lognormal, uniform"),
        ({"penalty": "cubic"}, "unknown penalty 'cubic': known are linear"),
        ({"metrics": ("speed",)}, "unknown metric 'speed'"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        simenv.bench("gsp", out=tmp_path / "run", **{**QUICK, **options})
    assert "--" not in str(caught.value), "the library does not speak of flags"
    assert not (tmp_path / "run").exists()


def test_values_and_penalties_of_ones_own_change_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Seven:\n    def value(self, auction_id, ad):\n        return 7.0\n\n"
        "class Harsh:\n    def __init__(self, per_ad: float = 1000.0):\n        self.per_ad = per_ad\n"
        "    def penalty(self, auction, ads_shown, violations):\n        return self.per_ad * ads_shown\n"
    )
    seven, harsh = (f"{tmp_path / 'mine.py'}:{name}" for name in ("Seven", "Harsh"))
    result = simenv.bench(
        "first_price", out=tmp_path / "run", values=seven, penalty=harsh, settings=(f"{harsh}.per_ad=100",), **QUICK
    )
    assert {bid.amount for t in result.records for bid in t.auction.bids} == {7.0}
    for t in result.records:
        clicks = sum(c.click_prob or 0.0 for c in t.feedback.clicks)
        assert t.expected_reward == pytest.approx(7 * clicks - 100 * len(t.outcome.placements))


def test_every_option_has_a_help_text() -> None:
    for name, field in BenchOptions.model_fields.items():
        assert field.description, name


def test_two_mechanisms_of_one_label_are_refused() -> None:
    with pytest.raises(InputError, match="named twice in gsp,gsp"):
        simenv.bench(["gsp", "gsp"], **QUICK)
    with pytest.raises(UnknownName, match="unknown mechanism 'gspp'"):
        simenv.bench({"a": "gspp", "b": Cheapest()}, **QUICK)
