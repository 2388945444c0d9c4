"""Files that a run's options name: their contents are hashed, and other contents are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from simenv.errors import InputError
from simenv.runs import named_files
from simenv.runs.named_files import differing_files, file_hashes
from simenv.runs.options import BenchOptions
from simenv.runs.resume import check_inputs


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ctr.json", "one.json", "two.json", "tape.jsonl", "own.json", "gsp"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    for folder in ("adapter", "model", "empty"):
        (tmp_path / folder).mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "state.pt", "manifest.json", "curve.png"):
        (tmp_path / "adapter" / name).write_text(name, encoding="utf-8")
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    return tmp_path


OPTIONS = BenchOptions(
    mechanisms=("gsp", "llm_auction"),
    llm="local:model",
    ctr_model="learned:ctr.json",
    bidder="learned:one.json,two.json",
    judge_llm="openai/x:free",
    replay="tape.jsonl",
    settings=(
        "llm_auction.adapter=adapter",
        "gsp.ctr_model=learned:own.json",
        "gsp.slots=1",
        "llm_auction.format=slim",
    ),
)


def test_every_file_that_is_named_is_hashed(here: Path) -> None:
    assert list(file_hashes(OPTIONS)) == [
        *("tape.jsonl", "model", "ctr.json", "one.json", "two.json", "adapter", "own.json"),
    ]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("ctr.json", "ctr.json"),
        ("two.json", "two.json"),
        ("tape.jsonl", "tape.jsonl"),
        ("own.json", "own.json"),
        ("model/config.json", "model"),
        ("adapter/adapter_model.safetensors", "adapter"),
        ("adapter/state.pt", None),
        ("adapter/manifest.json", None),
        ("gsp", None),
    ],
)
def test_another_content_is_refused(here: Path, file: str, name: str | None) -> None:
    before = file_hashes(OPTIONS)
    (here / file).write_text("edited", encoding="utf-8")
    now = file_hashes(OPTIONS)
    manifest = {"data_sha256": {}, "files_sha256": before}
    if name is None:
        check_inputs(here, manifest, {}, now)
        return
    with pytest.raises(InputError) as caught:
        check_inputs(here, manifest, {}, now)
    assert str(caught.value) == (
        f"cannot resume {here} on other data: {name} was {before[name][:12]}, now {now[name][:12]}"
    )
    check_inputs(here, {"data_sha256": {}}, {}, now)  # of before files were hashed


def test_a_file_that_is_gone_is_named(here: Path) -> None:
    before = file_hashes(OPTIONS)
    (here / "ctr.json").unlink()
    assert differing_files(file_hashes(OPTIONS), before) == [
        f"ctr.json was {before['ctr.json'][:12]}, now not there",
    ]


def test_of_a_large_file_pieces_are_hashed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the size, of the first and of the last byte is seen."""
    monkeypatch.setattr(named_files, "_WHOLE", 100)
    monkeypatch.setattr(named_files, "_PIECE", 4)
    content = bytes(range(200)) * 20
    hashes = set()
    for changed in (content, content + b"x", b"x" + content[1:], content[:-1] + b"x"):
        (here / "ctr.json").write_bytes(changed)
        hashes.add(file_hashes(OPTIONS)["ctr.json"])
    assert len(hashes) == 4


def test_a_text_that_is_no_path_is_left_alone(here: Path) -> None:
    options = BenchOptions(mechanisms=("gsp",), llm="scripted", settings=(f"gsp.slots={'x' * 5000}", "gsp.slots="))
    assert file_hashes(options) == {}
