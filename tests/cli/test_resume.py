"""`simenv bench --resume`: how it goes on, and what it refuses; tests/attacks has kill -9."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from simenv.cli import main as cli
from simenv.market.catalog import load_catalog
from simenv.runs.bench import BenchOptions
from simenv.runs.folder import RunFolder, records_hash
from simenv.runs.manifest import manifest_bytes, read_manifest
from simenv.testing import ADS, PERSONAS
from simenv.users.personas import load_personas

Fails = Callable[..., str]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Options that name a small catalog and small personas."""
    for name, records in (("ads", ADS), ("personas", PERSONAS)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{r.model_dump_json()}\n" for r in records), encoding="utf-8")
    return ["--catalog", str(tmp_path / "ads.jsonl"), "--personas", str(tmp_path / "personas.jsonl")]


def bench(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", *arguments])
    assert stopped.value.code == 0


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Runs a benchmark that must fail and gives its one line."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            cli.main(["bench", *arguments])
        out, err = capsys.readouterr()
        assert (caught.value.code, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith("simenv: ")
        return line.removeprefix("simenv: ")

    return run


@pytest.mark.weights
def test_a_recording_that_was_cut_off_is_gone_on_with(tmp_path: Path, files: list[str]) -> None:
    cassette, run = tmp_path / "cassette.jsonl", tmp_path / "run"
    options = ["--mechanisms", "gsp", "--n", "6", "--horizon", "3", "--chunk", "3", "--llm", "scripted"]
    bench("--out", str(run), "--record", str(cassette), *options, *files)
    whole = [file.read_bytes() for file in (run / "transitions.jsonl", cassette)]
    cassette.write_bytes(whole[1][: int(0.8 * len(whole[1]))])
    (run / "transitions.jsonl").write_bytes(whole[0][: len(whole[0]) // 3])
    bench("--out", str(run), "--resume")
    again = [file.read_bytes() for file in (run / "transitions.jsonl", cassette)]
    assert again[0] == whole[0]
    assert sorted(again[1].splitlines()) == sorted(whole[1].splitlines()), "nothing twice, nothing missing"


@pytest.fixture
def begun(tmp_path: Path, files: list[str]) -> list[str]:
    """`--out` and `--resume` for a run that was cut off before its first chunk."""
    options = BenchOptions(mechanisms=("organic",), llm="scripted", n=6, horizon=3, catalog=files[1], personas=files[3])
    hashes = {
        "catalog": records_hash(load_catalog(options.catalog)),
        "personas": records_hash(load_personas(options.personas)),
    }
    RunFolder(tmp_path / "run").begin(options.model_dump(), {}, hashes)
    return ["--out", str(tmp_path / "run"), "--resume"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--seed", "1"], "seed was 0, now 1"),
        (["--mechanisms", "gsp"], "mechanisms was ['organic'], now ['gsp']"),
        (["--chunk", "2"], "chunk was 16, now 2"),
        (["--bidder", "learning"], "bidder was 'truthful', now 'learning'"),
        (["--set", "organic.x=1"], "settings was [], now ['organic.x=1']"),
        (["--n", "7", "--seed", "1"], "seed was 0, now 1"),
        (["--n", "6", "--seed", "1"], "seed was 0, now 1"),
    ],
)
def test_another_option_is_refused(begun: list[str], fails: Fails, option: list[str], said: str) -> None:
    before = {path: path.read_bytes() for path in Path(begun[1]).iterdir()}
    assert fails(*begun, *option) == f"cannot resume with other options: {said}"
    assert {path: path.read_bytes() for path in Path(begun[1]).iterdir()} == before


def test_fewer_auctions_are_refused(begun: list[str], fails: Fails) -> None:
    assert fails(*begun, "--n", "5") == "cannot resume with fewer auctions: n was 6, now 5"


@pytest.mark.parametrize("option", [["--n", "6"], ["--concurrency", "2", "--timeout", "5"], []])
@pytest.mark.weights
def test_the_same_option_and_how_a_model_is_reached_are_not(begun: list[str], option: list[str]) -> None:
    bench(*begun, *option)
    log = Path(begun[1]) / "transitions.jsonl"
    assert log.read_bytes().count(b"\n") == 6


def test_another_version_is_refused(begun: list[str], fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    now = version("simenv-ads")
    monkeypatch.setattr("simenv.runs.manifest.version", lambda package: "9.9.9")
    assert (
        fails(*begun) == f"{begun[1]} was begun by simenv {now}, this is simenv 9.9.9: only the same one can resume it"
    )


@pytest.mark.weights
def test_another_world_is_refused(begun: list[str], fails: Fails) -> None:
    world = {"judge": "click-model-v0", "encoder": "all-MiniLM-L6-v2"}
    (Path(begun[1]) / "manifest.json").write_bytes(manifest_bytes(read_manifest(begun[1]) | {"world": world}))
    said = "cannot resume in another world: judge was 'click-model-v0', now 'click-model-v1'"
    assert fails(*begun) == said
    assert not (Path(begun[1]) / "transitions.jsonl").exists()


@pytest.mark.weights
def test_another_runtime_of_the_encoder_is_refused(begun: list[str], fails: Fails) -> None:
    world = {"encoder_runtime": "onnxruntime 1.0.0"}
    (Path(begun[1]) / "manifest.json").write_bytes(manifest_bytes(read_manifest(begun[1]) | {"world": world}))
    now = f"onnxruntime {version('onnxruntime')}"
    said = f"cannot resume in another world: encoder_runtime was 'onnxruntime 1.0.0', now '{now}'"
    assert fails(*begun) == said


@pytest.mark.parametrize("name", ["ads", "personas"])
def test_other_data_is_refused(begun: list[str], tmp_path: Path, fails: Fails, name: str) -> None:
    file = tmp_path / f"{name}.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace("coffee", "tea"), encoding="utf-8")
    what = {"ads": "catalog"}.get(name, name)
    said = rf"cannot resume {re.escape(begun[1])} on other data: {what} was [0-9a-f]{{12}}, now [0-9a-f]{{12}}"
    assert re.fullmatch(said, fails(*begun))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, fails: Fails) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        assert fails("--out", str(path), "--resume") == f"{path}: no manifest.json: not the folder of a run"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not readable: Expecting property name"),
        ("[]", "no options or no world: not the manifest of a run"),
        ('{"options": {}, "note": "\\ud800"}', "not readable: 'utf-8' codec can't encode"),
        ('{"options": {}, "world": 7}', "no options or no world: not the manifest of a run"),
        ('{"options": {"n": "many", "mechanisms": []}}', "its manifest has no options that can be run"),
        ('{"options": {}}', "its manifest has no options that can be run"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, fails: Fails, content: str, said: str) -> None:
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
    assert said in fails("--out", str(tmp_path), "--resume")
