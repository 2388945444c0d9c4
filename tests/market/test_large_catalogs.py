"""Catalogs on disk and their index, with a bound of 20 ads instead of 50,000."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from simenv.encoder import Vectors
from simenv.errors import DataFileError, DataFileWarning, InputError
from simenv.market import ad_file, catalog, index, retrieval
from simenv.market.ad_file import AdFile
from simenv.market.catalog import load_catalog
from simenv.market.index import VectorIndex, open_or_build
from simenv.market.retrieval import Retriever
from simenv.runs.folder import records_hash
from simenv.testing import FakeEncoder

WORDS = ("boots", "hotel", "loan", "knife", "pass", "coffee", "tent")


@pytest.fixture(autouse=True)
def small_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIMENV_CACHE", str(tmp_path / "cache"))
    for module in (ad_file, catalog, retrieval):
        monkeypatch.setattr(module, "LARGE", 20)


def rows(n: int) -> list[dict[str, str]]:
    return [
        {"id": f"a{i}", "title": f"{WORDS[i % 7]} {WORDS[i % 5]} {i}", "body": f"Good {WORDS[i % 3]}."}
        for i in range(n)
    ]


def write(file: Path, ads: Sequence[dict[str, str]]) -> Path:
    file.write_text("".join(f"{json.dumps(ad)}\n" for ad in ads), encoding="utf-8")
    return file


def test_a_large_catalog_is_the_same_catalog_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "ads.jsonl", rows(50))
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "LARGE", 100)
        small = load_catalog(file)
    large = load_catalog(file)
    assert isinstance(small, tuple)
    assert isinstance(large, AdFile)
    assert len(large) == 50
    assert tuple(large) == large[:] == small
    assert (large[-1], large[3:5]) == (small[-1], small[3:5])
    assert records_hash(large) == records_hash(small)
    with pytest.raises(IndexError, match="ad 50 of 50"):
        large[50]


def test_it_is_read_once_whatever_the_limit_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "ads.jsonl", rows(50))
    monkeypatch.setenv("SIMENV_MAX_BYTES", "1000")  # of the file; lines are shorter
    first = load_catalog(file)
    monkeypatch.setattr(catalog, "known_rows", None)
    assert tuple(load_catalog(file)) == tuple(first)


def test_another_file_and_other_columns_are_another_catalog(tmp_path: Path) -> None:
    ads = [{**ad, "copy": "Other."} for ad in rows(30)]
    file = write(tmp_path / "ads.jsonl", ads)
    for _ in range(2):
        with pytest.warns(DataFileWarning, match="columns that are not read: 'copy'"):
            assert load_catalog(file)[0].body == "Good boots."
    assert load_catalog(file, {"body": "copy"})[0].body == "Other."
    write(file, rows(31))
    assert len(load_catalog(file)) == 31


def test_a_damaged_copy_is_written_again(tmp_path: Path) -> None:
    file = write(tmp_path / "ads.jsonl", rows(30))
    whole = tuple(load_catalog(file))
    (copy,) = (tmp_path / "cache").rglob("ads.jsonl")
    copy.write_bytes(copy.read_bytes().replace(b"boots", b"boats"))
    assert tuple(load_catalog(file)) == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "a3"}, "ads.jsonl:46: duplicate ad id 'a3', first used at {}ads.jsonl:4"),
        ({"title": "boots boots 0\u2066"}, "ads.jsonl:46: title .* contains"),
        ({"title": "Boots  boots 0"}, None),
        ({"title": ""}, "ads.jsonl:46: column 'title' is empty"),
        ({"id": "a b"}, "ads.jsonl:46: id: string should match"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, change: dict[str, str], message: str | None) -> None:
    ads = rows(50)
    ads[45] |= change
    file = write(tmp_path / "ads.jsonl", ads)
    if message is None:
        assert load_catalog(file)[45].title == change["title"]
        return
    with pytest.raises(DataFileError, match=message.format(f"{tmp_path}/")):
        load_catalog(file)
    write(file, rows(50))
    assert len(load_catalog(file)) == 50, "what was refused leaves nothing behind"


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "ads.jsonl", rows(50))
    file.write_bytes(file.read_bytes() + b'{"title": "caf\xe9"}\n')
    monkeypatch.setenv("SIMENV_MAX_BYTES", "1000")
    with pytest.raises(DataFileError, match=r"ads.jsonl:51: not UTF-8 text \(byte 14 of the line\)"):
        load_catalog(file)


def unit(n: int, dimension: int = 16) -> Vectors:
    vectors = np.random.default_rng(0).standard_normal((n, dimension)).astype(np.float32)
    found: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def build(file: Path, vectors: Vectors) -> VectorIndex:
    return open_or_build(file, len(vectors), lambda start, stop: vectors[start:stop], lambda done, total: None)


def test_the_index_finds_the_nearest_and_is_the_same_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_PROBED", 1.0)  # all cells: what is found is then exact
    vectors = unit(1000)
    found = build(tmp_path / "a.faiss", vectors).search(vectors[7], 5)
    scores = vectors @ vectors[7]
    assert found.places.tolist() == np.argsort(-scores)[:5].tolist()
    assert found.scores == pytest.approx(scores[found.places], abs=1e-3)
    import faiss  # type: ignore[import-untyped, unused-ignore]

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        build(tmp_path / "b.faiss", vectors)
    finally:
        faiss.omp_set_num_threads(before)
    assert (tmp_path / "a.faiss").read_bytes() == (tmp_path / "b.faiss").read_bytes()


def test_all_vectors_can_be_asked_for(tmp_path: Path) -> None:
    assert sorted(build(tmp_path / "a.faiss", unit(300)).search(unit(1)[0], 300).places.tolist()) == list(range(300))


def test_a_damaged_index_is_built_again(tmp_path: Path) -> None:
    vectors = unit(300)
    build(tmp_path / "a.faiss", vectors)
    whole = (tmp_path / "a.faiss").read_bytes()
    (tmp_path / "a.faiss").write_bytes(whole[:-9] + b"123456789")
    build(tmp_path / "a.faiss", vectors)
    assert (tmp_path / "a.faiss").read_bytes() == whole


def test_encoding_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_PART", 64)
    vectors, asked = unit(300), []

    def encode(start: int, stop: int) -> Vectors:
        asked.append(start)
        if start == 128 and asked.count(start) == 1:
            raise KeyboardInterrupt
        return vectors[start:stop]

    for _ in range(2):
        try:
            open_or_build(tmp_path / "a.faiss", 300, encode, lambda done, total: None)
        except KeyboardInterrupt:
            continue
    assert asked == [0, 64, 128, 0, 128, 192, 256], "the first part tells the dimension"
    build(tmp_path / "b.faiss", vectors)
    assert (tmp_path / "a.faiss").read_bytes() == (tmp_path / "b.faiss").read_bytes()
    assert hashlib.sha256((tmp_path / "a.faiss").read_bytes()).hexdigest() in (tmp_path / "a.json").read_text()


def test_retrieval_from_a_large_catalog(tmp_path: Path) -> None:
    ads = load_catalog(write(tmp_path / "ads.jsonl", rows(200)))
    encoder = FakeEncoder()
    found = Retriever(ads, encoder, 3).top(ads[11].text)
    assert found[0] == (ads[11], pytest.approx(1, abs=1e-3))
    in_memory = Retriever(tuple(ads), encoder, 3).top(ads[11].text)
    assert found == in_memory


def test_without_faiss_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(InputError, match="large catalogs need the package faiss-cpu") as raised:
        build(tmp_path / "a.faiss", unit(10))
    assert "simenv-ads[catalogs]" in (raised.value.hint or "")
