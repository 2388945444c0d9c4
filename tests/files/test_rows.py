"""Rows from files: what is read, and that every error names the file and the row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from simenv.errors import DataFileError
from simenv.files.rows import parse_columns, read_rows, require
from simenv.files.tables import Row
from simenv.market.catalog import load_catalog
from simenv.users.personas import load_personas
from simenv.users.queries import load_queries
from tests.support.loading import complaint


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_txt_gives_one_row_a_line_and_keeps_line_numbers_across_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "q.txt", "first one\n\n   \n  second one  \n")
    assert read_rows(path, text_column="text") == [
        Row(f"{path}:1", {"text": "first one"}),
        Row(f"{path}:4", {"text": "second one"}),
    ]


def test_csv_cells_are_stripped_and_empty_ones_are_empty_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "title,body\n  Boots , warm \nShoes,\n")
    assert [row.fields for row in read_rows(path)] == [
        {"title": "Boots", "body": "warm"},
        {"title": "Shoes", "body": ""},
    ]


def test_jsonl_keeps_types_and_line_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"title": "Boots", "tags": ["a", "b"]}\n\n{"title": "Shoes", "n": 3}\n')
    assert read_rows(path) == [
        Row(f"{path}:1", {"title": "Boots", "tags": ["a", "b"]}),
        Row(f"{path}:3", {"title": "Shoes", "n": 3}),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", "Boots\n"), ("a.csv", "title\nBoots\n"), ("a.jsonl", '{"title": "Boots"}\n')],
)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_bom_and_line_ends_do_not_matter(tmp_path: Path, name: str, content: str, bom: bytes, newline: str) -> None:
    path = write(tmp_path, name, bom + content.replace("\n", newline).encode())
    assert [row.fields for row in read_rows(path, text_column="title")] == [{"title": "Boots"}]


def test_a_quoted_cell_may_hold_newlines_commas_and_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'title,body\n"Boots, warm","one\ntwo ""three"""\nShoes,x\n')
    first, second = read_rows(path)
    assert first.fields == {"title": "Boots, warm", "body": 'one\ntwo "three"'}
    assert second == Row(f"{path}:4", {"title": "Shoes", "body": "x"})


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_a_newline_ends_a_row(tmp_path: Path, odd: str) -> None:
    """str.splitlines also breaks at these; a spreadsheet and an editor's line count do not."""
    rows = read_rows(write(tmp_path, "a.csv", f"title,body\nWarm{odd}boots,x\nShoes,y\n"))
    assert [row.fields["title"] for row in rows] == [f"Warm{odd}boots", "Shoes"]
    path = write(tmp_path, "q.txt", f"warm{odd}boots\nshoes\n")
    assert [row.where for row in read_rows(path, text_column="text")] == [f"{path}:1", f"{path}:2"]


def test_columns_are_renamed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", " advertisement ,qualities\nBoots,warm\n")
    (row,) = read_rows(path, columns={"title": "advertisement", "body": "qualities"})
    assert (row.fields["title"], row.fields["body"]) == ("Boots", "warm")


def test_columns_may_be_swapped(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path, "a.csv", "title,body\nA,B\n"), columns={"title": "body", "body": "title"})
    assert row.fields == {"title": "B", "body": "A"}


@pytest.mark.parametrize(
    ("name", "content", "place", "says"),
    [
        ("a.csv", "title,body\nBoots,warm,extra\n", ":2", "more cells than the 2 columns"),
        ("a.csv", 'title\n"Boots"x\n', ":2", "not readable as CSV"),
        ("a.csv", 'title\nBoots\n"never closed\n', ":3", "not readable as CSV"),
        ("a.csv", "title,title\nBoots,Shoes\n", ":1", "column 'title' is there twice"),
        ("a.csv", "title,body\n", "", "no rows"),
        ("a.csv", "", "", "no rows"),
        ("a.jsonl", "\n\n", "", "no rows"),
        ("a.jsonl", '{"title": "Boots"}\n{"title": \n', ":2", "not a JSON object"),
        ("a.jsonl", '{"title": "Boots"}\n["Boots"]\n', ":2", "expected a JSON object, got list"),
        ("a.jsonl", f"{'[' * 100_000}\n", ":1", "not a JSON object"),
        ("a.jsonl", '{"title": "\\ud800"}\n', ":1", "surrogates not allowed"),
        ("a.csv", b"title\nBo\xffts\n", "", "not UTF-8 text (byte 8)"),
        ("a.xlsx", "title\nBoots\n", "", "ending '.xlsx' is not read here, expected .csv or .jsonl"),
        ("a.txt", "Boots\n", "", "ending '.txt' is not read here, expected .csv or .jsonl"),
    ],
)
def test_an_error_names_file_row_and_reason(
    tmp_path: Path, name: str, content: str | bytes, place: str, says: str
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(DataFileError) as caught:
        read_rows(path)
    assert str(caught.value).startswith(f"{path}{place}: ")
    assert says in str(caught.value)


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "name,body\nBoots,warm\n")
    with pytest.raises(DataFileError, match="no column 'advertisement'; the columns are name, body") as caught:
        read_rows(path, columns={"title": "advertisement"})
    assert f"{path}:2" in str(caught.value)
    with pytest.raises(DataFileError, match="missing column 'title'; the columns are name, body") as caught:
        require(read_rows(path)[0], ["title"])
    assert f"{path}:2" in str(caught.value)


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_a_required_cell_may_not_be_empty(empty: str | None) -> None:
    with pytest.raises(DataFileError, match=r"a\.jsonl:7: column 'title' is empty"):
        require(Row("a.jsonl:7", {"title": empty}), ["title"])


@pytest.mark.parametrize("path", ["missing.csv", "folder.csv", "file.csv/inside.csv", f"{'x' * 300}.csv"])
def test_a_path_that_cannot_be_read_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    write(tmp_path, "file.csv", "title\nBoots\n")
    with pytest.raises(DataFileError) as caught:
        read_rows(tmp_path / path)
    assert str(caught.value).startswith(f"{tmp_path / path}: ")


def test_parse_columns() -> None:
    assert parse_columns(" title = advertisement ,body=qualities,") == {"title": "advertisement", "body": "qualities"}
    assert parse_columns(None) == parse_columns("") == {}


@pytest.mark.parametrize("text", ["title", "title=", "=advertisement", "title=a,body"])
def test_parse_columns_says_what_is_expected(text: str) -> None:
    with pytest.raises(DataFileError, match="expected OURS=THEIRS"):
        parse_columns(text)


# Arbitrary bytes reach few of the checks behind the parsers, so the fuzz mixes them with rows of the right shape.
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_COLUMNS = st.sampled_from(["id", "title", "info", "text", "topic", "traits", "queries", "age", "body", "category"])
_RECORDS = st.dictionaries(_COLUMNS, _JSON | st.text(max_size=8), max_size=5)
_JSON_LINES = st.lists(_RECORDS.map(json.dumps), max_size=4).map(lambda lines: "\n".join(lines).encode())
_CELLS = st.sampled_from(["Boots", "p-1", '{"patience": 2}', "{", "[[", "a|b", "-1", '"', '"x\ny"', ""]) | st.text(
    max_size=6
)
_CSV_ROWS = st.lists(_CELLS, min_size=1, max_size=4).map(",".join)
_CSV = st.tuples(st.lists(_COLUMNS, min_size=1, max_size=4).map(",".join), st.lists(_CSV_ROWS, max_size=3)).map(
    lambda parts: "\n".join([parts[0], *parts[1]]).encode("utf-8", "surrogatepass")
)


@pytest.mark.parametrize("load", [load_catalog, load_personas, load_queries])
@pytest.mark.parametrize("ending", ["txt", "csv", "jsonl"])
@settings(
    max_examples=300, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(content=b"id,info,traits\np,x,%s\n" % (b"[" * 100_000))
@example(content=b'{"id": "p", "info": "x", "traits": {"affinity": {"a\\nb": "c\\nd"}}}')
@given(content=st.binary(max_size=200) | _JSON_LINES | _CSV)
@pytest.mark.filterwarnings("ignore::simenv.errors.DataFileWarning")
def test_any_bytes_load_or_raise_one_line_that_names_the_file(
    tmp_path: Path, load: Callable[[Path], Sequence[object]], ending: str, content: bytes
) -> None:
    path = write(tmp_path, f"fuzz.{ending}", content)
    assert complaint(load, path).startswith(str(path))
