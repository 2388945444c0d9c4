"""Where the judge abstains, the table is not biased, says how often, and has bounds that assume nothing."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

import numpy as np
import pytest
from rich.console import Console

from simenv.errors import InputError
from simenv.records import Transition
from simenv.runs.abstention import Weighting
from simenv.runs.answer_metrics import LLMCalls
from simenv.runs.click_metrics import CTR, Revenue
from simenv.runs.metric_types import ClickSum
from simenv.runs.metrics import METRICS
from simenv.runs.summary import Cell, Table, summarize
from simenv.runs.tables import caption, print_tables, to_csv, to_frame, to_markdown
from simenv.seeding import keyed_rng
from tests.support.hand_made import turn

ABSTAINS = (None, None)


def cell(table: Table, metric: str, mechanism: str = "m") -> Cell:
    (found,) = [c for c in table.cells if (c.mechanism, c.metric) == (mechanism, metric)]
    return found


def _by_persona(key: int) -> list[Transition]:
    """Personas that click often abstain often: three ads of five, against one of ten. The true rate is 0.4."""
    rng = keyed_rng("abstention", "by persona", key)
    rows = []
    for i in range(200):
        often = i % 2 == 0
        click, silent = (0.6, 0.6) if often else (0.2, 0.1)
        ads = {ad: ABSTAINS if rng.random() < silent else (bool(rng.random() < click), None) for ad in "ab"}
        rows.append(turn(i, ads, f"p{i % 10}"))
    return rows


def test_abstentions_that_depend_on_the_persona_do_not_bias_the_table() -> None:
    """False alarm: 4 standard errors, at most once in 10^4 seeds; the draws are keyed."""
    runs = [_by_persona(key) for key in range(12)]
    rates = [cell(summarize(rows, metrics=[CTR()]), "ctr").estimate.value for rows in runs]
    assert abs(float(np.mean(rates)) - 0.4) < 4 * float(np.std(rates)) / math.sqrt(12)
    known = [click.clicked for rows in runs for t in rows for click in t.feedback.clicks if click.clicked is not None]
    assert float(np.mean(known)) < 0.34, "the share of clicks among the verdicts is biased"


def test_a_click_rate_lies_within_its_bounds() -> None:
    rng = keyed_rng("abstention", "bounds")
    for share in (0.1, 0.5, 0.9):
        rows = []
        for i in range(30):
            ads = {ad: ABSTAINS if rng.random() < share else (bool(rng.random() < 0.9), None) for ad in "abc"[: i % 4]}
            rows.append(turn(i, ads, f"p{i % 7}"))
        of = cell(summarize(rows, metrics=[CTR()]), "ctr")
        assert of.bounds is not None
        assert of.bounds[0] <= of.estimate.value <= of.bounds[1]


def test_an_ad_unlike_all_with_a_verdict_counts_by_the_mean_of_more_ads() -> None:
    rows = [turn(0, {"a": ABSTAINS}, "p"), turn(1, {"a": (True, None)}, "q"), turn(2, {"a": (False, None)}, "q")]
    of = cell(summarize(rows), "ctr")
    assert of.estimate.value == pytest.approx(0.5)
    assert (of.abstained, of.overlap) == pytest.approx((1 / 3, 2 / 3))


def test_without_any_verdict_there_are_bounds_alone() -> None:
    rows = [turn(i, {"a": ABSTAINS}, f"p{i}", m) for i in range(2) for m in ("m", "n")]
    rows += [turn(i, {"a": (True, None)}, f"p{i}", "n") for i in (2, 3)]
    table = summarize(rows)
    of = cell(table, "revenue")
    assert math.isnan(of.estimate.value)
    assert of.bounds == (0.0, 4.0)
    assert "No verdict on m is known, so its clicks have bounds alone." in caption(table)
    assert "| m | 0.00 to 4.00 |" in to_markdown(table)


def _two_mechanisms(shown: Sequence[tuple[bool | None, float | None]]) -> Table:
    rows = [turn(i, {"a": it}, f"p{i}", "m") for i, it in enumerate(shown)]
    return summarize(
        [*(turn(i, {"b": (False, 0.5)}, f"p{i}", "base") for i in range(len(shown))), *rows], baseline="base"
    )


def test_the_rate_stands_beside_every_number_that_it_touches() -> None:
    table = _two_mechanisms([(True, 0.5), ABSTAINS, (True, 0.5), (False, 0.5)])
    touched = {c.metric for c in table.cells if c.mechanism == "m" and c.abstained is not None}
    assert touched == {"revenue", "bid_weighted_clicks", "reward", "welfare", "surplus", "ctr", "losing"} | {
        "losing_expected"
    }
    assert {c.abstained for c in table.cells if c.metric in touched} == {0.0, 0.25}
    text = to_markdown(table)
    assert "| mechanism | revenue | bid x clicks | reward | welfare | abstained |" in text
    assert "| mechanism | revenue | bid x clicks | reward | welfare | abstained | abstained, base |" in text
    assert "| mechanism | CTR | abstained | ads |" in text
    assert "| mechanism | LLM calls | tokens |" in text
    assert "abstained" in str(table).splitlines()[0]
    out = io.StringIO()
    print_tables(table, Console(file=out, width=60))
    assert out.getvalue().count("25.0%") == text.count("25.0%") > 4
    frame = to_frame(table).set_index(["mechanism", "metric"])
    assert frame.loc[("m", "revenue"), "abstained"] == 0.25
    assert frame.loc[("base", "revenue"), "abstained"] == 0
    assert frame.loc[("m", "revenue"), "overlap"] == 0.75
    assert math.isnan(float(frame.loc[("m", "tokens"), "abstained"]))


def test_bounds_of_a_difference_are_those_of_both_sides() -> None:
    of = cell(_two_mechanisms([(True, 0.5), ABSTAINS, (True, 0.5), (False, 0.5)]), "ctr")
    assert of.difference_bounds == pytest.approx((0.375 - 0.5, 0.625 - 0.5))


def test_without_abstentions_nothing_is_added() -> None:
    table = _two_mechanisms([(True, 0.5), (False, 0.5)])
    assert next(csv.reader(io.StringIO(to_csv(table))))[-2:] == ["least", "most"]
    assert "abstained" not in to_markdown(table) + str(table)
    assert {c.abstained for c in table.cells} == {None}


class Clicks:
    """Clicks that depend on the judge in a way that only the metric knows."""

    name, unit, optional = "clicks", "per answer", False

    def measure(self, transition: Transition, expected: bool) -> tuple[float, float] | None:
        clicks = [click.clicked for click in transition.feedback.clicks]
        return None if None in clicks else (float(sum(map(bool, clicks))), 1.0)


class Forgets(Clicks):
    """Gives the second ad no weight."""

    name = "forgets"

    def parts(self, transition: Transition) -> ClickSum:
        return ClickSum(0.0, {"a": 1.0}, 1.0)


class GivesNumbers(Clicks):
    """Its parts are no ClickSum."""

    name = "numbers"

    def parts(self, transition: Transition) -> tuple[float, float]:
        return 0.0, 1.0


def test_the_rate_stands_beside_metrics_of_ones_own() -> None:
    table = summarize([turn(0, {"a": ABSTAINS}), turn(1, {"a": (True, None)})], metrics=[*METRICS, Clicks()])
    assert cell(table, "clicks").abstained == 0.5
    assert "| mechanism | clicks | abstained |" in to_markdown(table)


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (
            Forgets(),
            "metric 'forgets' on auction auction-0 have no weight of the shown b: got weights of a",
        ),
        (GivesNumbers(), r"the parts of metric 'numbers' on auction auction-0 are \(0.0, 1.0\), expected a ClickSum"),
    ],
)
def test_parts_that_are_none_are_refused(metric: Clicks, says: str) -> None:
    with pytest.raises(InputError, match=says):
        summarize([turn(0, {"a": ABSTAINS, "b": (True, None)})], metrics=[*METRICS, metric])


def test_tables_need_no_metric() -> None:
    rows = [turn(i, {"a": (True, 0.5)}, f"p{i}", m) for i in range(2) for m in ("base", "m")]
    text = to_markdown(summarize(rows, metrics=[Revenue(), LLMCalls()]))
    assert "| mechanism | revenue |" in text
    assert "| mechanism | LLM calls |" in text
    assert "CTR |" not in text
    assert to_markdown(summarize(rows, metrics=[CTR()])).count("| mechanism |") == 1


def test_rates_are_known_by_position() -> None:
    rows = [turn(i, {"a": (True, None), "b": ABSTAINS if i else (True, None)}, f"p{i}") for i in range(4)]
    assert Weighting(False, rows).abstained == (0.0, 0.75)
