"""Detectability as columns of the table: the AUC and its interval, and what must hold of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from simenv import stats
from simenv.background_loop import gather, run_sync
from simenv.errors import UnknownName
from simenv.llm import ScriptedLLM
from simenv.quality.detector import score_answer
from simenv.records import Auction, Query
from simenv.runs.bench import BenchOptions, run_bench
from simenv.runs.detection import Detectability, Detected
from simenv.runs.metrics import METRIC_SETS, METRICS, make_metric, metrics_named
from simenv.seeding import keyed_rng
from simenv.writer.writer import Writer


def test_the_auc_is_over_all_pairs_and_ties_count_half() -> None:
    rng = keyed_rng("auc")
    for n in (1, 2, 30):
        ours, theirs = rng.integers(4, size=(2, n)) - np.array([[0.0], [1.0]])
        labels = [1] * n + [0] * n
        values = Detectability().values(ours, theirs)
        assert values.shape == (n,)
        assert values.mean() == pytest.approx(roc_auc_score(labels, [*ours, *theirs]))


def test_the_interval_is_that_of_the_bootstrap() -> None:
    """Half widths over 400 answers of 100 personas; the bootstrap's own error is about 5%."""
    rng = keyed_rng("auc-interval")
    personas = np.repeat(np.arange(100), 4)
    shared = rng.normal(size=100)[personas]  # answers of one persona are alike
    theirs = rng.normal(size=400) + shared
    ours = rng.normal(size=400) + shared + 0.7
    names = [str(persona) for persona in personas]
    values = Detectability().values(ours, theirs)
    closed = stats.ratio([(value, 1.0) for value in values.tolist()], names).interval()
    drawn = stats.auc([1] * 400 + [0] * 400, [*ours.tolist(), *theirs.tolist()], names * 2)
    assert closed.value == pytest.approx(drawn.value)
    assert closed.margin == pytest.approx(drawn.margin, rel=0.15)


def test_detected_is_the_share_above_all_but_a_hundredth() -> None:
    theirs = np.arange(200.0)
    ours = np.array([0.0, 197.0, 197.5, 198.0, 500.0] * 40)
    assert Detected().values(ours, theirs).mean() == pytest.approx(3 / 5)  # 198 and 199 are false alarms
    assert Detected().values(np.array([2.0]), np.array([2.0])).tolist() == [0.0]


def test_a_second_sample_of_ad_free_answers_is_at_chance() -> None:
    """The standard error of an AUC of two samples of 200 is 0.03."""
    writer = Writer(ScriptedLLM())
    auctions = [Auction(id=f"q{i}", query=Query(text=f"What about {i}?")) for i in range(400)]
    texts = run_sync(lambda: gather(writer.answer(auction) for auction in auctions))
    scores = np.array([score_answer(text) for text in texts])
    assert Detectability().values(scores[:200], scores[200:]).mean() == pytest.approx(0.5, abs=0.1)


def test_labelled_slots_are_found_and_the_columns_come_on_request_only(tmp_path: Path) -> None:
    mechanisms = ("organic", "fixed_slots", "gsp")
    options = BenchOptions(mechanisms=mechanisms, llm="scripted", n=6, horizon=2, metrics=("detection",))
    table = run_bench(options, tmp_path / "run").summary
    cells = {(cell.mechanism, cell.metric): cell for cell in table.cells}
    assert cells["fixed_slots", "detectability"].estimate.value > 0.95
    assert cells["fixed_slots", "detected"].estimate.value > 0.95
    assert cells["fixed_slots", "span_precision"].estimate.value > 0.9
    assert np.isnan(cells["organic", "detectability"].estimate.value)  # no answer has an ad
    assert cells["gsp", "detectability"].estimate.value < cells["fixed_slots", "detectability"].estimate.value
    assert not set(METRIC_SETS["detection"]) & {metric.name for metric in METRICS}
    csv = (tmp_path / "run" / "table.csv").read_text(encoding="utf-8")
    assert "fixed_slots,detectability,AUC," in csv


def test_a_set_stands_for_its_metrics() -> None:
    names = [metric.name for metric in metrics_named(["ads", "detection"])]
    assert names == ["ads", *METRIC_SETS["detection"]]
    assert metrics_named([make_metric("ads")])[0].name == "ads"
    with pytest.raises(UnknownName):
        metrics_named(["detections"])
