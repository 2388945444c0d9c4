"""A run's folder: nothing is overwritten, nothing is lost, and what is read back is what was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.errors import DataFileError, InputError
from simenv.llm import ScriptedLLM
from simenv.records import Ad, Transition
from simenv.runs.folder import RunFolder, read_transitions, records_hash
from simenv.runs.manifest import manifest_bytes, read_manifest
from simenv.runs.rollout import Finished, rollout
from simenv.testing import ADS, small_world


def transitions(n: int = 4) -> list[Transition]:
    chunks: list[Finished] = []
    llm = ScriptedLLM(lambda request: "Ein Schuh für draußen, bitte.")  # not ASCII: a cut may split a letter
    mechanisms = {"gsp": make_mechanism("gsp", context={"llm": llm})}

    async def go() -> None:
        await rollout(small_world(), mechanisms, n=n, seed=0, on_chunk=chunks.append)

    run_sync(go)
    return chunks[0].transitions


def written(folder: Path, rows: Iterable[Transition]) -> Path:
    run = RunFolder(folder)
    run.begin({}, {}, {})
    run.append(Finished(list(rows), {"gsp": 0.5}))
    return folder / "transitions.jsonl"


def bare(tmp_path: Path, rows: Iterable[Transition]) -> Path:
    """A log that lies in no run's folder: nothing but its lines can be checked."""
    return written(tmp_path / "run", rows).rename(tmp_path / "log.jsonl")


def manifest(folder: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return loaded


def test_transitions_read_back_equal_and_in_order(tmp_path: Path) -> None:
    rows = transitions()
    written(tmp_path / "run", rows)
    assert list(read_transitions(tmp_path / "run")) == rows
    assert list(read_transitions(tmp_path / "run" / "transitions.jsonl")) == rows
    assert any(row.outcome.placements for row in rows)


def test_chunks_are_appended_and_timings_kept_apart(tmp_path: Path) -> None:
    rows = transitions()
    run = RunFolder(tmp_path / "run")
    run.begin({}, {}, {})
    for start, seconds in ((0, 0.25), (2, 1.5)):
        run.append(Finished(rows[start : start + 2], {"gsp": seconds}))
    assert list(read_transitions(tmp_path / "run")) == rows
    timings = [json.loads(line) for line in (tmp_path / "run" / "timings.jsonl").read_bytes().splitlines()]
    checks = [row.pop("check") for row in timings]
    assert timings == [
        {"first_index": 0, "mechanism": "gsp", "seconds": 0.25},
        {"first_index": 2, "mechanism": "gsp", "seconds": 1.5},
    ]
    assert checks == [hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16] for row in timings]


@pytest.mark.parametrize("name", ["sessions", "chunks", "timings"])
def test_no_changed_byte_of_a_row_is_believed(tmp_path: Path, name: str) -> None:
    """Each byte in turn; a check of 16 digits lets a changed row pass with probability 2^-64."""
    rows, world = transitions(4), small_world()
    run = RunFolder(tmp_path / "run")
    run.begin({}, {}, {})
    for number in range(2):
        run.save_sessions({number: run_sync(world.session, 0, number)})
        run.append(Finished(rows[2 * number : 2 * number + 2], {"gsp": 0.5}))
    file = tmp_path / "run" / f"{name}.jsonl"
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    kept = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    for place in range(first, len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        _, done, begun = RunFolder.reopen(tmp_path / "run")
        assert file.read_bytes() == whole[:first]
        assert len(begun) == (1 if name == "sessions" else 2)
        assert len(done) == (2 if name == "chunks" else 4)
        for path, content in kept.items():
            path.write_bytes(content)


@pytest.mark.parametrize("row", [{}, {"number": 0}, {"end": "x", "sha256": 3}, {"first_index": None}])
def test_a_foreign_row_is_not_believed(tmp_path: Path, row: dict[str, object]) -> None:
    written(tmp_path / "run", transitions(2))
    for name in ("sessions", "chunks", "timings"):
        with (tmp_path / "run" / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    _, done, begun = RunFolder.reopen(tmp_path / "run")
    assert (len(done), begun) == (2, {})
    assert (tmp_path / "run" / "sessions.jsonl").read_bytes() == b""


def two_chunks(folder: Path) -> Path:
    rows, run = transitions(4), RunFolder(folder)
    run.begin({}, {}, {})
    for start in (0, 2):
        run.append(Finished(rows[start : start + 2], {"gsp": 0.5}))
    return folder / "transitions.jsonl"


def test_what_a_repair_takes_away_is_kept_beside_and_said(tmp_path: Path) -> None:
    log = two_chunks(tmp_path / "run")
    whole = log.read_bytes()
    sound = len(b"".join(whole.splitlines(keepends=True)[:2]))
    assert RunFolder.reopen(tmp_path / "run")[0].repaired is None
    for name, damage in (("", whole[sound:].replace(b"bid", b"bit", 1)), (".2", b'{"torn'), (".3", bytes(8))):
        log.write_bytes(whole[:sound] + damage)
        folder, done, _ = RunFolder.reopen(tmp_path / "run")
        answers = {"": 2, ".2": 1, ".3": 0}[name]
        assert folder.repaired == (
            f"{log} holds no finished chunk after byte {sound}: what follows is kept in "
            f"transitions.jsonl.damaged{name}, {answers} answers are run again"
        )
        assert (tmp_path / "run" / f"transitions.jsonl.damaged{name}").read_bytes() == damage
        assert (log.read_bytes(), len(done)) == (whole[:sound], 2)


def test_a_log_that_lost_its_end_is_said(tmp_path: Path) -> None:
    log = two_chunks(tmp_path / "run")
    sound = len(b"".join(log.read_bytes().splitlines(keepends=True)[:2]))
    log.write_bytes(log.read_bytes()[:sound])
    assert RunFolder.reopen(tmp_path / "run")[0].repaired == (
        f"{log} has nothing after byte {sound}: auctions 2 to 3, which were finished, are run again"
    )
    log.unlink()
    assert RunFolder.reopen(tmp_path / "run")[0].repaired == (
        f"{log} has nothing after byte 0: auctions 0 to 1, which were finished, are run again"
    )
    assert not list((tmp_path / "run").glob("*.damaged*"))


@pytest.mark.parametrize("packages", [{"simenv-ads": "0.0.7"}, {}, None])
def test_a_run_of_another_version_is_not_resumed_and_left_alone(tmp_path: Path, packages: object) -> None:
    log = written(tmp_path / "run", transitions(2))
    with log.open("a") as file:
        file.write("torn")
    (tmp_path / "run" / "manifest.json").write_bytes(
        manifest_bytes(read_manifest(tmp_path / "run") | {"packages": packages})
    )
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(InputError) as caught:
        RunFolder.reopen(tmp_path / "run")
    old, new = "0.0.7" if packages else None, version("simenv-ads")
    said = f"run was begun by simenv {old}, this is simenv {new}: only the same one can resume it"
    assert str(caught.value) == str(tmp_path / said)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_folder_that_holds_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("mine", encoding="utf-8")
    with pytest.raises(DataFileError, match="is not empty: give a new folder, or resume its run") as caught:
        RunFolder(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert [(p.name, p.read_text(encoding="utf-8")) for p in tmp_path.iterdir()] == [("manifest.json", "mine")]


def test_a_folder_that_was_filled_meanwhile_is_refused(tmp_path: Path) -> None:
    """Between the check and the first row a model may load for half a minute."""
    run = RunFolder(tmp_path / "run")
    written(tmp_path / "run", transitions(1))
    before = manifest(tmp_path / "run")
    with pytest.raises(DataFileError, match="is not empty"):
        run.begin({"n": 8}, {}, {})
    assert manifest(tmp_path / "run") == before


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(DataFileError, match="file is a file: give a new folder"):
        RunFolder(tmp_path / "file")
    with pytest.raises(DataFileError, match=r"cannot make folder .*inside: Not a directory"):
        RunFolder(tmp_path / "file" / "inside").begin({}, {}, {})
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_new_folder_is_made_with_its_parents_and_only_when_the_run_begins(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "first")
    assert not (tmp_path / "runs").exists()
    run.begin({}, {}, {})
    assert (tmp_path / "runs" / "first" / "manifest.json").is_file()


def test_the_manifest_is_there_before_anything_runs_and_complete_at_the_end(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin({"n": 4, "seed": 7}, {}, {"catalog": records_hash(ADS)})
    begun = manifest(tmp_path / "run")
    assert not (tmp_path / "run" / "transitions.jsonl").exists()
    assert begun["finished"] is None
    assert begun["started"] is not None
    assert begun["options"] == {"n": 4, "seed": 7}
    assert begun["data_sha256"] == {"catalog": records_hash(ADS)}
    assert isinstance(begun["packages"], dict)
    assert begun["packages"]["pydantic"]
    run.finish(retries={"scripted": 0})
    ended = manifest(tmp_path / "run")
    assert isinstance(ended["finished"], str)
    assert ended["finished"] >= str(begun["started"])
    assert ended == {**begun, "finished": ended["finished"], "retries": {"scripted": 0}, "check": ended["check"]}


@pytest.mark.parametrize("changes", [{"options": {"n": 4, "seed": 8}}, {"check": None}, {"format": 5}])
def test_a_manifest_that_was_changed_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    RunFolder(tmp_path / "run").begin({"n": 4, "seed": 7}, {}, {})
    assert read_manifest(tmp_path / "run")["options"]["seed"] == 7
    changed = json.dumps(manifest(tmp_path / "run") | changes)
    (tmp_path / "run" / "manifest.json").write_text(changed, encoding="utf-8")
    with pytest.raises(DataFileError, match=r"manifest\.json: not as it was written: its checksum is"):
        read_manifest(tmp_path / "run")


def test_nothing_is_left_half_written(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").begin({"n": 4, "seed": 7}, {}, {})
    assert not list((tmp_path / "run").glob("*.part"))


def test_a_line_torn_at_any_byte_is_an_error_that_names_it(tmp_path: Path) -> None:
    rows = transitions(2)
    file = bare(tmp_path, rows)
    first, second = file.read_bytes().splitlines(keepends=True)
    assert "ß".encode() in second
    for end in range(1, len(second) - 1):
        file.write_bytes(first + second[:end])
        reading = read_transitions(file)
        assert next(reading) == rows[0]
        with pytest.raises(DataFileError) as caught:
            next(reading)
        assert str(caught.value).startswith(f"{file}:2: not a transition: ")
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("line", [b"", b"null", b"[]", b'{"index": 0}', b"# a comment", b"\xff\xfe"])
def test_a_foreign_line_is_an_error_that_names_it(tmp_path: Path, line: bytes) -> None:
    file = bare(tmp_path, transitions(2))
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + second + line + b"\n" + second)
    with pytest.raises(DataFileError) as caught:
        list(read_transitions(file))
    assert str(caught.value).startswith(f"{file}:3: not a transition: ")


def test_an_unknown_field_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = bare(tmp_path, transitions(1))
    row = json.loads(file.read_bytes())
    row["auction"]["valu"] = 3
    file.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(DataFileError, match=r"log\.jsonl:1: not a transition: auction valu Extra inputs"):
        list(read_transitions(file))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            {"outcome": {"placements": [{"ad_id": "other", "price": 1, "span": [0, 1]}]}},
            "it shows 'other', which is no",
        ),
        ({"feedback": {"clicks": []}}, "it shows ['ad-"),
        ({"feedback": {"clicks": [{"ad_id": "ad\n1", "clicked": True}]}}, r"its clicks are of ['ad\n1']"),
        ({"values": {"ad-1": 3.0}}, "its values of ['ad-1']"),
        ({"auction": {"bids": []}}, "which is no candidate"),
    ],
)
def test_a_transition_that_contradicts_itself_is_an_error(tmp_path: Path, part: dict[str, Any], said: str) -> None:
    file = bare(tmp_path, transitions(1))
    row = json.loads(file.read_bytes())
    assert row["outcome"]["placements"]
    for name, fields in part.items():
        row[name] = fields if name == "values" else row[name] | fields
    file.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(DataFileError) as caught:
        list(read_transitions(file))
    assert str(caught.value).startswith(f"{file}:1: not a transition: ")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["run", "nowhere", "nowhere/transitions.jsonl"])
def test_a_folder_without_a_run_says_so(tmp_path: Path, path: str) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(DataFileError) as caught:
        list(read_transitions(tmp_path / path))
    assert str(caught.value) == f"{tmp_path / path}: no transitions.jsonl: not the folder of a run"


def test_the_hash_is_of_content_and_order() -> None:
    same = [Ad.model_validate_json(ad.model_dump_json()) for ad in ADS]
    assert records_hash(same) == records_hash(ADS)
    assert records_hash(ADS[::-1]) != records_hash(ADS)
    assert records_hash([ADS[0].model_copy(update={"body": "Other."}), *ADS[1:]]) != records_hash(ADS)
