"""Several runs in one table: what is refused, how mechanisms are called, what is paired."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from scipy.stats import t as student

from simenv.background_loop import run_sync
from simenv.cli import main as cli
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.llm import ScriptedLLM
from simenv.mechanism import make_mechanism
from simenv.runs.bench import BenchOptions
from simenv.runs.compare import Comparison, compare
from simenv.runs.folder import RunFolder, read_transitions
from simenv.runs.rollout import rollout
from simenv.runs.summary import Cell, summarize
from simenv.runs.tables import caption
from simenv.testing import small_world
from tests.support.hand_made import turn

FACTS: dict[str, Any] = {
    "judge": "click:v1",
    "judge_sha256": "1" * 64,
    "encoder": "fake",
    "objective": {"penalty_weight": 1.0},
    "query_source": "frozen",
    "packs": {"catalog": "everyday 1", "personas": None},
    "ad_llm": "scripted",
}
HASHES = {"catalog": "a" * 64, "personas": "b" * 64}

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a run of the small world; facts, data hashes and options may be other ones."""

    def run(
        name: str,
        *mechanisms: str,
        n: int = 9,
        seed: int = 0,
        facts: dict[str, Any] | None = None,
        hashes: dict[str, str] | None = None,
        finish: bool = True,
        **options: Any,
    ) -> Path:
        folder = RunFolder(tmp_path / name)
        asked = BenchOptions(mechanisms=mechanisms, n=n, seed=seed, **options)
        folder.begin(asked.model_dump(), FACTS | (facts or {}), HASHES | (hashes or {}))
        built = {m: make_mechanism(m, llm=ScriptedLLM()) for m in mechanisms}
        run_sync(lambda: rollout(small_world(), built, n=n, seed=seed, on_chunk=folder.append))
        if finish:
            folder.finish()
        return tmp_path / name

    return run


def cell(found: Comparison, mechanism: str, metric: str = "revenue") -> Cell:
    (one,) = [c for c in found.summary.cells if (c.mechanism, c.metric) == (mechanism, metric)]
    return one


def names(found: Comparison) -> list[str]:
    return list(dict.fromkeys(c.mechanism for c in found.summary.cells))


def test_runs_of_the_same_auctions_are_as_one_run(make: Make) -> None:
    """Split over two runs, the table is what it would be of one, differences included."""
    whole = make("whole", "organic", "fixed_slots", "gsp")
    found = compare([make("one", "organic", "fixed_slots"), make("other", "gsp")])
    assert repr(found.summary) == repr(summarize(read_transitions(whole)))  # nan is not nan
    assert (found.differing, found.notes, found.summary.unpaired) == ([], [], frozenset())


def test_a_mechanism_of_several_runs_is_called_by_its_run(make: Make) -> None:
    runs = [make("one", "organic", "gsp"), make("other", "gsp", "fixed_slots")]
    found = compare(runs, baseline="other/gsp")
    assert names(found) == ["organic", "one/gsp", "other/gsp", "fixed_slots"]
    assert found.summary.baseline == "other/gsp"
    difference = cell(found, "one/gsp").difference
    assert difference is not None
    assert difference.numbers == (0, 0, 0)  # the same answers
    with pytest.raises(UnknownName, match=r"unknown baseline 'gsp': .*known are fixed_slots, one/gsp, organic"):
        compare(runs, baseline="gsp")


def test_runs_of_one_name_are_called_by_their_paths(make: Make) -> None:
    one, other = make("a/run", "gsp"), make("b/run", "gsp")
    assert names(compare([one, other])) == [f"{one}/gsp", f"{other}/gsp"]


def test_other_auctions_are_not_paired(make: Make) -> None:
    found = compare([make("one", "organic", "gsp"), make("other", "fixed_slots", seed=1)], baseline="gsp")
    assert found.summary.unpaired == {"fixed_slots"}
    assert "paired against gsp, but for fixed_slots: other auctions, unpaired" in caption(found.summary)
    assert found.notes == ["seed is 0 in one, 1 in other"]
    difference, paired = cell(found, "fixed_slots").difference, cell(found, "organic").difference
    assert difference is not None
    assert paired is not None
    values = [cell(found, name).estimate.value for name in ("fixed_slots", "gsp", "organic")]
    assert difference.value == pytest.approx(values[0] - values[1])
    assert paired.value == pytest.approx(values[2] - values[1])


def test_runs_of_other_lengths_are_paired_where_both_were(make: Make) -> None:
    """The difference is that of the auctions of both, the means those of all."""
    found = compare([make("long", "gsp"), make("short", "fixed_slots", n=6)])
    both = compare([make("long6", "gsp", n=6), make("short6", "fixed_slots", n=6)])
    assert cell(found, "gsp").auctions == 9
    assert cell(found, "fixed_slots").difference == cell(both, "fixed_slots").difference
    assert "6 to 9 answers per mechanism" in caption(found.summary)


def revenue(values: list[float], personas: list[str], mechanism: str, first: int) -> list[Any]:
    rows = [turn(first + i, {}, persona, mechanism) for i, persona in enumerate(personas)]
    paid = [({"a": value}, row) for value, row in zip(values, rows, strict=True)]
    return [row.model_copy(update={"payments": p, "expected_payments": p}) for p, row in paid]


def test_an_unpaired_interval_by_hand() -> None:
    """Of personas that nobody shares: Welch's standard error, with the degrees of freedom of one side."""
    ours, theirs = [1.0, 5.0, 2.0, 8.0], [0.0, 1.0, 0.5, 0.0]
    rows = [*revenue(theirs, list("abcd"), "base", 0), *revenue(ours, list("efgh"), "m", 4)]
    (found,) = [c for c in summarize(rows, "base", ["m"]).cells if (c.mechanism, c.metric) == ("m", "revenue")]
    error = math.sqrt(stdev(ours) ** 2 / 4 + stdev(theirs) ** 2 / 4)
    assert found.difference is not None
    assert found.difference.value == pytest.approx(mean(ours) - mean(theirs))
    assert found.difference.margin == pytest.approx(float(student.ppf(0.975, 3)) * error)


def test_a_persona_of_both_runs_is_one_cluster() -> None:
    """What a persona adds to both sides says nothing about their difference."""
    values = [1.0, 5.0, 2.0, 8.0]
    rows = [*revenue(values, list("abcd"), "base", 0), *revenue([v + 3 for v in values], list("abcd"), "m", 4)]
    (found,) = [c for c in summarize(rows, "base", ["m"]).cells if (c.mechanism, c.metric) == ("m", "revenue")]
    assert found.difference is not None
    assert found.difference.numbers == pytest.approx((3, 3, 3))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"facts": {"judge": "llm:x", "judge_sha256": "2" * 64}}, "judge is click:v1 in one, llm:x in other"),
        ({"facts": {"judge_sha256": "2" * 64}}, "judge_sha256 is 111111111111 in one, 222222222222 in other"),
        ({"facts": {"encoder": "MiniLM"}}, "encoder is fake in one, MiniLM in other"),
        ({"facts": {"objective": {"penalty_weight": 2.0}}}, "objective.penalty_weight is 1.0 in one, 2.0 in other"),
        ({"facts": {"query_source": "llm:x"}}, "query_source is frozen in one, llm:x in other"),
        ({"facts": {"quality": "embedded"}}, "quality is None in one, embedded in other"),
        ({"facts": {"packs": {"catalog": "everyday 2"}}}, "catalog is everyday 1 in one, everyday 2 in other"),
        ({"hashes": {"personas": "c" * 64}}, f"personas is {'b' * 12} in one, {'c' * 12} in other"),
        ({"hashes": {"queries": "c" * 64}}, f"queries is None in one, {'c' * 12} in other"),
        ({"candidates": 4}, "candidates is 8 in one, 4 in other"),
        ({"max_ads": 3}, "max_ads is 2 in one, 3 in other"),
        ({"reserve": 5.0}, "reserve is 0.0 in one, 5.0 in other"),
        ({"bidder": "uniform"}, "bidder is truthful in one, uniform in other"),
        ({"reserve": 5.0, "max_ads": 1}, "max_ads is 2 in one, 1 in other; reserve is 0.0 in one, 5.0 in other"),
    ],
)
def test_other_worlds_are_refused_unless_asked_for(make: Make, changed: dict[str, Any], says: str) -> None:
    runs = [make("one", "organic", n=2), make("other", "gsp", n=2, **changed)]
    with pytest.raises(InputError) as caught:
        compare(runs)
    hint = "the option across compares them anyway"
    assert str(caught.value) == f"these runs are not of one world: {says} ({hint})"
    found = compare(runs, across=True)
    assert "; ".join(found.differing) == says
    assert names(found) == ["organic", "gsp"]


def test_what_belongs_to_the_mechanism_may_differ(make: Make) -> None:
    other = make("other", "gsp", n=2, facts={"ad_llm": "openai/x"}, settings=("gsp.n=1",), ctr_model="oracle")
    found = compare([make("one", "organic", n=2), other, make("third", "fixed_slots", n=2, finish=False)])
    assert found.notes == [
        "ad_llm is scripted in one and third, openai/x in other",
        "ctr_model is cosine in one and third, oracle in other",
        "setting gsp.n is not set in one and third, 1 in other",
        "third is not finished",
    ]


def test_files_of_one_content_are_the_same_queries(make: Make) -> None:
    runs = [
        make(name, "organic", n=2, facts={"query_source": f"file:{name}"}, hashes={"queries": "d" * 64})
        for name in ("mine.txt", "copy.txt")
    ]
    assert compare(runs).differing == []


def test_what_is_no_run_is_named(make: Make, tmp_path: Path) -> None:
    one, empty = make("one", "organic", n=2), tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="a comparison needs two runs or more, got 1"):
        compare([one])
    with pytest.raises(InputError, match="one is given twice"):
        compare([one, tmp_path / "empty" / ".." / "one"])
    with pytest.raises(DataFileError, match=r"no manifest\.json: not the folder of a run"):
        compare([one, empty])
    (empty / "manifest.json").write_text((one / "manifest.json").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataFileError, match=r"no transitions\.jsonl"):
        compare([one, empty])


@pytest.mark.weights
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Manifests as bench writes them: what it notes is what is compared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("ads.csv").write_text("title\nTrail Boots\nRail Pass\n", encoding="utf-8")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, out, err

    common = ("--llm", "scripted", "--n", "4", "--horizon", "2", "--quality", "none")
    for name, *options in (
        ("one", "--mechanisms", "organic,gsp"),
        ("other", "--mechanisms", "gsp,fixed_slots"),
        ("ours", "--mechanisms", "gsp", "--catalog", "ads.csv", "--candidates", "3"),
    ):
        assert run("bench", *common, *options, "--out", name)[0] == 0
    code, out, _ = run("compare", "one", "other", "--baseline", "one/gsp", "--out", "table.csv")
    assert (code, "differs" in out) == (0, False)
    with Path("table.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "revenue"]
    assert [row["mechanism"] for row in rows] == ["organic", "one/gsp", "other/gsp", "fixed_slots"]
    assert {row["paired"] for row in rows} == {"True"}
    code, out, err = run("compare", "one", "ours")
    (line,) = err.splitlines()
    digest = json.loads(Path("ours/manifest.json").read_text(encoding="utf-8"))["data_sha256"]["catalog"][:12]
    says = f"catalog is everyday 1 in one, {digest} in ours; candidates is 8 in one, 3 in ours"
    assert (code, out) == (2, "")
    assert line.startswith(f"simenv: these runs are not of one world: {says} (the option across")
    code, out, _ = run("compare", "one", "ours", "--across")
    assert (code, re.findall("^differs: (.*)$", out, re.MULTILINE)) == (0, says.split("; "))
    for arguments, wrong in (
        (["one", "nowhere"], "nowhere: no manifest.json: not the folder of a run"),
        (["one", "other", "--out", "table.csv"], "table.csv exists already: give a new file, nothing is overwritten"),
        (["one", "other", "--out", "table.xlsx"], "table.xlsx: ending '.xlsx' is not written here, expected .csv"),
        (["one", "other", "--out", "no/table.csv"], "no/table.csv: folder no does not exist"),
    ):
        assert run("compare", *arguments)[::2] == (2, f"simenv: {wrong}\n")
