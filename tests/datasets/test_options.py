"""What an export selects, and that its types do not depend on its rows."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet
import pytest

from simenv.datasets.columns import COLUMNS, FORMATS, schema
from simenv.datasets.export import click_rows, export_clicks, export_run
from simenv.datasets.selection import is_test
from simenv.errors import InputError, UnknownName
from simenv.records import Transition
from simenv.testing import small_world
from tests.support.runs import transitions

NAMES = ("organic", "gsp", "softmax", "best_of_n")


@pytest.fixture(scope="module")
def rows() -> list[Transition]:
    return transitions(small_world(), *NAMES)


def exported(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# Types


def without_numbers(rows: list[Transition]) -> list[Transition]:
    """The same answers of a mechanism that logs no propensity and a judge that gives no probability."""
    made = []
    for t in rows:
        clicks = tuple(click.model_copy(update={"click_prob": None}) for click in t.feedback.clicks)
        outcome = t.outcome.model_copy(update={"details": {}})
        feedback = t.feedback.model_copy(update={"clicks": clicks})
        made.append(t.model_copy(update={"outcome": outcome, "feedback": feedback}))
    return made


@pytest.mark.parametrize(("ending", "builder"), [("parquet", "parquet"), ("jsonl", "json")])
def test_datasets_reads_two_exports_together(
    tmp_path: Path, rows: list[Transition], ending: str, builder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column that is all null in one of them has its type all the same."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    softmax = [t for t in rows if t.mechanism == "softmax"]
    files = [str(tmp_path / f"{name}.{ending}") for name in ("null", "full")]
    for file, log in zip(files, (without_numbers(softmax), softmax), strict=True):
        export_clicks(log, file)
    # JSON has no types: they are in the card, and here.
    types = {"features": datasets.Features.from_arrow_schema(schema("clicks"))} if ending == "jsonl" else {}
    loaded = datasets.load_dataset(builder, data_files=files, split="train", cache_dir=str(tmp_path / "cache"), **types)
    assert loaded.num_rows == 2 * len(list(click_rows(softmax)))
    assert loaded.features["propensity"].dtype == loaded.features["click_prob"].dtype == "float64"


@pytest.mark.parametrize("format", FORMATS)
def test_the_card_has_the_types_of_the_file(tmp_path: Path, run: Path, format: str) -> None:
    import datasets
    import yaml

    export_run(run, tmp_path / "data.parquet", format)
    head = (tmp_path / "data.parquet.md").read_text(encoding="utf-8").split("---\n")[1]
    (info,) = yaml.safe_load(head)["dataset_info"]
    told = datasets.Features._from_yaml_list(info["features"])
    assert told.arrow_schema.equals(pyarrow.parquet.read_schema(tmp_path / "data.parquet"), check_metadata=False)
    assert list(told) == list(COLUMNS[format])


def test_the_two_endings_have_the_same_rows(tmp_path: Path, run: Path) -> None:
    for format in FORMATS:
        export_run(run, tmp_path / "a.jsonl", format)
        export_run(run, tmp_path / "a.parquet", format)
        assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist() == exported(tmp_path / "a.jsonl")
        assert all(list(row) == list(COLUMNS[format]) for row in exported(tmp_path / "a.jsonl"))


def test_parquet_is_the_default(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    export_run(run)
    export_run(run, "mine", "sft")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "clicks.parquet",
        "clicks.parquet.md",
        "mine.parquet",
        "mine.parquet.md",
        "run",
    ]


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_memory_does_not_grow_with_the_log(
    tmp_path: Path, rows: list[Transition], ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simenv.datasets.write._GROUP", 100)

    def log(times: int) -> Iterator[Transition]:
        for _ in range(times):
            yield from rows

    def peak(times: int) -> int:
        tracemalloc.start()
        try:
            export_clicks(log(times), tmp_path / f"a.{ending}")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # imports
    assert peak(60) < 1.3 * peak(20) + 100_000


# What is selected


def test_clicks_have_transfers(rows: list[Transition]) -> None:
    shown = next(t for t in rows if t.outcome.placements)
    first, *others = [bid.ad.id for bid in shown.auction.bids if bid.ad.id != shown.outcome.placements[0].ad_id]
    transfers = {shown.outcome.placements[0].ad_id: 2.5, first: -1.0}
    t = shown.model_copy(update={"outcome": shown.outcome.model_copy(update={"transfers": transfers})})
    got = {row["ad_id"]: row["transfer"] for row in click_rows([t], candidates=True)}
    assert got == transfers | dict.fromkeys(others, 0.0)
    assert next(click_rows([t]))["transfer"] == 2.5


def test_candidates_that_were_not_shown_are_an_option(tmp_path: Path, rows: list[Transition], run: Path) -> None:
    export_run(run, tmp_path / "all.parquet", candidates=True)
    frame = pandas.read_parquet(tmp_path / "all.parquet")
    assert len(frame) == sum(len(t.auction.bids) for t in rows)
    assert frame["shown"].sum() == sum(len(t.outcome.placements) for t in rows)
    hidden = frame[~frame["shown"]]
    for column in ("price", "position", "span_start", "span_end", "clicked", "click_prob"):
        assert hidden[column].isna().all()
        assert not frame[frame["shown"]][column].isna().any()
    assert str(frame["position"].dtype) == "Int64"
    assert "--candidates" in (tmp_path / "all.parquet.md").read_text(encoding="utf-8")


def test_the_split_is_by_persona_and_always_the_same(tmp_path: Path, run: Path, rows: list[Transition]) -> None:
    parts = {}
    for part in ("train", "test"):
        export_run(run, tmp_path / f"{part}.jsonl", split=part, test_share=0.5)
        parts[part] = exported(tmp_path / f"{part}.jsonl")
    personas = {part: {row["persona_id"] for row in got} for part, got in parts.items()}
    assert personas["train"].isdisjoint(personas["test"])
    assert len(parts["train"]) + len(parts["test"]) == len(list(click_rows(rows)))
    assert all(parts.values())
    names = [f"persona-{i}" for i in range(5000)]
    assert abs(sum(is_test(name, 0.2) for name in names) / 5000 - 0.2) < 0.02  # three and a half standard errors
    assert {n for n in names if is_test(n, 0.1)} < {n for n in names if is_test(n, 0.3)}
    assert [is_test(name, 0.5) for name in names[:8]] == [False, False, True, False, False, True, True, True]


@pytest.mark.parametrize("format", FORMATS)
def test_only_the_mechanisms_that_are_named(tmp_path: Path, run: Path, format: str) -> None:
    export_run(run, tmp_path / "a.jsonl", format, mechanisms=["gsp", "best_of_n"])
    got = exported(tmp_path / "a.jsonl")
    names = {name for row in got for name in row.get("mechanisms", [row.get("mechanism")])}
    assert {part for name in names for part in name.split("+")} <= {"gsp", "best_of_n"}
    card = (tmp_path / "a.jsonl.md").read_text(encoding="utf-8")
    assert "--mechanisms gsp,best_of_n" in card
    assert "| answers in the run | organic 12, gsp 12, softmax 12, best_of_n 12 |" in card
    assert "| answers that were selected | 24 |" in card


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"mechanisms": ["gps"]}, UnknownName, r"unknown mechanism of the run 'gps': did you mean gsp\?"),
        ({"split": "dev"}, InputError, "split must be train or test, got 'dev'"),
        ({"test_share": 0.5}, InputError, "test_share is an option of a split"),
        ({"split": "test", "test_share": 1.0}, InputError, "test_share must be above 0 and below 1, got 1"),
        ({"split": "test", "test_share": float("nan")}, InputError, "test_share must be above 0 and below 1, got nan"),
        ({"split": "test", "test_share": 1e-9}, InputError, "no answer is in the test part"),
        ({"format": "sft", "candidates": True}, InputError, "candidates is an option of format clicks, got format sft"),
    ],
)
def test_a_wrong_option_leaves_no_file(
    tmp_path: Path, run: Path, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        export_run(run, tmp_path / "a.jsonl", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
