"""Packed, tab-separated and Parquet files give the same rows as .csv and .jsonl, and errors of the same form.

And the other way: DuckDB reads a run's transitions.jsonl as it is.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simenv.errors import DataFileError
from simenv.files.rows import read_rows
from simenv.files.tables import Row
from simenv.market.catalog import load_catalog
from simenv.runs.folder import RunFolder
from simenv.runs.rollout import Finished
from simenv.runs.summary import summarize
from simenv.testing import ADS, PERSONAS, small_world
from simenv.users.personas import load_personas
from simenv.users.queries import load_queries
from tests.support.loading import complaint
from tests.support.runs import transitions

ROWS = [{"title": "Trail Boots", "body": 'They say "warm", and\ndry.'}, {"title": "Größe 38", "body": "x\ty"}]


def parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def separated(rows: Sequence[dict[str, Any]], separator: str) -> bytes:
    return str(pandas.DataFrame(list(rows)).to_csv(sep=separator, index=False)).encode()


def jsonl(rows: Sequence[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


CONTENT: dict[str, Callable[[Sequence[dict[str, Any]]], bytes]] = {
    "csv": lambda rows: separated(rows, ","),
    "tsv": lambda rows: separated(rows, "\t"),
    "jsonl": jsonl,
    "parquet": parquet,
    "csv.gz": lambda rows: gzip.compress(separated(rows, ","), mtime=0),
    "tsv.gz": lambda rows: gzip.compress(separated(rows, "\t"), mtime=0),
    "jsonl.gz": lambda rows: gzip.compress(jsonl(rows), mtime=0),
}


@pytest.mark.parametrize("ending", [*CONTENT, "TSV", "Parquet", "csv.GZ"])
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"ads.v1.{ending}"
    path.write_bytes(CONTENT[ending.lower()](ROWS))
    assert [row.fields for row in read_rows(path)] == ROWS
    renamed = read_rows(path, columns={"name": "title"})
    assert [row.fields["name"] for row in renamed] == ["Trail Boots", "Größe 38"]
    with pytest.raises(DataFileError, match=r":[12]: no column 'nome'; the columns are title, body"):
        read_rows(path, columns={"name": "nome"})


def test_a_packed_text_file_gives_a_row_a_line(tmp_path: Path) -> None:
    path = tmp_path / "q.txt.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbffirst\r\n\r\nsecond\r\n", mtime=0))
    assert read_rows(path, text_column="text") == [
        Row(f"{path}:1", {"text": "first"}),
        Row(f"{path}:3", {"text": "second"}),
    ]
    assert [question.text for question in load_queries(path)] == ["first", "second"]


@pytest.mark.parametrize("ending", CONTENT)
def test_catalogs_and_queries_load_alike(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"ads.{ending}"
    path.write_bytes(CONTENT[ending]([ad.model_dump() for ad in ADS]))
    assert load_catalog(path) == ADS
    path.write_bytes(CONTENT[ending]([{"text": "Which boots?", "topic": "shoes"}]))
    assert load_queries(path) == [("Which boots?", "shoes")]


def test_personas_keep_lists_and_traits_in_parquet(tmp_path: Path) -> None:
    """Structs that differ from row to row are padded with nulls by Parquet; a padded taste is no taste."""
    path = tmp_path / "personas.parquet"
    pandas.DataFrame([persona.model_dump() for persona in PERSONAS]).to_parquet(path)
    assert load_personas(path) == PERSONAS


@pytest.mark.parametrize(
    ("name", "content", "place", "says"),
    [
        ("a.tsv", b"title\tbody\nBoots\twarm\textra\n", ":2", "more cells than the 2 columns"),
        ("a.tsv", b'title\n"Boots"x\n', ":2", "not readable as TSV"),
        ("a.tsv", b"title\ttitle\nBoots\tShoes\n", ":1", "column 'title' is there twice"),
        ("a.tsv.gz", gzip.compress(b"title\n", mtime=0), "", "no rows"),
        ("a.csv.gz", b"title\nBoots\n", "", "not readable as gzip: incorrect header check"),
        ("a.csv.gz", gzip.compress(b"title\nBoots\n" * 99, mtime=0)[:-9], "", "not readable as gzip: "),
        ("a.csv.gz", gzip.compress(b"title\nBo\xffts\n", mtime=0), "", "not UTF-8 text (byte 8)"),
        ("a.jsonl.gz", gzip.compress(b'{"title": "Boots"}\n[]\n', mtime=0), ":2", "expected a JSON object, got list"),
        ("a.txt.gz", gzip.compress(b"Boots\n", mtime=0), "", "ending '.gz' is not read here, expected .csv or .jsonl"),
        (
            "a.gz",
            gzip.compress(b"title\nBoots\n", mtime=0),
            "",
            "ending '.gz' is not read here, expected .csv or .jsonl",
        ),
        (
            "a.parquet.gz",
            gzip.compress(parquet(ROWS), mtime=0),
            "",
            "ending '.gz' is not read here, expected .csv or .jsonl",
        ),
        ("a.parquet", b"title\nBoots\n", "", "not readable as Parquet: "),
        ("a.parquet", b"", "", "not readable as Parquet: "),
        ("a.parquet", parquet(ROWS)[:-20], "", "not readable as Parquet: "),
        ("a.parquet", parquet([{"title": "Boots"}][:0]), "", "no rows"),
    ],
    # Not the bytes themselves: gzip puts the time into them, and each process that runs tests would see other names.
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_an_error_names_file_row_and_reason(tmp_path: Path, name: str, content: bytes, place: str, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataFileError) as caught:
        read_rows(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}{place}: ")
    assert says in line


def test_a_parquet_row_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "ads.parquet"
    path.write_bytes(parquet([{"title": "Boots", "n": 1}, {"title": None, "n": 2}]))
    with pytest.raises(DataFileError, match=r"ads\.parquet:2: column 'title' is empty"):
        load_catalog(path)
    path.write_bytes(parquet([{"title": b"\xff"}, {"title": b"x"}]))
    with pytest.raises(DataFileError, match=r"ads\.parquet:1: .*got b'\\xff'"):
        load_catalog(path)
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["title", "title"])
    pyarrow.parquet.write_table(twice, path)
    with pytest.raises(DataFileError, match=r"ads\.parquet: column 'title' is there twice"):
        read_rows(path)


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """A good file with some bytes changed, or cut off: random bytes alone get no further than the first four."""
    places = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)

    def damage(changes: list[tuple[int, int]], end: int) -> bytes:
        content = bytearray(whole)
        for place, byte in changes:
            content[place] = byte
        return bytes(content[:end])

    return st.builds(damage, places, st.integers(0, len(whole)) | st.just(len(whole)))


_GOOD = [
    {"id": "p", "info": "A baker.", "title": "Boots", "text": "Which boots?", "queries": ["Which?"], "age": 30},
    {"id": "q", "info": "x", "title": "Shoes", "text": "Which shoes?", "queries": [], "age": None},
]


@pytest.mark.parametrize("load", [load_catalog, load_personas, load_queries])
@pytest.mark.parametrize("ending", ["parquet", "jsonl.gz", "tsv.gz", "tsv"])
@settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::simenv.errors.DataFileWarning")
def test_any_bytes_load_or_raise_one_line_that_names_the_file(
    tmp_path: Path, load: Callable[[Path], Sequence[object]], ending: str, data: st.DataObject
) -> None:
    good = {"parquet": parquet, "jsonl.gz": CONTENT["jsonl.gz"], "tsv.gz": CONTENT["tsv.gz"], "tsv": CONTENT["tsv"]}
    content = data.draw(st.binary(max_size=60) | damaged(good[ending](_GOOD)))
    if ending.endswith("gz") and data.draw(st.booleans()):
        content = gzip.compress(content, mtime=0)
    path = tmp_path / f"fuzz.{ending}"
    path.write_bytes(content)
    assert complaint(load, path).startswith(str(path))


@pytest.mark.filterwarnings("ignore::simenv.errors.DataFileWarning")
def test_odd_parquet_types_are_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "odd.parquet"
    when = pandas.Timestamp("2024-01-01", tz="UTC")
    odd: list[Any] = [1.5, True, when, [1, 2], {"a": {"b": None}}, b"x", float("nan"), float("inf")]
    for value in odd:
        path.write_bytes(parquet([{"id": value, "info": value, "title": value, "text": value, "traits": value}]))
        for load in (load_catalog, load_personas, load_queries):
            assert complaint(load, path).startswith(str(path))


# DuckDB


def test_duckdb_counts_the_clicks_of_a_run(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    rows = transitions(small_world(), "gsp", "organic", "softmax")
    run = RunFolder(tmp_path / "run")
    run.begin({}, {}, {})
    run.append(Finished(rows, {}))
    found = duckdb.sql(
        f"""
        select mechanism, count(*) as shown, count(*) filter (click.clicked) as clicks,
               sum(click.click_prob) as expected
        from (select mechanism, unnest(feedback.clicks) as click
              from read_json('{tmp_path}/run/transitions.jsonl', format = 'newline_delimited'))
        group by mechanism order by mechanism
        """
    ).fetchall()
    table = {(cell.mechanism, cell.metric): cell.estimate.value for cell in summarize(rows).cells}
    assert [row[0] for row in found] == ["gsp", "softmax"]  # organic shows nothing
    for mechanism, shown, clicks, expected in found:
        own = [row for row in rows if row.mechanism == mechanism]
        assert clicks == sum(bool(click.clicked) for row in own for click in row.feedback.clicks)
        assert shown / len(own) == pytest.approx(table[mechanism, "ads"])
        assert expected / shown == pytest.approx(table[mechanism, "ctr"])
    assert sum(clicks for _, _, clicks, _ in found) > 0
