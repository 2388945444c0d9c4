"""Columns that are not ours, files of other encodings and separators, and characters that nobody sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from simenv.cli import main as cli
from simenv.errors import DataFileError, DataFileWarning
from simenv.market.catalog import load_catalog
from simenv.users.personas import load_personas
from simenv.users.queries import load_queries


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("load", "content", "says"),
    [
        (
            load_catalog,
            "title,description,stock\nBoots,warm,3\n",
            "columns that are not read: 'description' (did you mean 'body'?), 'stock'; "
            "ours are id, advertiser, title, body, category, url; "
            'to read one, name it: catalog_columns="body=description"',
        ),
        (load_catalog, "title,boddy\nBoots,warm\n", "'boddy' (did you mean 'body'?)"),
        (load_personas, "id,info,intrests\np,A baker.,bread\n", 'name it: persona_columns="interests=intrests"'),
        (load_queries, "text,subject\nWhich boots?,shoes\n", 'name it: query_columns="topic=subject"'),
        (load_queries, "text,stars\nWhich boots?,5\n", 'name it: query_columns="text=THEIRS"'),
    ],
)
def test_columns_that_are_not_read_are_named_once(
    tmp_path: Path, load: Callable[[Path], Any], content: str, says: str
) -> None:
    path = write(tmp_path, "a.csv", content + content.splitlines()[1].replace("p,", "q,") + "\n")
    with pytest.warns(DataFileWarning) as caught:
        assert len(load(path)) == 2
    (warning,) = caught
    assert str(warning.message).startswith(f"{path}: ")
    assert says in str(warning.message)


def test_a_row_of_jsonl_may_have_a_column_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"title": "Boots"}\n{"title": "Shoes", "copy": "warm"}\n{"title": "Hats"}\n')
    with pytest.warns(DataFileWarning, match="'copy'"):
        load_catalog(path)


def test_a_renamed_column_and_those_of_make_pack_are_no_foreign_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "title,copy,cell\nBoots,warm,1\n")
    (ad,) = load_catalog(path, {"body": "copy"})
    assert ad.body == "warm"


def test_the_command_line_prints_the_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ads = write(tmp_path, "ads.csv", "title,boddy\nBoots,warm\n")
    command = ["bench", "--mechanisms", "gsp", "--out", str(tmp_path / "run"), "--catalog", str(ads)]
    with pytest.raises(SystemExit):  # the personas are read after the catalog
        cli.main([*command, "--personas", "nowhere.jsonl"])
    printed = capsys.readouterr().err
    assert printed.count("did you mean 'body'?") == 1
    assert "DataFileWarning" not in printed
    assert "columns.py" not in printed


@pytest.mark.parametrize("header", ["Title,BODY", " title , Body ", "TITLE,body"])
def test_names_in_another_case_are_ours(tmp_path: Path, header: str) -> None:
    (ad,) = load_catalog(write(tmp_path, "a.csv", f"{header}\nBoots,warm\n"))
    assert (ad.title, ad.body) == ("Boots", "warm")


def test_the_exact_name_comes_before_another_case(tmp_path: Path) -> None:
    with pytest.warns(DataFileWarning, match="not read: 'Title'"):
        (ad,) = load_catalog(write(tmp_path, "a.jsonl", '{"Title": "Shoes", "title": "Boots"}\n'))
    assert ad.title == "Boots"


def test_a_missing_column_has_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r'a\.csv:2: missing column .title.*catalog_columns="title=headline"'):
        load_catalog(write(tmp_path, "a.csv", "headline,body\nBoots,warm\n"))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_csv_file_may_be_separated_otherwise(tmp_path: Path, separator: str) -> None:
    text = '\ntitle;body\nBoots;"warm; and, dry"\n'.replace(";", separator)
    (ad,) = load_catalog(write(tmp_path, "a.csv", text))
    assert (ad.title, ad.body) == ("Boots", f"warm{separator} and, dry")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom"])
def test_text_with_a_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    text = "title\nGröße 38\n"
    content = b"\xfe\xff" + text.encode("utf-16-be") if encoding == "utf-16-be-bom" else text.encode(encoding)
    (ad,) = load_catalog(write(tmp_path, "a.csv", content))
    assert ad.title == "Größe 38"


@pytest.mark.parametrize(
    ("encoding", "says"),
    [("latin-1", r"not UTF-8 text \(byte 8\).*iconv -f LATIN1"), ("utf-16-le", r"zero byte .*iconv -f UTF-16LE")],
)
def test_text_of_another_encoding_is_refused_with_the_remedy(tmp_path: Path, encoding: str, says: str) -> None:
    with pytest.raises(DataFileError, match=says):
        load_catalog(
            write(tmp_path, "a.csv", ("title\nGröße\n" if encoding == "latin-1" else "title\n").encode(encoding))
        )


def test_numbers_are_read_as_ids(tmp_path: Path) -> None:
    rows = [{"id": 7, "title": "Boots", "category": 12}, {"id": 8, "title": 1984, "category": None}]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert [(ad.id, ad.title, ad.category) for ad in load_catalog(path)] == [
        ("7", "Boots", "12"),
        ("8", "1984", "general"),
    ]
    parquet = tmp_path / "a.parquet"
    pandas.DataFrame([{"id": 7, "title": "Boots", "category": 12}, {"id": 8, "title": "Shoes"}]).to_parquet(parquet)
    assert [(ad.id, ad.category) for ad in load_catalog(parquet)] == [("7", "12"), ("8", "general")]
    (persona,) = load_personas(write(tmp_path, "p.jsonl", '{"id": 5, "info": "A baker.", "age": 30, "region": 3}\n'))
    assert (persona.id, persona.age, persona.region) == ("5", 30, "3")


HIDDEN = ["\u202e", "\u2066", "\u200b", "\ufeff", "\U000e0041", "\x1b"]


@pytest.mark.parametrize("field", ["id", "title", "advertiser", "body", "category", "url"])
@pytest.mark.parametrize("character", HIDDEN)
def test_a_character_that_nobody_sees_is_refused_in_an_ad(tmp_path: Path, field: str, character: str) -> None:
    row = {"id": "a", "title": "Boots", "advertiser": "Fox", field: f"a{character}b"}
    with pytest.raises(DataFileError) as caught:
        load_catalog(write(tmp_path, "a.jsonl", json.dumps(row)))
    (line,) = str(caught.value).splitlines()
    assert f"a.jsonl:1: {field} " in line
    assert f"U+{ord(character):04X}" in line
    assert line.isprintable()


def test_joiners_and_direction_marks_belong_to_scripts(tmp_path: Path) -> None:
    row = {"title": "می\u200cخواهم \U0001f468\u200d\U0001f469", "body": "שלום\u200f. co\u00adoperate\nand\tmore"}
    (ad,) = load_catalog(write(tmp_path, "a.jsonl", json.dumps(row)))
    assert (ad.title, ad.body) == (row["title"], row["body"])
    with pytest.raises(DataFileError, match=r"title .* contains U\+200F \(RIGHT-TO-LEFT MARK\)"):
        load_catalog(write(tmp_path, "a.jsonl", json.dumps({"title": "Boots\u200f"})))


@pytest.mark.parametrize("other", ["Trail\u200dBoots", "Trail\u200c Boots", "Trail\u00a0Boots", "Trail Boots\ufe0f"])
def test_titles_that_look_alike_are_refused(tmp_path: Path, other: str) -> None:
    first = "TrailBoots" if other == "Trail\u200dBoots" else "Trail Boots"
    rows = f"{json.dumps({'title': first})}\n{json.dumps({'title': other})}\n"
    with pytest.raises(DataFileError, match=r"a\.jsonl:2: title .* looks like .* at .*a\.jsonl:1"):
        load_catalog(write(tmp_path, "a.jsonl", rows))


def test_equal_titles_are_two_ads(tmp_path: Path) -> None:
    assert len(load_catalog(write(tmp_path, "a.csv", "title\nBoots\nBoots\n"))) == 2


def test_an_id_of_a_persona_has_no_hidden_character(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"id 'p\\u200b' contains U\+200B \(ZERO WIDTH SPACE\)"):
        load_personas(write(tmp_path, "p.jsonl", '{"id": "p\\u200b", "info": "A baker."}\n'))
