"""Catalogs, personas and queries: the loaders, and what the embedded packs promise."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from simenv.encoder import default_encoder
from simenv.errors import DataFileError, DataFileWarning, UnknownName
from simenv.files.packs import pack_versions
from simenv.files.rows import parse_columns
from simenv.market.catalog import load_catalog
from simenv.records import Traits
from simenv.runs.folder import records_hash
from simenv.users.personas import load_personas
from simenv.users.queries import FileQueries, Question, load_queries
from tests.support.paths import ROOT

REGIONS = ("north america", "europe", "latin america", "africa", "south asia", "east asia", "middle east", "oceania")


def jsonl(folder: Path, *rows: dict[str, object]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def csv(folder: Path, text: str) -> Path:
    path = folder / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_catalog_needs_titles_only(tmp_path: Path) -> None:
    boots, shoes = load_catalog(csv(tmp_path, "title,category\nBoots,shoes\nShoes,\n"))
    assert (boots.id, boots.advertiser, boots.category, boots.body) == ("ad-1", "Boots", "shoes", "")
    assert (shoes.id, shoes.category) == ("ad-2", "general")


def test_a_catalog_keeps_every_field_and_names_foreign_columns(tmp_path: Path) -> None:
    row = {"id": "B7", "advertiser": "Fox", "title": "Boots", "body": "Warm.", "category": "shoes", "url": "https://x"}
    with pytest.warns(DataFileWarning, match="columns that are not read: 'stock'; ours are id, "):
        (ad,) = load_catalog(jsonl(tmp_path, {**row, "stock": 3}))
    assert ad.model_dump() == row


def test_a_catalog_of_another_shape_loads_with_column_names(tmp_path: Path) -> None:
    """The shape of the brands files of Webis' "ads in generative IR": a quoted list of qualities."""
    path = csv(
        tmp_path,
        'advertisement,type,qualities\nAurora Motors,brand,"innovative,reliable,variety of vehicles"\n'
        'Aurora Bolt,car model,"powerful,sporty"\n',
    )
    ads = load_catalog(path, parse_columns("title=advertisement,category=type,body=qualities"))
    assert [(ad.id, ad.title, ad.category, ad.body) for ad in ads] == [
        ("ad-1", "Aurora Motors", "brand", "innovative,reliable,variety of vehicles"),
        ("ad-2", "Aurora Bolt", "car model", "powerful,sporty"),
    ]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"id": "a", "title": "Boots"}, "duplicate ad id 'a', first used at {path}:1"),
        ({"id": "b", "title": "Boots @ home"}, "title 'Boots @ home' contains mark-up"),
        ({"id": "b", "title": "Boots [new]"}, "title 'Boots [new]' contains mark-up"),
        ({"id": "b", "title": "Boots\nnew"}, "title 'Boots\\nnew' contains mark-up"),
        ({"id": "b", "title": ""}, "column 'title' is empty"),
        ({"id": "b", "name": "Boots"}, "missing column 'title'; the columns are id, name"),
        ({"id": "b", "title": "x" * 121}, "title: string should have at most 120 characters"),
        ({"id": "b", "title": [7]}, "title: input should be a valid string, got [7]"),
        ({"id": 0.5, "title": "Boots"}, "id: input should be a valid string, got 0.5"),
        ({"id": "B 7", "title": "Boots"}, "id: string should match pattern '^[A-Za-z0-9]"),
    ],
)
def test_a_bad_ad_is_named_by_file_and_row(tmp_path: Path, row: dict[str, object], says: str) -> None:
    path = jsonl(tmp_path, {"id": "a", "title": "Coat"}, row)
    with pytest.raises(DataFileError) as caught:
        load_catalog(path)
    assert str(caught.value).startswith(f"{path}:2: {says.format(path=path)}")


PERSONA = {"id": "p", "info": "A baker of 30."}


def test_a_persona_may_come_from_either_format(tmp_path: Path) -> None:
    fields = {**PERSONA, "interests": ["bread", "hiking"], "age": 30, "attitude": "Likes ads.", "queries": ["A?", "B?"]}
    traits = {"ad_tolerance": 0.1, "price_sensitivity": 0.2, "patience": 0.3, "affinity": {"shoes": -1}}
    with pytest.warns(DataFileWarning, match="columns that are not read: 'favourite colour'"):
        (from_json,) = load_personas(jsonl(tmp_path, {**fields, "traits": traits, "favourite colour": "red"}))
    assert from_json.traits == Traits.model_validate(traits)
    assert from_json.queries == ("A?", "B?")
    quoted = json.dumps(traits).replace('"', '""')
    header = "id,info,interests,age,attitude,queries,traits,region"
    cells = f'p,A baker of 30.,bread | hiking,30,Likes ads.,A?|B?,"{quoted}",'
    assert load_personas(csv(tmp_path, f"{header}\n{cells}\n")) == (from_json,)


def test_a_persona_without_traits_is_in_the_middle(tmp_path: Path) -> None:
    (persona,) = load_personas(csv(tmp_path, "id,info,traits\np,A baker.,\n"))
    assert persona.traits == Traits()
    assert persona.queries == ()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"id": "first"}, "duplicate persona id 'first', first used at {path}:1"),
        ({"id": None}, "column 'id' is empty"),
        ({"traits": {"patience": -0.1}}, "traits.patience: input should be greater than or equal to 0, got -0.1"),
        ({"traits": {"ad_tolerance": 1.5}}, "traits.ad_tolerance: input should be less than or equal to 1, got 1.5"),
        ({"traits": {"patience": "much"}}, "traits.patience: input should be a valid number"),
        ({"traits": {"patience": float("nan")}}, "traits.patience: input should be"),
        ({"traits": {"patiense": 0.5}}, "traits.patiense: extra inputs are not permitted"),
        ({"traits": {"affinity": {"shoes": 1.5}}}, "traits.affinity: 'shoes' must be in [-1, 1], got 1.5"),
        ({"traits": "patience=1"}, "traits: expected a JSON object"),
        ({"age": 131}, "age: input should be less than or equal to 130, got 131"),
        ({"queries": ["A?", ""]}, "queries: one of the 2 is empty"),
    ],
)
def test_a_bad_persona_is_named_by_file_and_row(tmp_path: Path, fields: dict[str, object], says: str) -> None:
    path = jsonl(tmp_path, {"id": "first", "info": "A cook."}, {**PERSONA, **fields})
    with pytest.raises(DataFileError) as caught:
        load_personas(path)
    assert str(caught.value).startswith(f"{path}:2: {says.format(path=path)}")


def test_traits_in_a_csv_cell_must_be_json(tmp_path: Path) -> None:
    path = csv(tmp_path, 'id,info,traits\np,A baker.,"{""patience"": 0.5"\n')
    with pytest.raises(DataFileError, match="traits: expected a JSON object") as caught:
        load_personas(path)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_queries_come_with_their_topic(tmp_path: Path) -> None:
    path = csv(tmp_path, "question,topic\nWhich boots?,shoes\nWhich bank?,\n")
    assert load_queries(path, {"text": "question"}) == [Question("Which boots?", "shoes"), Question("Which bank?", "")]
    lines = tmp_path / "queries.txt"
    lines.write_text("Which boots?\n\nWhich bank?\n", encoding="utf-8")
    assert load_queries(lines) == [Question("Which boots?"), Question("Which bank?")]


def test_queries_without_commercial_intent_are_a_pack() -> None:
    queries = FileQueries("no_commercial_intent")
    assert queries.name == "file:no_commercial_intent"
    assert len({question.text for question in queries.questions}) == 50
    with pytest.raises(UnknownName, match="known are no_commercial_intent"):
        load_queries("no_comercial_intent")


@pytest.mark.parametrize(("load", "kind"), [(load_catalog, "ad_catalogs"), (load_personas, "personas")])
def test_an_unknown_pack_lists_the_known_ones(load: object, kind: str) -> None:
    assert callable(load)
    with pytest.raises(UnknownName) as caught:
        load("evryday")
    assert f"unknown pack of {kind} 'evryday': did you mean everyday? known are everyday" in str(caught.value)
    assert "a file of yours needs its ending" in str(caught.value)


def test_a_folder_of_the_users_own_does_not_hide_the_embedded_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = load_catalog()
    (tmp_path / "ad_catalogs").mkdir()
    (tmp_path / "ad_catalogs" / "everyday.jsonl").write_text('{"title": "Boots"}\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_catalog() == embedded
    assert len(load_catalog("ad_catalogs/everyday.jsonl")) == 1


def test_the_embedded_catalog_is_broad_and_its_titles_tell_ads_apart() -> None:
    ads = load_catalog()
    counts = Counter(ad.category for ad in ads)
    assert (len(counts), set(counts.values())) == (40, {10})
    assert len({ad.title.casefold() for ad in ads}) == len(ads)
    assert len({ad.advertiser.casefold() for ad in ads}) == len(ads)
    assert all(ad.body and ad.url.partition("/")[2].split("/")[1].endswith(".example") for ad in ads)
    assert not [ad.id for ad in ads if set("@[]") & set(ad.title + ad.advertiser + ad.body)]


def test_the_embedded_personas_have_queries_and_known_tastes() -> None:
    personas = load_personas()
    categories = {ad.category for ad in load_catalog()}
    assert len(personas) == 300
    assert [p.id for p in personas if len(p.queries) != 5] == []
    assert set().union(*(p.traits.affinity for p in personas)) == categories
    assert all(min(p.traits.affinity.values()) < 0 and p.attitude and p.interests for p in personas)
    texts = {p.id: " ".join([p.info, p.attitude, *p.interests, *p.queries]) for p in personas}
    assert [persona_id for persona_id, text in texts.items() if set("@[]") & set(text)] == []


def test_the_embedded_personas_are_balanced() -> None:
    """By region and income, in file order too; ages from 18 to 79; liking ads goes with neither."""
    personas = load_personas()
    cells = Counter((p.region, p.income) for p in personas)
    assert len(cells) == 24
    assert set(cells.values()) == {12, 13}
    assert Counter(p.region for p in personas[24:104]) == dict.fromkeys({p.region for p in personas}, 10)
    ages = [p.age or 0 for p in personas]
    assert (min(ages), max(ages)) == (18, 79)
    for low, high in ((18, 29), (30, 44), (45, 59), (60, 79)):
        assert 66 <= sum(low <= age <= high for age in ages) <= 84
    tolerances = np.array([p.traits.ad_tolerance for p in personas])
    assert np.histogram(tolerances, [0, 1 / 3, 2 / 3, 1])[0].min() >= 80
    assert abs(tolerances.mean() - 0.5) < 0.02
    for group in ("region", "income"):
        for name in {getattr(p, group) for p in personas}:
            mean = np.mean([p.traits.ad_tolerance for p in personas if getattr(p, group) == name])
            assert abs(mean - 0.5) < 0.05, name


def balance() -> list[str]:
    """The rows of the table of balance in personas/README.md, counted."""
    personas = load_personas()
    rows = []
    for region in [*REGIONS, "all"]:
        of = [p for p in personas if region in (p.region, "all")]
        ages = [sum(low <= (p.age or 0) <= high for p in of) for low, high in ((18, 29), (30, 44), (45, 59), (60, 79))]
        incomes = [sum(p.income == income for p in of) for income in ("low", "middle", "high")]
        tolerances = [p.traits.ad_tolerance for p in of]
        attitudes = [int(n) for n in np.histogram(tolerances, [0, 1 / 3, 2 / 3, 1.01])[0]]
        rows.append(f"| {' | '.join(map(str, [region, *ages, *incomes, *attitudes, len(of)]))} |")
    return rows


def test_the_readme_says_how_balanced_they_are() -> None:
    text = (ROOT / "personas" / "README.md").read_text(encoding="utf-8")
    assert text.partition("<!-- balance -->\n")[2].partition("<!-- end -->")[0].splitlines()[2:] == balance()


def test_the_embedded_packs_follow_no_template() -> None:
    """Texts made from a template begin alike."""
    personas = load_personas()
    for texts in (
        [p.info for p in personas],
        [p.attitude for p in personas],
        [query for p in personas for query in p.queries],
        [ad.body for ad in load_catalog()],
    ):
        assert most_alike(texts) <= 2


def test_a_template_is_noticed() -> None:
    assert most_alike([f"Looking for a good {thing} today" for thing in ("boot", "hat", "coat")]) == 3


def test_an_edited_pack_needs_a_new_version() -> None:
    """If this fails, the records changed: enter the new hash in packs.json under the next version, and run the slow
    tests, which look for near-duplicates."""
    personas = load_personas()
    hashes = {
        "catalog": records_hash(load_catalog()),
        "personas": records_hash(personas),
        "queries": FileQueries("no_commercial_intent").hash,
    }
    assert pack_versions(hashes) == {
        "catalog": "everyday 1",
        "personas": "everyday 1",
        "queries": "no_commercial_intent 1",
    }
    edited = [personas[0].model_copy(update={"age": 73}), *personas[1:]]
    assert pack_versions({"personas": records_hash(edited)}) == {"personas": None}


@pytest.mark.slow
@pytest.mark.weights
def test_the_embedded_packs_hold_no_near_duplicates() -> None:
    """Encodes all packs. Between two runs of it, the hashes in packs.json say that nothing has changed."""
    personas = load_personas()
    queries = [query for persona in personas for query in persona.queries]
    no_intent = [question.text for question in load_queries("no_commercial_intent")]
    for texts in (
        [ad.text for ad in load_catalog()],
        [*queries, *no_intent],
        [persona.info for persona in personas],
        [persona.attitude for persona in personas],
    ):
        cosine, *pair = nearest(texts)
        assert cosine <= 0.85, pair


@pytest.mark.weights
def test_the_search_for_near_duplicates_finds_one() -> None:
    twins = ["Which boots stay dry on wet trails?", "How do small loans work?", "Which boots stay dry on a wet trail?"]
    cosine, *found = nearest(twins)
    assert found == [twins[0], twins[2]]
    assert cosine > 0.85


def most_alike(texts: Sequence[str]) -> int:
    """How many texts begin with the same four words, at most."""
    return max(Counter(tuple(text.casefold().split()[:4]) for text in texts).values())


def nearest(texts: Sequence[str]) -> tuple[float, str, str]:
    """The two texts with the highest cosine."""
    vectors = default_encoder().encode(texts)
    cosines = np.triu(vectors @ vectors.T, k=1)
    i, j = np.unravel_index(int(cosines.argmax()), cosines.shape)
    return float(cosines[i, j]), texts[int(i)], texts[int(j)]
