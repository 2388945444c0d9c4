"""What a user gets wrong: one line that says what and where, exit code 2, before any model is loaded.

No weights are to be found in these tests. So a mistake that is noticed only after a model was asked for would show
as missing weights instead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simenv.cli import main as cli
from simenv.encoder import default_encoder
from simenv.llm import weights
from simenv.runs.folder import read_transitions

Fails = Callable[..., str]


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    default_encoder.cache_clear()  # another test may have loaded it
    monkeypatch.setattr(weights, "find_spec", lambda package: None)
    yield
    default_encoder.cache_clear()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the commands run in, with good files and bad ones."""
    files = {
        "ads.csv": "title,category\nTrail Boots,shoes\nRail Pass,travel\n",
        "personas.jsonl": '{"id": "p", "info": "A baker.", "queries": ["Which boots stay dry?", "Which rail pass?"]}\n',
        "queries.txt": "Which boots stay dry?\n",
        "untitled.csv": "name,category\nBoots,shoes\n",
        "twice.csv": "id,title\na,Boots\na,Shoes\n",
        "markup.jsonl": '{"title": "Boots"}\n{"title": "Boots @ home"}\n',
        "empty.txt": "\n\n",
        "textless.csv": "question\nWhich boots?\n",
        "impatient.jsonl": '{"id": "p", "info": "A baker."}\n{"id": "q", "info": "x", "traits": {"patience": 1.5}}\n',
        "table.xlsx": "title\nBoots\n",
        "binary.csv": "title\nBoots\n",
        "good.py": "class Good:\n    def run(self, auction, rng):\n        raise AssertionError\n",
        "syntax.py": "class Broken:\n    def run(self, auction, rng)\n",
        "imports.py": "import numpy\nimport no_such_module\n",
        "divides.py": "\nSHARE = 1 / 0\n",
        "raises.py": "class Picky:\n    def __init__(self):\n        raise ValueError('it is odd,\\nand may not be')\n",
        "needy.py": "class Needy:\n    def __init__(self, oracle):\n        self.oracle = oracle\n",
        "idle.py": "class Idle:\n    pass\n\nTHING = 3\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "binary.csv").write_bytes(b"title\nBo\xffts\n")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # a module named by a mechanism is looked for here too
    return tmp_path


@pytest.fixture
def fails(here: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Runs a command that must fail and gives its one line."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        assert (caught.value.code, out) == (2, "")
        assert "Traceback" not in err
        (line,) = err.splitlines()
        assert line.startswith("simenv: ")
        assert not (here / "run").exists()
        return line.removeprefix("simenv: ")

    return run


DATA = ("--catalog", "ads.csv", "--personas", "personas.jsonl", "--horizon", "2", "--out", "run")


def bench(*arguments: str, mechanisms: str = "organic") -> list[str]:
    """A right command, and then what is wrong with it: the last of two values counts."""
    return ["bench", "--mechanisms", mechanisms, *DATA, *arguments]


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--catalog", "untitled.csv"], "untitled.csv:2: missing column 'title'; the columns are name, category"),
        (["--catalog", "twice.csv"], "twice.csv:3: duplicate ad id 'a', first used at twice.csv:2"),
        (["--catalog", "markup.jsonl"], "markup.jsonl:2: title 'Boots @ home' contains mark-up: @ [ ] and line breaks"),
        (["--catalog", "nowhere.csv"], "nowhere.csv: no such file"),
        (["--catalog", "used/"], "unknown pack of ad_catalogs 'used/'"),
        (["--catalog", "table.xlsx"], "table.xlsx: ending '.xlsx' is not read here, expected .csv or .jsonl"),
        (["--catalog", "binary.csv"], "binary.csv: not UTF-8 text (byte 8)"),
        (["--catalog", "evryday"], "unknown pack of ad_catalogs 'evryday': did you mean everyday?"),
        (["--catalog-columns", "title=brand"], "ads.csv:2: no column 'brand'; the columns are title, category"),
        (["--catalog-columns", "title"], "cannot read column names 'title': expected OURS=THEIRS"),
        (["--personas", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--personas", "impatient.jsonl"], "impatient.jsonl:2: traits.patience: input should be less than or equal"),
        (["--horizon", "3", "--llm", "scripted"], "persona 'p' has 2 frozen queries, the session needs 3"),
        (["--queries", "empty.txt"], "empty.txt: no rows, expected at least one"),
        (["--queries", "textless.csv"], "textless.csv:2: missing column 'text'; the columns are question"),
        (["--queries", "nowhere.txt"], "nowhere.txt: no such file"),
        (["--reserve", "-1"], "reserve must be at least 0, got -1.0"),
        (["--reserve", "nan"], "reserve must be at least 0, got nan"),
        (["--reserve", "inf"], "reserve must be at least 0, got inf"),
        (["--candidates", "-1"], "candidates must be at least 0, got -1"),
        (["--max-ads", "-1"], "max_ads must be at least 0, got -1"),
        (["--horizon", "0"], "horizon must be at least 1, got 0"),
        (["--n", "0"], "n must be at least 1, got 0"),
        (["--chunk", "0"], "chunk must be at least 1, got 0"),
        (["--timeout", "0"], "timeout must be above 0, got 0.0"),
        (["--judge", "clik"], "unknown judge 'clik': did you mean click? known are click, embedded, llm"),
        (["--bidder", "truthfull"], "unknown bidder 'truthfull': did you mean truthful? known are "),
        (["--llm", "gpt"], "unknown language model 'gpt': expected embedded, scripted, local:FOLDER"),
        (["--baseline", "gsp"], "unknown baseline 'gsp': known are organic"),
        (["--set", "organic.n"], "cannot read setting 'organic.n': expected NAME.OPTION=VALUE"),
        (["--set", "n=8"], "cannot read setting 'n=8': expected NAME.OPTION=VALUE"),
        (["--set", "organik.n=8"], "unknown plug-in in a setting 'organik': did you mean organic?"),
        (["--set", "organic.n=8"], "mechanism 'organic' has no option n; its options are llm"),
        (["--out", "used"], "used is not empty: give a new folder, or resume its run"),
        (["--out", "ads.csv"], "ads.csv is a file: give a new folder"),
    ],
)
def test_a_wrong_option_or_file_is_named(fails: Fails, here: Path, arguments: list[str], says: str) -> None:
    assert fails(*bench(*arguments)).startswith(says)
    assert [path.name for path in (here / "used").iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("mechanisms", "says"),
    [
        ("gps", "unknown mechanism 'gps': did you mean gsp? known are best_of_n, "),
        ("organic,best_off", "unknown mechanism 'best_off': did you mean best_of_n?"),
        (",", "no mechanisms to run"),
        ("gsp,gsp", "a mechanism is named twice in gsp,gsp (tell them apart as LABEL=NAME)"),
        ("nowhere.py:Good", "mechanism 'nowhere.py:Good': no such file nowhere.py"),
        ("good.py:Goood", "unknown class in mechanism 'good.py:Goood' 'Goood': did you mean Good?"),
        ("syntax.py:Broken", "mechanism 'syntax.py:Broken' cannot be imported: SyntaxError: "),
        ("imports.py:X", "mechanism 'imports.py:X' cannot be imported: ModuleNotFoundError: No module named 'no_such"),
        ("divides.py:X", "mechanism 'divides.py:X' cannot be imported: ZeroDivisionError: division by zero ("),
        ("no.such.module:X", "mechanism 'no.such.module:X' cannot be imported: ModuleNotFoundError: "),
        (":X", "mechanism ':X' cannot be imported: ValueError: Empty module name"),
        ("idle.py:THING", "mechanism 'idle.py:THING' has no attribute run"),
    ],
)
def test_a_mechanism_that_cannot_be_found_is_named(fails: Fails, mechanisms: str, says: str) -> None:
    assert fails(*bench(mechanisms=mechanisms)).startswith(says)


@pytest.mark.usefixtures("no_weights")
def test_an_error_in_a_mechanisms_file_comes_with_its_line(fails: Fails, here: Path) -> None:
    assert "(syntax.py, line 2)" in fails(*bench(mechanisms="syntax.py:Broken"))
    assert fails(*bench(mechanisms="divides.py:X")).endswith("divides.py:2)")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("mechanisms", "says"),
    [
        ("raises.py:Picky", "mechanism 'raises.py:Picky' cannot be built: ValueError: it is odd, and may not be ("),
        ("needy.py:Needy", "mechanism 'needy.py:Needy' needs oracle"),
        ("idle.py:Idle", "mechanism 'idle.py:Idle' has no attribute run"),
    ],
)
def test_a_mechanism_that_cannot_be_built_is_named(fails: Fails, mechanisms: str, says: str) -> None:
    assert fails(*bench("--llm", "scripted", mechanisms=mechanisms)).startswith(says)
    assert fails("check", mechanisms).startswith(says)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("llm", ["embedded", "scripted"])
def test_missing_weights_come_with_the_command_to_run(fails: Fails, llm: str) -> None:
    what = {"embedded": "the embedded model (SmolLM2-135M)", "scripted": "the sentence encoder (all-MiniLM-L6-v2)"}
    assert fails(*bench("--llm", llm)) == f"the weights of {what[llm]} are not installed (run `simenv fetch-weights`)"


@pytest.mark.usefixtures("no_weights")
def test_a_server_that_does_not_answer_is_named(fails: Fails) -> None:
    """Nothing listens on port 9 of this machine."""
    line = fails(*bench("--llm", "openai/x", "--api-base", "http://127.0.0.1:9/v1"))
    assert line.startswith("openai/x at http://127.0.0.1:9/v1 gave no completion: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["used", "--out", "clicks.parquet"], "used: no transitions.jsonl: not the folder of a run"),
        (["nowhere", "--out", "clicks.parquet"], "nowhere: no transitions.jsonl: not the folder of a run"),
        (["used", "--out", "clicks.csv"], "clicks.csv: cannot write files of type '.csv', expected .parquet or .jsonl"),
        (["used", "--out", "no/clicks.jsonl"], "no/clicks.jsonl: folder no does not exist"),
        (
            ["used", "--out", "clicks.jsonl", "--format", "dpo"],
            "unknown format 'dpo': known are clicks, preferences, sft, kto",
        ),
    ],
)
def test_an_export_that_cannot_be_made_is_named(fails: Fails, here: Path, arguments: list[str], says: str) -> None:
    assert fails("export", *arguments) == says
    assert not list(here.glob("clicks.*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to import: give products or questions, results, or grades with run"),
        (["--grades", "g.json"], "grades and run belong together: give both"),
        (["--results", "r.json", "--products", "p.json"], "results are imported alone"),
        (["--run", "used", "--grades", "g.json", "--questions", "q.json"], "grades are imported alone"),
        (["--products", "nowhere.json"], "nowhere.json"),
    ],
)
def test_an_import_that_cannot_be_made_is_named(fails: Fails, here: Path, arguments: list[str], says: str) -> None:
    assert says in fails("import-gem", *arguments, "--out", "packs")
    assert not (here / "packs").exists()


def test_results_of_gem_bench_are_json_and_have_no_other_options(fails: Fails) -> None:
    said = fails("export", "used", "--format", "gem", "--out", "gem.parquet")
    assert said == "gem.parquet: cannot write files of type '.parquet', expected .json"
    said = fails("export", "used", "--format", "gem", "--min-gap", "3")
    assert said == "min_gap is no option of format gem, got 3.0"


def test_a_torn_run_is_named_by_file_and_line(fails: Fails, here: Path) -> None:
    (here / "used" / "transitions.jsonl").write_bytes(b'{"index": 0, "mech')
    assert fails("export", "used", "--out", "clicks.jsonl").startswith("used/transitions.jsonl:1: not a transition: ")


@pytest.mark.weights
def test_the_command_is_right_where_nothing_is_wrong_with_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The control of all of the above."""
    for arguments in (
        bench("--llm", "scripted", "--n", "3", mechanisms="organic,gsp"),
        ["export", "run", "--out", "clicks.jsonl"],
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
    assert len(list(read_transitions(here / "run"))) == 6
    manifest = json.loads((here / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["finished"] is not None
    assert manifest["world"]["ad_llm"] == "scripted"
    assert {path.name for path in (here / "run").iterdir()} >= {"table.csv", "table.md", "timings.jsonl"}
    assert "rows to clicks.jsonl" in capsys.readouterr().out
