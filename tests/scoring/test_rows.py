"""What rows and their cells say, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pytest

from simenv.errors import DataFileError, InputError
from simenv.records import Ad
from simenv.runs.options import ScoreOptions
from simenv.scoring.ad_finder import AdFinder
from simenv.scoring.answers import grouped
from simenv.scoring.cells import read_ads, read_amounts
from simenv.scoring.columns import read_answers
from simenv.scoring.rows import Reader, Reading
from simenv.testing import ADS, PERSONAS

BOOTS, SHOES = ADS[:2]
TEXT = "TrailFox Hiking Boots or Pacer Road Shoes."


def read(answers: Any, **options: Any) -> list[Reading]:
    asked = ScoreOptions(**options)
    reader = Reader(asked, AdFinder(ADS), PERSONAS)
    return [reader.read(source) for source in read_answers(answers, asked)]


def row(**cells: Any) -> dict[str, Any]:
    return {"query": "Which boots?", "response": TEXT, **cells}


def one(**cells: Any) -> Any:
    (reading,) = read([row(**cells)])
    assert reading.bad == []
    return reading.answers[0]


def fault(*rows: Mapping[str, Any], **options: Any) -> str:
    (reading,) = read(list(rows), **options)
    return reading.bad[-1]


def test_columns_are_found_by_their_usual_names(tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text("Question,Answer,model,other\nWhich boots?, Any. ,gpt,7\n", encoding="utf-8")
    (source,) = read_answers(tmp_path / "ours.csv", ScoreOptions())
    assert source.columns == {"query": "Question", "response": "Answer", "system": "model"}
    assert source.unread == ["other"]
    ((answer,),) = [reading.answers for reading in read(tmp_path / "ours.csv")]
    assert (answer.system, answer.response) == ("gpt", " Any. "), "spans count from the first character of the cell"
    assert answer.where == f"{tmp_path / 'ours.csv'}:2"


def test_columns_of_yes_and_no_are_not_those_of_ads_or_answers(tmp_path: Path) -> None:
    (source,) = read_answers([row(ad=True, organic="no"), row(ad=None, organic="Yes")], ScoreOptions())
    assert source.columns == {"query": "query", "response": "response"}
    with pytest.raises(AssertionError, match="ads: expected a text, got True"):
        raise AssertionError(fault(row(ad=True), ads="ad"))


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("gpt", "claude"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text(json.dumps(row()), encoding="utf-8")
        (tmp_path / name / "b.md").write_text("# Which boots?\nAny.", encoding="utf-8")
        (tmp_path / name / "c.md").write_text("# Other?\nAny.", encoding="utf-8")
    files = [tmp_path / name / file for name in ("gpt", "claude") for file in ("a.jsonl", "b.md", "c.md")]
    labels = [reading.answers[0].system for reading in read(files)]
    assert labels == ["gpt/a", "gpt", "gpt", "claude/a", "claude", "claude"]


def test_columns_are_those_that_options_name() -> None:
    (reading,) = read([{"text": "Which boots?", "said": TEXT, "query": 3}], query="text", response="said")
    assert reading.answers[0].query == "Which boots?"
    with pytest.raises(DataFileError, match=r"answers: no column 'nope' for response; the columns are query, response"):
        read([row()], response="nope")
    with pytest.raises(DataFileError, match="no column for response: expected response or answer or completion"):
        read([{"query": "a"}])


def test_every_format_of_rows_says_the_same(tmp_path: Path) -> None:
    rows = [row(ads="ad-1|ad-2", bid=2.5), row(query="Another?", ads="ad-2", bid=1.0)]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(it) + "\n" for it in rows), encoding="utf-8")
    readings = [*read(rows), *read(frame), *read(pyarrow.Table.from_pandas(frame))]
    readings += [reading for ending in ("csv", "parquet", "jsonl") for reading in read(tmp_path / f"a.{ending}")]
    said = [[(it.query, it.response, it.places, it.money) for it in reading.answers] for reading in readings]
    assert len(said) == 6
    assert all(it == said[0] for it in said)
    assert [place.ad.id for place in readings[0].answers[0].places] == ["ad-1", "ad-2"]


def test_a_chat_is_its_last_question_and_its_last_answer(tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "text", "text": "Which "}, {"type": "text", "text": "boots?"}]},
        {"role": "assistant", "content": TEXT},
    ]
    (tmp_path / "a.csv").write_text(pd.DataFrame([{"m": json.dumps(chat)}]).to_csv(index=False), encoding="utf-8")
    readings = [*read([{"messages": chat}]), *read([{"prompt": chat[:4], "completion": chat[4:]}])]
    readings += read(tmp_path / "a.csv", query="m", response="m")
    assert [(it.query, it.response) for reading in readings for it in reading.answers] == 3 * [("Which boots?", TEXT)]
    assert fault({"messages": chat[:2]}) == "answer 1: response: none of the 2 messages is of the role assistant"
    assert one(response='[{"a": not JSON').response == '[{"a": not JSON'
    assert one(response="[TrailFox](ad-1)").form == "links"


def test_missing_cells_of_a_frame_are_empty() -> None:
    frame = pd.DataFrame([row(ads="ad-1", bid=2.0), row(query="Another?", ads=None, bid=None)])
    for same in (frame, frame.convert_dtypes()):
        (reading,) = read(same)
        assert [dict(it.money["bid"]) for it in reading.answers] == [{"ad-1": 2.0}, {}]
    with pytest.raises(InputError, match="answers: expected files, records or a DataFrame, got int"):
        read(7)


@pytest.mark.parametrize(
    ("cell", "ids"),
    [
        ("ad-1 | Pacer Road Shoes", ["ad-1", "ad-2"]),
        ('["ad-2", "TrailFox Hiking Boots"]', ["ad-2", "ad-1"]),
        ([[0, 21, "ad-1"]], ["ad-1"]),
        ({"id": "ad-1", "span": [0, 21], "text": "TrailFox Hiking Boots"}, ["ad-1"]),
        ("", []),
        (None, []),
        ("[]", []),
    ],
)
def test_a_cell_lists_ads(cell: Any, ids: list[str]) -> None:
    finder = AdFinder(ADS)
    assert [it.ad.id for it in read_ads(cell, TEXT, finder, finder.ads)] == ids


def test_a_row_may_describe_an_ad_that_no_catalog_has() -> None:
    lamp = {"id": "z1", "title": "Zork Lamp", "brand": "Zork", "description": "A lamp.", "bid": 3}
    first = row(response="A Zork Lamp.", ads=[lamp])
    second = row(response="Zork Lamp!", ads="z1")
    (reading,) = read([first, second])
    assert [it.places[0].ad for it in reading.answers] == 2 * [
        Ad(id="z1", title="Zork Lamp", advertiser="Zork", body="A lamp.")
    ]
    assert reading.answers[0].money["bid"] == {"z1": 3.0}
    message = fault(first, row(response="Zork Lamp!", ads=[{**lamp, "description": "A chair."}]))
    assert message == "answer 2: ads: the body of ad z1 is 'A chair.', in a row before it is 'A lamp.'"
    assert "in the catalog it is 'TrailFox Hiking Boots'" in fault(row(ads=[{"id": "ad-1", "title": "Other"}]))


def test_without_a_catalog_a_title_describes_an_ad() -> None:
    asked = ScoreOptions()
    (source,) = read_answers([row(response="Zork Lamp!", ads="Zork Lamp"), row(ads=[[0, 8, "zork lamp"]])], asked)
    (one, other) = Reader(asked, AdFinder(), PERSONAS).read(source).answers
    assert one.places[0].ad == other.places[0].ad
    assert one.places[0].ad.title == one.places[0].ad.advertiser == "Zork Lamp"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"query": "  "}, "query: is empty, expected a question"),
        ({"response": ["a"]}, r"response: expected a text, got \['a'\]"),
        ({"response": "a\ud800b"}, "response: holds a lone surrogate"),
        ({"ads": [{"title": "a\ud800b"}]}, "ads: 'utf-8' codec can't encode .*surrogates not allowed"),
        ({"ads": "Zork"}, "ad 'Zork' is not among the 12 ads: expected an id such as ad-1, ad-2, ad-3, or a title"),
        ({"ads": "[1,"}, "ads: begins like JSON and is not"),
        ({"ads": "[" * 100_000}, "ads: begins like JSON and is not"),
        ({"ads": [{"id": "ad-1", "start": "x", "end": 3}]}, "start and end must be whole numbers, got 'x'"),
        ({"ads": [{"id": "ad-1", "colour": "red"}]}, "unknown key 'colour': known are id, title, advertiser"),
        ({"ads": [{"bid": 1}]}, "an entry has neither id nor title"),
        ({"ads": [[1, 2]]}, r"expected \[start, end, ad\], got \[1, 2\]"),
        ({"ads": [{"id": "ad-1", "span": [1, 9], "text": "TrailFox"}]}, "are 'railFox ', not 'TrailFox'"),
        ({"ads": [{"id": "z", "title": "a@[b]"}]}, "ads: title: string should match pattern"),
        (
            {"ads": [{"id": "z", "title": "a\u202eb"}]},
            r"contains U\+202E \(RIGHT-TO-LEFT OVERRIDE\)",
        ),
        ({"bid": "free"}, "bid: expected a finite number of at least 0, got 'free'"),
        ({"price": -1}, "price: expected a finite number of at least 0, got -1"),
        ({"bid": "1,50"}, "bid: expected a finite number of at least 0, got '1,50': write 1.50, with a decimal point"),
        ({"bid": "inf"}, "bid: expected a finite number"),
        ({"bid": True}, "bid: expected a finite number"),
        ({"bid": "1|2|3"}, "bid: 3 amounts for 2 ads: expected one for each"),
        ({"bid": {"ad-9": 1}}, "bid: 'ad-9' is none of the answer's ads: ad-1, ad-2"),
        ({"persona": "bob"}, "persona: 'bob' is none of the 4 personas: expected an id such as walker"),
        ({"persona": {"info": ""}}, "persona: info: string should have at least 1 character"),
        ({"persona": {"id": "walker", "info": "Other."}}, "'walker' is described otherwise in the pack"),
        ({"system": "a\nb"}, r"system: expected a name of printable characters, at most 80, got 'a\\nb'"),
        ({"system": "x" * 81}, "system: expected a name"),
    ],
)
def test_a_row_that_cannot_be_scored_says_why(cells: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=f"answer 1: .*{message}"):
        raise AssertionError(fault(row(**cells)))


def test_personas_are_named_or_described() -> None:
    assert one(persona="walker").persona is PERSONAS[0]
    described = one(persona="A nurse from Lyon.").persona
    assert described.info == "A nurse from Lyon."
    assert described == one(persona="A nurse from Lyon.").persona
    given = one(persona='{"info": "A cook.", "traits": {"patience": 0.9}}').persona
    assert given.traits.patience == 0.9
    assert one().persona is None


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (2, {"ad-1": 2.0, "ad-2": 2.0}),
        ("3|", {"ad-1": 3.0}),
        ([1, 4], {"ad-1": 1.0, "ad-2": 4.0}),
        ('{"ad-2": 7}', {"ad-2": 7.0}),
        ("", {}),
    ],
)
def test_amounts_are_of_all_ads_or_of_each(cell: Any, expected: dict[str, float]) -> None:
    assert one(bid=cell).money["bid"] == expected
    assert one(ads="ad-1|ad-2", bid=cell).money["bid"] == expected
    assert read_amounts(None, "bid").of("ad-1", 0) is None


def test_an_entry_of_the_list_has_the_last_word() -> None:
    answer = one(ads=[{"id": "ad-1", "bid": 9}, "ad-2"], bid=2)
    assert answer.money["bid"] == {"ad-1": 9.0, "ad-2": 2.0}


def test_the_same_answer_twice_is_refused_unless_ids_tell_them_apart() -> None:
    assert fault(row(), row()).startswith(
        "answer 2: system 'answers' answers this question with this text at answer 1 already (name the auctions in"
    )
    (reading,) = read([row(auction_id=1), row(auction_id=2)])
    assert [it.id for it in reading.answers] == ["1", "2"]
    assert "answers auction 1 at answer 1 already" in fault(row(auction_id=1), row(auction_id=1, response="Other"))
    other = fault(row(auction_id=1, system="a"), row(auction_id=1, system="b", query="Else?"))
    assert other == "answer 2: id: '1' has another query at answer 1: 'Which boots?'"


def test_a_bad_row_does_not_count_as_the_first_of_two() -> None:
    (reading,) = read([row(bid=-1), row(bid=1)])
    assert len(reading.answers) == len(reading.bad) == 1


def test_the_form_is_that_of_a_system_s_answers() -> None:
    def form(*responses: str, **cells: Any) -> str:
        (found,) = read([row(response=it, query=f"Q {i}?", **cells) for i, it in enumerate(responses)])[
            0
        ].forms.values()
        return found

    assert form("plain TrailFox Hiking Boots", "@Fake@[x]") == "markup"
    assert form("no", "[x](ad-1)") == "links"
    assert form("no", "[x](https://w.example)") == "names"
    assert form("TrailFox Hiking Boots", "no", ads=None) == "list"
    (both,) = read([row(system="a", response="[x](ad-1)"), row(system="b", response="TrailFox Hiking Boots")])
    assert both.forms == {"a": "links", "b": "names"}
    assert [len(it.places) for it in both.answers] == [1, 1]
    assert read([row(ads="ad-1")], ads_as="none")[0].answers[0].places == ()
    with pytest.raises(InputError, match="ads_as must be auto, markup, links, names, list, none, got 'spans'"):
        read([row()], ads_as="spans")
    with pytest.raises(InputError, match="ads_as is list, and there is no column of ads"):
        read([row()], ads_as="list")


def test_a_markdown_file_is_an_answer_or_has_one_a_section(tmp_path: Path) -> None:
    sections = "# Notes\nnot read\n## Which boots?\n\nTrailFox.\n\n### More\n```\n## no heading\n```\n## Where to? ##\n"
    (tmp_path / "many.md").write_text(sections, encoding="utf-8")
    folder = tmp_path / "gpt"
    folder.mkdir()
    (folder / "one.md").write_text("# Which boots?\n\nPacer.\n", encoding="utf-8")
    many, alone = read([tmp_path / "many.md", folder / "one.md"])
    assert [(it.query, it.response, it.system) for it in many.answers] == [
        ("Which boots?", "TrailFox.\n\n### More\n```\n## no heading\n```", "many"),
        ("Where to?", "", "many"),
    ]
    assert many.answers[1].where == f"{tmp_path / 'many.md'}:11"
    assert [(it.query, it.response, it.system) for it in alone.answers] == [("Which boots?", "Pacer.", "gpt")]
    (tmp_path / "no.md").write_text("text", encoding="utf-8")
    with pytest.raises(DataFileError, match="no heading: expected `## QUERY` before each answer"):
        read(tmp_path / "no.md")
    with pytest.raises(InputError, match="is given twice"):
        read([tmp_path / "many.md", tmp_path / "many.md"])


def test_lines_that_cannot_be_read_are_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"query": \n[1]\n{json.dumps(row())}\n', encoding="utf-8")
    (tmp_path / "b.csv").write_text("query,response\na,b,c\nd?,e\n", encoding="utf-8")
    jsonl, table = read([tmp_path / "a.jsonl", tmp_path / "b.csv"])
    assert [text.split(": ")[0] for text in jsonl.bad] == [f"{tmp_path / 'a.jsonl'}:{i}" for i in (1, 2)]
    assert table.bad == [f"{tmp_path / 'b.csv'}:2: more cells than the 2 columns of the header"]
    assert len(jsonl.answers) == len(table.answers) == 1


def test_answers_to_one_question_of_one_user_meet_in_one_auction() -> None:
    rows = [
        row(system="a"),
        row(system="b", response="Other."),
        row(system="a", response="Once more."),
        row(system="a", persona="walker"),
        row(system="b", query="Else?"),
    ]
    (reading,) = read(rows)
    asked = grouped(reading.answers, PERSONAS, 0)
    assert [{name: it.where for name, it in auction.answers.items()} for auction in asked] == [
        {"a": "answer 1", "b": "answer 2"},
        {"a": "answer 3"},
        {"a": "answer 4"},
        {"b": "answer 5"},
    ]
    assert asked[2].session.persona is PERSONAS[0]
    (later,) = read(rows[1:2])
    alone = grouped(later.answers, PERSONAS, 0)
    assert alone[0].session == asked[0].session, "user and auction depend on the question, not on the other rows"
    assert len({it.session.id for it in asked}) == 4


def test_one_auction_has_one_user() -> None:
    (reading,) = read([row(system="a", auction_id="x"), row(system="b", auction_id="x", persona="cook")])
    (asked,) = grouped(reading.answers, PERSONAS, 0)
    assert asked.session.persona.id == "cook"
    (reading,) = read([row(system=name, auction_id="x", persona=name) for name in ("saver", "cook")])
    with pytest.raises(InputError, match="answer 2: persona: auction 'x' has another one in another row"):
        grouped(reading.answers, PERSONAS, 0)
