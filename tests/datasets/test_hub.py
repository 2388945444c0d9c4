"""A run as one dataset with a card, as `datasets` loads it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet
import pytest
import yaml

from simenv.datasets.columns import FORMATS, schema
from simenv.datasets.front_matter import Part, front_matter, licences
from simenv.datasets.hub import export_dataset
from simenv.errors import DataFileError, InputError
from simenv.records import Transition
from simenv.testing import small_world
from tests.support.command_line import called
from tests.support.runs import save, transitions


@pytest.fixture(scope="module")
def rows() -> list[Transition]:
    return transitions(small_world(), "organic", "gsp", "softmax", "best_of_n")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, rows: list[Transition]) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    run = save(folder / "run", rows)
    options = ["--format", "dataset", "--out", str(folder / "dataset"), "--test-share", "0.5", "--min-gap", "1"]
    assert called(["export", str(run), *options]) == 0
    return folder / "dataset"


@pytest.mark.parametrize("format", FORMATS)
def test_load_dataset_gives_types_and_splits_of_the_card(
    format: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    loaded = datasets.load_dataset(str(dataset), format, cache_dir=str(tmp_path))
    assert set(loaded) == {"train", "test"}
    types = datasets.Features.from_arrow_schema(schema(format))
    for split, part in loaded.items():
        assert part.features == types
        file = dataset / "data" / f"{format}-{split}.parquet"
        assert len(part) == pyarrow.parquet.read_metadata(file).num_rows > 0
    # The same from the files alone: types do not depend on the card.
    files = {split: str(dataset / "data" / f"{format}-{split}.parquet") for split in loaded}
    alone = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    assert alone["train"].features == types


def test_a_persona_is_in_one_split(dataset: Path) -> None:
    personas = [
        set(pyarrow.parquet.read_table(dataset / "data" / f"clicks-{split}.parquet")["persona_id"].to_pylist())
        for split in ("train", "test")
    ]
    assert all(personas)
    assert personas[0].isdisjoint(personas[1])


def test_what_has_no_rows_is_left_out(tmp_path: Path, rows: list[Transition]) -> None:
    organic = save(tmp_path / "organic", [row for row in rows if row.mechanism == "organic"])
    with pytest.raises(InputError, match="no answer of the run gives a row of any format"):
        export_dataset(organic, tmp_path / "none")
    gsp = save(tmp_path / "gsp", [row for row in rows if row.mechanism in ("organic", "gsp")])
    parts = export_dataset(gsp, tmp_path / "some", min_gap=1e9, test_share=1e-9)
    assert {(part.format, part.split) for part in parts} == {("clicks", "train"), ("sft", "train"), ("kto", "train")}
    head = yaml.safe_load((tmp_path / "some" / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert [config["config_name"] for config in head["configs"]] == ["clicks", "sft", "kto"]
    assert sorted(path.name for path in (tmp_path / "some" / "data").iterdir()) == [
        f"{name}-train.parquet" for name in ("clicks", "kto", "sft")
    ]


def test_a_folder_that_is_used_is_refused(dataset: Path, tmp_path: Path, rows: list[Transition]) -> None:
    before = (dataset / "README.md").read_bytes()
    with pytest.raises(DataFileError, match="not empty: give a new folder"):
        export_dataset(save(tmp_path / "run", rows), dataset)
    assert (dataset / "README.md").read_bytes() == before


def test_a_licence_is_named_only_where_every_input_has_one() -> None:
    ours = {"packs": {"catalog": "everyday 1", "personas": "everyday 1"}, "ad_llm": "embedded"}
    assert licences({"world": ours})[0] == "mit"
    assert licences({"world": {**ours, "packs": {"catalog": None, "personas": "everyday 1"}}})[0] == "unknown"
    named, words = licences({"world": {**ours, "ad_llm": "openai/x"}})
    assert named == "unknown"
    assert words["texts of the model"] == "openai/x: not known: see its provider's terms"
    assert licences({}) == ("unknown", {})


def test_an_odd_file_name_is_still_yaml() -> None:
    head = front_matter([Part("sft", "train", "- a: #1 'x\".parquet", 3, 100)], "unknown")
    told = yaml.safe_load(head.strip("-"))
    assert told["configs"][0]["data_files"] == [{"split": "train", "path": "- a: #1 'x\".parquet"}]
    assert told["dataset_info"][0]["splits"] == [{"name": "train", "num_bytes": 100, "num_examples": 3}]
