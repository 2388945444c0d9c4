"""mechanisms/README.md lists what there is, and is what the script writes."""

from __future__ import annotations

import re

import pytest

from benchmarks import mechanisms_table
from benchmarks.cost_of_n import growth
from simenv.mechanism import Claim, mechanism_names
from tests.support.paths import ROOT

FOLDER = ROOT / "mechanisms"
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_registered_mechanism_is_in_every_table() -> None:
    for name in mechanism_names():
        assert name in mechanisms_table.FACTS
        assert len(re.findall(rf"^\| (?:\[{name}\]\(|{name} \|)", TEXT, re.MULTILINE)) == 4, name


def test_it_is_as_the_script_writes_it() -> None:
    assert mechanisms_table.page() == TEXT


def test_files_are_there_and_claims_have_names() -> None:
    for facts in mechanisms_table.FACTS.values():
        assert (FOLDER / facts.file).exists(), facts.file
    assert set(mechanisms_table.SHORT) == set(Claim)


def test_growth() -> None:
    assert growth([4, 8, 16], [3.0, 3.0, 3.0])["kind"] == "constant"
    line = growth([4, 8, 16], [6.0, 10.0, 18.0])
    assert (line["kind"], line["slope"]) == ("linear", pytest.approx(1.0))
