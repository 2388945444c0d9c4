"""Estimates as values and as JSON; the formulas are tested where they are used."""

from __future__ import annotations

import math

from simenv.records import Record
from simenv.stats import Estimate, Ratio, clustered_ratio


class Report(Record):
    all: Estimate
    none: Estimate = Estimate()


def test_nan_is_null_in_json_and_comes_back() -> None:
    report = Report(all=clustered_ratio([(1.0, 2.0)], ["p"]))
    text = '{"all":{"value":0.5,"low":null,"high":null},"none":{"value":null,"low":null,"high":null}}'
    assert report.model_dump_json() == text
    assert Report.model_validate_json(text) == report
    assert math.isnan(report.all.margin)


def test_equal_estimates_are_equal_also_where_nothing_is_known() -> None:
    assert Estimate(value=float("nan")) == Estimate()
    assert Estimate(value=0.5) != Estimate()
    assert clustered_ratio([], []) == Estimate()


def test_numbers_and_margin() -> None:
    estimate = Estimate(value=2.0, low=1.5, high=2.5)
    assert estimate.numbers == (2.0, 1.5, 2.5)
    assert estimate.margin == 0.5


def test_spreads_whose_squares_are_no_floats_have_an_unbounded_interval() -> None:
    assert Ratio(1e300, {"a": 1e300, "b": -1e300}, 1.0).interval().high == math.inf
