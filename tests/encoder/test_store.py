"""Vectors on disk: a store saves time or does nothing; it never breaks a run and never gives another vector."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from simenv.encoder import MiniLM, Vectors, minilm
from simenv.encoder.store import VectorStore

WIDTH = 4


def store_at(file: Path, version: str = "model 1", max_rows: int = 100) -> VectorStore:
    return VectorStore(file, version, WIDTH, max_rows=max_rows, batch=10)


def vector_of(text: str) -> Vectors:
    return np.arange(WIDTH, dtype=np.float32) + np.float32(len(text)) / 3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of a store that holds "a" and "bb"."""
    store = store_at(tmp_path / "new folder" / "vectors.sqlite")
    store.put({text: vector_of(text) for text in ("a", "bb")})
    store.flush()
    return tmp_path / "new folder" / "vectors.sqlite"


def holds(store: VectorStore, *texts: str) -> bool:
    found = store.get([*texts, "never written"])
    assert all(np.array_equal(vector, vector_of(text)) for text, vector in found.items())
    return set(found) == set(texts)


def test_another_process_finds_what_was_written(file: Path) -> None:
    store = store_at(file)
    assert holds(store, "a", "bb")
    assert store.get(["a"])["a"].dtype == np.float32
    assert store.get([]) == {}


def test_another_version_sees_nothing_and_takes_nothing_away(file: Path) -> None:
    other = store_at(file, "model 2")
    assert other.get(["a"]) == {}
    other.put({"a": vector_of("another vector")})
    other.flush()
    assert holds(store_at(file), "a", "bb")


def test_new_vectors_are_written_in_batches(tmp_path: Path) -> None:
    store = store_at(tmp_path / "vectors.sqlite")
    store.put({str(i): vector_of(str(i)) for i in range(9)})
    assert not (tmp_path / "vectors.sqlite").exists()
    store.put({"text": vector_of("text")})
    assert holds(store_at(tmp_path / "vectors.sqlite"), *map(str, range(9)), "text")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"no database" * 1000,
        lambda data: data[: len(data) // 2],
        lambda data: data[:100] + os.urandom(len(data) - 100),
        lambda data: data.replace(vector_of("a").tobytes(), vector_of("aaaa").tobytes()),
    ],
)
def test_a_damaged_file_gives_no_vector_and_does_not_last(file: Path, damage: object) -> None:
    assert callable(damage)
    before = file.read_bytes()
    file.write_bytes(damage(before))
    assert file.read_bytes() != before
    store = store_at(file)
    assert "a" not in store.get(["a"])
    for _ in range(2):  # the first process may only remove the file
        store = store_at(file)
        store.get(["a"])
        store.put({"a": vector_of("a")})
        if store._paused_until < float("inf"):
            store._paused_until = 0.0  # as if a second had passed
        store.flush()
    assert "a" in store_at(file).get(["a"])


def test_a_row_with_other_bits_is_not_read(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE vectors SET vector = zeroblob(length(vector))")
    connection.close()
    assert store_at(file).get(["a", "bb"]) == {}


def test_a_file_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = store_at(tmp_path / "file" / "vectors.sqlite")
    store.put({str(i): vector_of(str(i)) for i in range(50)})
    store.flush()
    assert store.get(["1"]) == {}


def test_a_full_disk_keeps_what_was_there(file: Path) -> None:
    store = store_at(file)
    store.get(["a"])
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 4")  # SQLite then says that the disk is full
    store.put({str(i): vector_of(str(i)) for i in range(2000)})
    store.flush()
    assert holds(store_at(file), "a", "bb")
    assert len(store._pending) == 2000, "kept for a later attempt"
    store._paused_until = 0.0
    store.put({str(i): vector_of(str(i)) for i in range(5000)})
    assert store._pending == {}, "but not without end"


def test_a_process_that_writes_for_long_delays_nothing(file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    store = store_at(file)
    store.put({"ccc": vector_of("ccc")})
    started = time.perf_counter()
    for _ in range(100):
        store.flush()
        assert store.get(["a"]) == {}
    assert time.perf_counter() - started < 0.5
    other.execute("ROLLBACK")
    other.close()
    store._paused_until = 0.0
    store.flush()
    assert holds(store_at(file), "a", "bb", "ccc")


def test_a_process_that_was_killed_in_a_transaction_leaves_the_file_as_it_was(file: Path) -> None:
    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA cache_size = 1")  # so that pages are written before the end of the transaction
        connection.executemany(
            "INSERT INTO vectors (key, vector) VALUES (?, ?)", [(os.urandom(32), b"0" * 4000) for _ in range(200)]
        )
        os._exit(0)
    os.waitpid(child, 0)
    assert holds(store_at(file), "a", "bb")


def test_a_forked_child_uses_a_connection_of_its_own(file: Path) -> None:
    store = store_at(file)
    assert holds(store, "a", "bb")
    store._lock.acquire()  # as if another thread of the parent were inside
    child = os.fork()
    if child == 0:
        found = store.get(["a"])
        store.put({"ccc": vector_of("ccc")})
        store.flush()
        os._exit(0 if set(found) == {"a"} else 1)
    store._lock.release()
    assert os.waitpid(child, 0)[1] == 0
    assert holds(store, "a", "bb", "ccc")


def test_what_was_never_asked_for_again_goes_first(tmp_path: Path) -> None:
    file = tmp_path / "vectors.sqlite"
    store = store_at(file, max_rows=20)
    store.put({f"old {i}": vector_of(f"old {i}") for i in range(20)})
    later = store_at(file, max_rows=20)
    assert holds(later, "old 3")
    later.put({f"new {i}": vector_of(f"new {i}") for i in range(10)})
    with sqlite3.connect(file) as connection:
        (count,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
    connection.close()
    assert count == 18
    assert holds(store_at(file, max_rows=20), "old 3", "new 0", "new 9")
    assert not holds(store_at(file, max_rows=20), "old 4")


@pytest.mark.weights
def test_the_encoder_reads_known_texts_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMENV_CACHE", str(tmp_path))
    first = MiniLM()
    expected = first.remember(["some text", "another text"])
    monkeypatch.setattr(MiniLM, "_forward", lambda self, texts: pytest.fail(f"encoded {texts}"))
    second = MiniLM()
    assert np.array_equal(second.encode(["another text", "some text"]), expected[::-1])
    monkeypatch.setenv(minilm.STORE, "off")
    assert MiniLM()._store is None
