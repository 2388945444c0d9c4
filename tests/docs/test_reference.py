"""The generated pages hold all that there is, and the written ones of files match the files."""

from __future__ import annotations

import csv
import inspect
import json
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import simenv
from simenv import records
from simenv.mechanism import Claim
from tests.support import processes
from tests.support.pages import command_line, generated, text_of

FILES = "docs/reference/files.md"


def test_every_option_of_every_command_is_in_the_reference() -> None:
    page = generated().command_line()
    for name, command in command_line().commands.items():
        section = page.split(f"## simenv {name}\n")[1].split("\n## simenv ")[0]
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else [parameter.name.upper()]:
                (row,) = re.findall(rf"^\| .*`{option}(?:\.\.\.)?`.*$", section, re.MULTILINE)
                assert row.split(" | ")[-1].strip(" |"), f"{name} {option} has no help"


def test_every_record_and_field_is_in_the_reference() -> None:
    page = generated().records()
    models = [v for v in vars(records).values() if isinstance(v, type) and issubclass(v, records.Record)]
    for model in models:
        if model is not records.Record:
            section = page.split(f"## {model.__name__}\n")[1].split("\n## ")[0]
            assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(model.model_fields)


def test_every_public_name_is_in_the_reference() -> None:
    page = generated().api() + generated().records()
    assert [name for name in simenv.__all__ if f":: simenv.{name}\n" not in page] == []


def test_every_claim_is_described() -> None:
    table = generated().claims()
    assert re.findall(r"^\| `([A-Z_]+)` \| \w", table, re.MULTILINE) == [claim.name for claim in Claim]


@pytest.mark.parametrize("part", ["audit_keys", "validity_keys", "judge_card_keys"])
def test_most_keys_of_reports_are_described(part: str) -> None:
    """A key without a description must speak for itself."""
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", generated().PARTS[part](), re.MULTILINE)
    plain = {"ties", "attacks", "queries", "abstained", "repeat", "cost", "prompt_tokens", "completion_tokens"}
    assert {name for name, meaning in rows if not meaning.strip()} <= plain


@pytest.mark.parametrize(
    ("group", "page"),
    [
        ("simenv.bidders", "docs/benchmark.md"),
        ("simenv.ctr_models", "docs/ctr-models.md"),
        ("simenv.quality", "docs/judges.md"),
        ("simenv.judges", "docs/judges.md"),
        ("simenv.llms", "docs/benchmark.md"),
        ("simenv.values", "docs/benchmark.md"),
        ("simenv.penalties", "docs/concepts.md"),
        ("simenv.trainers", "docs/llm-auction.md"),
    ],
)
def test_registered_names_are_on_their_pages(group: str, page: str) -> None:
    names = entry_points(group=group).names
    assert names
    assert [name for name in names if not re.search(rf"`(?:--[a-z-]+ )?{name}[:`]", text_of(page))] == []


def test_every_option_of_the_environment_is_on_its_page() -> None:
    section = text_of("docs/concepts.md").split("## The environment")[1].split("\n## ")[0]
    assert [name for name in inspect.signature(simenv.make_world).parameters if f"`{name}`" not in section] == []


def test_parts_are_those_that_pages_ask_for() -> None:
    asked = {
        name
        for path in (Path(generated().__file__ or "").parent).rglob("*.md")
        for name in re.findall(r"^<!-- generated: (\w+) -->$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert asked == set(generated().PARTS)


@pytest.mark.weights
def test_files_of_a_run_hold_what_the_page_says(tmp_path: Path) -> None:
    command = "bench --mechanisms organic --llm scripted --n 1 --horizon 1 --out run"
    assert processes.simenv(command.split(), tmp_path).code == 0
    page = text_of(FILES)

    def names(heading: str) -> set[str]:
        section = page.split(f"{heading}\n")[1].split("\n#")[0]
        firsts = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        return {name for cell in firsts for name in re.findall(r"`([\w.]+)`", cell)}

    assert {path.name for path in (tmp_path / "run").iterdir()} == names("## Folder of a run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest) == names("### manifest.json")
    (world,) = re.findall(r"^\| `world` \|.*$", page, re.MULTILINE)
    assert set(manifest["world"]) == set(re.findall(r"`(\w+)`", world)) - {"world"}
    with (tmp_path / "run" / "table.csv").open(encoding="utf-8", newline="") as file:
        assert set(next(csv.reader(file))) == names("### table.csv")
    for small in ("chunks", "timings"):
        row = json.loads((tmp_path / "run" / f"{small}.jsonl").read_text(encoding="utf-8").splitlines()[0])
        (said,) = re.findall(rf"^\| `{small}.jsonl` \|.*$", page, re.MULTILINE)
        assert set(row) - {"check"} <= set(re.findall(r"`(\w+)`", said))
