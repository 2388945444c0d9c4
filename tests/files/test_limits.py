"""No file hangs a reader or fills the memory: only regular files are read, and sizes have limits."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from simenv.auditing.learned_bidders import LearnedBidders
from simenv.cli.train import _read as read_training_options
from simenv.ctr.learned import LearnedCTR
from simenv.errors import DataFileError, InputError
from simenv.files.limits import limits, read_lines
from simenv.files.rows import read_rows
from simenv.llm.cassette import Cassette
from simenv.market.catalog import load_catalog
from simenv.runs.folder import read_manifest, read_transitions
from simenv.users.personas import load_personas
from simenv.users.queries import load_queries

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "catalog": ("a.csv", load_catalog),
    "catalog.gz": ("a.csv.gz", load_catalog),
    "parquet": ("a.parquet", load_catalog),
    "personas": ("a.jsonl", load_personas),
    "queries": ("a.txt", load_queries),
    "replay": ("a.jsonl", lambda path: Cassette(path, "replay")),
    "cache": ("a.jsonl", lambda path: Cassette(path, "cache")),
    "transitions": ("transitions.jsonl", lambda path: list(read_transitions(path.parent))),
    "manifest": ("manifest.json", lambda path: read_manifest(path.parent)),
    "ctr model": ("a.json", LearnedCTR.load),
    "audit": ("audit.json", lambda path: LearnedBidders.read(str(path))),
    "training options": ("a.toml", read_training_options),
}


@pytest.mark.timeout(20)  # a reader that opens a pipe waits forever
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, reader: str, kind: str) -> None:
    name, read = READERS[reader]
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataFileError, match="is a pipe, socket or device: copy its content into a file first"):
        read(path)


@pytest.mark.parametrize("reader", READERS)
def test_a_file_over_the_limit_is_refused(tmp_path: Path, reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMENV_MAX_BYTES", "1000")
    name, read = READERS[reader]
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"title\n" + b"x" * 2000) if name.endswith(".gz") else b"x" * 2000)
    with pytest.raises(DataFileError, match=r"more than 1,000 bytes.*environment variable SIMENV_MAX_BYTES"):
        read(path)


def test_a_small_file_that_unfolds_to_a_large_one_takes_little_memory(tmp_path: Path) -> None:
    """The file that an audit used: 0.2 MB, 200 MB after unpacking."""
    path = tmp_path / "ads.csv.gz"
    member = gzip.compress(b"title\n" + b"a\n" * 10_000_000)  # twenty megabytes
    path.write_bytes(member * 10)
    assert path.stat().st_size < 250_000
    tracemalloc.start()
    try:
        with pytest.raises(DataFileError, match=r"more than 100,000,000 bytes after unpacking"):
            load_catalog(path)
        assert tracemalloc.get_traced_memory()[1] < 150_000_000
    finally:
        tracemalloc.stop()


def test_several_members_and_padding_are_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "q.txt.gz"
    path.write_bytes(gzip.compress(b"first\n") + b"\0" * 9 + gzip.compress(b"second\n") + b"\0")
    assert [question.text for question in load_queries(path)] == ["first", "second"]


def parquet(path: Path, table: pyarrow.Table) -> Path:
    pyarrow.parquet.write_table(table, path)
    return path


def test_rows_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMENV_MAX_ROWS", "2")
    csv = tmp_path / "a.csv"
    csv.write_text("title\na\nb\n", encoding="utf-8")
    assert len(load_catalog(csv)) == 2
    csv.write_text("title\na\nb\nc\n", encoding="utf-8")
    three = parquet(tmp_path / "a.parquet", pyarrow.table({"title": ["a", "b", "c"]}))
    for path in (csv, three):
        with pytest.raises(DataFileError, match=r"(more than 2|3) rows.*SIMENV_MAX_ROWS"):
            load_catalog(path)


def test_a_parquet_file_is_refused_by_its_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million equal rows are some kilobytes."""
    path = parquet(tmp_path / "a.parquet", pyarrow.table({"title": pyarrow.repeat("Boots", 1_000_001)}))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("was decoded"))
    with pytest.raises(DataFileError, match=r"1,000,001 rows, more than 1,000,000: .*SIMENV_MAX_ROWS"):
        load_catalog(path)


def test_a_parquet_text_that_unfolds_into_every_row_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary has the text once: the size in the metadata is small."""
    monkeypatch.setenv("SIMENV_MAX_BYTES", "1000000")
    path = parquet(tmp_path / "a.parquet", pyarrow.table({"title": pyarrow.repeat("x" * 50_000, 300)}))
    assert pyarrow.parquet.read_metadata(path).row_group(0).total_byte_size < 200_000
    with pytest.raises(DataFileError, match=r"more than 1,000,000 bytes after unpacking"):
        read_rows(path)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.parquet"])
def test_a_field_is_limited(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMENV_MAX_FIELD", "50")
    path = tmp_path / name
    for length, allowed in ((30, True), (51, False)):
        text = "x" * length
        content = {"a.txt": f"short\n{text}", "a.csv": f"text\nshort\n{text}", "a.jsonl": f'{{"text": "{text}"}}'}
        if name == "a.parquet":
            parquet(path, pyarrow.table({"text": ["short", text]}))
        else:
            path.write_text(content[name], encoding="utf-8")
        if allowed:
            assert load_queries(path)[-1].text == text
        else:
            with pytest.raises(DataFileError, match=r"a\.\w+:\d: a (cell|line) of more than 50 char.*SIMENV_MAX_FIELD"):
                load_queries(path)


def test_a_long_cell_is_read_where_the_limit_allows_it(tmp_path: Path) -> None:
    """The csv module by itself stops at 131,072 characters."""
    path = tmp_path / "a.csv"
    path.write_text(f"title,body\nBoots,{'x' * 200_000}\n", encoding="utf-8")
    assert len(load_catalog(path)[0].body) == 200_000


def test_a_log_may_be_longer_than_a_line_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMENV_MAX_BYTES", "10")
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"123456789\n" * 100 + b"12345678901")
    lines = read_lines(path)
    assert [next(lines) for _ in range(100)] == [b"123456789\n"] * 100
    with pytest.raises(DataFileError, match=r"a\.jsonl:101: a line of more than 10 bytes"):
        next(lines)


@pytest.mark.parametrize("value", ["", "0", "-1", "1e6", "many", "9" * 30, "²"])
def test_a_limit_is_a_whole_number(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMENV_MAX_ROWS", value)
    with pytest.raises(InputError, match="SIMENV_MAX_ROWS must be a whole number of at least 1, got"):
        limits()
