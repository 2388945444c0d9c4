"""GEM-Bench's formats: its questions and products become packs, answers its results, and its grades feedback."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from simenv.datasets.gem_answers import import_answers
from simenv.datasets.gem_packs import import_packs
from simenv.datasets.gem_results import export_results, import_grades, read_grades, result
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.market.catalog import load_catalog
from simenv.runs.bench import BenchOptions, run_bench
from simenv.runs.folder import read_manifest, read_transitions
from simenv.users.queries import load_queries

PRODUCTS = {
    "Fitness": {
        "names": ["Acme Gym", "Acme  Gym", "Run@Home [app]", " "],
        "urls": ["https://acme.example/", "https://acme.example/2", "https://run.example/", ""],
        "descs": ["A gym.\nOpen all day.", "The same gym.", "Running at home.", "Nameless."],
    },
    "Travel": {"names": ["Harbour Inn"], "urls": ["https://inn.example/"], "descs": ["A hotel."]},
}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gem") / "run"
    run_bench(BenchOptions(mechanisms=("organic", "a|b=gsp"), llm="scripted", quality="none", n=4, horizon=2), folder)
    return folder


# Packs


def test_products_and_questions_become_packs_that_bench_reads(tmp_path: Path) -> None:
    found = import_packs(
        tmp_path / "packs",
        products=write(tmp_path / "products.json", PRODUCTS),
        questions=write(tmp_path / "prompts.json", ["Which gym?", "Where to\nsleep?"]),
        categories=write(tmp_path / "categories.json", ["Fitness", "Travel"]),
    )
    assert found == (3, 2, 2)
    ads = load_catalog(tmp_path / "packs" / "ads.jsonl")
    assert [(ad.id, ad.title, ad.category) for ad in ads] == [
        ("gem-1", "Acme Gym", "Fitness"),
        ("gem-2", "Run Home app", "Fitness"),
        ("gem-3", "Harbour Inn", "Travel"),
    ]
    assert (ads[0].body, ads[0].url) == ("A gym. Open all day.", "https://acme.example/")
    assert load_queries(tmp_path / "packs" / "queries.jsonl") == [
        ("Which gym?", "Fitness"),
        ("Where to\nsleep?", "Travel"),
    ]


def test_tables_of_the_search_data_set_become_packs(tmp_path: Path) -> None:
    table = 'product_id\tad_title\tad_description\twebsite\n7\tAcme\t"Of ""old"" fame"\tacme.example\n8\tBeta\tNew\t\n'
    queries = "query_id\tquery_text\n1\tgym near me\n"
    found = import_packs(
        tmp_path, products=write(tmp_path / "p.tsv", table), questions=write(tmp_path / "q.tsv", queries)
    )
    assert found == (2, 1, 0)
    one, two = load_catalog(tmp_path / "ads.jsonl")
    assert (one.title, one.body, one.url, one.category) == ("Acme", 'Of "old" fame', "https://acme.example", "general")
    assert two.url == ""
    assert load_queries(tmp_path / "queries.jsonl") == [("gym near me", "")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.json", "[", "not JSON"),
        ("p.json", "[" * 100_000, "not JSON: maximum recursion"),
        ("p.json", {"A": {"names": ["x"], "urls": ["\ud800"], "descs": [""]}}, "lone surrogate"),
        ("p.tsv", f"ad_title\tad_description\n{'x' * 200_000}\ty\n", "line 2: field larger than field limit"),
        ("p.json", [], "expected an object of categories, got list"),
        ("p.json", {"A": {"names": ["x"], "urls": []}}, "needs the lists of texts names, urls and descs"),
        ("p.json", {"A": {"names": ["x"], "urls": [], "descs": []}}, "have 1, 0 and 0 entries"),
        ("p.tsv", "name\tdescription\nx\ty\n", "no column ad_title: it has name, description"),
    ],
)
def test_products_of_another_form_are_refused_and_nothing_is_written(
    name: str, content: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataFileError, match=said):
        import_packs(tmp_path / "out", products=write(tmp_path / name, content))
    assert not (tmp_path / "out").exists()


def test_categories_must_be_as_many_as_questions(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.json", ["A"]), write(tmp_path / "two.json", ["x", "y"])
    with pytest.raises(DataFileError, match="2 questions, but 1 categories"):
        import_packs(tmp_path / "out", questions=two, categories=one)
    with pytest.raises(InputError, match="stand beside a list of questions"):
        import_packs(tmp_path / "out", products=one, categories=one)
    with pytest.raises(InputError, match="nothing to import"):
        import_packs(tmp_path / "out")


# Results


def test_answers_are_written_as_results(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "gem.json"
    assert export_results(run, out) == 8
    content = json.loads(out.read_text(encoding="utf-8"))
    assert {key: len(rows) for key, rows in content.items()} == {"organic|simenv|0": 4, "a/b|simenv|0": 4}
    row = content["a/b|simenv|0"][0]
    assert set(row) == {"prompt", "category", "solution", "content", "product", "price"}
    assert set(row["product"]) == {"name", "category", "desc", "url"}
    assert set(row["price"]) == {"in_token", "out_token", "price"}
    assert "@" not in row["content"]
    assert row["product"]["name"] in row["content"]
    assert set(content["organic|simenv|0"][0]["product"].values()) == {None}


def test_mechanisms_can_be_chosen_and_other_endings_are_refused(run: Path, tmp_path: Path) -> None:
    assert export_results(run, tmp_path / "one.json", ["organic"]) == 4
    with pytest.raises(UnknownName):
        export_results(run, tmp_path / "two.json", ["vcg"])
    with pytest.raises(InputError, match=r"expected \.json"):
        export_results(run, tmp_path / "two.parquet")
    assert not (tmp_path / "two.json").exists()


# Answers of its solutions


def test_its_answers_become_rows_that_score_reads(tmp_path: Path) -> None:
    product = {"name": "Acme Gym", "category": "Fitness", "desc": "A gym.", "url": "https://acme.example/"}
    rows = [
        {"prompt": "Which?", "content": "Any. [Acme Gym](https://acme.example/): a gym. Go often.", "product": product},
        {"prompt": "How?", "content": "Often.", "product": product},
        {"prompt": "Why?", "content": "So.", "product": dict.fromkeys(product)},
    ]
    results = write(tmp_path / "result.json", {"GI-R|MT-Human|0": rows, "Ad-Chat|MT-Human|0": rows[1:]})
    assert import_answers(results, tmp_path) == (5, 4)
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {(row["system"], row["query"]): row for row in lines}
    ad = {"title": "Acme Gym", "advertiser": "Acme Gym", "body": "A gym.", "category": "Fitness", "url": product["url"]}
    assert found["GI-R", "Which?"]["ads"] == [ad]
    assert found["GI-R", "How?"]["ads"] == []  # chosen, but not in the text
    assert found["GI-R", "How?"]["auction_id"] == found["Ad-Chat", "How?"]["auction_id"]
    assert found["GI-R", "How?"]["auction_id"] != found["GI-R", "Why?"]["auction_id"]


@pytest.mark.parametrize(
    ("content", "said"),
    [([], "got list"), ({"GI-R": []}, "SOLUTION|DATA SET|REPEAT"), ({"a|b|0": [{"prompt": "x"}]}, "result 1 of")],
)
def test_results_of_another_form_are_refused(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=re.escape(said)):
        import_answers(write(tmp_path / "result.json", content), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Grades


def graded(run: Path, *grades: tuple[str, float], mechanism: str = "a|b") -> list[Any]:
    first = next(t for t in read_transitions(run) if t.mechanism == mechanism)
    row = result(first)
    key = [row["solution"], "simenv", "0"]
    rest = [row["category"], row["prompt"], [row["content"], row["product"]]]
    return [[[*key, name, *rest], grade] for name, grade in grades]


def test_grades_become_feedback_of_a_copy_of_the_run(run: Path, tmp_path: Path) -> None:
    rows = graded(run, ("trust", 90), ("trust", 30), ("integrity", 60), ("click_products", 0), ("local_flow", 40.5))
    foreign = [["other", "simenv", "0", "trust", "General", "Why?", ["Because.", None]], 90]
    before = (run / "transitions.jsonl").read_bytes()
    found = import_grades(run, write(tmp_path / "grades.json", [*rows, foreign]), tmp_path / "copy")
    assert found == (3, 1, 1)
    assert (run / "transitions.jsonl").read_bytes() == before
    old, new = (list(read_transitions(folder)) for folder in (run, tmp_path / "copy"))
    changed = [t for t, was in zip(new, old, strict=True) if t != was]
    assert len(changed) == 1
    assert changed[0].feedback.quality is not None
    gem = changed[0].feedback.quality.gem
    assert gem is not None
    assert (gem.trust, gem.naturalness, gem.click, gem.accuracy) == (60, 60, 0, None)
    assert (gem.has_ad, gem.injected, gem.flow) == (100, 100, None)
    assert "a|b,gem_trust," in (tmp_path / "copy" / "table.csv").read_text(encoding="utf-8")
    assert read_manifest(tmp_path / "copy")["gem_grades"]["file"].endswith("grades.json")


def test_grades_of_other_answers_are_refused(run: Path, tmp_path: Path) -> None:
    rows = graded(run, ("trust", 90))
    rows[0][0][6][0] = "Another answer."
    with pytest.raises(InputError, match="none of its 1 grades is of an answer"):
        import_grades(run, write(tmp_path / "grades.json", rows), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_run_is_not_copied_into_itself(run: Path, tmp_path: Path) -> None:
    before = sorted(run.rglob("*"))
    with pytest.raises(InputError, match="is in the folder of the run"):
        import_grades(run, write(tmp_path / "grades.json", graded(run, ("trust", 90))), run / "graded")
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    "entry",
    [
        1,
        [["a", "b"], 90],
        [["a", "b", "0", "trust", "c", "q", ["x", None]], "90"],
        [["a", "b", "0", ["trust"], "c", "q", ["x", None]], 90],
    ],
)
def test_an_evaluation_of_another_form_is_refused(entry: Any, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="entry 1: expected"):
        read_grades(write(tmp_path / "grades.json", [entry]))
