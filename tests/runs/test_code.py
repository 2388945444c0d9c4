"""Which code a run is of, and that a run does not go on with another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import simenv
from simenv.errors import InputError
from simenv.runs.code import code_of, differing_code, source_sha256
from simenv.runs.compare import compare
from simenv.runs.manifest import manifest_bytes, read_manifest
from simenv.runs.options import BenchOptions

FILES = {
    "mine.py": "import helper\n\n\ndef build():\n    from tools.prices import PRICE\n",
    "helper.py": "import json\n",
    "stranger.py": "import mine\n",
    "tools/__init__.py": "",
    "tools/prices.py": "from . import base\nfrom .deep import names as shown\n",
    "tools/base.py": "PRICE = 1\n",
    "tools/other.py": "X = 1\n",
    "tools/deep/__init__.py": "",
    "tools/deep/names.py": "from ..late import Y\n",
    "tools/late.py": "Y = 1\n",
    "prompts/ask.txt": "Please.",
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


BESIDE = ("stranger.py", "tools/other.py")


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_imports_from_its_folder_is_its_code(files: Path, name: str) -> None:
    before = source_sha256(files / "mine.py", "mine")
    (files / name).write_text(FILES[name] + "\n# edited\n", encoding="utf-8")
    assert (source_sha256(files / "mine.py", "mine") == before) == (name in BESIDE)


@pytest.mark.parametrize("name", FILES)
def test_a_module_of_a_package_imports_the_same_by_its_name(files: Path, name: str) -> None:
    before = source_sha256(files / "tools" / "prices.py", "tools.prices")
    (files / name).write_text(FILES[name] + "\n# edited\n", encoding="utf-8")
    own = name.startswith("tools/") and name not in BESIDE
    assert (source_sha256(files / "tools" / "prices.py", "tools.prices") != before) == own


def test_the_hash_is_that_of_the_content_not_of_the_place(
    files: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    for name in FILES:
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes((files / name).read_bytes())
    assert source_sha256(files / "mine.py", "mine") == source_sha256(other / "mine.py", "mine")


def test_packages_beside_an_installed_module_are_not_its_code(tmp_path: Path) -> None:
    place = tmp_path / "site-packages"
    place.mkdir()
    (place / "tool.py").write_text("import numpy_like\n")
    (place / "numpy_like.py").write_text("X = 1\n")
    before = source_sha256(place / "tool.py", "tool")
    (place / "numpy_like.py").write_text("X = 2\n")
    assert source_sha256(place / "tool.py", "tool") == before


class Own:
    """A mechanism that is given as an object."""


def test_every_plug_in_outside_of_simenv_has_its_code(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "path", [*sys.path])
    options = BenchOptions(
        mechanisms=("gsp", "mine=mine.py:Mine"),
        llm="openai/gpt-4o-mini",
        judge="click",
        metrics=("tools.base:Metric",),
        settings=("gsp.ctr_model=helper.py:CTR",),
    )
    sys.path.insert(0, str(files))
    code = code_of(options, {"own": Own()})
    assert list(code) == [
        "simenv",
        "mechanism gsp",
        "mechanism mine",
        "metric tools.base:Metric",
        "ctr_model helper.py:CTR",
        "mechanism own",
    ]
    assert code["mechanism gsp"]["module"] == "mechanisms.gsp"
    assert code["mechanism gsp"]["package"] == f"simenv-ads {version('simenv-ads')}"
    assert code["mechanism mine"]["package"] is None
    assert code["mechanism mine"]["sha256"] == source_sha256(files / "mine.py", "mine")
    assert code["mechanism own"]["module"] == __name__
    assert all(len(entry["sha256"] or "") == 64 for entry in code.values())


def test_what_differs_is_named_with_both_hashes() -> None:
    before = {"simenv": {"module": "simenv", "sha256": "a" * 64}, "judge j": {"module": "j", "sha256": "b" * 64}}
    now = {"simenv": {"module": "simenv", "sha256": "a" * 64}, "judge j": {"module": "j", "sha256": "c" * 64}}
    assert differing_code(now, before) == [f"judge j (j) was {'b' * 12}, now {'c' * 12}"]
    assert differing_code(before, before) == []
    newer = {"judge j": {"module": "j", "sha256": "b" * 64, "package": "jj 2"}}
    assert differing_code(newer, {"judge j": before["judge j"]}) == ["judge j (j) was None, now jj 2"]


MINE = """
from helper_of_mine import PRICE
from simenv import outcome


class Mine:
    def run(self, auction, rng):
        bid = auction.bids[0]
        return outcome(auction, f"Try {bid.ad.link}.", {bid.ad.id: PRICE})
"""
QUICK = {"llm": "scripted", "horizon": 2, "quality": "none", "chunk": 2}


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., simenv.BenchResult]:
    """A run of a user's mechanism that was cut off, and the call that goes on with it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "helper_of_mine.py").write_text("PRICE = 1.0\n", encoding="utf-8")
    name = {"mine": f"{tmp_path / 'mine.py'}:Mine"}
    simenv.bench(name, out=tmp_path / "run", n=2, **QUICK)
    monkeypatch.delitem(sys.modules, "helper_of_mine")  # as in another process

    def go_on(**options: object) -> simenv.BenchResult:
        return simenv.bench(name, out=tmp_path / "run", resume=True, n=4, **{**QUICK, **options})

    return go_on


@pytest.mark.weights
def test_a_run_does_not_go_on_with_other_code(tmp_path: Path, stopped: Callable[..., simenv.BenchResult]) -> None:
    (tmp_path / "helper_of_mine.py").write_text("PRICE = 2.0\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(InputError) as caught:
        stopped()
    said = str(caught.value)
    assert said.startswith("cannot resume with other code: mechanism mine (mine) was ")
    assert said.endswith("(with allow_changed_code the run goes on, and its manifest says so)")
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    prices = {p.price for t in stopped(allow_changed_code=True).records for p in t.outcome.placements}
    assert prices == {1.0, 2.0}
    (entry,) = read_manifest(tmp_path / "run")["resumed"]
    assert entry["changed_code"] == [said.removeprefix("cannot resume with other code: ").partition(" (with")[0]]
    stopped()  # the code of now is that of the manifest
    simenv.bench("gsp", out=tmp_path / "other", n=2, **QUICK)
    assert "run went on with other code after 2 auctions" in compare([tmp_path / "run", tmp_path / "other"]).notes


@pytest.mark.weights
def test_a_run_of_before_code_was_hashed_goes_on(tmp_path: Path, stopped: Callable[..., simenv.BenchResult]) -> None:
    later = ("code", "files_sha256", "resumed", "machine")
    manifest = {k: v for k, v in read_manifest(tmp_path / "run").items() if k not in later}
    (tmp_path / "run" / "manifest.json").write_bytes(manifest_bytes(manifest | {"format": 3}))
    assert len(stopped().records) == 4
